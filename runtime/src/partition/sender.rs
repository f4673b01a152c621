//! The producing end of one ring.

use std::collections::VecDeque;
use std::sync::Arc;

use super::edge::{CostOf, DropHook, DropReason, EdgeCells, EdgeControl, Held, Weigher, Window};
use crate::model::Signal;
use crate::policy::DropPolicy;
use crate::ring::Producer;

/// Room that a sender looks for before it re-reads the other side's position: that of a step which has grown. Half the ring where that is less,
/// so that a ring in which little waits is not looked at in every step.
const ROOM_WANTED: usize = 2048;

/// One ring's producing end, with the policy for when it is full.
///
/// What does not fit waits in `staged`; while anything waits there under `Block`, [`room`](Sender::room) is zero, so
/// staging is bounded by what one batch can expand to. Under `DropOldest` the oldest item is taken out of the ring to make
/// room; items wait in `staged` only while the consumer is still reading others out of the slots. Ring and staging together
/// never hold more items that wait than the edge may.
///
/// A policy that drops never makes the producer wait, for signals neither: those for which there is no room are merged, and
/// items go past held watermarks, which may come late. They do not go past what is exact (turns, the end): until that is in
/// the ring the edge counts as full.
///
/// How far the ring may be filled is up to the consumer (see [`Consumer::grant`](crate::ring::Consumer::grant)); bytes are
/// bounded here.
pub struct Sender<T> {
    ring: Producer<T>,
    wanted: usize,
    edge: Arc<EdgeControl>,
    policy: DropPolicy,
    /// What the edge's policy says: followed at once, except that a consumer has to allow evictions first.
    asked: DropPolicy,
    /// Items that wait at most, where the oldest are dropped.
    most: u64,
    /// Items go the long way: something waits before them, or every one is weighed.
    detour: bool,
    weigher: Option<Box<Weigher<T>>>,
    on_drop: Option<DropHook<T>>,
    /// Where an item waits for its long way. One whose address is handed on instead is put into memory on the short way too, and read again at once in
    /// larger pieces, for which the core waits until it has been written: a tenth of what query 8 of NEXMark takes.
    handed: Option<T>,
    staged: VecDeque<T>,
    /// Items that were staged and no longer are.
    unstaged: u64,
    /// Signals that wait for staged items or for room in the control ring.
    held: Held,
    dropped_newest: u64,
    dropped_oldest: u64,
    /// Of those, evicted from the ring: they count among the pushed.
    evicted: u64,
    /// Found in `staged` when the pipeline stopped.
    left: u64,
    end_sent: bool,
}

impl<T: Send> Sender<T> {
    /// Sends into `ring`, a ring of `edge`. Items are weighed where `cost` is known and the edge is bounded by bytes;
    /// `on_drop` is told of what is dropped.
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
            policy: policy.drop_policy,
            asked: policy.drop_policy,
            most: Window::of(&edge).size(policy.capacity),
            edge,
            detour: weigher.is_some(),
            weigher,
            on_drop,
            handed: None,
            staged: VecDeque::new(),
            unstaged: 0,
            held: Held::default(),
            dropped_newest: 0,
            dropped_oldest: 0,
            evicted: 0,
            left: 0,
            end_sent: false,
        }
    }

    /// Items it takes now without staging (`Block`) or at all (the dropping policies always have room).
    #[inline]
    pub fn room(&mut self) -> usize {
        match self.policy {
            DropPolicy::Block if !self.detour => self.ring.free_for(self.wanted),
            DropPolicy::Block if self.staged.is_empty() && self.held.is_empty() => self.weighed_room(),
            DropPolicy::Block => 0,
            DropPolicy::DropNewest | DropPolicy::DropOldest => usize::MAX,
        }
    }

    /// Whether a signal can be given: under `Block` only while none waits.
    #[inline]
    pub(super) fn takes_signal(&self) -> bool {
        self.held.is_empty() || self.policy != DropPolicy::Block
    }

    /// Sends one item.
    #[inline(always)]
    pub fn send(&mut self, item: T) {
        let refused = if self.detour { Err(item) } else { self.ring.push_ready(item) };
        if let Err(item) = refused {
            self.handed = Some(item);
            self.long_way();
        }
    }

    /// To be called before [`send_ready`](Self::send_ready), once for what is sent without anything else in between.
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.detour {
            self.ring.forget_room();
        }
    }

    /// As [`send`](Self::send): one look at the ring says also whether items go the long way.
    #[inline(always)]
    pub(super) fn send_ready(&mut self, item: T) {
        if let Err(item) = self.ring.push_ready(item) {
            self.handed = Some(item);
            self.resend();
        }
    }

    #[cold]
    #[inline(never)]
    fn resend(&mut self) {
        self.long_way();
        self.begin();
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
    fn long_way(&mut self) {
        let Some(item) = self.handed.take() else { return };
        if !self.detour {
            // Most often only a block of slots is full.
            if let Err(item) = self.ring.push(item) {
                self.full(item, 0);
            }
            return;
        }
        let bytes = self.weigher.as_ref().map_or(0, |weigher| weigher.weigh(&item, &self.edge));
        if let Err(item) = self.enter(item, bytes) {
            self.full(item, bytes);
        }
    }

    /// Pushes `item`, unless something has to go before it or there is no room.
    fn enter(&mut self, item: T, bytes: u64) -> Result<(), T> {
        if !self.staged.is_empty() || !self.passes_held() || !self.admits(bytes) {
            return Err(item);
        }
        self.ring.push(item)?;
        self.entered(bytes);
        Ok(())
    }

    /// Whether the next item need not wait for signals.
    fn passes_held(&self) -> bool {
        match self.policy {
            DropPolicy::Block => self.held.due(self.unstaged).is_none(),
            DropPolicy::DropNewest | DropPolicy::DropOldest => !self.held.is_exact(self.unstaged),
        }
    }

    fn admits(&mut self, bytes: u64) -> bool {
        let Some(weigher) = &mut self.weigher else { return true };
        weigher.release(self.ring.released());
        weigher.admits(bytes)
    }

    fn entered(&mut self, bytes: u64) {
        if let Some(weigher) = &mut self.weigher {
            weigher.pushed(bytes);
        }
        if self.held.due(self.unstaged).is_some() {
            self.held.overtaken();
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
                while !self.has_place(bytes) && self.drop_one() {}
                if let Err(item) = self.enter(item, bytes) {
                    self.stage(item, bytes);
                }
            }
        }
    }

    /// Whether one more item, of `bytes`, may wait beside those that do.
    fn has_place(&mut self, bytes: u64) -> bool {
        let waiting = self.ring.waiting();
        let fits = self.weigher.as_mut().is_none_or(|weigher| {
            weigher.claim(waiting);
            weigher.fits(bytes)
        });
        fits && ((waiting + self.staged.len()) as u64) < self.most
    }

    /// Drops the oldest item that waits, in the ring or staged. False if none does.
    fn drop_one(&mut self) -> bool {
        let oldest = if let Some(item) = self.ring.evict_oldest() {
            self.evicted += 1;
            item
        } else if let Some((item, _)) = self.unstage() {
            self.held.merge(self.unstaged);
            item
        } else {
            return false;
        };
        self.dropped_oldest += 1;
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

    /// Takes the first staged item, and its weight.
    fn unstage(&mut self) -> Option<(T, u64)> {
        let item = self.staged.pop_front()?;
        self.unstaged += 1;
        Some((item, self.weigher.as_mut().map_or(0, |weigher| weigher.unstage())))
    }

    /// Follows a change of the edge's policy.
    pub(super) fn adopt(&mut self) {
        let policy = self.edge.policy();
        self.asked = policy.drop_policy;
        self.most = Window::of(&self.edge).size(policy.capacity);
        if self.asked != DropPolicy::DropOldest {
            self.policy = self.asked;
        }
    }

    /// Goes along with what the consumer has made of a change.
    pub(super) fn follow(&mut self) {
        if self.policy != self.asked && self.ring.may_evict() {
            self.policy = self.asked;
        }
        self.ring.recheck();
    }

    /// Sends `signal` after everything sent so far.
    pub fn signal(&mut self, signal: Signal) {
        if !self.staged.is_empty() || !self.held.is_empty() || self.ring.signal(signal).is_err() {
            self.held.push(self.unstaged + self.staged.len() as u64, signal);
            // It may be due already, behind a watermark that items may overtake: together they are what they must not.
            self.held.merge(self.unstaged);
            self.detour = true;
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

    #[cold]
    #[inline(never)]
    fn settle(&mut self) -> bool {
        let mut moved = false;
        loop {
            moved |= self.send_due();
            if !self.passes_held() || !self.settle_one() {
                break;
            }
            moved = true;
        }
        self.detour = self.weigher.is_some() || !self.staged.is_empty() || !self.held.is_empty();
        if self.weigher.is_some() && !self.staged.is_empty() {
            self.ring.starve();
        }
        if moved {
            self.ring.publish();
        }
        moved
    }

    /// Sends the signals that no staged item stands before, as far as there is room.
    fn send_due(&mut self) -> bool {
        let mut moved = false;
        while let Some(signal) = self.held.due(self.unstaged)
            && self.ring.signal(signal).is_ok()
        {
            self.held.pop(signal);
            self.end_sent |= signal == Signal::End;
            moved = true;
        }
        moved
    }

    /// Moves the first staged item into the ring, if there is one and it has room.
    fn settle_one(&mut self) -> bool {
        let first = self.weigher.as_ref().map_or(0, |weigher| weigher.first_staged());
        if !self.admits(first) || self.ring.free_for(1) == 0 {
            return false;
        }
        let Some((item, bytes)) = self.unstage() else { return false };
        // There is room: nobody else pushes.
        let _ = self.ring.push(item);
        self.entered(bytes);
        self.held.merge(self.unstaged);
        true
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

    pub(super) fn count(&mut self, sum: &mut EdgeCells) {
        let staged = self.staged.len() as u64;
        sum.dropped_newest += self.dropped_newest;
        sum.dropped_oldest += self.dropped_oldest;
        sum.staged += staged;
        sum.left += self.left;
        if let Some(weigher) = &mut self.weigher {
            weigher.release(self.ring.released());
            sum.bytes += weigher.bytes();
        }
        // What was evicted has been pushed and dropped, and was offered once.
        let pushed = self.ring.pushed() - self.evicted;
        sum.offered += pushed + self.dropped_newest + self.dropped_oldest + self.left + staged;
    }

    /// Throws away what waits; counts it as left in the edge.
    pub(super) fn close(&mut self) {
        self.left += self.staged.len() as u64;
        self.staged.clear();
        if let Some(weigher) = &mut self.weigher {
            weigher.clear_staged();
            weigher.release(u64::MAX);
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests;
