//! Counters of an edge: one writer at each end, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the producing end of one edge has counted. One per upstream instance.
#[derive(Debug, Default)]
pub struct OutletCells {
    offered: AtomicU64,
    dropped_newest: AtomicU64,
    dropped_oldest: AtomicU64,
    unroutable: AtomicU64,
    staged: AtomicU64,
    left: AtomicU64,
}

/// What the consuming end of one edge has counted. One per downstream instance.
#[derive(Debug, Default)]
pub struct InletCells {
    popped: AtomicU64,
    dropped_oldest: AtomicU64,
    left: AtomicU64,
    depth: AtomicU64,
}

/// One reading of an edge's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCells {
    /// Items the upstream stage gave to the edge.
    pub offered: u64,
    /// Of these, refused because the edge was full (`DropNewest`).
    pub dropped_newest: u64,
    /// Discarded unread to make room (`DropOldest`).
    pub dropped_oldest: u64,
    /// Of those offered, lost because the user's key function failed on them.
    pub unroutable: u64,
    /// Waiting in the producer's memory for room in the ring.
    pub staged: u64,
    /// Taken by the downstream stage.
    pub popped: u64,
    /// Counted in the ring, or waiting for it, after both ends had stopped.
    pub left: u64,
    /// In the rings, by their own positions, at the time of the reading.
    pub depth: u64,
}

impl OutletCells {
    pub(crate) fn publish(&self, e: &EdgeCells) {
        self.offered.store(e.offered, Ordering::Relaxed);
        self.dropped_newest.store(e.dropped_newest, Ordering::Relaxed);
        self.dropped_oldest.store(e.dropped_oldest, Ordering::Relaxed);
        self.unroutable.store(e.unroutable, Ordering::Relaxed);
        self.staged.store(e.staged, Ordering::Relaxed);
        self.left.store(e.left, Ordering::Relaxed);
    }

    /// Adds this end's counters to `sum`.
    pub fn add_to(&self, sum: &mut EdgeCells) {
        sum.offered += self.offered.load(Ordering::Relaxed);
        sum.dropped_newest += self.dropped_newest.load(Ordering::Relaxed);
        sum.dropped_oldest += self.dropped_oldest.load(Ordering::Relaxed);
        sum.unroutable += self.unroutable.load(Ordering::Relaxed);
        sum.staged += self.staged.load(Ordering::Relaxed);
        sum.left += self.left.load(Ordering::Relaxed);
    }
}

impl InletCells {
    pub(crate) fn publish(&self, popped: u64, dropped_oldest: u64, left: u64, depth: u64) {
        self.popped.store(popped, Ordering::Relaxed);
        self.dropped_oldest.store(dropped_oldest, Ordering::Relaxed);
        self.left.store(left, Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Adds this end's counters to `sum`.
    pub fn add_to(&self, sum: &mut EdgeCells) {
        sum.popped += self.popped.load(Ordering::Relaxed);
        sum.dropped_oldest += self.dropped_oldest.load(Ordering::Relaxed);
        sum.left += self.left.load(Ordering::Relaxed);
        sum.depth += self.depth.load(Ordering::Relaxed);
    }
}
