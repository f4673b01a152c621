//! corelane's memory pool by itself, without a pipeline.

use corelane::pool::{LocalPool, MemoryPool, PooledBuffer};

use crate::workload::pool::Buffers;

/// A pool with the default options.
pub fn new() -> MemoryPool {
    MemoryPool::default()
}

/// Buffers rented by the thread that this was made on.
pub struct Rented(LocalPool);

impl Rented {
    /// Opens a home for the running thread.
    ///
    /// # Panics
    /// Never: nothing is made ready.
    pub fn new(pool: &MemoryPool) -> Self {
        Self(pool.open(None).expect("nothing is made ready"))
    }
}

impl Buffers for Rented {
    type Buffer = PooledBuffer;

    // Not called: what stands in a user's loop is in it, too.
    #[inline(always)]
    fn take(&mut self, size: usize, stamp: u64) -> PooledBuffer {
        let mut buffer = self.0.rent(size).expect("the limit is far away");
        buffer[..8].copy_from_slice(&stamp.to_le_bytes());
        buffer
    }

    #[inline]
    fn stamp(buffer: &PooledBuffer) -> u64 {
        buffer.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn step<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let core = self.0.clone();
        core.enter(|| work(self))
    }
}
