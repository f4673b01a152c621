//! What `ring` and `pool` are built on: atomics, the bell that wakes a parked peer, and memory with a NUMA node.
//!
//! Under the private cfg `corelane_loom` atomics and locks come from loom, so that the same source is model checked. Under `corelane_tsan`
//! locks come from `parking_lot`: those of the standard library come compiled, and ThreadSanitizer does not see who waits in them for whom.

mod doorbell;
mod mapping;

pub use doorbell::Doorbell;
pub use mapping::{BindError, HomeNode};
pub(crate) use mapping::{Mapping, page_bytes, page_nodes};

pub(crate) use crossbeam::utils::CachePadded;

/// A cache line. Where lines are longer some are fetched twice, and buffers of two cores may share one.
pub(crate) const LINE_BYTES: usize = 64;

/// Has the cache line fetched in which `place` begins, so that it is there when it is read soon. Does nothing else, and on
/// processors other than x86-64 nothing at all.
#[inline(always)]
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: fetching a line changes no memory and raises no fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// As [`prefetch`], only as far as the second-level cache: for memory that is read in a while. A core waits for few lines at once on behalf of its
/// first-level cache; what has memory streamed there competes with the loads for them.
#[inline(always)]
pub(crate) fn prefetch_early<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// As [`prefetch`], for a line that is written to soon: it is taken from the other cores that have it, as a write would.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // As an instruction: the compiler's own hint becomes it only for processors named when building, and a fetch to read otherwise.
    // SAFETY: as above. Processors that do not know the instruction do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(not(corelane_loom))]
mod primitives {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering, fence};

    /// `std::cell::UnsafeCell` with loom's access by closure, as far as it is needed without loom.
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(corelane_loom)]
mod primitives {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering, fence};
}

pub(crate) use primitives::*;

#[cfg(corelane_loom)]
use loom::sync as locks;
#[cfg(corelane_tsan)]
use parking_lot as locks;
#[cfg(not(any(corelane_loom, corelane_tsan)))]
use std::sync as locks;

/// A lock for what is done once in a while. One that a panic has poisoned is taken all the same.
pub(crate) struct Mutex<T>(locks::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(locks::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> locks::MutexGuard<'_, T> {
        let guard = self.0.lock();
        #[cfg(not(corelane_tsan))]
        let guard = guard.unwrap_or_else(std::sync::PoisonError::into_inner);
        guard
    }
}
