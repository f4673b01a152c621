//! Which instance owns which shard.

use std::sync::Arc;

/// 2^64 divided by the golden ratio: the top bits of a product with it depend on all bits of the other factor.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Which instance owns which shard of a key space.
///
/// A key belongs to the shard that the [slice](Self::slice) of its hash selects; the table maps shards to instances, so that a
/// shard can be moved without touching the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTable {
    owners: Arc<[u16]>,
}

/// One shard that changes its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardMove {
    /// The shard, from 0.
    pub shard: usize,
    /// The instance that it moves to, from 0.
    pub to: usize,
}

impl ShardTable {
    /// Spreads `shards` (1 to 65536) evenly over `instances` (1 to 65536), at least one shard each.
    pub fn even(shards: usize, instances: usize) -> Self {
        let instances = instances.clamp(1, 1 << 16);
        let shards = shards.clamp(instances, 1 << 16);
        let owner = |s: usize| u16::try_from(s * instances / shards).unwrap_or(0);
        Self { owners: (0..shards).map(owner).collect() }
    }

    /// Which of 65536 slices of the key space a hash lies in.
    ///
    /// All bits of the hash have a part in it. Low bits select the slot in an instance's table and the top bits its tag: were those also what
    /// selects the instance, each would fill only part of its table. No bits are left that are as good as random by themselves.
    #[inline(always)]
    pub fn slice(hash: u64) -> u16 {
        (hash.wrapping_mul(SPREAD) >> 48) as u16
    }

    /// The shard that a slice lies in.
    #[inline(always)]
    pub fn shard_of(&self, slice: u16) -> usize {
        (usize::from(slice) * self.owners.len()) >> 16
    }

    /// The shard of a hash.
    #[inline(always)]
    pub fn shard(&self, hash: u64) -> usize {
        self.shard_of(Self::slice(hash))
    }

    /// The instance that owns the shard of `hash`.
    #[inline(always)]
    pub fn owner(&self, hash: u64) -> usize {
        usize::from(self.owners[self.shard(hash)])
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.owners.len()
    }

    /// The owner of each shard.
    pub fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// The same with `moves` made, in their order. Shards that there are not stay out.
    #[must_use]
    pub fn with(&self, moves: &[ShardMove]) -> Self {
        let mut owners = self.owners.to_vec();
        for one in moves {
            if let (Some(owner), Ok(to)) = (owners.get_mut(one.shard), u16::try_from(one.to)) {
                *owner = to;
            }
        }
        Self { owners: owners.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_owns_a_shard_and_shards_are_even() {
        for instances in [1, 2, 3, 7, 16, 200] {
            let table = ShardTable::even(64, instances);
            let mut owned = vec![0usize; instances];
            for slice in 0..=u16::MAX {
                owned[usize::from(table.owners()[table.shard_of(slice)])] += 1;
            }
            let (min, max) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(*min > 0, "{instances} instances: {owned:?}");
            assert!(*max <= 2 * *min + 1, "{instances} instances: {owned:?}");
        }
    }

    #[test]
    fn hashes_that_differ_in_few_bits_only_are_spread_over_all_instances() {
        let table = ShardTable::even(256, 8);
        for shift in 0..=48 {
            let mut owned = [0; 8];
            (0..1u64 << 16).for_each(|bits| owned[table.owner(bits << shift)] += 1);
            assert!(owned.iter().all(|n| (7_000..9_400).contains(n)), "{shift}: {owned:?}");
        }
    }

    #[test]
    fn a_move_changes_the_owner_of_its_shard_and_of_no_other() {
        let table = ShardTable::even(8, 2);
        let moved = table.with(&[ShardMove { shard: 1, to: 1 }, ShardMove { shard: 7, to: 0 }]);
        assert_eq!(table.owners(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(moved.owners(), [0, 1, 0, 0, 1, 1, 1, 0]);
    }
}
