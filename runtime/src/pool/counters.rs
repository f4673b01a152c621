//! What a home counts. Read by anybody; written by one core each, except where it says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::MemoryPoolStats;

// Not the atomics of `sync`: nothing depends on these, and the model checker would try every order of them.

/// Buffers, the bytes of their blocks, and the bytes that were asked for.
#[derive(Debug, Default)]
pub(super) struct Flow {
    buffers: AtomicU64,
    bytes: AtomicU64,
    requested: AtomicU64,
}

impl Flow {
    /// Adds one buffer. One thread only may write.
    #[inline(always)]
    pub(super) fn add(&self, bytes: u64, requested: u64) {
        self.set(u64::wrapping_add, bytes, requested);
    }

    /// Takes one buffer away. One thread only may write.
    #[inline(always)]
    pub(super) fn sub(&self, bytes: u64, requested: u64) {
        self.set(u64::wrapping_sub, bytes, requested);
    }

    #[inline(always)]
    fn set(&self, change: fn(u64, u64) -> u64, bytes: u64, requested: u64) {
        // A load and a store and no locked instruction: there is one writer.
        for (counter, n) in [(&self.buffers, 1), (&self.bytes, bytes), (&self.requested, requested)] {
            counter.store(change(counter.load(Ordering::Relaxed), n), Ordering::Relaxed);
        }
    }

    /// Adds one buffer. Any thread may.
    pub(super) fn add_shared(&self, bytes: u64, requested: u64) {
        for (counter, n) in [(&self.buffers, 1), (&self.bytes, bytes), (&self.requested, requested)] {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn buffers(&self) -> u64 {
        self.buffers.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn read(&self) -> [u64; 3] {
        [&self.buffers, &self.bytes, &self.requested].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// The counters of one home. They outlive it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Rented, without what came back on the home core itself.
    pub(super) rented: Flow,
    /// Returned by threads without a ring. Any thread writes.
    pub(super) outside: Flow,
    /// Returned on other cores; each writes its own.
    pub(super) returned: Mutex<Vec<Arc<Flow>>>,
    /// Bytes mapped.
    pub(super) allocated: AtomicU64,
    /// The most bytes rented, as the home saw it.
    pub(super) peak: AtomicU64,
}

impl Counters {
    /// The counters of the way from one more core.
    pub(super) fn way_back(&self) -> Arc<Flow> {
        let flow = Arc::<Flow>::default();
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&flow));
        flow
    }

    /// The statistics now. Exact while nobody rents or returns.
    pub(super) fn statistics(&self) -> MemoryPoolStats {
        // Returns first: a buffer rented meanwhile must not be seen as returned only.
        let mut back = self.outside.read();
        for flow in self.returned.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            back.iter_mut().zip(flow.read()).for_each(|(sum, n)| *sum += n);
        }
        let out = self.rented.read();
        let [buffers, bytes, requested] = [0, 1, 2].map(|i| out[i].saturating_sub(back[i]));
        MemoryPoolStats {
            total_allocated: self.allocated.load(Ordering::Relaxed),
            currently_rented: bytes,
            peak_usage: self.peak.load(Ordering::Relaxed),
            fragmentation_ratio: if bytes == 0 {
                0.0
            } else {
                bytes.saturating_sub(requested) as f64 / bytes as f64
            },
            rented_buffers: buffers,
        }
    }
}
