//! The circuit breaker: a state machine that is told of calls and of time, and says whether to call.

use crate::observe::BreakerState;
use crate::policy::CircuitBreakerPolicy;

/// Parts of the sliding window. It slides by one part at a time: the window is at most this fraction too short.
const PARTS: usize = 16;

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) failed: bool,
    /// How long it took, in nanoseconds.
    pub(super) nanos: i64,
}

/// Calls of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) all: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl Calls {
    fn add(&mut self, other: Self) {
        self.all += other.all;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

/// Calls of the last `window_size`, by parts of it.
struct Window {
    part_nanos: i64,
    /// The number of the newest part, counted from time 0.
    newest: i64,
    parts: [Calls; PARTS],
}

impl Window {
    fn new(nanos: i64) -> Self {
        Self { part_nanos: (nanos / PARTS as i64).max(1), newest: i64::MIN, parts: Default::default() }
    }

    /// Forgets what is older than the window.
    fn slide(&mut self, now: i64) {
        let part = now.div_euclid(self.part_nanos);
        let passed = part.saturating_sub(self.newest);
        if passed <= 0 {
            return;
        }
        for old in 0..passed.min(PARTS as i64) {
            let at = (part - old).rem_euclid(PARTS as i64);
            self.parts[usize::try_from(at).unwrap_or(0)] = Calls::default();
        }
        self.newest = part;
    }

    fn add(&mut self, now: i64, calls: Calls) {
        self.slide(now);
        let at = self.newest.rem_euclid(PARTS as i64);
        self.parts[usize::try_from(at).unwrap_or(0)].add(calls);
    }

    fn sum(&self) -> Calls {
        let mut sum = Calls::default();
        self.parts.iter().for_each(|part| sum.add(*part));
        sum
    }

    fn clear(&mut self) {
        self.parts = Default::default();
    }
}

/// The breaker of one stage instance.
///
/// Closed, it counts calls over a sliding window and opens when enough of them failed or were slow. Open, it lets no call
/// through until the cooldown is over. Half open, it lets a few through: if those are well it closes, else it opens again.
/// Time is monotonic nanoseconds and must not go back.
pub(super) struct Breaker {
    error_threshold: f64,
    slow_threshold: f64,
    slow_nanos: i64,
    minimum: u64,
    cooldown: i64,
    probes: u64,
    state: BreakerState,
    window: Window,
    /// When the open state ends.
    retry_at: i64,
    /// Of the half-open state.
    probed: Calls,
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new(policy: &CircuitBreakerPolicy) -> Self {
        let nanos = |d: std::time::Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        Self {
            error_threshold: policy.error_threshold,
            slow_threshold: policy.slow_call_threshold,
            slow_nanos: nanos(policy.latency_threshold),
            minimum: policy.minimum_throughput.into(),
            cooldown: nanos(policy.cooldown_period),
            probes: policy.half_open_probes.into(),
            state: BreakerState::Closed,
            window: Window::new(nanos(policy.window_size)),
            retry_at: i64::MAX,
            probed: Calls::default(),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.state
    }

    /// Lets time pass. True if the cooldown has ended by that.
    pub(super) fn tick(&mut self, now: i64) -> bool {
        let ends = self.state == BreakerState::Open
            && now >= self.retry_at
            && !cfg!(feature = "bug_breaker_never_half_opens");
        if ends {
            self.state = BreakerState::HalfOpen;
            self.probed = Calls::default();
        }
        ends
    }

    /// Calls that may be made before the state changes.
    pub(super) fn permits(&self) -> u64 {
        match self.state {
            BreakerState::Closed => u64::MAX,
            BreakerState::Open => 0,
            BreakerState::HalfOpen => self.probes - self.probed.all,
        }
    }

    /// Takes note of a permitted call that ended at `now`. The calls that decided, if the state changed.
    pub(super) fn record(&mut self, now: i64, call: Call) -> Option<Calls> {
        let slow = call.nanos > self.slow_nanos;
        let one = Calls { all: 1, failed: call.failed.into(), slow: slow.into() };
        match self.state {
            BreakerState::Closed => {
                self.window.add(now, one);
                let calls = self.window.sum();
                if calls.all < self.minimum || !self.is_bad(calls) {
                    return None;
                }
                self.open(now);
                Some(calls)
            }
            BreakerState::HalfOpen => {
                self.probed.add(one);
                if self.probed.all < self.probes {
                    return None;
                }
                if self.is_bad(self.probed) {
                    self.open(now);
                } else {
                    self.state = BreakerState::Closed;
                }
                Some(self.probed)
            }
            // No call was permitted: there is nothing to learn from it.
            BreakerState::Open => None,
        }
    }

    fn is_bad(&self, calls: Calls) -> bool {
        let reaches = |some: u64, share: f64| some > 0 && some as f64 >= share * calls.all as f64;
        reaches(calls.failed, self.error_threshold) || reaches(calls.slow, self.slow_threshold)
    }

    fn open(&mut self, now: i64) {
        self.state = BreakerState::Open;
        self.retry_at = now.saturating_add(self.cooldown);
        self.window.clear();
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<i64> {
        (self.state == BreakerState::Open).then_some(self.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::WhileOpen;

    const MS: i64 = 1_000_000;

    fn policy() -> CircuitBreakerPolicy {
        CircuitBreakerPolicy {
            error_threshold: 0.5,
            latency_threshold: Duration::from_millis(10),
            slow_call_threshold: 0.75,
            window_size: Duration::from_millis(160),
            minimum_throughput: 4,
            cooldown_period: Duration::from_millis(100),
            half_open_probes: 2,
            while_open: WhileOpen::Wait,
        }
    }

    const GOOD: Call = Call { failed: false, nanos: MS };
    const BAD: Call = Call { failed: true, nanos: MS };
    const SLOW: Call = Call { failed: false, nanos: 11 * MS };

    /// A breaker that is told of `calls`, one each millisecond from 0 on.
    fn after(calls: &[Call]) -> Breaker {
        let mut breaker = Breaker::new(&policy());
        for (at, call) in (0..).zip(calls) {
            breaker.record(at * MS, *call);
        }
        breaker
    }

    fn record_each(breaker: &mut Breaker, at_ms: std::ops::Range<i64>, call: Call) {
        for at in at_ms {
            breaker.record(at * MS, call);
        }
    }

    fn half_open() -> Breaker {
        let mut breaker = after(&[BAD; 4]);
        assert!(breaker.tick(103 * MS));
        breaker
    }

    #[test]
    fn it_starts_closed_and_good_calls_keep_it_so() {
        let breaker = after(&[GOOD; 1_000]);
        assert_eq!(
            (breaker.state(), breaker.permits(), breaker.deadline()),
            (BreakerState::Closed, u64::MAX, None)
        );
    }

    #[test]
    fn closed_opens_at_the_error_share_and_not_below_it() {
        assert_eq!(after(&[GOOD, GOOD, GOOD, BAD, BAD]).state(), BreakerState::Closed);
        assert_eq!(after(&[GOOD, GOOD, BAD, BAD]).state(), BreakerState::Open);
    }

    #[test]
    fn closed_opens_at_the_share_of_slow_calls_and_a_call_as_long_as_the_threshold_is_not_slow() {
        assert_eq!(after(&[SLOW, SLOW, GOOD, GOOD]).state(), BreakerState::Closed);
        assert_eq!(after(&[SLOW, SLOW, GOOD, SLOW]).state(), BreakerState::Open);
        let just = Call { nanos: 10 * MS, ..GOOD };
        assert_eq!(after(&[just; 100]).state(), BreakerState::Closed);
    }

    #[test]
    fn closed_does_not_open_before_the_minimum_throughput() {
        let mut breaker = after(&[BAD; 3]);
        assert_eq!(breaker.state(), BreakerState::Closed);
        let decided = breaker.record(4 * MS, BAD);
        assert_eq!(
            (decided, breaker.state()),
            (Some(Calls { all: 4, failed: 4, slow: 0 }), BreakerState::Open)
        );
    }

    #[test]
    fn calls_older_than_the_window_do_not_count() {
        let mut breaker = after(&[BAD; 3]);
        breaker.record(170 * MS, BAD);
        assert_eq!(breaker.state(), BreakerState::Closed, "three calls are out of the window");
        record_each(&mut breaker, 171..174, BAD);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn open_permits_nothing_and_half_opens_when_the_cooldown_is_over_and_not_before() {
        let mut breaker = after(&[BAD; 4]);
        assert_eq!((breaker.permits(), breaker.deadline()), (0, Some(103 * MS)));
        assert!(!breaker.tick(103 * MS - 1));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.tick(103 * MS) && !breaker.tick(103 * MS), "once");
        assert_eq!(
            (breaker.state(), breaker.permits(), breaker.deadline()),
            (BreakerState::HalfOpen, 2, None)
        );
    }

    #[test]
    fn half_open_closes_when_all_probes_are_well_and_starts_with_an_empty_window() {
        let mut breaker = half_open();
        assert_eq!((breaker.record(104 * MS, GOOD), breaker.permits()), (None, 1));
        assert!(breaker.record(105 * MS, GOOD).is_some());
        assert_eq!((breaker.state(), breaker.permits()), (BreakerState::Closed, u64::MAX));
        record_each(&mut breaker, 106..109, BAD);
        assert_eq!(breaker.state(), BreakerState::Closed, "what opened it before is forgotten");
    }

    #[test]
    fn half_open_opens_again_for_another_cooldown_when_probes_fail_or_are_slow() {
        for (first, second) in [(BAD, GOOD), (BAD, BAD), (SLOW, SLOW)] {
            let mut breaker = half_open();
            breaker.record(104 * MS, first);
            assert!(breaker.record(105 * MS, second).is_some());
            assert_eq!((breaker.state(), breaker.deadline()), (BreakerState::Open, Some(205 * MS)));
        }
    }

    #[test]
    fn a_call_that_was_not_permitted_changes_nothing() {
        let mut breaker = after(&[BAD; 4]);
        assert_eq!(breaker.record(50 * MS, GOOD), None);
        assert_eq!((breaker.state(), breaker.deadline()), (BreakerState::Open, Some(103 * MS)));
    }

    #[test]
    fn a_threshold_of_0_opens_on_any_failure_and_on_nothing_else() {
        let eager = CircuitBreakerPolicy { error_threshold: 0.0, slow_call_threshold: 0.0, ..policy() };
        let mut breaker = Breaker::new(&eager);
        record_each(&mut breaker, 0..10, GOOD);
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.record(11, BAD);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    proptest! {
        /// C16, with a list of calls as the model of the window.
        #[test]
        fn only_allowed_transitions_no_call_when_open_and_no_more_probes_than_permitted(
            steps in prop::collection::vec((0i64..40, any::<bool>(), 0i64..20), 1..300),
        ) {
            let mut breaker = Breaker::new(&policy());
            let (mut now, mut probes, mut calls) = (0, 0, Vec::<(i64, Call)>::new());
            for (passed, failed, ms) in steps {
                now += passed * MS;
                let before = breaker.state();
                prop_assert_eq!(breaker.tick(now), before != breaker.state());
                match (before, breaker.state()) {
                    (BreakerState::Open, BreakerState::HalfOpen) => probes = 0,
                    (a, b) => prop_assert_eq!(a, b),
                }
                if breaker.permits() == 0 {
                    prop_assert_eq!(breaker.state(), BreakerState::Open);
                    continue;
                }
                let (before, call) = (breaker.state(), Call { failed, nanos: ms * MS });
                let decided = breaker.record(now, call);
                prop_assert_eq!(decided.is_some(), before != breaker.state());
                match before {
                    BreakerState::HalfOpen => {
                        probes += 1;
                        prop_assert!(probes <= 2);
                        prop_assert_eq!(breaker.state() == BreakerState::HalfOpen, probes < 2);
                        calls.clear();
                    }
                    _ => {
                        // The window slides by parts of 10 ms.
                        calls.push((now, call));
                        calls.retain(|(at, _)| at / (10 * MS) > now / (10 * MS) - 16);
                        let (all, failed) = (calls.len(), calls.iter().filter(|(_, c)| c.failed).count());
                        let slow = calls.iter().filter(|(_, c)| c.nanos > 10 * MS).count();
                        let opens = all >= 4 && (2 * failed >= all && failed > 0 || 4 * slow >= 3 * all && slow > 0);
                        prop_assert_eq!(breaker.state() == BreakerState::Open, opens);
                        if opens {
                            calls.clear();
                        }
                    }
                }
            }
        }
    }
}
