//! Who holds how much memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::StageId;

/// What holds memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryHolder {
    /// The slots of an edge's rings, full or not.
    Rings {
        /// The producing stage.
        from: StageId,
        /// The consuming stage.
        to: StageId,
    },
    /// Items that wait before an edge's rings for room.
    Staging {
        /// The producing stage.
        from: StageId,
        /// The consuming stage.
        to: StageId,
    },
    /// Keyed state of a stage, all instances together: what the accumulator says that its states take, the tables that
    /// they are in, and buffers and index of what is on disk.
    State(StageId),
    /// The memory pool's slabs on the pipeline's cores, rented or not.
    Pool,
}

impl fmt::Display for MemoryHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rings { from, to } => write!(f, "rings {from} -> {to}"),
            Self::Staging { from, to } => write!(f, "staging {from} -> {to}"),
            Self::State(stage) => write!(f, "state {stage}"),
            Self::Pool => f.write_str("memory pool"),
        }
    }
}

/// The memory of a pipeline, by holder. Items are counted by the size of their type, without what they point to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryUse {
    /// What it may take all together, if that is bounded.
    pub budget: Option<u64>,
    /// Holders and their bytes; those that hold nothing are left out.
    pub holders: Vec<(MemoryHolder, u64)>,
}

impl MemoryUse {
    /// Bytes of all holders; saturates.
    pub fn total(&self) -> u64 {
        self.holders.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Bytes of one holder.
    pub fn of(&self, holder: &MemoryHolder) -> u64 {
        self.holders.iter().find(|(other, _)| other == holder).map_or(0, |(_, bytes)| *bytes)
    }
}

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (holder, bytes) in &self.holders {
            writeln!(f, "{bytes:>14}  {holder}")?;
        }
        write!(f, "{:>14}  all", self.total())?;
        match self.budget {
            Some(budget) => writeln!(f, ", of {budget} allowed"),
            None => writeln!(f),
        }
    }
}
