//! The atomics that `ring` and `pool` are built on, and the bell that wakes a parked peer.
//!
//! Under the private cfg `corelane_loom` everything here comes from loom, so that the same source is model checked.

mod doorbell;

pub use doorbell::Doorbell;

pub(crate) use crossbeam::utils::CachePadded;

#[cfg(not(corelane_loom))]
mod primitives {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

    /// `std::cell::UnsafeCell` with loom's access by closure.
    #[allow(dead_code, reason = "the ring needs it under loom only")]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    #[allow(dead_code, reason = "the ring needs it under loom only")]
    impl<T> UnsafeCell<T> {
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
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
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
}

pub(crate) use primitives::*;
