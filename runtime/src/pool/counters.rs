//! What a home counts. Read by anybody; written by one core each, except where it says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::class::{CLASSES, bytes_of};
use super::stack::Stack;
use crate::observe::{MemoryPoolStats, PageNodes};

// Not the atomics of `sync`: nothing depends on these, and the model checker would try every order of them.

/// Buffers, the bytes of their blocks, and the bytes that were asked for.
#[derive(Debug, Default)]
pub(super) struct Flow {
    buffers: AtomicU64,
    bytes: AtomicU64,
    requested: AtomicU64,
}

impl Flow {
    fn counters(&self) -> [&AtomicU64; 3] {
        [&self.buffers, &self.bytes, &self.requested]
    }

    /// Adds buffers, their bytes, and what was asked for. One thread only may write.
    #[inline(always)]
    pub(super) fn add_many(&self, amounts: [u64; 3]) {
        // A load and a store and no locked instruction: there is one writer.
        for (counter, n) in self.counters().into_iter().zip(amounts) {
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        }
    }

    /// Adds one buffer. Any thread may.
    pub(super) fn add_shared(&self, bytes: u64, requested: u64) {
        for (counter, n) in self.counters().into_iter().zip([1, bytes, requested]) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn read(&self) -> [u64; 3] {
        self.counters().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// The counters of one home. They outlive it.
#[derive(Debug)]
pub(super) struct Counters {
    /// What is ready, by class; and by that, what is not at home.
    pub(super) stacks: Box<[Stack]>,
    /// Returned by threads without a ring. Any thread writes.
    pub(super) outside: Flow,
    /// Returned on other cores; each writes its own.
    returned: Mutex<Vec<Arc<Flow>>>,
    /// What of all that has reached the home. The bytes asked for are not known there.
    pub(super) came_home: Flow,
    /// Bytes mapped.
    pub(super) allocated: AtomicU64,
    /// Where the memory lay when the home closed.
    last_nodes: Mutex<Option<PageNodes>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            // Not an array: that would be put together on the thread's stack, where it is large.
            stacks: (0..CLASSES).map(|_| Stack::default()).collect(),
            outside: Flow::default(),
            returned: Mutex::default(),
            came_home: Flow::default(),
            allocated: AtomicU64::new(0),
            last_nodes: Mutex::new(None),
        }
    }
}

impl Counters {
    /// The counters of the way from one more core.
    pub(super) fn way_back(&self) -> Arc<Flow> {
        let flow = Arc::<Flow>::default();
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&flow));
        flow
    }

    /// Where the memory lay when the home closed, if it has and was bound to a node.
    pub(super) fn last_nodes(&self) -> Option<PageNodes> {
        self.last_nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_last_nodes(&self, nodes: PageNodes) {
        *self.last_nodes.lock().unwrap_or_else(PoisonError::into_inner) = Some(nodes);
    }

    /// Blocks that are not at home.
    pub(super) fn out(&self) -> u64 {
        self.stacks.iter().map(Stack::out).sum()
    }

    /// The statistics now. Exact while nobody rents or returns.
    pub(super) fn statistics(&self) -> MemoryPoolStats {
        // What has come home first: what is still on its way must not seem negative.
        let home = self.came_home.read();
        let mut back = self.outside.read();
        for flow in self.returned.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            back.iter_mut().zip(flow.read()).for_each(|(sum, n)| *sum += n);
        }
        let (mut out, mut peak) = ([0; 3], 0);
        for (stack, bytes) in self.stacks.iter().zip((0..CLASSES).map(|class| bytes_of(class) as u64)) {
            let (blocks, requested) = (stack.out(), stack.requested());
            out.iter_mut().zip([blocks, blocks * bytes, requested]).for_each(|(sum, n)| *sum += n);
            peak += stack.most_out() * bytes;
        }
        let live = |i: usize| out[i].saturating_sub(back[i].saturating_sub(home[i]));
        let (buffers, bytes, requested) = (live(0), live(1), live(2));
        let waste = bytes.saturating_sub(requested) as f64;
        MemoryPoolStats {
            total_allocated: self.allocated.load(Ordering::Relaxed),
            currently_rented: bytes,
            peak_usage: peak,
            fragmentation_ratio: if bytes == 0 { 0.0 } else { waste / bytes as f64 },
            rented_buffers: buffers,
        }
    }
}
