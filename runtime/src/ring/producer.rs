//! The writing end.

use std::fmt;
use std::ops::Range;

use super::slots::{Slots, View};
use super::{SIGNAL_CAPACITY, Shared, touch};
use crate::model::Signal;
use crate::sync::{Arc, Doorbell, Ordering, fence};

/// Bytes of slots that are written at once, or whose memory is fetched at once before. Of 256 to 4 096 the best, or as good as any,
/// both for cores that share a cache and for those that do not.
const BLOCK_BYTES: usize = if cfg!(corelane_loom) { 16 } else { 2_048 };
/// Bytes in which a block is gathered: a page, in which it lies as in its page of slots. Where its items lie shortly behind their slots, modulo
/// a page, the processor takes the next ones to be read for what was just written, and waits: an exchange is a sixth slower then.
const STAGE_BYTES: usize = 2 * BLOCK_BYTES;
/// Bytes of items pushed since the last publication, from which on they are gathered.
const GATHERED_BYTES: usize = BLOCK_BYTES / 2;
/// Larger items are not gathered: to write one of them is to write whole lines anyway.
const GATHERED_ITEM_BYTES: usize = 128;
/// Nor is the memory of larger ones fetched.
const FETCHED_ITEM_BYTES: usize = 512;
/// The slots of larger rings are not fetched: whether that pays was not measured.
const FETCHED_BYTES: usize = 1 << 20;

/// The writing end of a [`ring`](super::ring()).
///
/// What is pushed is visible to the consumer after [`publish`](Self::publish), at the latest when the producer is
/// dropped. It belongs to one thread at a time: it is neither `Sync` nor `Clone`.
///
/// ```compile_fail,E0277
/// fn share<T: Sync>(_: T) {}
/// share(corelane::ring::ring::<u64>(8).unwrap().0);
/// ```
/// ```compile_fail,E0599
/// let (producer, _consumer) = corelane::ring::ring::<u64>(8).unwrap();
/// let second = producer.clone();
/// ```
pub struct Producer<T> {
    slots: View<T>,
    signals: View<(u64, Signal)>,
    /// Items pushed.
    tail: u64,
    /// Items may be pushed up to this position: when last looked at, the consumer's position plus the capacity, or what
    /// the consumer had granted, if that was less.
    limit: u64,
    /// Items may be pushed up to this position without a look at anything else: never beyond the limit, nor, where items are
    /// gathered, beyond the block that has the tail.
    ready: u64,
    /// Memory of slots is fetched before they are written.
    fetches: bool,
    /// Items are gathered, if enough are pushed.
    gathers: bool,
    /// Where items are pushed to: the slots, or the stage.
    sink: View<T>,
    /// Where items are gathered, since the first time.
    stage: Option<Slots<T>>,
    /// Items from this position on are in the stage. `None` while they are written to the slots.
    staged: Option<u64>,
    /// Items published.
    published: u64,
    signal_tail: u64,
    signal_limit: u64,
    signal_published: u64,
    /// Items evicted, and the positions of the last ones of them that follow each other.
    evicted: u64,
    last_evicted: Range<u64>,
    bell: Option<std::sync::Arc<Doorbell>>,
    shared: Arc<Shared<T>>,
}

// SAFETY: the slots behind the views are kept alive by `shared` and `stage`, which is this side's alone; see `Shared` for who accesses which.
unsafe impl<T: Send> Send for Producer<T> {}

impl<T> Producer<T> {
    /// Slots of a block: a power of two, so that they do not wrap.
    const BLOCK: usize = match size_of::<T>() {
        size @ 1..=FETCHED_ITEM_BYTES if size <= BLOCK_BYTES => 1 << (BLOCK_BYTES / size).ilog2(),
        _ => 1,
    };
    /// Items since the last publication, from which on they are gathered.
    const GATHERED: u64 = match size_of::<T>() {
        size @ 1..=GATHERED_ITEM_BYTES => (GATHERED_BYTES / size) as u64,
        _ => u64::MAX,
    };

    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        let slots = shared.items.view();
        let has_blocks = (2..slots.capacity()).contains(&Self::BLOCK);
        let fetches = has_blocks && shared.items.bytes() <= FETCHED_BYTES;
        let gathers = has_blocks && size_of::<T>() <= GATHERED_ITEM_BYTES;
        Self {
            slots,
            signals: shared.signals.view(),
            tail: 0,
            // Not the capacity: the first push has to ask whether the consumer is touching the slots.
            limit: 0,
            ready: 0,
            fetches,
            gathers,
            sink: slots,
            stage: None,
            staged: None,
            published: 0,
            signal_tail: 0,
            signal_limit: SIGNAL_CAPACITY as u64,
            signal_published: 0,
            evicted: 0,
            last_evicted: 0..0,
            bell: None,
            shared,
        }
    }

    /// Slots, whether free or not.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Items that may be pushed, by the consumer's position and grant as last seen; looks at the real ones if those are
    /// fewer than `wanted`.
    ///
    /// When the answer is 0 and the consumer has this side's bell, it rings it as soon as there is room.
    #[inline]
    pub fn free_for(&mut self, wanted: usize) -> usize {
        let free = (self.limit - self.tail) as usize;
        if free >= wanted { free } else { self.refresh() }
    }

    /// Looks at the consumer's position. The free slots.
    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> usize {
        self.observe();
        if self.limit == self.tail {
            self.starve();
            self.observe();
        }
        (self.limit - self.tail) as usize
    }

    fn observe(&mut self) {
        if self.limit == 0 && !self.claim() {
            return;
        }
        let free_before = self.released() + self.slots.capacity() as u64;
        // Relaxed: it hands over no slot, and can only make the limit lower than the slots allow.
        let granted = self.shared.read.granted.load(Ordering::Relaxed).saturating_add(self.evicted);
        self.limit = free_before.min(granted).max(self.tail);
        self.ready = self.ready.min(self.limit);
    }

    /// Looks again at how far it may push. Needed only where the consumer has granted less than before: more is found by
    /// [`free_for`](Self::free_for).
    pub fn recheck(&mut self) {
        self.observe();
    }

    /// Items that the consumer has taken or this side evicted, up to the first that is neither: their slots are free again.
    pub fn released(&self) -> u64 {
        let head = self.shared.read.head.load(Ordering::Acquire);
        // What this side evicted right behind what the consumer is done with is free; the consumer need not have seen it yet.
        if head >= self.last_evicted.start { head.max(self.last_evicted.end) } else { head }
    }

    /// Claims the slots for writing. False while the consumer is touching them.
    fn claim(&self) -> bool {
        let claim = &self.shared.rare.touch;
        match claim.compare_exchange(touch::FRESH, touch::READY, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == touch::READY,
        }
    }

    /// Asks the consumer to ring its bell, once, when it has next made room. Whoever waits for that must look once more
    /// after this call: room made before it rings nothing. [`free_for`](Self::free_for) does all of it when it finds no room.
    #[cold]
    pub fn starve(&self) {
        let starved = &self.shared.rare.starved;
        if !starved.load(Ordering::Relaxed) {
            starved.store(true, Ordering::Relaxed);
        }
        // Pairs with the fence in `Consumer::made_room`: either it sees the wish, or the next look sees the room.
        fence(Ordering::SeqCst);
    }

    /// Writes one item, not yet visible.
    ///
    /// # Errors
    /// Gives the item back when the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if !self.has_ready::<true>() {
            return Err(item);
        }
        self.push_ready(item)
    }

    /// As [`push`](Self::push), but only where that takes a comparison and a store: it neither looks at the consumer's position nor moves what was gathered.
    ///
    /// # Errors
    /// Gives the item back for [`push`](Self::push), which may have room for it.
    ///
    /// ```
    /// let (mut producer, _consumer) = corelane::ring::ring::<u64>(4)?;
    /// assert_eq!(producer.push_ready(1), Err(1), "nobody has looked");
    /// assert_eq!(producer.push(1), Ok(()));
    /// assert_eq!(producer.push_ready(2), Ok(()));
    /// producer.forget_room();
    /// assert_eq!(producer.push_ready(3), Err(3));
    /// assert_eq!(producer.push(3), Ok(()));
    /// assert_eq!((producer.pushed(), producer.free_for(1)), (3, 1));
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    #[inline(always)]
    pub fn push_ready(&mut self, item: T) -> Result<(), T> {
        if self.tail == self.ready {
            return Err(item);
        }
        // SAFETY: the tail is before what is ready: its place is free, in the stage, or in the slots, since it is below the limit.
        unsafe { self.sink.write(self.sink.index(self.tail), item) };
        self.tail += 1;
        Ok(())
    }

    /// Whether a place is ready, if need be after another look at the consumer's position: for what `PUSHES`, or for what writes to the slots
    /// while nothing is in the stage.
    #[inline]
    fn has_ready<const PUSHES: bool>(&mut self) -> bool {
        self.tail != self.ready || self.find_ready::<PUSHES>()
    }

    #[cold]
    #[inline(never)]
    fn find_ready<const PUSHES: bool>(&mut self) -> bool {
        self.unload();
        self.make_ready::<PUSHES>() || (self.refresh() > 0 && self.make_ready::<PUSHES>())
    }

    /// Goes on to the next block of what room was found; nothing is in the stage. False if all room is used up.
    ///
    /// A slot that was read is in the caches of the consumer's core, from which a write has to take it. What is done about it here makes
    /// an exchange two to four times as fast while the cores share no cache: items that are pushed are gathered, and of runs that are
    /// written the memory of the block behind this one is fetched.
    fn make_ready<const PUSHES: bool>(&mut self) -> bool {
        self.ready = self.limit;
        if self.fetches || (PUSHES && self.gathers) {
            let block = Self::BLOCK as u64;
            let next = (self.tail | (block - 1)) + 1;
            self.ready = next.min(self.limit);
            if PUSHES && self.gathers && self.tail - self.published >= Self::GATHERED {
                self.gather();
            } else if self.fetches && next + block <= self.limit {
                self.slots.prefetch_to_write(self.slots.index(next), Self::BLOCK);
            }
        }
        self.tail != self.ready
    }

    /// From now on what is pushed is gathered in the stage. If there is no memory for one, the producer goes without.
    ///
    /// Where items are pushed between other work, few writes to slots are under way at once, and each line is waited for almost alone,
    /// whether or not it was fetched before. The lines of a block that is written at once are waited for together.
    fn gather(&mut self) {
        if self.staged.is_some() {
            return;
        }
        if self.stage.is_none() {
            self.stage = Slots::new((STAGE_BYTES / size_of::<T>().max(1)).next_power_of_two()).ok();
        }
        match &self.stage {
            Some(stage) => {
                self.sink = stage.view();
                self.staged = Some(self.tail);
            }
            None => self.gathers = false,
        }
    }

    /// Moves what is in the stage to its slots.
    fn unload(&mut self) {
        let Some(from) = self.staged else { return };
        self.staged = Some(self.tail);
        let count = (self.tail - from) as usize;
        // SAFETY: these positions were pushed below the limit and lie in one block, so that neither run wraps; the stage gives the items up.
        unsafe { self.slots.move_from(self.slots.index(from), &self.sink, self.sink.index(from), count) };
    }

    /// Moves what is in the stage to its slots, and has what follows written to them.
    #[inline(never)]
    fn stop_gathering(&mut self) {
        self.unload();
        self.staged = None;
        self.sink = self.slots;
    }

    /// Forgets what room was found: [`push_ready`](Self::push_ready) refuses everything until another call looks again.
    pub fn forget_room(&mut self) {
        self.limit = self.tail;
        self.ready = self.tail;
    }

    /// Writes items until `items` ends or the ring is full, not yet visible. How many.
    ///
    /// An item for which there is no room is not pulled. If `items` panics, those written before it stay.
    #[inline]
    pub fn extend(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let start = self.tail;
        if self.staged.is_some() {
            self.stop_gathering();
        }
        while self.has_ready::<false>() {
            let run = self.slots.run(self.tail, self.ready);
            let end = self.tail + run.len() as u64;
            let slots = self.slots;
            let mut index = run.start;
            let mut progress = Progress { at: self.tail, tail: &mut self.tail };
            items.take(run.len()).for_each(|item| {
                // SAFETY: at most `run.len()` items are taken, and the slots of the run are below the limit.
                unsafe { slots.write(index, item) };
                index += 1;
                progress.at += 1;
            });
            drop(progress);
            if self.tail != end {
                break;
            }
        }
        (self.tail - start) as usize
    }

    /// Copies as many of `items`, from the first on, as there is room for, not yet visible. How many.
    ///
    /// The fastest way in: at most two copies of memory, whatever the number of items.
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(4)?;
    /// assert_eq!(producer.push_slice(&[1, 2, 3, 4, 5]), 4);
    /// producer.publish();
    /// assert_eq!(consumer.read(usize::MAX).collect::<Vec<_>>(), [1, 2, 3, 4]);
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    /// Only for items that are copied by copying their bytes:
    /// ```compile_fail,E0277
    /// let (mut producer, _consumer) = corelane::ring::ring::<String>(4).unwrap();
    /// producer.push_slice(&[String::new()]);
    /// ```
    #[inline]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        if self.staged.is_some() {
            self.stop_gathering();
        }
        let n = self.free_for(items.len()).min(items.len());
        let run = self.slots.run(self.tail, self.tail + n as u64);
        let (first, second) = items[..n].split_at(run.len());
        // SAFETY: the slots of the run are below the limit, so they are free and belong to this side.
        unsafe { self.slots.write_slice(run.start, first) };
        if !second.is_empty() {
            // SAFETY: as above, for the positions behind the wrap.
            unsafe { self.slots.write_slice(0, second) };
        }
        self.tail += n as u64;
        self.ready = self.ready.max(self.tail);
        n
    }

    /// Makes what was pushed and signalled visible, and rings the consumer's bell.
    ///
    /// One release store of the tail, whatever the number of items; nothing if there is nothing new. A bell costs a fence
    /// only if its owner ever parks; its waker has to be set before the first call.
    #[inline]
    pub fn publish(&mut self) {
        if self.signal_tail != self.signal_published {
            // Before the tail: whoever sees an item sees the signals that stand before it.
            self.shared.written.signal_tail.store(self.signal_tail, Ordering::Release);
            self.signal_published = self.signal_tail;
        } else if self.tail == self.published {
            return;
        }
        if self.tail != self.published {
            if self.staged.is_some() {
                self.unload_to_publish();
            }
            self.shared.written.tail.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
        if let Some(bell) = &self.bell
            && bell.has_waker()
        {
            bell.ring();
        }
    }

    /// What was gathered goes to the slots. If that is little, what follows is written to them at once: an item that is published alone
    /// is best written where it is read.
    #[inline(never)]
    fn unload_to_publish(&mut self) {
        if self.tail - self.published < Self::GATHERED {
            self.stop_gathering();
        } else {
            self.unload();
        }
    }

    /// Places `signal` after all items pushed so far. Visible at the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// Gives the signal back when [`SIGNAL_CAPACITY`] signals wait to be read.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Signal> {
        if self.signal_room() == 0 {
            return Err(signal);
        }
        // SAFETY: the signal tail is below its limit, so the slot is free and belongs to this side.
        unsafe { self.signals.write(self.signals.index(self.signal_tail), (self.tail, signal)) };
        self.signal_tail += 1;
        Ok(())
    }

    /// Signals that can be placed now.
    ///
    /// When the answer is 0 and the consumer has this side's bell, it rings it as soon as there is room.
    pub fn signal_room(&mut self) -> usize {
        if self.signal_tail == self.signal_limit {
            self.observe_signals();
            if self.signal_tail == self.signal_limit {
                self.starve();
                self.observe_signals();
            }
        }
        (self.signal_limit - self.signal_tail) as usize
    }

    fn observe_signals(&mut self) {
        self.signal_limit = self.shared.read.signal_head.load(Ordering::Acquire) + SIGNAL_CAPACITY as u64;
    }

    /// Takes the oldest item out of the ring that the consumer has not claimed, published or not. Its slot is free at once,
    /// unless the consumer is still reading one before it. `None` if there is no such item, and until the consumer
    /// [allows it](super::Consumer::allow_evictions).
    ///
    /// The signals around it stay. Publishes what was pushed, if nothing older waits. One compare-and-swap.
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(2)?;
    /// consumer.allow_evictions();
    /// producer.extend(&mut (1..=2));
    /// assert_eq!(producer.push(3), Err(3));
    /// assert_eq!(producer.evict_oldest(), Some(1));
    /// producer.push(3).unwrap();
    /// producer.publish();
    /// assert_eq!(consumer.read(usize::MAX).collect::<Vec<_>>(), [2, 3]);
    /// assert_eq!(consumer.evicted(), 1);
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    pub fn evict_oldest(&mut self) -> Option<T> {
        if !self.may_evict() {
            return None;
        }
        // Relaxed: this side wrote the item itself, and only the position says whose it is.
        let mut at = self.shared.claims.upto.load(Ordering::Relaxed);
        loop {
            if at == self.published {
                if self.published == self.tail {
                    return None;
                }
                self.publish();
            }
            let claims = &self.shared.claims.upto;
            // Release: a consumer that passes the item over has to see the tail behind it, and the signals before that.
            match claims.compare_exchange_weak(at, at + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => at = now,
            }
        }
        self.evicted += 1;
        if at != self.last_evicted.end {
            self.last_evicted.start = at;
        }
        self.last_evicted.end = at + 1;
        self.observe();
        // SAFETY: this side wrote the item at this position and has claimed it before the consumer did.
        Some(unsafe { self.slots.take(self.slots.index(at)) })
    }

    /// Whether the consumer claims what it reads, so that this side may evict.
    #[inline]
    pub fn may_evict(&self) -> bool {
        // Acquire: the claims begin where the consumer said before.
        self.shared.rare.evictable.load(Ordering::Acquire)
    }

    /// Items in the ring that the consumer has not claimed, published or not. Right only where this side
    /// [may evict](Self::may_evict).
    pub fn waiting(&self) -> usize {
        (self.tail - self.shared.claims.upto.load(Ordering::Relaxed)) as usize
    }

    /// Items pushed since the start, whether published or not.
    #[inline]
    pub fn pushed(&self) -> u64 {
        self.tail
    }

    /// Whether the consumer is gone: nobody will read.
    pub fn is_abandoned(&self) -> bool {
        self.shared.rare.consumer_gone.load(Ordering::Acquire)
    }

    /// Takes the bell of the consumer's side, to be rung by [`publish`](Self::publish).
    pub fn attach_doorbell(&mut self, bell: std::sync::Arc<Doorbell>) {
        self.bell = Some(bell);
    }
}

/// Stores the position reached, also when the iterator of `extend` panics.
struct Progress<'a> {
    at: u64,
    tail: &'a mut u64,
}

impl Drop for Progress<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.tail = self.at;
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
        self.shared.rare.producer_gone.store(true, Ordering::Release);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("pushed", &self.tail)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}
