//! What a partition's thread does between steps that found nothing.

use crate::topology::EffectiveIdle;

/// Empty steps before an adaptive idler stops spinning: some tens of microseconds.
const SPINS: u32 = 1_000;
/// Empty steps with the core given away in between, before it parks.
const YIELDS: u32 = 20;
/// Empty steps after which counters are published.
const REPORT_AFTER: u32 = 100;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Step again at once.
    Spin,
    /// Give the core away once.
    Yield,
    /// Sleep until rung, due, or a bounded time has passed.
    Park,
}

/// Counts empty steps and chooses the pause by policy.
#[derive(Debug)]
pub(crate) struct Idler {
    idle: EffectiveIdle,
    empty: u32,
}

impl Idler {
    pub(crate) fn new(idle: EffectiveIdle) -> Self {
        Self { idle, empty: 0 }
    }

    /// There was work.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.empty = 0;
    }

    /// There was none: what to do.
    #[inline]
    pub(crate) fn pause(&mut self) -> Pause {
        self.empty = self.empty.saturating_add(1);
        let EffectiveIdle { spin, give_way, park, .. } = self.idle;
        let last = !give_way && !park;
        if spin && (last || self.empty <= SPINS) {
            Pause::Spin
        } else if give_way && (!park || self.empty <= SPINS + YIELDS) {
            // Without spinning the steps up to here have all given way: a peer on the same core gets its turns.
            Pause::Yield
        } else {
            Pause::Park
        }
    }

    /// Empty steps since there was work.
    #[inline]
    pub(crate) fn empty(&self) -> u32 {
        self.empty
    }

    /// Whether counters should be published now: once per idle phase.
    #[inline]
    pub(crate) fn should_report(&self) -> bool {
        self.empty == REPORT_AFTER || (self.empty == 1 && !self.idle.spin && !self.idle.give_way)
    }
}

/// The longest time a partition sleeps: if a wake-up were ever lost, this bounds the damage.
pub(crate) const LONGEST_PARK_NANOS: i64 = 5_000_000;

/// How long to sleep: until `deadline`, but never longer than [`LONGEST_PARK_NANOS`].
pub(crate) fn park_nanos(now: i64, deadline: Option<i64>) -> u64 {
    let longest = deadline.map_or(LONGEST_PARK_NANOS, |d| d.saturating_sub(now).clamp(0, LONGEST_PARK_NANOS));
    u64::try_from(longest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adaptive_idler_spins_then_yields_then_parks_and_starts_over_after_work() {
        let mut idler = Idler::new(EffectiveIdle { spin: true, give_way: true, park: true, no_spin: None });
        let pauses: Vec<Pause> = (0..SPINS + YIELDS + 2).map(|_| idler.pause()).collect();
        assert_eq!(pauses[0], Pause::Spin);
        assert_eq!(pauses[SPINS as usize], Pause::Yield);
        assert_eq!(pauses[(SPINS + YIELDS) as usize], Pause::Park);
        idler.reset();
        assert_eq!(idler.pause(), Pause::Spin);
    }

    #[test]
    fn a_park_ends_at_the_deadline_and_is_bounded_without_one() {
        assert_eq!(park_nanos(100, Some(150)), 50);
        assert_eq!(park_nanos(100, Some(50)), 0);
        assert_eq!(park_nanos(0, None), LONGEST_PARK_NANOS as u64);
        assert_eq!(park_nanos(i64::MIN, Some(i64::MAX)), LONGEST_PARK_NANOS as u64);
    }
}
