//! The memory of a ring: a power of two of slots that may or may not hold an item.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use super::RingError;
use crate::sync::UnsafeCell;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// The smallest page there is on the machines this runs on.
const PAGE_BYTES: usize = 4096;

/// Owns the slots, not the items in them.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
}

impl<T> Slots<T> {
    /// Reserves `capacity` slots, a power of two, without touching their pages.
    pub(super) fn new(capacity: usize) -> Result<Self, RingError> {
        debug_assert!(capacity.is_power_of_two());
        let bytes = capacity.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or(RingError::TooManyBytes { capacity, item_bytes: size_of::<T>() })?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity).map_err(|_| RingError::OutOfMemory { bytes })?;
        #[cfg(corelane_loom)]
        slots.resize_with(capacity, || Slot::new(MaybeUninit::uninit()));
        #[cfg(not(corelane_loom))]
        // SAFETY: the capacity was just reserved, and a slot needs no initialisation.
        unsafe {
            slots.set_len(capacity);
        }
        Ok(Self { slots })
    }

    /// A view that stays valid for as long as `self` lives, wherever `self` is moved.
    pub(super) fn view(&self) -> View<T> {
        View { base: NonNull::from(&self.slots[..]).cast(), mask: self.slots.len() - 1 }
    }
}

/// Access to slots by index. Who may touch which slot is up to the positions of the ring.
pub(super) struct View<T> {
    base: NonNull<Slot<T>>,
    mask: usize,
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

    /// # Safety
    /// `index` is below the capacity and the [`Slots`] are alive.
    #[inline(always)]
    unsafe fn slot(&self, index: usize) -> &Slot<T> {
        debug_assert!(index <= self.mask);
        // SAFETY: the index is in bounds.
        let slot = unsafe { self.base.add(index) };
        // SAFETY: the slot is alive, and shared access to an `UnsafeCell` is always allowed.
        unsafe { slot.as_ref() }
    }

    /// Puts an item into an empty slot.
    ///
    /// # Safety
    /// As [`slot`](Self::slot); the caller alone may access the slot, and it holds no item.
    #[inline(always)]
    pub(super) unsafe fn write(&self, index: usize, item: T) {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the caller has exclusive access.
        slot.with_mut(|cell| unsafe { cell.cast::<T>().write(item) });
    }

    /// Takes the item out of a slot, which is empty afterwards.
    ///
    /// # Safety
    /// As [`slot`](Self::slot); the caller alone may access the slot, and it holds an item.
    #[inline(always)]
    pub(super) unsafe fn take(&self, index: usize) -> T {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the slot holds an item that nobody else reads or writes.
        slot.with(|cell| unsafe { cell.cast::<T>().read() })
    }

    /// Looks at the item in a slot.
    ///
    /// # Safety
    /// As [`take`](Self::take), and the item stays where it is while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn get<'a>(&self, index: usize) -> &'a T {
        // SAFETY: promised by the caller.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the slot holds an item that nobody writes.
        slot.with(|cell| unsafe { &*cell.cast::<T>() })
    }

    /// Writes zeroes to at least one slot of every page.
    ///
    /// # Safety
    /// The [`Slots`] are alive, the caller alone may access them, and none holds an item.
    pub(super) unsafe fn touch(&self) {
        let stride = (PAGE_BYTES / size_of::<T>().max(1)).max(1);
        for index in (0..self.capacity()).step_by(stride).chain([self.mask]) {
            // SAFETY: promised by the caller; the index is at most the mask.
            let slot = unsafe { self.slot(index) };
            // SAFETY: exclusive access to memory that holds nothing.
            slot.with_mut(|cell| unsafe { cell.write_bytes(0, 1) });
        }
    }

    /// Drops the items at the positions from `from` to `to`, all of them even if one's drop panics.
    ///
    /// # Safety
    /// As [`take`](Self::take) for every position in the range.
    pub(super) unsafe fn drop_items(&self, from: u64, to: u64) {
        if std::mem::needs_drop::<T>() {
            let mut rest = Rest { view: *self, from, to };
            while rest.drop_one() {}
        }
    }
}

/// Items still to be dropped.
struct Rest<T> {
    view: View<T>,
    from: u64,
    to: u64,
}

impl<T> Rest<T> {
    fn drop_one(&mut self) -> bool {
        if self.from == self.to {
            return false;
        }
        let index = self.view.index(self.from);
        self.from += 1;
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
