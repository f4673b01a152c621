//! One core's half of the keys, for the peers that bring channels but no keyed state.

use ahash::RandomState;
use hashbrown::HashMap;

use crate::workload::keyed::{Totals, hasher};

/// Sum and count of each key, in the table a user would take.
pub(super) struct Shard {
    sums: HashMap<u64, (u64, u64), RandomState>,
}

impl Shard {
    /// Room for half of `keys`.
    pub(super) fn new(keys: u64) -> Self {
        Self { sums: HashMap::with_capacity_and_hasher((keys / 2 + keys / 16) as usize, hasher()) }
    }

    /// Which of two shards has `key`.
    #[inline]
    pub(super) fn owner(&self, key: u64) -> usize {
        (self.sums.hasher().hash_one(key) >> 32) as usize & 1
    }

    /// Adds one pair.
    #[inline]
    pub(super) fn add(&mut self, key: u64, value: u64) {
        let (sum, count) = self.sums.entry(key).or_default();
        *sum = sum.wrapping_add(value);
        *count += 1;
    }

    /// Adds a batch.
    pub(super) fn add_all(&mut self, pairs: &[(u64, u64)]) {
        pairs.iter().for_each(|&(key, value)| self.add(key, value));
    }

    /// Adds every key's result to `totals`.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        self.sums.iter().for_each(|(key, (sum, count))| totals.add(*key, *sum, *count));
    }
}
