//! Stalls of the machine itself, seen by a thread that does nothing but spin.

use std::time::Duration;

/// A gap between two clock readings of a spinning thread counts from this length on, in nanoseconds.
pub const GAP_NS: u64 = 1_000;

/// The gaps one spinning thread, or several, have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hiccups {
    /// Nanoseconds of spinning.
    pub watched_ns: u64,
    /// How many gaps.
    pub gaps: u64,
    /// Nanoseconds within gaps.
    pub lost_ns: u64,
    /// The longest gap, in nanoseconds.
    pub longest_ns: u64,
    last_ns: Option<u64>,
}

impl Hiccups {
    /// Takes one reading of the clock.
    #[inline]
    pub fn observe(&mut self, now_ns: u64) {
        let gap = now_ns.saturating_sub(self.last_ns.unwrap_or(now_ns));
        self.last_ns = Some(now_ns);
        self.watched_ns += gap;
        if gap > GAP_NS {
            self.gaps += 1;
            self.lost_ns += gap;
            self.longest_ns = self.longest_ns.max(gap);
        }
    }

    /// Adds what another thread, or another repetition, has seen.
    pub fn merge(&mut self, other: &Self) {
        self.watched_ns += other.watched_ns;
        self.gaps += other.gaps;
        self.lost_ns += other.lost_ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.last_ns = None;
    }

    /// The share of the time that lay within gaps: 0 to 1.
    pub fn lost(&self) -> f64 {
        self.lost_ns as f64 / self.watched_ns.max(1) as f64
    }

    /// Gaps per second of spinning.
    pub fn per_second(&self) -> f64 {
        self.gaps as f64 / Duration::from_nanos(self.watched_ns.max(1)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_over_a_microsecond_count() {
        let mut seen = Hiccups::default();
        [500, 1_000, 2_000, 3_001, 3_100, 9_000].into_iter().for_each(|now| seen.observe(now));
        assert_eq!((seen.gaps, seen.longest_ns, seen.lost_ns), (2, 5_900, 1_001 + 5_900));
        assert_eq!(seen.watched_ns, 8_500);
    }

    #[test]
    fn merged_threads_do_not_make_a_gap_between_each_other() {
        let mut first = Hiccups::default();
        [0, 100].into_iter().for_each(|now| first.observe(now));
        let mut second = Hiccups::default();
        [50_000, 52_000].into_iter().for_each(|now| second.observe(now));
        first.merge(&second);
        first.observe(90_000);
        assert_eq!((first.gaps, first.longest_ns, first.watched_ns), (1, 2_000, 2_100));
    }
}
