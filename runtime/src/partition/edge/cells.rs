//! Counters of an edge: one writer at each end, readable from any thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ring::RingPages;

/// Writes the cells of one end, and how they are published and added up, from one list of fields of [`EdgeCells`].
macro_rules! cells {
    ($(#[$doc:meta])* $name:ident: $($sum:ident,)*; $($most:ident,)*; $($field:ident: $type:ty,)*) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name {
            $($sum: AtomicU64,)*
            $($most: AtomicU64,)*
            $($field: $type,)*
        }

        impl $name {
            pub(crate) fn publish(&self, e: &EdgeCells) {
                $(self.$sum.store(e.$sum, Ordering::Relaxed);)*
                $(self.$most.store(e.$most, Ordering::Relaxed);)*
            }

            /// Adds this end's counters to `sum`.
            pub fn add_to(&self, sum: &mut EdgeCells) {
                $(sum.$sum += self.$sum.load(Ordering::Relaxed);)*
                $(sum.$most = sum.$most.max(self.$most.load(Ordering::Relaxed));)*
            }
        }
    };
}

cells! {
    /// What the producing end of one edge has counted. One per upstream instance.
    OutletCells: offered, dropped_newest, dropped_oldest, unroutable, staged, left, bytes,;;
}

cells! {
    /// What the consuming end of one ring has counted.
    InletCells: popped, left, depth, credits, demand,; batch,; pages: OnceLock<(usize, RingPages)>,
}

impl InletCells {
    /// Says where the ring lies, and in which partition it is read.
    pub(crate) fn set_pages(&self, partition: usize, pages: RingPages) {
        // An inlet is settled once.
        let _ = self.pages.set((partition, pages));
    }

    /// Where the ring lies, and the partition it is read in; `None` before it is there, and where no node is known.
    pub fn pages(&self) -> Option<(usize, &RingPages)> {
        self.pages.get().map(|(partition, pages)| (*partition, pages))
    }
}

/// One reading of an edge's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCells {
    /// Items the upstream stage gave to the edge.
    pub offered: u64,
    /// Of these, refused because the edge was full (`DropNewest`).
    pub dropped_newest: u64,
    /// Dropped unread to make room (`DropOldest`).
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
    /// Bytes in the rings and staged, where they are weighed.
    pub bytes: u64,
    /// Credits that producers have and have not used.
    pub credits: u64,
    /// Items requested by the runtime for the consumer, and not yet pushed.
    pub demand: u64,
    /// The present batch size of an adaptive edge: the largest of its instances.
    pub batch: u64,
}
