//! The only clock of this crate: for latencies, the progress line and the summary. Event time comes from the spans.

use std::time::{Duration, Instant};

/// Measures from the moment it was made. Copies share the origin, so times taken on different threads compare.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    #[allow(clippy::disallowed_methods)] // the place in this crate that owns the clock
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Nanoseconds since the start; stops at the end of `u64`, after 584 years.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
