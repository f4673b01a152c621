//! Event time over all traces.

/// The watermark: how far event time has certainly come. Starts at 0 and never moves back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    lag_ns: u64,
    last_end_ns: u64,
    now_ns: u64,
}

impl Watermark {
    /// A watermark that stays `lag_ns` behind the latest end seen.
    pub fn new(lag_ns: u64) -> Self {
        Watermark { lag_ns, last_end_ns: 0, now_ns: 0 }
    }

    /// Takes note of the end of a span, duplicates included.
    pub fn observe(&mut self, end_ns: u64) {
        self.last_end_ns = self.last_end_ns.max(end_ns);
    }

    /// Moves the watermark, at the end of a request, and returns it: nanoseconds since the Unix epoch.
    pub fn advance(&mut self) -> u64 {
        self.now_ns = self.now_ns.max(self.last_end_ns.saturating_sub(self.lag_ns));
        self.now_ns
    }
}

/// Whether a state that began at `first_ts` has outlived its time to live. One whose deadline is beyond `u64` never
/// has.
pub fn is_expired(first_ts: u64, ttl_ns: u64, watermark_ns: u64) -> bool {
    first_ts.checked_add(ttl_ns).is_some_and(|deadline| deadline <= watermark_ns)
}
