//! How a block comes home from another core: through the return ring of the two cores, or, from a thread that has no ring to
//! that home, over a stack that only such threads push to.

use std::ptr::NonNull;
use std::sync::Arc;

use super::counters::Flow;
use super::home::Home;
use super::slab::Block;
use crate::ring::Producer;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Doorbell, Ordering, fence};

/// Slots of a return ring.
pub(super) const RETURN_SLOTS: usize = if cfg!(corelane_loom) { 2 } else { 1024 };

/// Returns that may wait, before a core makes them visible without being told to.
const RETURN_BATCH: u64 = if cfg!(corelane_loom) { 2 } else { 64 };

/// Tells a home that found no memory that some has come back.
pub(super) struct Wake {
    starved: AtomicBool,
    bell: Option<Arc<Doorbell>>,
    /// Starved homes of the pool.
    starving: Arc<Starving>,
}

/// How many homes of a pool wait for memory. A hint: the others give idle memory back while there are any.
#[derive(Debug, Default)]
pub(super) struct Starving(std::sync::atomic::AtomicU64);

impl Starving {
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Wake {
    pub(super) fn new(bell: Option<Arc<Doorbell>>, starving: Arc<Starving>) -> Self {
        Self { starved: AtomicBool::new(false), bell, starving }
    }

    /// Asks to be woken. The home has to look once more afterwards.
    pub(super) fn starve(&self) {
        if !self.starved.swap(true, Ordering::Relaxed) {
            self.starving.0.fetch_add(1, Ordering::Relaxed);
        }
        // Pairs with the fence in `came_back`: either it sees the wish, or the next look sees the memory.
        fence(Ordering::SeqCst);
    }

    /// The home waits no more: it has found memory after all. True if it waited.
    pub(super) fn fed(&self) -> bool {
        let starved = self.starved.swap(false, Ordering::Relaxed);
        if starved {
            self.starving.0.fetch_sub(1, Ordering::Relaxed);
        }
        starved
    }

    /// Wakes the home if it has asked. To be called after the memory is visible.
    pub(super) fn came_back(&self) {
        fence(Ordering::SeqCst);
        if self.starved.load(Ordering::Relaxed)
            && self.fed()
            && let Some(bell) = &self.bell
        {
            bell.ring();
        }
    }
}

/// A returned block on its way home. Dropped on the way, because the home has closed, it goes over the stack.
pub(super) struct Parked(Block);

impl Parked {
    fn new(block: Block) -> Self {
        Self(block)
    }

    pub(super) fn take(self) -> Block {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: the block has not reached its home: its region is mapped.
        let home = unsafe { self.0.header() }.home;
        // SAFETY: as above; it was counted when it was returned.
        unsafe { Home::return_outside(home, self.0) };
    }
}

/// What became of a block that was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It waits for others.
    Waiting,
    /// So many wait that they should be made visible.
    BatchFull,
}

/// The way from this core to one home.
pub(super) struct Peer {
    /// The home's number.
    pub(super) lane: u64,
    ring: Producer<Parked>,
    /// What the ring had no room for. Bounded by what the home has; kept, so that it does not allocate again.
    overflow: Vec<Parked>,
    /// Blocks sent since the last flush, their bytes, and what was asked for: counted there, all at once.
    waiting: u64,
    bytes: u64,
    requested: u64,
    wake: Arc<Wake>,
    returned: Arc<Flow>,
}

impl Peer {
    pub(super) fn new(lane: u64, ring: Producer<Parked>, wake: Arc<Wake>, returned: Arc<Flow>) -> Self {
        Self { lane, ring, overflow: Vec::new(), waiting: 0, bytes: 0, requested: 0, wake, returned }
    }

    /// Sends a block home, at the latest when [`flush`](Self::flush) is called.
    #[inline]
    pub(super) fn send(&mut self, block: Block, bytes: u64, requested: u64) -> Sent {
        if let Err(parked) = self.ring.push(Parked::new(block)) {
            self.overflow.push(parked);
        }
        self.waiting += 1;
        self.bytes += bytes;
        self.requested += requested;
        if self.waiting >= RETURN_BATCH { Sent::BatchFull } else { Sent::Waiting }
    }

    /// Makes everything sent visible, as far as the ring has room, and wakes the home if it waits for memory.
    pub(super) fn flush(&mut self) {
        if self.waiting == 0 && self.overflow.is_empty() {
            return;
        }
        self.count();
        if self.ring.is_abandoned() {
            self.overflow.clear();
        }
        if !self.overflow.is_empty() {
            self.ring.publish();
            while let Some(parked) = self.overflow.pop() {
                if let Err(parked) = self.ring.push(parked) {
                    self.overflow.push(parked);
                    break;
                }
            }
        }
        self.ring.publish();
        self.wake.came_back();
    }

    /// Counts what was sent. Before it is visible at home, so that it is never seen there and not here.
    fn count(&mut self) {
        let [buffers, bytes, requested] =
            [&mut self.waiting, &mut self.bytes, &mut self.requested].map(std::mem::take);
        self.returned.add_many([buffers, bytes, requested]);
    }

    /// Whether nothing more can be sent, because the home has closed.
    pub(super) fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }

    /// Whether something is sent but not yet visible.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0 || !self.overflow.is_empty()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.count();
    }
}

/// The stack for returns from threads without a ring to this home.
///
/// Any number of threads push, only the home takes, and always everything: so a pointer that was read can never be of a block
/// that has left and come back. Nobody waits for anybody.
pub(super) struct Outside {
    head: AtomicPtr<u8>,
    /// Blocks that came this way; from the close on, minus those that still have to.
    debt: AtomicU64,
}

impl Outside {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(std::ptr::null_mut()), debt: AtomicU64::new(0) }
    }

    pub(super) fn push(&self, block: Block) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is the caller's until the exchange succeeds.
            unsafe { block.set_next(head) };
            match self.head.compare_exchange_weak(
                head,
                block.0.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Counts a block that was pushed. True if it was the last that a closed home waited for: then nobody else knows the
    /// home, and the caller has to free it. Otherwise the home may be gone when this returns.
    pub(super) fn settle(&self) -> bool {
        self.debt.fetch_add(1, Ordering::AcqRel).wrapping_add(1) == 0
    }

    /// The home closes: `expected` blocks come this way in all. True if they all have: the caller has to free the home.
    pub(super) fn close(&self, expected: u64) -> bool {
        self.debt.fetch_sub(expected, Ordering::AcqRel) == expected
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes all blocks there are; only the home does. What is not iterated over is lost.
    pub(super) fn take_all(&self) -> impl Iterator<Item = Block> {
        let head = if self.is_empty() {
            std::ptr::null_mut()
        } else {
            self.head.swap(std::ptr::null_mut(), Ordering::Acquire)
        };
        // SAFETY: the exchange made the whole list the home's; every block in it was linked by `push`. The iterator reads the link
        // before it gives the block away.
        std::iter::successors(NonNull::new(head).map(Block), |block| unsafe { block.next() })
    }
}
