//! The producing end of a keyed edge: every item goes to the instance that owns its key's shard.

use std::sync::Arc;

use super::outlet::Senders;
use crate::model::{Signal, StageId};
use crate::observe::StageCells;
use crate::stage::{Chain, Gate, StageError, StageSite, StepCx};

/// Which instance owns which shard of a key space.
///
/// A key belongs to the shard that bits 32 to 47 of its hash select; the table maps shards to instances, so that a
/// shard can be moved without touching the others. (Low bits select the slot in an instance's table, the top bits its
/// tags: a shard must not use those, or every instance would fill only part of its table.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTable {
    owners: Arc<[u16]>,
}

impl ShardTable {
    /// Spreads `shards` (1 to 65536) evenly over `instances` (1 to 65536), at least one shard each.
    pub fn even(shards: usize, instances: usize) -> Self {
        let instances = instances.clamp(1, 1 << 16);
        let shards = shards.clamp(instances, 1 << 16);
        let owner = |s: usize| u16::try_from(s * instances / shards).unwrap_or(0);
        Self { owners: (0..shards).map(owner).collect() }
    }

    /// The shard of a hash.
    #[inline(always)]
    pub fn shard(&self, hash: u64) -> usize {
        let slice = (hash >> 32) as u16 as usize;
        (slice * self.owners.len()) >> 16
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
}

/// The end of a chain: a keyed edge.
pub struct Exchange<T, H> {
    senders: Senders<T>,
    shards: ShardTable,
    hash: H,
    gate: Gate,
    /// Of the keyed stage: its key function runs here.
    cells: Arc<StageCells>,
}

impl<T: Send, H> Exchange<T, H> {
    /// Routes by `hash` over `senders`, one per instance of the stage at `site`.
    pub fn new(senders: Senders<T>, shards: ShardTable, hash: H, site: &StageSite) -> Self {
        Self { senders, shards, hash, gate: Gate::new(site), cells: Arc::clone(&site.cells) }
    }
}

impl<T: Send + 'static, H: FnMut(&T) -> u64 + 'static> Chain<T> for Exchange<T, H> {
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        let Self { senders, shards, hash, gate, .. } = self;
        let mut unroutable = 0;
        let each = &mut senders.each[..];
        items.for_each(|item| match gate.stateful(cx, || hash(&item)) {
            Some(h) => each[shards.owner(h)].send(item),
            None => unroutable += 1,
        });
        senders.unroutable += unroutable;
    }

    #[inline]
    fn room(&mut self) -> usize {
        self.senders.room()
    }

    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.senders.takes_signal()
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        // Order is kept per key, not in total: turns end here.
        if signal != Signal::Turn {
            self.senders.broadcast(signal);
        }
    }

    #[inline]
    fn tick(&mut self, cx: &StepCx) -> bool {
        self.senders.tick(cx)
    }

    #[inline]
    fn flush(&mut self, _cx: &StepCx) {
        self.senders.publish();
    }

    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }

    fn is_finished(&self) -> bool {
        self.senders.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        Ok(())
    }

    fn report(&mut self, _received: u64) {
        self.senders.report();
        if let Some(error) = self.gate.take_last_error() {
            self.cells.set_last_error(error);
        }
    }

    fn close(&mut self, _discard: bool) {
        self.senders.close();
    }
}

#[cfg(test)]
mod tests {
    use super::ShardTable;

    #[test]
    fn every_instance_owns_a_shard_and_shards_are_even() {
        for instances in [1, 2, 3, 7, 16, 200] {
            let table = ShardTable::even(64, instances);
            let mut owned = vec![0usize; instances];
            for slice in 0..=u16::MAX {
                owned[table.owner(u64::from(slice) << 32)] += 1;
            }
            let (min, max) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(*min > 0, "{instances} instances: {owned:?}");
            assert!(*max <= 2 * *min + 1, "{instances} instances: {owned:?}");
        }
    }

    #[test]
    fn the_owner_depends_on_the_middle_bits_only() {
        let table = ShardTable::even(16, 4);
        let hash = 0x1234_9abc_5678_def0u64;
        assert_eq!(table.owner(hash), table.owner(hash ^ 0xffff_0000_0000_0000));
        assert_eq!(table.owner(hash), table.owner(hash ^ 0x0000_0000_ffff_ffff));
    }
}
