//! How many instances of a stage run.

use serde::{Deserialize, Serialize};

/// How many instances of a stage run (the contract's `ParallelismHint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parallelism {
    /// One instance.
    #[default]
    Sequential,
    /// Exactly this many instances, spread round-robin over the stage's cores. May exceed the number of cores.
    Fixed(u32),
    /// One instance per core of the stage's core set; shards may be rebalanced by measured load.
    CpuBound,
    /// An asynchronous stage whose concurrency adapts between bounds.
    IoBound,
}

impl Parallelism {
    /// How many instances a stage has whatever its cores; `None` for one per core.
    pub const fn instances(self) -> Option<u32> {
        match self {
            Self::Sequential | Self::IoBound => Some(1),
            Self::Fixed(instances) => Some(instances),
            Self::CpuBound => None,
        }
    }
}
