//! The handle of one core, and which one the running thread has.

use std::cell::Cell;
use std::fmt;
use std::ptr::{NonNull, null};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::class::tabled_class;
use super::counters::Counters;
use super::home::Home;
use super::shared::Shared;
use super::stack::Stack;
use super::{MemoryPool, PooledBuffer, RentError};
use crate::observe::{MemoryPoolStats, PageNodes};
use crate::sync::{Doorbell, HomeNode};

#[cfg(not(corelane_loom))]
thread_local! {
    static CURRENT: Cell<*const Home> = const { Cell::new(null()) };
}

#[cfg(corelane_loom)]
loom::thread_local! {
    static CURRENT: Cell<*const Home> = Cell::new(null());
}

/// The home that the running thread has entered, alive and this thread's; null if there is none.
#[inline(always)]
pub(super) fn current() -> *const Home {
    CURRENT.with(Cell::get)
}

/// Closes the home with the last handle.
pub(super) struct Owner(NonNull<Home>);

impl Owner {
    #[inline(always)]
    fn home(&self) -> &Home {
        // SAFETY: a home is alive until it has been closed.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: on the home's thread, because an owner cannot be sent. It is not current: `enter` holds a handle.
        unsafe { Home::close(self.0) };
    }
}

/// One core's part of a [`MemoryPool`]: rents buffers whose home is here.
///
/// Belongs to the thread that opened it; clones share it. When the last clone is dropped, memory goes back to the system as soon as
/// the last buffer has come back, wherever that happens.
///
/// ```compile_fail,E0277
/// let pool = corelane::pool::MemoryPool::default();
/// let core = pool.open(None).unwrap();
/// std::thread::spawn(move || core.rent(64)); // a home stays on its core
/// ```
#[derive(Clone)]
pub struct LocalPool {
    owner: Rc<Owner>,
    /// The home's stacks, one for each class: what a rent needs, without a detour.
    stacks: NonNull<Stack>,
}

impl LocalPool {
    pub(super) fn open(
        pool: &MemoryPool,
        bell: Option<Arc<Doorbell>>,
        node: Option<HomeNode>,
    ) -> Result<Self, RentError> {
        let MemoryPool { shared, share } = pool;
        let seat = shared.take_seat(bell, node);
        let open = |owner: &Weak<Owner>| Home::open(Arc::clone(shared), share.clone(), seat, owner.clone());
        let owner = Rc::new_cyclic(|owner| Owner(open(owner)));
        let core = Self::of(owner);
        for wanted in &shared.options.preallocate {
            // SAFETY: the home was opened on this thread.
            unsafe { core.owner.home().preallocate(wanted.size, wanted.count) }?;
        }
        Ok(core)
    }

    fn of(owner: Rc<Owner>) -> Self {
        let stacks = NonNull::from(&*owner.home().counters.stacks).cast();
        Self { owner, stacks }
    }

    /// The handle that the running thread has entered, if it is of `pool`.
    pub(super) fn current_of(pool: &Arc<Shared>) -> Option<Self> {
        // SAFETY: what is current is alive.
        let home = unsafe { current().as_ref() }.filter(|home| Arc::ptr_eq(&home.pool, pool))?;
        // SAFETY: what is current belongs to this thread.
        let owner = unsafe { home.owner() }?;
        Some(Self::of(owner))
    }

    /// Rents a buffer of exactly `size` bytes. What is in it is left over from earlier use.
    ///
    /// Costs a few nanoseconds while a block of that size class is ready. Otherwise it takes in what other cores have returned,
    /// maps memory, or gives idle memory of other classes up for it.
    ///
    /// # Errors
    /// [`RentError::Exhausted`] at the limit: ask again later. The doorbell that the home was [opened](MemoryPool::open) with rings
    /// when another thread has returned something; what this thread returns it knows itself. The other errors do not go away by
    /// waiting.
    #[inline]
    pub fn rent(&self, size: usize) -> Result<PooledBuffer, RentError> {
        if let Some(class) = tabled_class(size) {
            // SAFETY: there is a stack for each class.
            let stack = unsafe { self.stacks.add(class) };
            // SAFETY: the stacks live as long as the home, which has not been closed.
            let stack = unsafe { stack.as_ref() };
            // SAFETY: a handle stays on its home's thread.
            if let Some(block) = unsafe { stack.pop_noted(size as u64) } {
                return Ok(PooledBuffer::new(block.0, size as u32, 0));
            }
        }
        // SAFETY: a handle stays on its home's thread.
        unsafe { self.owner.home().rent(size) }
    }

    /// Runs `f` as this core: buffers dropped in it go home the short way, and to other homes of the pool over the return ring of
    /// the two cores. Returns to other homes are visible there at the latest when `f` has ended. May be nested.
    ///
    /// Outside of `enter`, and on threads without a home, buffers go home over a stack shared by all such threads.
    #[inline]
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(self.owner.home());
        f()
    }

    /// The pool that this is a part of.
    pub fn pool(&self) -> MemoryPool {
        let home = self.owner.home();
        MemoryPool { shared: Arc::clone(&home.pool), share: home.share.clone() }
    }

    /// This core's statistics.
    pub fn statistics(&self) -> MemoryPoolStats {
        self.owner.home().counters.statistics()
    }

    /// What can be asked for this core's statistics from other threads, also when it has closed.
    pub fn gauge(&self) -> PoolGauge {
        let home = self.owner.home();
        PoolGauge { pool: Arc::clone(&home.pool), lane: home.lane, counters: Arc::clone(&home.counters) }
    }
}

impl fmt::Debug for LocalPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPool").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

/// Reads one core's statistics from any thread.
#[derive(Clone)]
pub struct PoolGauge {
    pool: Arc<Shared>,
    lane: u64,
    counters: Arc<Counters>,
}

impl PoolGauge {
    /// The statistics now. Exact while nobody rents or returns.
    pub fn statistics(&self) -> MemoryPoolStats {
        self.counters.statistics()
    }

    /// Where the memory of the home lies now; once it has closed, where it lay then, if it was bound to a node. Costs a system call for each 512
    /// pages. The home core waits for none of it.
    ///
    /// # Errors
    /// The system does not say.
    pub fn page_nodes(&self) -> std::io::Result<PageNodes> {
        match self.counters.last_nodes() {
            Some(last) => Ok(last),
            None => self.pool.page_nodes(self.lane),
        }
    }
}

impl fmt::Debug for PoolGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolGauge").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

/// Leaves the home, also when a panic does.
struct Entered<'a> {
    home: &'a Home,
    before: *const Home,
}

impl<'a> Entered<'a> {
    #[inline]
    fn new(home: &'a Home) -> Self {
        Self { home, before: CURRENT.with(|current| current.replace(home)) }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: entered by a handle, so on the home's thread.
        unsafe { self.home.flush() };
        CURRENT.with(|current| current.set(self.before));
    }
}
