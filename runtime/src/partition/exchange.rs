//! The producing end of a keyed edge: every item goes to the instance that owns its key's shard.

use std::sync::Arc;

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

/// The end of a chain: a keyed edge.
pub struct Exchange<T, H> {
    senders: Senders<T>,
    shards: ShardTable,
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
        Self { senders, shards, following, hash, gate, cells }
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
        self.senders.broadcast(Signal::Barrier(current.version));
        true
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
