//! The shards of a stage that can move them.

use serde::{Deserialize, Serialize};

/// Which instance of a stage owns which shard of its keys, and what has come to each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardsState {
    /// Moves since the start, the one under way included, and one that the end of the input came before.
    pub version: u64,
    /// Whether the last of them is under way: the instances concerned take no input before they have their part of the state.
    pub moving: bool,
    /// The instance that owns each shard; while some move, the one that did so before.
    pub owners: Vec<u16>,
    /// Items since the start, by shard.
    pub loads: Vec<u64>,
}

impl ShardsState {
    /// Items since the start that came for the shards that each of `instances` instances owns now.
    pub fn loads_by_owner(&self, instances: usize) -> Vec<u64> {
        let mut all = vec![0; instances];
        for (owner, load) in self.owners.iter().zip(&self.loads) {
            if let Some(sum) = all.get_mut(usize::from(*owner)) {
                *sum += load;
            }
        }
        all
    }
}
