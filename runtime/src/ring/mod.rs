//! The one thing that two partitions share: a bounded ring with one producer and one consumer.
//!
//! Items are written and read in place. What was pushed becomes visible with [`Producer::publish`], a single release
//! store however many items there are; what was read becomes free when its [`Chunk`] is dropped, also by one store. Each
//! side keeps a copy of the other's position and re-reads the real one only when the copy says there is nothing left.
//! Where much is pushed between two publications, the producer gathers items in a block of its own and moves that to the slots: their
//! lines are in the caches of the consumer's core, and to take them one at a time takes longer than to take many at once.
//!
//! [`Signal`]s travel beside the items in a small ring of their own, each with the position between two items where it
//! stands; a [`Chunk`] ends before the next signal. Slots therefore hold nothing but the item.
//!
//! The consumer may bound what the producer pushes further than the slots do, by a number of items that it
//! [grants](Consumer::grant): credits and demand are such numbers.
//!
//! Where the consumer [allows it](Consumer::allow_evictions), the producer of a full ring may take its oldest item out again
//! and push another. Both sides then claim items by a compare-and-swap of one position before they touch them.
//!
//! ```
//! use corelane::model::Signal;
//! use corelane::ring::ring;
//!
//! let (mut producer, mut consumer) = ring::<u64>(8)?;
//! producer.extend(&mut (0..3));
//! producer.signal(Signal::Barrier(1)).unwrap();
//! producer.push(3).unwrap();
//! producer.publish();
//!
//! assert_eq!(consumer.read(usize::MAX).sum::<u64>(), 0 + 1 + 2);
//! assert_eq!(consumer.next_signal(), Some(Signal::Barrier(1)));
//! assert_eq!(consumer.read(usize::MAX).collect::<Vec<_>>(), [3]);
//! assert!(consumer.is_empty());
//! # Ok::<(), corelane::ring::RingError>(())
//! ```

mod chunk;
mod consumer;
mod pages;
mod producer;
mod slots;

use slots::Slots;

pub use chunk::{Chunk, Run};
pub use consumer::Consumer;
pub use pages::RingPages;
pub use producer::Producer;

use crate::model::Signal;
use crate::sync::{Arc, AtomicBool, AtomicU8, AtomicU64, CachePadded, Ordering};

/// The most slots a ring can have.
pub const MAX_CAPACITY: usize = 1 << 31;

/// Signals that fit beside the items of any ring.
pub const SIGNAL_CAPACITY: usize = if cfg!(corelane_loom) { 2 } else { 128 };

/// Why a ring could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A ring needs at least one slot.
    #[error("a ring needs a capacity of at least 1")]
    ZeroCapacity,
    /// More than [`MAX_CAPACITY`] slots.
    #[error("a ring of {capacity} slots is too large: at most {MAX_CAPACITY}")]
    TooManySlots {
        /// The capacity asked for.
        capacity: usize,
    },
    /// The slots do not fit in the address space.
    #[error("a ring of {capacity} slots of {item_bytes} bytes does not fit in the address space")]
    TooManyBytes {
        /// The capacity asked for, rounded up.
        capacity: usize,
        /// The size of one item.
        item_bytes: usize,
    },
    /// The allocator refused.
    #[error("no memory for a ring of {bytes} bytes")]
    OutOfMemory {
        /// The size of all slots.
        bytes: usize,
    },
}

/// Makes a ring of at least `capacity` slots, rounded up to a power of two.
///
/// Memory is reserved, not touched: call [`Consumer::settle`] or [`Consumer::pretouch`] on the core that reads. Slots that take a page or more
/// have pages of their own, from two megabytes on huge ones where the system has them.
///
/// # Errors
/// [`RingError`] when the capacity is 0 or too large, or when there is no memory for it.
///
/// ```
/// use corelane::ring::{RingError, ring};
///
/// assert_eq!(ring::<u8>(0).unwrap_err(), RingError::ZeroCapacity);
/// assert_eq!(ring::<u8>(5).unwrap().0.capacity(), 8);
/// ```
pub fn ring<T>(capacity: usize) -> Result<(Producer<T>, Consumer<T>), RingError> {
    if capacity == 0 {
        return Err(RingError::ZeroCapacity);
    }
    if capacity > MAX_CAPACITY {
        return Err(RingError::TooManySlots { capacity });
    }
    let shared = Arc::new(Shared {
        written: CachePadded::default(),
        read: CachePadded::default(),
        rare: CachePadded::default(),
        claims: CachePadded::default(),
        items: Slots::new(capacity.next_power_of_two())?,
        signals: Slots::new(SIGNAL_CAPACITY)?,
    });
    Ok((Producer::new(Arc::clone(&shared)), Consumer::new(shared)))
}

/// What the producer writes at every publish.
#[derive(Default)]
struct Written {
    /// Items published.
    tail: AtomicU64,
    /// Signals published. Stored before the `tail` that covers items behind them, loaded after it.
    signal_tail: AtomicU64,
}

/// What the consumer writes at every commit.
struct Read {
    /// Items taken or passed over.
    head: AtomicU64,
    /// Signals taken.
    signal_head: AtomicU64,
    /// The producer may push so many items, those it evicted not counted, however many slots are free.
    granted: AtomicU64,
}

impl Default for Read {
    fn default() -> Self {
        Self {
            head: AtomicU64::default(),
            signal_head: AtomicU64::default(),
            granted: AtomicU64::new(u64::MAX),
        }
    }
}

/// What seldom changes, so that both sides have it in their caches.
#[derive(Default)]
struct Rare {
    /// The producer has found no room and wants its bell rung when there is some.
    starved: AtomicBool,
    /// Who may touch slots that never held an item: see [`touch`].
    touch: AtomicU8,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    /// The consumer claims items before it reads them, so that the producer may evict others. Never taken back.
    evictable: AtomicBool,
}

/// Who has which of the items in an evictable ring.
#[derive(Default)]
struct Claims {
    /// Items before this position are claimed, each by the side that moved it past the item: by the consumer, to read them,
    /// or by the producer, to evict them. From the consumer's head to the published tail.
    upto: AtomicU64,
    /// Those before this position, from the head on, were the consumer's when it was dropped.
    kept: AtomicU64,
}

/// States of `Rare::touch`. The slots of a fresh ring belong to nobody: the consumer may claim them to touch their pages,
/// the producer to write its first item, whoever comes first. While the consumer touches, the ring looks full.
mod touch {
    pub(super) const FRESH: u8 = 0;
    pub(super) const TOUCHING: u8 = 1;
    pub(super) const READY: u8 = 2;
}

/// One ring. Positions count items since the start and never wrap; a slot's index is its position masked.
///
/// The producer alone accesses the slots at positions from its tail up to `head + capacity`, the consumer alone those
/// from its head up to `written.tail`. Each hands slots over with a release store that the other acquires. In an evictable
/// ring the consumer accesses only the slots of what it has claimed, and the producer also those of what it has.
struct Shared<T> {
    written: CachePadded<Written>,
    read: CachePadded<Read>,
    rare: CachePadded<Rare>,
    claims: CachePadded<Claims>,
    items: Slots<T>,
    signals: Slots<(u64, Signal)>,
}

// SAFETY: items move from the producer's thread to the consumer's, which needs `T: Send`; no `&T` is ever in two threads.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; slots are accessed by one side at a time, everything else is atomic.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.read.head.load(Ordering::Relaxed);
        let tail = self.written.tail.load(Ordering::Relaxed);
        // What the consumer had claimed and not taken; behind it, up to the claims, is what the producer evicted.
        let kept = self.claims.kept.load(Ordering::Relaxed).max(head);
        let rest = self.claims.upto.load(Ordering::Relaxed).max(kept);
        // SAFETY: both ends are gone and have stored their positions: these slots hold the items left.
        unsafe { self.items.view().drop_items(head..kept, rest..tail) };
    }
}
