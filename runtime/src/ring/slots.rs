//! The memory of a ring: a power of two of slots that may or may not hold an item.

use std::cell::UnsafeCell;
use std::iter::Chain;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::RingError;
#[cfg(corelane_loom)]
use crate::sync::UnsafeCell as Guard;
use crate::sync::{LINE_BYTES, Mapping, page_bytes, prefetch, prefetch_to_write};

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// The smallest page there is on the machines this runs on.
const PAGE_BYTES: usize = 4096;

/// Slots that take as much ask for huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// Owns the slots, not the items in them.
pub(super) struct Slots<T> {
    memory: Memory<T>,
    capacity: usize,
    /// Stand for the slots, which loom cannot watch: its cells are not what they hold, and so no slice of slots is one of
    /// items. Every access to a slot is told to its guard.
    #[cfg(corelane_loom)]
    guards: Vec<Guard<()>>,
}

/// Slots that fill a page have pages of their own, which can be put on a node; smaller ones come from the allocator.
enum Memory<T> {
    Heap(Vec<Slot<T>>),
    Pages(Arc<Mapping>),
}

impl<T> Slots<T> {
    /// Reserves `capacity` slots, a power of two, without touching their pages.
    pub(super) fn new(capacity: usize) -> Result<Self, RingError> {
        debug_assert!(capacity.is_power_of_two());
        let bytes = capacity.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or(RingError::TooManyBytes { capacity, item_bytes: size_of::<T>() })?;
        let page = page_bytes();
        let memory = if bytes >= page && align_of::<T>() <= page {
            // All of it is going to be touched, so that huge pages take no more.
            let huge = bytes >= HUGE_BYTES;
            let mapping = Mapping::new(bytes, if huge { HUGE_BYTES } else { page }, huge);
            Memory::Pages(Arc::new(mapping.map_err(|_| RingError::OutOfMemory { bytes })?))
        } else {
            Memory::Heap(Self::on_heap(capacity, bytes)?)
        };
        Ok(Self {
            memory,
            capacity,
            #[cfg(corelane_loom)]
            guards: (0..capacity).map(|_| Guard::new(())).collect(),
        })
    }

    fn on_heap(capacity: usize, bytes: usize) -> Result<Vec<Slot<T>>, RingError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity).map_err(|_| RingError::OutOfMemory { bytes })?;
        // SAFETY: the capacity was just reserved, and a slot needs no initialisation.
        unsafe {
            slots.set_len(capacity);
        }
        Ok(slots)
    }

    /// Bytes of the slots.
    pub(super) fn bytes(&self) -> usize {
        self.capacity * size_of::<T>()
    }

    /// Their pages, if they have any of their own.
    pub(super) fn pages(&self) -> Option<&Arc<Mapping>> {
        match &self.memory {
            Memory::Heap(_) => None,
            Memory::Pages(mapping) => Some(mapping),
        }
    }

    /// A view that stays valid for as long as `self` lives, wherever `self` is moved.
    pub(super) fn view(&self) -> View<T> {
        View {
            base: match &self.memory {
                Memory::Heap(slots) => NonNull::from(&slots[..]).cast(),
                Memory::Pages(mapping) => mapping.base().cast(),
            },
            mask: self.capacity - 1,
            #[cfg(corelane_loom)]
            guards: NonNull::from(&self.guards[..]).cast(),
        }
    }
}

/// Access to slots by index. Who may touch which slot is up to the positions of the ring.
pub(super) struct View<T> {
    base: NonNull<T>,
    mask: usize,
    #[cfg(corelane_loom)]
    guards: NonNull<Guard<()>>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<T> {}

impl<T> View<T> {
    #[inline(always)]
    pub(super) fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// The slot of a position.
    #[inline(always)]
    pub(super) fn index(&self, position: u64) -> usize {
        position as usize & self.mask
    }

    /// The slots of the positions from `from`, up to `to` or to where the ring wraps.
    #[inline(always)]
    pub(super) fn run(&self, from: u64, to: u64) -> Range<usize> {
        let start = self.index(from);
        start..(start + (to - from) as usize).min(self.capacity())
    }

    /// Has the memory fetched of the slot at `index`, which anybody may access meanwhile.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: usize) {
        prefetch(self.base.as_ptr().wrapping_add(index));
    }

    /// Has the memory fetched of `count` slots from `first` on, which this side is going to write.
    #[inline(always)]
    pub(super) fn prefetch_to_write(&self, first: usize, count: usize) {
        let start = self.base.as_ptr().wrapping_add(first);
        for line in 0..(count * size_of::<T>()).div_ceil(LINE_BYTES) {
            prefetch_to_write(start.wrapping_byte_add(line * LINE_BYTES));
        }
    }

    /// The first of the slots of `run`, about to be read.
    ///
    /// # Safety
    /// `run` starts below the capacity and ends at most there, and the [`Slots`] are alive.
    #[inline(always)]
    unsafe fn readable(&self, run: Range<usize>) -> *const T {
        #[cfg(corelane_loom)]
        for index in run.clone() {
            // SAFETY: promised by the caller; there are as many guards as slots.
            unsafe { self.guards.add(index).as_ref() }.with(|_| ());
        }
        // SAFETY: promised by the caller.
        unsafe { self.at(run) }
    }

    /// The first of the slots of `run`, about to be written.
    ///
    /// # Safety
    /// As [`readable`](Self::readable).
    #[inline(always)]
    unsafe fn writable(&self, run: Range<usize>) -> *mut T {
        #[cfg(corelane_loom)]
        for index in run.clone() {
            // SAFETY: promised by the caller; there are as many guards as slots.
            unsafe { self.guards.add(index).as_ref() }.with_mut(|_| ());
        }
        // SAFETY: promised by the caller.
        unsafe { self.at(run) }
    }

    /// # Safety
    /// As [`readable`](Self::readable).
    #[inline(always)]
    unsafe fn at(&self, run: Range<usize>) -> *mut T {
        debug_assert!(run.start <= self.mask && run.end <= self.capacity());
        // SAFETY: the start is in bounds. The memory is that of `UnsafeCell`s or of a mapping, so it may be written through.
        unsafe { self.base.add(run.start) }.as_ptr()
    }

    /// Puts an item into an empty slot.
    ///
    /// # Safety
    /// `index` is below the capacity and the [`Slots`] are alive; the caller alone may access the slot, and it holds no
    /// item.
    #[inline(always)]
    pub(super) unsafe fn write(&self, index: usize, item: T) {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.writable(index..index + 1) };
        // SAFETY: the caller has exclusive access.
        unsafe { slot.write(item) };
    }

    /// Copies `items` into as many empty slots from `start` on, without a wrap.
    ///
    /// # Safety
    /// As [`write`](Self::write) for every slot of the run, which ends at most at the capacity.
    #[inline(always)]
    pub(super) unsafe fn write_slice(&self, start: usize, items: &[T])
    where
        T: Copy,
    {
        // SAFETY: promised by the caller.
        let slots = unsafe { self.writable(start..start + items.len()) };
        // SAFETY: the caller has exclusive access to the slots, so `items` is not among them.
        unsafe { slots.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
    }

    /// Moves the items out of `count` slots of `from`, from `first` on, into as many empty ones from `start` on. Neither wraps.
    ///
    /// # Safety
    /// As [`write`](Self::write) for the slots here and as [`take`](Self::take) for those of `from`, which are others; both runs end at most at the capacity.
    #[inline(always)]
    pub(super) unsafe fn move_from(&self, start: usize, from: &Self, first: usize, count: usize) {
        // SAFETY: promised by the caller.
        let items = unsafe { from.readable(first..first + count) };
        // SAFETY: promised by the caller.
        let slots = unsafe { self.writable(start..start + count) };
        // SAFETY: the caller has exclusive access to both, and they do not overlap.
        unsafe { slots.copy_from_nonoverlapping(items, count) };
    }

    /// Takes the item out of a slot, which is empty afterwards.
    ///
    /// # Safety
    /// `index` is below the capacity and the [`Slots`] are alive; the caller alone may access the slot, and it holds an
    /// item.
    #[inline(always)]
    pub(super) unsafe fn take(&self, index: usize) -> T {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.readable(index..index + 1) };
        // SAFETY: the slot holds an item that nobody else reads or writes.
        unsafe { slot.read() }
    }

    /// Looks at the item in a slot.
    ///
    /// # Safety
    /// As [`take`](Self::take), and the item stays where it is while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn get<'a>(&self, index: usize) -> &'a T {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.readable(index..index + 1) };
        // SAFETY: the slot holds an item that nobody writes.
        unsafe { &*slot }
    }

    /// Looks at the items in the slots of `run`, which does not wrap.
    ///
    /// # Safety
    /// As [`get`](Self::get) for every slot of the run, which ends at most at the capacity. An empty run is one that
    /// starts below the capacity.
    #[inline(always)]
    pub(super) unsafe fn slice<'a>(&self, run: Range<usize>) -> &'a [T] {
        let len = run.len();
        // SAFETY: promised by the caller.
        let first = unsafe { self.readable(run) };
        // SAFETY: the slots hold items that nobody writes, one behind the other.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// The slots of `run`, which does not wrap, each with an item that may be taken out of it.
    ///
    /// # Safety
    /// As [`slice`](Self::slice).
    #[inline(always)]
    pub(super) unsafe fn full<'a>(&self, run: Range<usize>) -> &'a [MaybeUninit<T>] {
        let len = run.len();
        // SAFETY: promised by the caller.
        let first = unsafe { self.readable(run) };
        // SAFETY: the slots are one behind the other, and nobody writes to them.
        unsafe { std::slice::from_raw_parts(first.cast(), len) }
    }

    /// Writes zeroes to at least one slot of every page.
    ///
    /// # Safety
    /// The [`Slots`] are alive, the caller alone may access them, and none holds an item.
    pub(super) unsafe fn touch(&self) {
        let stride = (PAGE_BYTES / size_of::<T>().max(1)).max(1);
        for index in (0..self.capacity()).step_by(stride).chain([self.mask]) {
            // SAFETY: promised by the caller; the index is at most the mask.
            let slot = unsafe { self.writable(index..index + 1) };
            // SAFETY: exclusive access to memory that holds nothing.
            unsafe { slot.cast::<MaybeUninit<T>>().write_bytes(0, 1) };
        }
    }

    /// Drops the items at the positions in `first` and in `second`, all of them even if one's drop panics.
    ///
    /// # Safety
    /// As [`take`](Self::take) for every position in the ranges.
    pub(super) unsafe fn drop_items(&self, first: Range<u64>, second: Range<u64>) {
        if std::mem::needs_drop::<T>() {
            let mut rest = Rest { view: *self, positions: first.chain(second) };
            while rest.drop_one() {}
        }
    }
}

/// Items still to be dropped.
struct Rest<T> {
    view: View<T>,
    positions: Chain<Range<u64>, Range<u64>>,
}

impl<T> Rest<T> {
    fn drop_one(&mut self) -> bool {
        let Some(position) = self.positions.next() else { return false };
        let index = self.view.index(position);
        // SAFETY: promised by the caller of `drop_items`; every position is taken once.
        drop(unsafe { self.view.take(index) });
        true
    }
}

impl<T> Drop for Rest<T> {
    fn drop(&mut self) {
        while self.drop_one() {}
    }
}
