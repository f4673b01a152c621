//! Waking a parked peer, at no cost while it is awake.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use super::{AtomicU8, CachePadded, Ordering, fence};

const AWAKE: u8 = 0;
const ANNOUNCED: u8 = 1;
const RUNG: u8 = 2;

type Wake = Box<dyn Fn() + Send + Sync>;

/// Wakes the partition that owns it, if that one has said it is about to park.
///
/// The owner parks in this order, and no wake-up is lost:
///
/// 1. [`announce`](Self::announce);
/// 2. look at every input once more; if there is work, [`retract`](Self::retract) and go on;
/// 3. park until [`is_rung`](Self::is_rung) (or a bound on time has passed);
/// 4. [`retract`](Self::retract).
///
/// A peer first makes its work visible, then calls [`ring`](Self::ring). Either the peer sees the announcement or the
/// owner's second look sees the work: both sides put a sequentially consistent fence between their store and their load.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use corelane::sync::Doorbell;
///
/// let woken = Arc::new(AtomicU32::new(0));
/// let bell = Doorbell::new();
/// let count = Arc::clone(&woken);
/// bell.set_waker(move || { count.fetch_add(1, Ordering::Relaxed); });
///
/// bell.ring(); // the owner is awake: nothing happens
/// bell.announce();
/// assert!(!bell.is_rung());
/// bell.ring();
/// bell.ring(); // one announcement, one wake-up
/// assert!(bell.is_rung());
/// assert_eq!(woken.load(Ordering::Relaxed), 1);
/// bell.retract();
/// ```
pub struct Doorbell {
    state: CachePadded<AtomicU8>,
    waker: OnceLock<Wake>,
}

impl Doorbell {
    /// A bell without a waker: its owner is awake.
    pub fn new() -> Self {
        Self { state: CachePadded::new(AtomicU8::new(AWAKE)), waker: OnceLock::new() }
    }

    /// Sets what wakes the owner, for example an unpark or a write to an eventfd. Called from the threads of peers. A panic in it
    /// stays there and wakes nobody: the peer is in the middle of work of its own, and the bound on the owner's park goes on.
    ///
    /// The driver sets it once, before the owner announces for the first time; further calls have no effect.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(waker));
    }

    /// Whether there is a waker: an owner without one never parks, and its peers need not ring. Only peers that began after
    /// the owner's driver had set the waker may rely on it.
    #[inline]
    pub(crate) fn has_waker(&self) -> bool {
        self.waker.get().is_some()
    }

    /// Wakes the owner if it has announced that it parks; at most one call of the waker per announcement.
    ///
    /// Call it after the work is visible. Costs one fence and one load of a line that rarely changes while the owner
    /// is awake.
    #[inline]
    pub fn ring(&self) {
        // Pairs with the fence in `announce`: orders the caller's stores before the load of the state.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == ANNOUNCED {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        let claimed = self.state.compare_exchange(ANNOUNCED, RUNG, Ordering::AcqRel, Ordering::Relaxed);
        if let (Ok(_), Some(waker)) = (claimed, self.waker.get())
            && let Err(payload) = catch_unwind(AssertUnwindSafe(waker))
        {
            // Its own Drop may panic.
            std::mem::forget(payload);
        }
    }

    /// Says that the owner is about to park. It must look at all of its inputs once more before it does.
    #[inline]
    pub fn announce(&self) {
        self.state.store(ANNOUNCED, Ordering::Relaxed);
        // Pairs with the fence in `ring`: orders the announcement before the owner's second look.
        fence(Ordering::SeqCst);
    }

    /// Says that the owner is awake again.
    #[inline]
    pub fn retract(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Whether somebody has answered the present announcement.
    #[inline]
    pub fn is_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.load(Ordering::Relaxed) {
            AWAKE => "awake",
            ANNOUNCED => "announced",
            _ => "rung",
        };
        f.debug_struct("Doorbell").field("state", &state).field("waker", &self.waker.get().is_some()).finish()
    }
}
