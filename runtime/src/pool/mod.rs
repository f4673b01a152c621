//! Buffers of bytes, rented from the core that they belong to.
//!
//! A [`MemoryPool`] has a home on every core that rents. A home holds slabs of memory cut into blocks by size class, touched first by
//! its own core, so that they lie in that core's memory; [`LocalPool::rent`] takes the block used last. A [`PooledBuffer`] may go
//! anywhere and is returned when dropped:
//!
//! | dropped by | goes home |
//! |---|---|
//! | the home core | onto its own list of ready blocks |
//! | another core of the pool | through the return ring from that core to the home: a ring of pointers with one producer and one consumer, made visible in batches; the block itself is not touched |
//! | a thread that has no home in the pool, or is not in [`LocalPool::enter`] | onto the home's stack for outsiders |
//!
//! No return takes a lock, and none waits. (One lock is taken once for each pair of cores, to hand the ring over.) The stack for
//! outsiders is the one list that several threads write to. Such a thread can have no ring: nobody knows when it comes and goes, so
//! there would be no bound on rings. It is lock-free, only outsiders push to it, and the home takes all of it with one exchange, so a
//! pointer cannot come back under a reader's eyes; its cost falls on threads that are no cores.
//!
//! **Limit.** All homes together map at most [`limit_bytes`](crate::policy::MemoryPoolOptions::limit_bytes). What does not fit is
//! refused with [`RentError::Exhausted`], never allocated elsewhere. A source that is refused answers
//! [`Produced::Idle`](../stage/enum.Produced.html); when another core returns a buffer, or gives up memory that it does not use (which
//! each does at the end of a step while any home of the pool waits), the doorbell of its partition rings.
//!
//! **Checked mode** ([`checked`](crate::policy::MemoryPoolOptions::checked)) puts guards around each buffer and marks beside it, and
//! panics with a [`Misuse`] that says what was done: a second return, a stale or foreign or interior pointer, a wrong length (all when
//! a buffer is put together with [`MemoryPool::from_raw`]), a write before its start or past its end (at its return), a
//! write after its return (when its memory is rented again, which is as late as possible). Safe code can do none of these.
//!
//! ```
//! use corelane::policy::MemoryPoolOptions;
//! use corelane::pool::{MemoryPool, RentError};
//!
//! let pool = MemoryPool::new(MemoryPoolOptions { limit_bytes: 1 << 20, ..Default::default() });
//! let core = pool.open(None)?;
//! let stats = core.enter(|| {
//!     let mut buffer = core.rent(1000)?;
//!     buffer.fill(7);
//!     Ok::<_, RentError>(pool.statistics())
//! })?;
//! assert_eq!((stats.rented_buffers, stats.currently_rented), (1, 1024));
//! assert_eq!(pool.statistics().rented_buffers, 0);
//! assert!(matches!(core.rent(2 << 20), Err(RentError::TooLarge { .. })));
//! # Ok::<(), RentError>(())
//! ```

mod buffer;
mod check;
mod class;
mod counters;
mod home;
mod local;
mod returns;
mod shared;
mod slab;
mod stack;
mod store;

use std::fmt;
use std::sync::Arc;

use shared::{Quota, Shared};

pub use buffer::{PooledBuffer, RawBuffer};
pub use check::Misuse;
pub use local::{LocalPool, PoolGauge};

pub use crate::observe::MemoryPoolStats;
use crate::policy::MemoryPoolOptions;
use crate::sync::{BindError, Doorbell, HomeNode};

/// Why no buffer could be rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RentError {
    /// The pool is at its limit now. Passes when buffers are returned.
    #[error("no {size} bytes left in the memory pool: its limit is {limit} bytes")]
    Exhausted {
        /// Bytes asked for.
        size: usize,
        /// The pool's limit in bytes.
        limit: u64,
    },
    /// More than the pool could ever give.
    #[error(
        "a buffer of {size} bytes is more than the memory pool can give: its limit is {limit} bytes, and 128 MiB a buffer"
    )]
    TooLarge {
        /// Bytes asked for.
        size: usize,
        /// The pool's limit in bytes.
        limit: u64,
    },
    /// The home's memory is to lie on one node and nowhere else, and the system refused.
    #[error("the memory pool: {0}")]
    Binding(BindError),
    /// The operating system refused.
    #[error("the system has no {bytes} bytes for the memory pool: {}", std::io::Error::from_raw_os_error(*.os_error))]
    OutOfMemory {
        /// Bytes asked of it.
        bytes: usize,
        /// What it said.
        os_error: i32,
    },
}

/// A pool of buffers with a home on each core. Clones are the same pool.
///
/// Memory goes back to the system when its home has closed and its buffers are back. A pool that is dropped with buffers in use
/// leaves them valid.
#[derive(Clone)]
pub struct MemoryPool {
    shared: Arc<Shared>,
    /// What homes that are opened through this handle may map all together.
    share: Option<Arc<Quota>>,
}

impl MemoryPool {
    /// A pool that holds nothing yet.
    pub fn new(options: MemoryPoolOptions) -> Self {
        Self { shared: Arc::new(Shared::new(options)), share: None }
    }

    /// The same pool for one of its users: the homes opened through this handle and its clones map at most `bytes` all together, and
    /// the pool no more than its own limit. So a pipeline counts what it rents against its memory budget.
    ///
    /// ```
    /// use corelane::pool::{MemoryPool, RentError};
    ///
    /// let pool = MemoryPool::default();
    /// let core = pool.limited_to(1 << 20).open(None)?;
    /// assert!(core.rent(100_000).is_ok());
    /// assert!(matches!(core.rent(2 << 20), Err(RentError::TooLarge { limit: 1_048_576, .. })));
    /// assert!(pool.open(None)?.rent(2 << 20).is_ok());
    /// # Ok::<(), RentError>(())
    /// ```
    #[must_use]
    pub fn limited_to(&self, bytes: u64) -> Self {
        Self { shared: Arc::clone(&self.shared), share: Some(Arc::new(Quota::new(bytes))) }
    }

    /// Its options.
    pub fn options(&self) -> &MemoryPoolOptions {
        &self.shared.options
    }

    /// Opens a home for the running thread, and makes ready what the options say. `bell` rings when memory comes back after a rent
    /// was refused.
    ///
    /// # Errors
    /// [`RentError`] when what is to be made ready does not fit.
    pub fn open(&self, bell: Option<Arc<Doorbell>>) -> Result<LocalPool, RentError> {
        LocalPool::open(self, bell, None)
    }

    /// As [`open`](Self::open), with all memory of the home on a NUMA node, the return rings to it included.
    ///
    /// # Errors
    /// As there, and [`RentError::Binding`], which a rent then gives too.
    pub fn open_on(&self, bell: Option<Arc<Doorbell>>, home: HomeNode) -> Result<LocalPool, RentError> {
        LocalPool::open(self, bell, Some(home))
    }

    /// The home that the running thread has [entered](LocalPool::enter), if it is of this pool. Stages are built and run inside of
    /// their core's home.
    pub fn current(&self) -> Option<LocalPool> {
        LocalPool::current_of(&self.shared)
    }

    /// The contract's statistics, over all homes.
    pub fn statistics(&self) -> MemoryPoolStats {
        self.shared.statistics()
    }

    /// The same for each open home, in the order in which they were opened.
    pub fn statistics_by_core(&self) -> Vec<MemoryPoolStats> {
        self.shared.statistics_by_core()
    }

    /// Bytes that count against the limit: mapped, rented or not.
    pub fn reserved_bytes(&self) -> u64 {
        self.shared.quota.taken()
    }

    /// Puts a buffer together again.
    ///
    /// # Safety
    /// `raw` comes from [`PooledBuffer::into_raw`] on a buffer of this pool, unchanged, and no buffer has been made of it since. In
    /// checked mode most breaches are found.
    ///
    /// # Panics
    /// In checked mode, with the [`Misuse`] found.
    pub unsafe fn from_raw(&self, raw: RawBuffer) -> PooledBuffer {
        // SAFETY: promised by the caller.
        unsafe { PooledBuffer::from_raw(&self.shared, raw) }
    }
}

impl Default for MemoryPool {
    fn default() -> Self {
        Self::new(MemoryPoolOptions::default())
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPool").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
