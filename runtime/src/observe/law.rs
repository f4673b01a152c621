//! The laws of the account, and what it says when one is broken.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::StageId;

/// A law of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Edge: `offered = popped + dropped_newest + dropped_oldest + unroutable + staged + left + depth`.
    Edge,
    /// Stage: `received + taken_over = passed + filtered + absorbed + ignored + dead_lettered + failed + discarded +
    /// waiting_retry + delivered + handed_over`.
    Fates,
    /// Stage: `absorbed = items_open + items_spilled + items_complete + items_partial + items_expired + items_lost`.
    Absorbed,
    /// Stage, all of its instances: what some have handed over others have taken over.
    HandOver,
    /// Stage: `emitted` is what its outgoing edges were offered.
    Emitted,
    /// Stage: `received` is what was popped from its incoming edges; for a source, which has none, what it emitted.
    Received,
    /// Each end of an edge is a stage of the account (0 expected, 1 found for an end that is not).
    Ends,
    /// At the end no buffer of the memory pool is rented (0 expected).
    Buffers,
}

impl Law {
    /// The id of the law's checker in the list of invariants, if it has one of its own.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Edge => "C1",
            Self::Fates | Self::HandOver => "C2",
            Self::Absorbed => "C3",
            Self::Emitted | Self::Received | Self::Ends => "C4",
            Self::Buffers => "C9",
        }
    }

    const fn sides(self) -> (&'static str, &'static str) {
        match self {
            Self::Edge => ("offered", "accounted for"),
            Self::Fates => ("received", "accounted for"),
            Self::Absorbed => ("absorbed", "accounted for"),
            Self::HandOver => ("handed over", "taken over"),
            Self::Emitted => ("emitted", "offered to its edges"),
            Self::Received => ("came in", "received"),
            Self::Ends => ("unknown ends expected", "found"),
            Self::Buffers => ("rented buffers expected at the end", "found"),
        }
    }
}

/// Where a law was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In a stage.
    Stage(StageId),
    /// On an edge.
    Edge {
        /// The producing stage.
        from: StageId,
        /// The consuming stage.
        to: StageId,
    },
    /// In the memory pool.
    MemoryPool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => write!(f, "stage {stage}"),
            Self::Edge { from, to } => write!(f, "edge {from} -> {to}"),
            Self::MemoryPool => f.write_str("memory pool"),
        }
    }
}

/// A law that does not hold: items were lost, or counted twice, without a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{place} ({}): {} {expected}, {} {found}", law.id(), law.sides().0, law.sides().1)]
pub struct Imbalance {
    /// Where.
    pub place: Place,
    /// Which law.
    pub law: Law,
    /// The left side of the law, at most `u64::MAX`.
    pub expected: u64,
    /// The right side of the law, at most `u64::MAX`.
    pub found: u64,
}

/// Adds the law to `broken` if its sides differ.
pub(super) fn check(
    place: impl FnOnce() -> Place,
    law: Law,
    expected: u128,
    found: u128,
    broken: &mut Vec<Imbalance>,
) {
    if expected != found {
        let capped = |n| u64::try_from(n).unwrap_or(u64::MAX);
        broken.push(Imbalance { place: place(), law, expected: capped(expected), found: capped(found) });
    }
}

pub(super) fn verdict(broken: Vec<Imbalance>) -> Result<(), Vec<Imbalance>> {
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}
