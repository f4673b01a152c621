//! The producing end of an edge.

use std::collections::VecDeque;
use std::sync::Arc;

use super::edge::{CostOf, DropHook, DropReason, EdgeCells, EdgeControl, OutletCells, Weigher};
use crate::model::{Signal, StageId};
use crate::policy::DropPolicy;
use crate::ring::Producer;
use crate::stage::{Chain, StageError, StepCx};

/// Room that a sender looks for before it re-reads the other side's position; half the ring where that is less, so that a ring in
/// which little waits is not looked at in every step.
const ROOM_WANTED: usize = 1024;

/// One ring's producing end, with the policy for when it is full.
///
/// What does not fit waits in `staged`; while anything waits there under `Block`, [`room`](Sender::room) is zero, so
/// staging is bounded by what one batch can expand to. Under `DropOldest` new items wait there until the consumer has
/// discarded the oldest ones in the ring; ring and staging together never count more items than the capacity.
///
/// How far the ring may be filled is up to the consumer (see [`Consumer::grant`](crate::ring::Consumer::grant)); bytes are
/// bounded here.
pub struct Sender<T> {
    ring: Producer<T>,
    wanted: usize,
    edge: Arc<EdgeControl>,
    policy: DropPolicy,
    /// Items go the long way: some are staged before them, or every one is weighed.
    detour: bool,
    weigher: Option<Box<Weigher<T>>>,
    on_drop: Option<DropHook<T>>,
    staged: VecDeque<T>,
    /// Signals that wait for staged items or for room in the control ring.
    held: VecDeque<Signal>,
    dropped_newest: u64,
    dropped_staged: u64,
    /// Found in `staged` when the pipeline stopped.
    left: u64,
    end_sent: bool,
}

impl<T: Send> Sender<T> {
    /// Sends into `ring`, a ring of `edge`. Items are weighed where `cost` is known and the edge is bounded by bytes;
    /// `on_drop` is told of what is refused.
    pub fn new(
        ring: Producer<T>,
        edge: Arc<EdgeControl>,
        cost: Option<CostOf<T>>,
        on_drop: Option<DropHook<T>>,
    ) -> Self {
        let policy = edge.policy();
        let weigher = cost.zip(policy.max_bytes).map(|(cost, max)| Box::new(Weigher::new(cost, max)));
        Self {
            wanted: ROOM_WANTED.min(ring.capacity().div_ceil(2)),
            ring,
            edge,
            policy: policy.drop_policy,
            detour: weigher.is_some(),
            weigher,
            on_drop,
            staged: VecDeque::new(),
            held: VecDeque::new(),
            dropped_newest: 0,
            dropped_staged: 0,
            left: 0,
            end_sent: false,
        }
    }

    /// Items it takes now without staging (`Block`) or at all (the dropping policies always have room).
    #[inline]
    pub fn room(&mut self) -> usize {
        if !self.held.is_empty() {
            return 0;
        }
        match self.policy {
            DropPolicy::Block if !self.detour => self.ring.free_for(self.wanted),
            DropPolicy::Block if self.staged.is_empty() => self.weighed_room(),
            DropPolicy::Block => 0,
            DropPolicy::DropNewest | DropPolicy::DropOldest => usize::MAX,
        }
    }

    /// Sends one item.
    #[inline(always)]
    pub fn send(&mut self, item: T) {
        if self.detour {
            return self.long_way(item);
        }
        if let Err(item) = self.ring.push(item) {
            self.full(item, 0);
        }
    }

    /// Sends all of `items`.
    #[inline(always)]
    pub fn send_all(&mut self, mut items: impl Iterator<Item = T>) {
        if !self.detour {
            self.ring.extend(&mut items);
        }
        items.for_each(|item| self.send(item));
    }

    /// Room by the average weight of what is in flight.
    #[cold]
    fn weighed_room(&mut self) -> usize {
        let Some(weigher) = &mut self.weigher else { return self.ring.free_for(self.wanted) };
        weigher.release(self.ring.released());
        if weigher.room() == 0 {
            // Slots may be free, so that the ring does not ask by itself.
            self.ring.starve();
            weigher.release(self.ring.released());
        }
        match weigher.room() {
            0 => 0,
            room => self.ring.free_for(room.min(self.wanted)).min(room),
        }
    }

    #[cold]
    #[inline(never)]
    fn long_way(&mut self, item: T) {
        let Some(weigher) = &mut self.weigher else { return self.full(item, 0) };
        let bytes = weigher.weigh(&item, &self.edge);
        weigher.release(self.ring.released());
        if !self.staged.is_empty() || !weigher.admits(bytes) {
            return self.full(item, bytes);
        }
        match self.ring.push(item) {
            Ok(()) => weigher.pushed(bytes),
            Err(item) => self.full(item, bytes),
        }
    }

    /// There is no room for `item`, which weighs `bytes` if that is bounded.
    #[cold]
    #[inline(never)]
    fn full(&mut self, item: T, bytes: u64) {
        match self.policy {
            DropPolicy::Block => self.stage(item, bytes),
            DropPolicy::DropNewest => {
                self.dropped_newest += 1 + u64::from(cfg!(feature = "bug_double_drop_count"));
                self.dropped(item, DropReason::Newest);
            }
            DropPolicy::DropOldest => {
                self.ring.publish();
                self.drop_one();
                while !self.weigher.as_ref().is_none_or(|weigher| weigher.fits(bytes)) && self.drop_one() {}
                self.stage(item, bytes);
            }
        }
    }

    /// Drops the oldest item that waits: in the ring, where its consumer does it, or staged. False if none waits.
    fn drop_one(&mut self) -> bool {
        if self.ring.discard_oldest(1) == 1 {
            if let Some(weigher) = &mut self.weigher {
                weigher.mark();
            }
            return true;
        }
        let Some(oldest) = self.staged.pop_front() else { return false };
        if let Some(weigher) = &mut self.weigher {
            weigher.unstage();
        }
        self.dropped_staged += 1;
        self.dropped(oldest, DropReason::Oldest);
        true
    }

    fn dropped(&self, item: T, reason: DropReason) {
        if let Some(hook) = &self.on_drop {
            hook.call(item, reason, &self.edge);
        }
    }

    fn stage(&mut self, item: T, bytes: u64) {
        if let Some(weigher) = &mut self.weigher {
            weigher.stage(bytes);
        }
        self.staged.push_back(item);
        self.detour = true;
    }

    /// Follows a change of the edge's policy.
    fn adopt(&mut self) {
        self.policy = self.edge.policy().drop_policy;
    }

    /// Sends `signal` after everything sent so far.
    pub fn signal(&mut self, signal: Signal) {
        if !self.staged.is_empty() || !self.held.is_empty() {
            self.held.push_back(signal);
        } else if let Err(signal) = self.ring.signal(signal) {
            self.held.push_back(signal);
        } else {
            self.end_sent |= signal == Signal::End;
        }
    }

    /// Moves staged items and held signals on. True if anything moved.
    #[inline]
    pub fn tick(&mut self) -> bool {
        if self.staged.is_empty() && self.held.is_empty() {
            return false;
        }
        self.settle()
    }

    fn settle(&mut self) -> bool {
        let mut moved = false;
        if let Some(weigher) = &mut self.weigher {
            weigher.release(self.ring.released());
        }
        while self.weigher.as_ref().is_none_or(|weigher| weigher.admits(weigher.first_staged()))
            && let Some(item) = self.staged.pop_front()
        {
            if let Err(item) = self.ring.push(item) {
                self.staged.push_front(item);
                break;
            }
            moved = true;
            if let Some(weigher) = &mut self.weigher {
                let bytes = weigher.unstage();
                weigher.pushed(bytes);
            }
        }
        self.detour = self.weigher.is_some() || !self.staged.is_empty();
        if self.weigher.is_some() && !self.staged.is_empty() {
            self.ring.starve();
        }
        while self.staged.is_empty()
            && let Some(&signal) = self.held.front()
            && self.ring.signal(signal).is_ok()
        {
            self.held.pop_front();
            self.end_sent |= signal == Signal::End;
            moved = true;
        }
        if moved {
            self.ring.publish();
        }
        moved
    }

    /// Makes what was sent visible.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.publish();
    }

    /// Whether [`Signal::End`] is in the ring.
    pub fn is_finished(&self) -> bool {
        self.end_sent
    }

    fn count(&mut self, sum: &mut EdgeCells) {
        let pushed = self.ring.pushed();
        sum.dropped_newest += self.dropped_newest;
        sum.dropped_oldest += self.dropped_staged;
        sum.staged += self.staged.len() as u64;
        sum.left += self.left;
        if let Some(weigher) = &mut self.weigher {
            weigher.release(self.ring.released());
            sum.bytes += weigher.bytes();
        }
        sum.offered +=
            pushed + self.dropped_newest + self.dropped_staged + self.left + self.staged.len() as u64;
    }

    /// Throws away what waits; counts it as left in the edge.
    fn close(&mut self) {
        self.left += self.staged.len() as u64;
        self.staged.clear();
        if let Some(weigher) = &mut self.weigher {
            weigher.clear_staged();
            weigher.release(u64::MAX);
        }
        self.held.clear();
    }
}

/// All senders of one upstream instance on one edge, with their counters.
pub struct Senders<T> {
    pub(super) each: Vec<Sender<T>>,
    edge: Arc<EdgeControl>,
    seen: u64,
    /// The policy has changed at least once: consumers may grant less than they did.
    changed: bool,
    cells: Arc<OutletCells>,
    pub(super) unroutable: u64,
}

impl<T: Send> Senders<T> {
    /// The senders of an instance into rings of `edge`, at least one.
    pub fn new(each: Vec<Sender<T>>, edge: Arc<EdgeControl>, cells: Arc<OutletCells>) -> Self {
        assert!(!each.is_empty(), "an edge leads to at least one instance");
        Self { each, seen: edge.version(), edge, changed: false, cells, unroutable: 0 }
    }

    #[cold]
    fn adopt(&mut self, cx: &StepCx) {
        let version = self.edge.version();
        if version != self.seen {
            self.seen = version;
            self.edge.report_failure(cx);
            self.each.iter_mut().for_each(Sender::adopt);
        }
        self.changed = true;
        // A consumer may follow later than this end: look again in every step from now on.
        self.each.iter_mut().for_each(|sender| sender.ring.recheck());
    }

    /// Room in the fullest: whatever the next items are, they fit.
    #[inline]
    pub(super) fn room(&mut self) -> usize {
        let mut room = usize::MAX;
        for sender in &mut self.each {
            room = room.min(sender.room());
        }
        room
    }

    /// Whether a signal can be given: at most one waits for what is staged before it.
    #[inline]
    pub(super) fn takes_signal(&self) -> bool {
        self.each.iter().all(|sender| sender.held.is_empty())
    }

    pub(super) fn broadcast(&mut self, signal: Signal) {
        for sender in &mut self.each {
            sender.signal(signal);
        }
    }

    #[inline]
    pub(super) fn tick(&mut self, cx: &StepCx) -> bool {
        if self.changed || self.edge.version() != self.seen {
            self.adopt(cx);
        }
        let mut moved = false;
        for sender in &mut self.each {
            moved |= sender.tick();
        }
        moved
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        for sender in &mut self.each {
            sender.publish();
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.each.iter().all(Sender::is_finished)
    }

    pub(super) fn close(&mut self) {
        self.each.iter_mut().for_each(Sender::close);
    }

    pub(super) fn report(&mut self) {
        let mut sum =
            EdgeCells { unroutable: self.unroutable, offered: self.unroutable, ..EdgeCells::default() };
        for sender in &mut self.each {
            sender.count(&mut sum);
        }
        self.cells.publish(&sum);
    }
}

/// How an edge without a key spreads items over downstream instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All to the one instance there is, or from instance `i` to instance `i`.
    Forward,
    /// A step's items to one instance, the next step's to another that has room.
    Balance,
    /// As `Balance`, but strictly in turn and with [`Signal::Turn`] after each, so that order can be restored.
    Turns,
}

/// The end of a chain: an edge without a key.
pub struct Outlet<T> {
    senders: Senders<T>,
    spread: Spread,
    at: usize,
    used: bool,
}

impl<T: Send> Outlet<T> {
    /// Ends a chain in `senders`.
    pub fn new(senders: Senders<T>, spread: Spread) -> Self {
        Self { senders, spread, at: 0, used: false }
    }

    fn advance(&mut self) {
        self.at = (self.at + 1) % self.senders.each.len();
    }
}

impl<T: Send + 'static> Chain<T> for Outlet<T> {
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, _cx: &StepCx) {
        self.used = true;
        self.senders.each[self.at].send_all(items);
    }

    #[inline]
    fn room(&mut self) -> usize {
        let room = self.senders.each[self.at].room();
        if room > 0 || self.spread != Spread::Balance || self.used {
            return room;
        }
        for _ in 1..self.senders.each.len() {
            self.advance();
            let room = self.senders.each[self.at].room();
            if room > 0 {
                return room;
            }
        }
        0
    }

    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.senders.takes_signal()
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        if self.spread == Spread::Forward {
            self.senders.broadcast(signal);
        } else if signal != Signal::Turn {
            // Turns of an order further up end here: this edge makes its own.
            self.end_turn();
            self.senders.broadcast(signal);
        }
    }

    #[inline]
    fn tick(&mut self, cx: &StepCx) -> bool {
        self.senders.tick(cx)
    }

    #[inline]
    fn flush(&mut self, _cx: &StepCx) {
        if self.spread != Spread::Forward {
            self.end_turn();
        }
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
    }

    fn close(&mut self, _discard: bool) {
        self.senders.close();
    }
}

impl<T: Send> Outlet<T> {
    fn end_turn(&mut self) {
        if std::mem::take(&mut self.used) {
            if self.spread == Spread::Turns {
                self.senders.each[self.at].signal(Signal::Turn);
            }
            self.advance();
        }
    }
}
