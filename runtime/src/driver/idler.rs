//! What a partition's thread does between steps that found nothing.

use crate::topology::EffectiveIdle;

/// How long an adaptive idler spins before it gives the core away, in nanoseconds. By time: a look at rings takes a tenth of what a look at a
/// source takes that reads a clock.
const SPIN_NANOS: i64 = 30_000;
/// Steps with the core given away in between, before it parks.
const YIELDS: u32 = 20;
/// The same where it does not spin: a peer on the same core gets its turns.
const ONLY_YIELDS: u32 = 1_000;
/// Looks after which counters are published.
const REPORT_AFTER: u32 = 100;

/// Looks for work of one step, where a core spins: what comes in the rest of a step, which takes as long as some twenty looks at rings
/// that have nothing new, waits for the next. All of them take about a microsecond, for which the step's time is not renewed.
const LOOKS: u32 = 256;
/// The same where each look asks a source too, which may read a clock: a few microseconds. That is no older than a time that short steps share.
const LOOKS_AT_SOURCE: u32 = 128;

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

/// Counts looks in vain and chooses the pause by policy.
#[derive(Debug)]
pub(crate) struct Idler {
    idle: EffectiveIdle,
    empty: u32,
    /// What the last empty step has added.
    added: u32,
    /// The time of the first empty step since there was work.
    since: i64,
    /// How often the core has been given away since then.
    yields: u32,
}

impl Idler {
    pub(crate) fn new(idle: EffectiveIdle) -> Self {
        Self { idle, empty: 0, added: 0, since: 0, yields: 0 }
    }

    /// There was work.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.empty = 0;
    }

    /// How often a step may look for work before it is an empty one: only where the core is kept anyway.
    #[inline]
    pub(crate) fn looks(&self, has_source: bool) -> u32 {
        match (self.idle.spin, has_source) {
            (true, false) => LOOKS,
            (true, true) => LOOKS_AT_SOURCE,
            (false, _) => 1,
        }
    }

    /// There was none in a step of time `now` (monotonic nanoseconds) that looked so often: what to do.
    #[inline]
    pub(crate) fn pause(&mut self, looks: u32, now: i64) -> Pause {
        if self.empty == 0 {
            (self.since, self.yields) = (now, 0);
        }
        self.empty = self.empty.saturating_add(looks);
        self.added = looks;
        let EffectiveIdle { spin, give_way, park, .. } = self.idle;
        let last = !give_way && !park;
        let yields = if spin { YIELDS } else { ONLY_YIELDS };
        if spin && (last || now - self.since <= SPIN_NANOS) {
            Pause::Spin
        } else if give_way && (!park || self.yields < yields) {
            self.yields = self.yields.saturating_add(1);
            Pause::Yield
        } else {
            Pause::Park
        }
    }

    /// Whether the last empty step has passed another `looks` of them since there was work.
    #[inline]
    pub(crate) fn passed(&self, looks: u32) -> bool {
        (self.empty - self.added) / looks != self.empty / looks
    }

    /// Whether counters should be published now: once per idle phase.
    #[inline]
    pub(crate) fn should_report(&self) -> bool {
        let before = self.empty - self.added;
        (before < REPORT_AFTER && self.empty >= REPORT_AFTER)
            || (before == 0 && !self.idle.spin && !self.idle.give_way)
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
        let begun = 7_000_000;
        for nanos in [0, 1_000, SPIN_NANOS] {
            assert_eq!(idler.pause(LOOKS, begun + nanos), Pause::Spin);
        }
        let later = begun + SPIN_NANOS + 1;
        let pauses: Vec<Pause> = (0..YIELDS + 2).map(|_| idler.pause(1, later)).collect();
        assert!(pauses[..YIELDS as usize].iter().all(|pause| *pause == Pause::Yield));
        assert_eq!(pauses[YIELDS as usize..], [Pause::Park, Pause::Park]);
        idler.reset();
        assert_eq!(idler.pause(1, later), Pause::Spin);
    }

    #[test]
    fn an_idler_that_does_not_spin_gives_way_more_often_before_it_parks() {
        let idle = EffectiveIdle { spin: false, give_way: true, park: true, no_spin: None };
        let mut idler = Idler::new(idle);
        let first = (0..).find(|&now| idler.pause(1, now) == Pause::Park);
        assert_eq!(first, Some(i64::from(ONLY_YIELDS)));
    }

    #[test]
    fn looks_count_however_many_a_step_makes() {
        let spin = EffectiveIdle { spin: true, give_way: false, park: false, no_spin: None };
        for looks in [1, 3, LOOKS_AT_SOURCE, LOOKS] {
            let mut idler = Idler::new(spin);
            let (mut passed, mut reported) = (0, 0);
            for _ in 0..1_000 {
                assert_eq!(idler.pause(looks, 0), Pause::Spin);
                passed += u32::from(idler.passed(64));
                reported += u32::from(idler.should_report());
            }
            // Once in a step at most.
            assert_eq!((passed, reported), (1_000 * looks.min(64) / 64, 1), "{looks} at a time");
        }
        assert_eq!(Idler::new(EffectiveIdle { spin: false, park: true, ..spin }).looks(false), 1);
    }

    #[test]
    fn a_park_ends_at_the_deadline_and_is_bounded_without_one() {
        assert_eq!(park_nanos(100, Some(150)), 50);
        assert_eq!(park_nanos(100, Some(50)), 0);
        assert_eq!(park_nanos(0, None), LONGEST_PARK_NANOS as u64);
        assert_eq!(park_nanos(i64::MIN, Some(i64::MAX)), LONGEST_PARK_NANOS as u64);
    }
}
