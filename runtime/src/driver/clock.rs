//! The clock that drivers read before a step, or before several short ones.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Now, Timestamp};
use crate::observe::CallClock;

/// Reads both clocks; monotonic time starts at the clock's making.
///
/// The wall clock is read once and then derived from the monotonic one, and read again about every millisecond: it
/// labels things, and a second system call per step would cost more than it tells.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    wall_offset: i64,
    reread_at: i64,
}

const REREAD_WALL_EVERY: i64 = 1_000_000;

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: instant(), wall_offset: 0, reread_at: 0 }
    }

    /// When the clock was made.
    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.origin.elapsed()
    }

    /// Monotonic nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn monotonic(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// The time now.
    #[inline]
    pub(crate) fn now(&mut self) -> Now {
        let monotonic = self.monotonic();
        if monotonic >= self.reread_at {
            self.reread_at = monotonic.saturating_add(REREAD_WALL_EVERY);
            self.wall_offset = wall_nanos().saturating_sub(monotonic);
        }
        Now { monotonic, wall: Timestamp(monotonic.saturating_add(self.wall_offset)) }
    }
}

impl CallClock for Clock {
    fn nanos(&self) -> i64 {
        self.monotonic()
    }
}

/// A reading of the monotonic clock that is no step's time.
#[expect(clippy::disallowed_methods, reason = "drivers own the clock")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "drivers own the clock")]
fn wall_nanos() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}
