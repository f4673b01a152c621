//! A clock for what happens within a step.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Tells the time while a step runs: how long a call took.
///
/// What a stage does depends on the time that its step was given; circuit breakers, which measure calls, and the
/// measurement of batches look here.
pub trait CallClock: Send + Sync {
    /// Monotonic nanoseconds, on the clock that steps are given.
    fn nanos(&self) -> i64;
}

/// A clock that moves only when it is moved: the simulator's, which stages under test may move on, too.
///
/// ```
/// use std::time::Duration;
/// use corelane::observe::{CallClock, VirtualClock};
///
/// let clock = VirtualClock::default();
/// let held_by_a_stage = clock.clone();
/// held_by_a_stage.advance(Duration::from_millis(5));
/// assert_eq!(clock.nanos(), 5_000_000);
/// ```
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<AtomicI64>);

impl VirtualClock {
    /// Moves the clock on: what is under way takes that much longer.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.set(self.nanos().saturating_add(nanos));
    }

    /// Sets the clock. It has one writer at a time.
    pub(crate) fn set(&self, nanos: i64) {
        self.0.store(nanos, Ordering::Relaxed);
    }
}

impl CallClock for VirtualClock {
    fn nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualClock({} ns)", self.nanos())
    }
}
