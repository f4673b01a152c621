//! The producing end of a keyed edge: every item goes to the instance that owns its key's shard.

use std::sync::Arc;

use super::Sender;
use super::outlet::Senders;
use crate::model::{Signal, StageId};
use crate::observe::StageCells;
use crate::shard::{ShardControl, ShardTable};
use crate::stage::{Chain, Gate, StageError, StageSite, StepCx};

/// How a producer follows the moves of shards.
struct Following {
    control: Arc<ShardControl>,
    /// The assignment it goes by.
    version: u64,
    /// The end has been given: no barrier may follow.
    ended: bool,
}

/// Spans of the key space, of as many slices each, whose owner is looked up at once.
const SPANS: usize = 1 << 8;
/// No instance has this number.
const MANY: u32 = u32::MAX;

/// Who owns the shards of a 256th of the key space, or that several do.
struct Routes {
    owners: [u32; SPANS],
}

impl Routes {
    fn of(shards: &ShardTable) -> Self {
        let mut owners = [MANY; SPANS];
        for (span, owner) in (0u8..=u8::MAX).zip(owners.iter_mut()) {
            let ends = [0, u8::MAX].map(|last| shards.shard_of(u16::from_be_bytes([span, last])));
            let of = &shards.owners()[ends[0]..=ends[1]];
            if of.iter().all(|one| *one == of[0]) {
                *owner = u32::from(of[0]);
            }
        }
        Self { owners }
    }

    /// The owner of the shard of `hash`, or [`MANY`].
    #[inline(always)]
    fn owner(&self, hash: u64) -> usize {
        let [span, _] = ShardTable::slice(hash).to_be_bytes();
        self.owners[usize::from(span)] as usize
    }
}

/// The owner of the shard of a hash in whose span several instances own some.
#[cold]
#[inline(never)]
fn exact_owner(shards: &ShardTable, hash: u64) -> usize {
    shards.owner(hash)
}

/// The end of a chain: a keyed edge.
pub struct Exchange<T, H> {
    senders: Senders<T>,
    shards: ShardTable,
    routes: Routes,
    /// Where shards move.
    following: Option<Following>,
    hash: H,
    gate: Gate,
    /// Of the keyed stage: its key function runs here.
    cells: Arc<StageCells>,
}

impl<T: Send, H> Exchange<T, H> {
    /// Routes by `hash` over `senders`, one per instance of the stage at `site`. By `shards`, unless the stage moves its own.
    pub fn new(senders: Senders<T>, shards: ShardTable, hash: H, site: &StageSite) -> Self {
        let control = site.shards.as_ref().map(|shards| Arc::clone(&shards.control));
        let current = control.as_ref().map(|control| control.assignment());
        let (version, shards) = current.map_or((0, shards), |current| (current.version, current.after));
        let following = control.map(|control| Following { control, version, ended: false });
        let (gate, cells) = (Gate::new(site), Arc::clone(&site.cells));
        let routes = Routes::of(&shards);
        Self { senders, shards, routes, following, hash, gate, cells }
    }

    /// Goes over to the assignment that has been published, in a step in which every ring takes the barrier. True if it has.
    #[cold]
    fn follow(&mut self) -> bool {
        let Some(following) = &mut self.following else { return false };
        if following.ended || !self.senders.takes_signal() {
            return false;
        }
        let current = following.control.assignment();
        following.version = current.version;
        self.shards = current.after;
        self.routes = Routes::of(&self.shards);
        self.senders.broadcast(Signal::Barrier(current.version));
        true
    }
}

impl<T: Send + 'static, H: FnMut(&T) -> u64 + 'static> Chain<T> for Exchange<T, H> {
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        let Self { senders, routes, shards, hash, gate, .. } = self;
        let mut unroutable = 0;
        let each = &mut senders.each[..];
        each.iter_mut().for_each(Sender::begin);
        items.for_each(|item| match gate.stateful(cx, || hash(&item)) {
            Some(h) => match each.get_mut(routes.owner(h)) {
                Some(sender) => sender.send_ready(item),
                None => each[exact_owner(shards, h)].send_ready(item),
            },
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
        if let Some(following) = &mut self.following {
            following.ended |= signal == Signal::End;
        }
    }

    #[inline]
    fn tick(&mut self, cx: &StepCx) -> bool {
        let moved = self.senders.tick(cx);
        let behind = |following: &Following| following.control.version() != following.version;
        moved | (self.following.as_ref().is_some_and(behind) && self.follow())
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
    use proptest::prelude::*;

    use super::*;
    use crate::shard::ShardMove;

    proptest! {
        #[test]
        fn a_route_leads_to_the_owner_of_the_shard_or_says_that_it_cannot_tell(
            (shards, instances) in (1usize..2_000, 1usize..9),
            moves in prop::collection::vec((0usize..2_000, 0usize..8), 0..5),
            hashes in prop::collection::vec(any::<u64>(), 1..200),
        ) {
            let moves: Vec<_> = moves
                .into_iter()
                .filter(|(_, to)| *to < instances)
                .map(|(shard, to)| ShardMove { shard, to })
                .collect();
            let shards = ShardTable::even(shards, instances).with(&moves);
            let routes = Routes::of(&shards);
            for hash in hashes {
                let route = routes.owner(hash);
                prop_assert!(route == shards.owner(hash) || route == MANY as usize);
            }
            for slice in 0..=u16::MAX {
                let route = routes.owners[usize::from(slice) / SPANS];
                prop_assert!(route == u32::from(shards.owners()[shards.shard_of(slice)]) || route == MANY);
            }
            if moves.is_empty() && shards.shards() <= SPANS && SPANS.is_multiple_of(shards.shards()) {
                prop_assert!(!routes.owners.contains(&MANY), "every shard is some spans");
            }
        }
    }
}
