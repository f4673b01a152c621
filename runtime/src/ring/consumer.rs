//! The reading end.

use std::fmt;

use super::slots::View;
use super::{Chunk, Shared, touch};
use crate::model::Signal;
use crate::sync::{Arc, Doorbell, Ordering, fence};

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
    /// Items taken or discarded.
    pub(super) head: u64,
    /// The head that the producer knows.
    committed: u64,
    /// The producer's tail when last looked at. All signals before this position are known.
    tail: u64,
    /// The position of the next signal, or `NO_SIGNAL`.
    stop: u64,
    signal_head: u64,
    signal_tail: u64,
    discarded: u64,
    /// Items that the producer marks are left for `next_discarded`.
    hands_out: bool,
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
            discarded: 0,
            hands_out: false,
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
    /// Does nothing once the producer has written an item. The ring looks full to the producer meanwhile.
    pub fn pretouch(&mut self) {
        let claim = &self.shared.rare.touch;
        let fresh =
            claim.compare_exchange(touch::FRESH, touch::TOUCHING, Ordering::Acquire, Ordering::Relaxed);
        if fresh.is_ok() {
            // SAFETY: the producer does not access the slots before it has seen `READY`, and none was ever written.
            unsafe { self.slots.touch() };
            claim.store(touch::READY, Ordering::Release);
            self.made_room();
        }
    }

    /// Items that can be read now, before the next signal. Discards what the producer marked first.
    #[inline]
    pub fn available(&mut self) -> usize {
        if self.shared.rare.discard_before.load(Ordering::Acquire) > self.head {
            self.discard();
        }
        let ready = self.ready();
        if ready > 0 || self.head == self.stop {
            return ready;
        }
        self.refresh();
        self.ready()
    }

    #[inline(always)]
    fn ready(&self) -> usize {
        (self.tail.min(self.stop) - self.head) as usize
    }

    /// Looks at the producer's positions. The tail first: no signal before it can then be missed.
    #[inline]
    fn refresh(&mut self) {
        self.tail = self.shared.written.tail.load(Ordering::Acquire);
        let signal_tail = self.shared.written.signal_tail.load(Ordering::Acquire);
        if signal_tail != self.signal_tail {
            self.signal_tail = signal_tail;
            self.find_stop();
        }
    }

    fn find_stop(&mut self) {
        self.stop = if self.signal_head == self.signal_tail { NO_SIGNAL } else { self.first_signal().0 };
    }

    fn first_signal(&self) -> (u64, Signal) {
        debug_assert!(self.signal_head < self.signal_tail);
        // SAFETY: the signal head is before the published signal tail, so the slot is full and belongs to this side.
        unsafe { *self.signals.get(self.signals.index(self.signal_head)) }
    }

    /// Discards the items that the producer marked, as far as the next signal.
    #[cold]
    #[inline(never)]
    fn discard(&mut self) {
        if self.hands_out {
            return;
        }
        let before = self.shared.rare.discard_before.load(Ordering::Acquire);
        if before > self.tail {
            self.refresh();
        }
        let from = self.head;
        let to = before.min(self.stop);
        if to > from {
            // First, so that a panic in a drop leaves no item to be dropped twice.
            self.head = to;
            self.discarded += to - from;
            // SAFETY: `to` is at most `before`, which is at most the published tail: the slots are full and this side's.
            unsafe { self.slots.drop_items(from, to) };
            self.commit();
        }
    }

    /// From now on items that the producer marks are not dropped unseen: [`next_discarded`](Self::next_discarded) hands them
    /// out. Those that are not asked for before they are read are read.
    pub fn hand_out_discarded(&mut self) {
        self.hands_out = true;
    }

    /// Takes the next of the items that the producer marked to be discarded, if one comes before the next signal, and counts
    /// it as discarded.
    pub fn next_discarded(&mut self) -> Option<T> {
        let before = self.shared.rare.discard_before.load(Ordering::Acquire);
        if before > self.tail {
            self.refresh();
        }
        if self.head >= before.min(self.stop) {
            return None;
        }
        let index = self.slots.index(self.head);
        self.head += 1;
        self.discarded += 1;
        // SAFETY: the position is before `discard_before`, so before the published tail, and is taken once.
        let item = unsafe { self.slots.take(index) };
        self.commit();
        Some(item)
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
        let n = self.available().min(max);
        Chunk::new(self, n as u64)
    }

    /// Looks at the next item, if one comes before the next signal.
    #[inline]
    pub fn peek(&mut self) -> Option<&T> {
        if self.available() == 0 {
            return None;
        }
        // SAFETY: the head is before the published tail; the borrow of `self` keeps the item where it is.
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
        self.made_room();
        Some(signal)
    }

    /// Whether there is neither an item nor a signal to take. An empty ring whose producer
    /// [is gone](Self::is_abandoned), asked in this order: gone, then empty, stays empty.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.available() == 0 && self.head != self.stop
    }

    #[allow(
        clippy::len_without_is_empty,
        reason = "`is_empty` discards and looks for signals, so it is `&mut`"
    )]
    /// Items in the ring that are visible now, beyond signals too, and those marked to be discarded too.
    pub fn len(&self) -> usize {
        (self.published() - self.head) as usize
    }

    /// Items taken or discarded since the start: the position of the next one.
    #[inline]
    pub fn position(&self) -> u64 {
        self.head
    }

    /// The position behind the last item that is visible now.
    #[inline]
    pub fn published(&self) -> u64 {
        self.shared.written.tail.load(Ordering::Acquire)
    }

    /// Lets the producer push up to `position` and no further, however many slots are free, and wakes it if it waits. At
    /// first there is no such bound (`u64::MAX`).
    ///
    /// A producer that has already pushed more, or has looked before, keeps to it from its next look on: see
    /// [`Producer::recheck`](super::Producer::recheck). Signals are not bound.
    pub fn grant(&mut self, position: u64) {
        // Relaxed: slots are handed over by the head alone.
        self.shared.read.granted.store(position, Ordering::Relaxed);
        self.made_room();
    }

    /// Items taken since the start, without those discarded.
    #[inline]
    pub fn popped(&self) -> u64 {
        self.head - self.discarded
    }

    /// Items discarded since the start because the producer marked them.
    #[inline]
    pub fn discarded(&self) -> u64 {
        self.discarded
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
            .field("discarded", &self.discarded)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
