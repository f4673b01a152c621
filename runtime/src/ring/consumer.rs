//! The reading end.

use std::fmt;

use super::slots::View;
use super::{Chunk, RingPages, Shared, touch};
use crate::model::Signal;
use crate::policy::MemoryLocality;
use crate::sync::{Arc, BindError, Doorbell, HomeNode, Ordering, fence};

/// No signal is known.
const NO_SIGNAL: u64 = u64::MAX;

/// The reading end of a [`ring`](super::ring()).
///
/// It belongs to one thread at a time: it is neither `Sync` nor `Clone`.
///
/// ```compile_fail,E0277
/// fn share<T: Sync>(_: T) {}
/// share(corelane::ring::ring::<u64>(8).unwrap().1);
/// ```
/// ```compile_fail,E0599
/// let (_producer, consumer) = corelane::ring::ring::<u64>(8).unwrap();
/// let second = consumer.clone();
/// ```
pub struct Consumer<T> {
    pub(super) slots: View<T>,
    signals: View<(u64, Signal)>,
    /// Items taken or passed over.
    pub(super) head: u64,
    /// The head that the producer knows.
    committed: u64,
    /// The producer's tail when last looked at. All signals before this position are known.
    tail: u64,
    /// The position of the next signal, or `NO_SIGNAL`.
    stop: u64,
    signal_head: u64,
    signal_tail: u64,
    /// Items passed over.
    evicted: u64,
    /// Items before this position may be taken without a look at anything else: all that are known of and stand before the next signal, or of these what
    /// is claimed. Never less than `head`, never beyond `stop`.
    owned: u64,
    /// The producer may evict: items are claimed before they are read.
    claims: bool,
    bell: Option<std::sync::Arc<Doorbell>>,
    shared: Arc<Shared<T>>,
}

// SAFETY: the slots behind the views are kept alive by `shared`; see `Shared` for who accesses which.
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T> Consumer<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self {
            slots: shared.items.view(),
            signals: shared.signals.view(),
            head: 0,
            committed: 0,
            tail: 0,
            stop: NO_SIGNAL,
            signal_head: 0,
            signal_tail: 0,
            evicted: 0,
            owned: 0,
            claims: false,
            bell: None,
            shared,
        }
    }

    /// Slots, whether free or not.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Writes to every page of the slots, so that the system puts them on the memory node of the calling core.
    ///
    /// [`settle`](Self::settle) does this and more. Does nothing once the producer has written an item. The ring looks full to the producer meanwhile.
    pub fn pretouch(&mut self) {
        if self.claim_fresh() {
            self.touch_claimed();
        }
    }

    /// Whether the slots belong to nobody yet; then they are the consumer's until it has touched them.
    fn claim_fresh(&self) -> bool {
        let claim = &self.shared.rare.touch;
        claim.compare_exchange(touch::FRESH, touch::TOUCHING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Behind [`claim_fresh`](Self::claim_fresh).
    fn touch_claimed(&mut self) {
        // SAFETY: the producer does not access the slots before it has seen `READY`, and none was ever written.
        unsafe { self.slots.touch() };
        self.shared.rare.touch.store(touch::READY, Ordering::Release);
        self.made_room();
    }

    /// Has the system put the slots on a node, touches them, and says where to look for them later. To be called by the core that
    /// reads, before the producer starts: then no slot has to be moved, and slots smaller than a page, which the system cannot be asked about, are
    /// touched by it first.
    ///
    /// Costs two system calls, and a page fault for each page; with a strict wish a look at each page as well.
    ///
    /// # Errors
    /// [`BindError`], only if the wish is [`MemoryLocality::Strict`]. Otherwise a refusal shows in the [`RingPages`].
    ///
    /// ```
    /// use corelane::policy::MemoryLocality;
    /// use corelane::ring::ring;
    /// use corelane::sync::HomeNode;
    ///
    /// let (_producer, mut consumer) = ring::<u64>(4096)?;
    /// let pages = consumer.settle(HomeNode { node: 0, locality: MemoryLocality::Local })?;
    /// if let Ok(found) = pages.look() {
    ///     assert_eq!(found.nodes.values().sum::<u64>(), 8);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn settle(&mut self, home: HomeNode) -> Result<RingPages, BindError> {
        let strict = home.locality == MemoryLocality::Strict;
        let mapping = self.shared.items.pages().cloned();
        let wrong = HomeNode { node: home.node ^ 1, ..home };
        let to = if cfg!(feature = "bug_ring_on_wrong_node") { wrong } else { home };
        let bound = if self.claim_fresh() {
            // SAFETY: claimed: the producer does not access the slots, and none was ever written.
            let bound = mapping.iter().try_for_each(|mapping| unsafe { mapping.bind_empty(to) });
            self.touch_claimed();
            bound
        } else {
            mapping.iter().try_for_each(|mapping| mapping.bind(to))
        };
        let pages =
            RingPages::new(home, self.shared.items.bytes(), mapping.as_ref().map(std::sync::Arc::downgrade));
        if strict {
            bound?;
            home.check(&pages.look().map_err(|error| home.error(&error))?)?;
        }
        Ok(pages)
    }

    /// Items that can be read now, before the next signal. Where the producer may evict, fewer may be left by the time they
    /// are read.
    #[inline]
    pub fn available(&mut self) -> usize {
        if self.owned == self.head { self.look() } else { (self.owned - self.head) as usize }
    }

    /// Nothing more may be taken as it is: looks for more. How many items there are before the next signal.
    #[inline]
    fn look(&mut self) -> usize {
        if self.claims {
            return self.look_past_evicted();
        }
        if self.head != self.stop {
            self.refresh();
        }
        (self.owned - self.head) as usize
    }

    #[inline(never)]
    fn look_past_evicted(&mut self) -> usize {
        self.pass_evicted();
        if self.before_signal() == self.head && self.head != self.stop {
            self.refresh();
        }
        (self.before_signal() - self.head) as usize
    }

    /// The position of the next signal, or behind the last item that is known.
    #[inline(always)]
    fn before_signal(&self) -> u64 {
        self.tail.min(self.stop)
    }

    /// Looks at the producer's positions. The tail first: no signal before it can then be missed.
    #[inline]
    fn refresh(&mut self) {
        let tail = self.shared.written.tail.load(Ordering::Acquire);
        self.learn(tail);
    }

    /// Looks at the signals that may stand before the `tail` just seen.
    #[inline(always)]
    fn learn(&mut self, tail: u64) {
        self.tail = tail;
        let signal_tail = self.shared.written.signal_tail.load(Ordering::Acquire);
        if signal_tail != self.signal_tail {
            self.signal_tail = signal_tail;
            self.find_stop();
        }
        self.own_known();
    }

    fn find_stop(&mut self) {
        self.stop = if self.signal_head == self.signal_tail { NO_SIGNAL } else { self.first_signal().0 };
    }

    /// Where nothing has to be claimed, all that is known may be taken.
    #[inline(always)]
    fn own_known(&mut self) {
        if !self.claims {
            self.owned = self.before_signal();
        }
    }

    fn first_signal(&self) -> (u64, Signal) {
        debug_assert!(self.signal_head < self.signal_tail);
        // SAFETY: the signal head is before the published signal tail, so the slot is full and belongs to this side.
        unsafe { *self.signals.get(self.signals.index(self.signal_head)) }
    }

    /// From now on the producer may [evict](super::Producer::evict_oldest) what this side has not claimed. A read claims what
    /// it takes, by a compare-and-swap; so does a look at the next item. There is no way back.
    pub fn allow_evictions(&mut self) {
        if !self.claims {
            self.claims = true;
            self.owned = self.head;
            self.shared.claims.upto.store(self.head, Ordering::Relaxed);
            // Release: the producer that sees it sees where the claims begin.
            self.shared.rare.evictable.store(true, Ordering::Release);
        }
    }

    /// Passes over what the producer evicted, as far as the next signal. Nothing may be claimed and not taken.
    #[inline(never)]
    fn pass_evicted(&mut self) {
        // Acquire: with evictions the tail behind them is seen, and with that the signals before it.
        let claimed = self.shared.claims.upto.load(Ordering::Acquire);
        if claimed > self.tail {
            self.refresh();
        }
        let to = claimed.min(self.stop);
        if to > self.head {
            self.evicted += to - self.head;
            self.head = to;
            self.owned = to;
            self.commit();
        }
    }

    /// How many of `wanted` items that are `in_reach` this side may read: where the producer may evict, it claims them first.
    #[inline(always)]
    fn own(&mut self, wanted: usize, in_reach: impl Fn(&mut Self, usize) -> usize) -> usize {
        if self.claims { self.claim(wanted, in_reach) } else { in_reach(self, wanted) }
    }

    /// Makes up to `wanted` of the items that are `in_reach` this side's own; how many of the next ones are.
    #[inline(never)]
    fn claim(&mut self, wanted: usize, in_reach: impl Fn(&mut Self, usize) -> usize) -> usize {
        let mut n = in_reach(self, wanted);
        while n > 0 && self.owned == self.head {
            let (claims, to) = (&self.shared.claims.upto, self.head + n as u64);
            // Relaxed: the items were acquired with the tail; this only says whose they are.
            match claims.compare_exchange(self.head, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => self.owned = to,
                // The producer was first: look behind what it has evicted.
                Err(_) => n = in_reach(self, wanted),
            }
        }
        n.min((self.owned - self.head) as usize)
    }

    /// Makes the next item this side's own, if there is one.
    #[inline(always)]
    fn has_next(&mut self) -> bool {
        self.owned != self.head || self.find_next()
    }

    /// In vain it reads the tail and nothing else that the producer writes, and it is called: with a look that reads where signals stand as well, or that is
    /// inlined, a round trip takes a tenth longer while the cores share a cache.
    #[cold]
    #[inline(never)]
    fn find_next(&mut self) -> bool {
        if self.claims {
            return self.claim(1, Self::there) > 0;
        }
        let tail = self.shared.written.tail.load(Ordering::Acquire);
        if tail != self.tail {
            self.learn(tail);
        }
        self.owned != self.head
    }

    /// How many of `wanted` are there.
    #[inline(always)]
    fn there(&mut self, wanted: usize) -> usize {
        self.available().min(wanted)
    }

    /// The same, as far as the slots wrap.
    #[inline(always)]
    fn there_in_run(&mut self, wanted: usize) -> usize {
        // First: it may pass items over.
        let there = self.there(wanted);
        self.slots.run(self.head, self.head + there as u64).len()
    }

    /// Takes up to `max` items, as far as the next signal.
    ///
    /// ```compile_fail,E0499
    /// let (_producer, mut consumer) = corelane::ring::ring::<u64>(8).unwrap();
    /// let chunk = consumer.read(8);
    /// let second = consumer.read(8);
    /// drop(chunk);
    /// ```
    #[inline]
    pub fn read(&mut self, max: usize) -> Chunk<'_, T> {
        let n = self.own(max, Self::there) as u64;
        Chunk::new(self, n)
    }

    /// As [`read`](Self::read), and no further than the slots wrap: all of it is in the first [`run`](Chunk::run). For one that reads again anyway until
    /// there is nothing; whoever reads in a loop over two runs has a longer way to the first item.
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(4)?;
    /// producer.push_slice(&[1, 2, 3]);
    /// producer.publish();
    /// consumer.read(3).for_each(drop);
    /// // The last two of these are behind the wrap.
    /// producer.push_slice(&[4, 5, 6]);
    /// producer.publish();
    ///
    /// assert_eq!(consumer.read_run(usize::MAX).run().collect::<Vec<_>>(), [4]);
    /// assert_eq!(consumer.read_run(usize::MAX).run().collect::<Vec<_>>(), [5, 6]);
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    #[inline]
    pub fn read_run(&mut self, max: usize) -> Chunk<'_, T> {
        let n = self.own(max, Self::there_in_run) as u64;
        Chunk::new(self, n)
    }

    /// Takes the next item, if one comes before the next signal, and gives its slot back at once.
    ///
    /// For items that come one at a time. Where more may be there, [`read`](Self::read) gives all their slots back with one store. Whoever looks again
    /// and again does well to pause between two looks (`std::hint::spin_loop`): each takes the line that it reads from the producer, which has to have it to
    /// publish.
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(1)?;
    /// producer.push(7).unwrap();
    /// producer.publish();
    ///
    /// assert_eq!(consumer.pop(), Some(7));
    /// assert_eq!(consumer.pop(), None);
    /// assert_eq!(producer.free_for(1), 1);
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if !self.has_next() {
            return None;
        }
        let index = self.slots.index(self.head);
        self.head += 1;
        // SAFETY: the position was this side's and is taken once.
        let item = unsafe { self.slots.take(index) };
        self.commit();
        Some(item)
    }

    /// Looks at the next item, if one comes before the next signal.
    #[inline]
    pub fn peek(&mut self) -> Option<&T> {
        if !self.has_next() {
            return None;
        }
        // SAFETY: the head is before the published tail, and claimed where that matters; the borrow of `self` keeps the item where it is.
        Some(unsafe { self.slots.get(self.slots.index(self.head)) })
    }

    /// Takes the next signal, if all items before it have been taken.
    #[inline]
    pub fn next_signal(&mut self) -> Option<Signal> {
        if self.available() > 0 || self.head != self.stop {
            return None;
        }
        let (_, signal) = self.first_signal();
        self.signal_head += 1;
        self.shared.read.signal_head.store(self.signal_head, Ordering::Release);
        self.find_stop();
        self.own_known();
        self.made_room();
        Some(signal)
    }

    /// Whether there is neither an item nor a signal to take. An empty ring whose producer
    /// [is gone](Self::is_abandoned), asked in this order: gone, then empty, stays empty.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.available() == 0 && self.head != self.stop
    }

    /// Has the memory fetched in which the next item will be, as long as there is none. For one that waits and looks again and again: then item and
    /// position come at the same time, and not one after the other.
    #[inline]
    pub fn prefetch(&self) {
        self.slots.prefetch(self.slots.index(self.head));
    }

    #[allow(clippy::len_without_is_empty, reason = "`is_empty` looks for signals, so it is `&mut`")]
    /// Items in the ring that are visible now, beyond signals too.
    pub fn len(&self) -> usize {
        let published = self.published();
        if !self.claims {
            return (published - self.head) as usize;
        }
        // Behind the tail if the producer has published and evicted since.
        let claimed = self.shared.claims.upto.load(Ordering::Relaxed);
        (self.owned - self.head + published.saturating_sub(claimed)) as usize
    }

    /// Items that this side knows of and has not taken. Unlike [`len`](Self::len) it does not look at what the producer writes,
    /// and may count some that have been evicted.
    #[inline]
    pub fn known(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// Items taken or passed over since the start: the position of the next one, unless the producer has evicted it.
    #[inline]
    pub fn position(&self) -> u64 {
        self.head
    }

    /// The position behind the last item that is visible now.
    #[inline]
    pub fn published(&self) -> u64 {
        self.shared.written.tail.load(Ordering::Acquire)
    }

    /// Lets the producer push `items` items since the start and no more, those that it evicted not counted, however many slots
    /// are free, and wakes it if it waits. At first there is no such bound (`u64::MAX`).
    ///
    /// A producer that has already pushed more, or has looked before, keeps to it from its next look on: see
    /// [`Producer::recheck`](super::Producer::recheck). Signals are not bound.
    pub fn grant(&mut self, items: u64) {
        // Relaxed: slots are handed over by the head alone.
        self.shared.read.granted.store(items, Ordering::Relaxed);
        self.made_room();
    }

    /// Items taken since the start, without those passed over.
    #[inline]
    pub fn popped(&self) -> u64 {
        self.head - self.evicted
    }

    /// Items passed over since the start because the producer had evicted them.
    #[inline]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Whether the producer is gone. What it pushed may still have to be read.
    pub fn is_abandoned(&self) -> bool {
        self.shared.rare.producer_gone.load(Ordering::Acquire)
    }

    /// Takes the bell of the producer's side, to be rung when there is room again after the producer found none.
    pub fn attach_doorbell(&mut self, bell: std::sync::Arc<Doorbell>) {
        self.bell = Some(bell);
    }

    /// Gives the slots before the head back to the producer.
    #[inline]
    pub(super) fn commit(&mut self) {
        if self.head != self.committed {
            self.committed = self.head;
            self.shared.read.head.store(self.head, Ordering::Release);
            self.made_room();
        }
    }

    /// Wakes the producer if it waits for room. Called after room was made.
    #[inline]
    fn made_room(&self) {
        if let Some(bell) = &self.bell
            && bell.has_waker()
        {
            // Pairs with the fence in `Producer::starve`.
            fence(Ordering::SeqCst);
            if self.shared.rare.starved.load(Ordering::Relaxed) {
                self.wake(bell);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, bell: &Doorbell) {
        self.shared.rare.starved.store(false, Ordering::Relaxed);
        bell.ring();
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.commit();
        if self.claims {
            self.shared.claims.kept.store(self.owned, Ordering::Relaxed);
        }
        self.shared.rare.consumer_gone.store(true, Ordering::Release);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("popped", &self.popped())
            .field("evicted", &self.evicted)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
