//! What happens to an item whose stage failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Waiting time between attempts: `base * 2^attempt`, give or take its jitter, never below `base` or above `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Backoff {
    /// Wait before the first retry. Greater than zero.
    #[serde(with = "super::duration_text")]
    pub base: Duration,
    /// Longest wait.
    #[serde(with = "super::duration_text")]
    pub cap: Duration,
    /// By how much of itself a wait may be shorter or longer, in percent, so that what failed together does not come
    /// back together. Drawn from a seed that the stage instance gives: a simulated run repeats.
    #[serde(default)]
    pub jitter_percent: u8,
}

impl Backoff {
    /// Waits without jitter.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, jitter_percent: 0 }
    }

    /// The same with jitter, in percent (at most 100 is taken).
    #[must_use]
    pub const fn with_jitter(self, percent: u8) -> Self {
        Self { jitter_percent: percent, ..self }
    }

    /// The wait before retry number `attempt` (the first is 0), without jitter. Saturates, never overflows.
    ///
    /// ```
    /// use corelane::policy::Backoff;
    /// use std::time::Duration;
    /// let b = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    /// assert_eq!(b.delay(0), Duration::from_millis(10));
    /// assert_eq!(b.delay(3), Duration::from_millis(80));
    /// assert_eq!(b.delay(4_000_000_000), Duration::from_secs(1));
    /// ```
    pub fn delay(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait before retry number `attempt`, with the jitter that `draw` stands for: 0 is the shortest wait,
    /// `u32::MAX` the longest.
    pub fn jittered(&self, attempt: u32, draw: u32) -> Duration {
        let middle = self.delay(attempt);
        let spread = middle.saturating_mul(self.jitter_percent.min(100).into()) / 100;
        let shortest = middle.saturating_sub(spread).max(self.base.min(self.cap));
        let longest = middle.saturating_add(spread).min(self.cap);
        let width = longest.saturating_sub(shortest).as_nanos();
        let drawn = width * u128::from(draw) / u128::from(u32::MAX);
        shortest.saturating_add(Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX)))
    }
}

/// What becomes of an item whose retries ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterRetries {
    /// It goes to the dead letters.
    #[default]
    DeadLetter,
    /// The pipeline fails.
    Fail,
    /// It is counted and forgotten.
    Ignore,
}

/// What a stage's failure on one item does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum ErrorPolicy {
    /// Try again after a wait. What must not overtake the item waits too: behind a key the items of that key, elsewhere
    /// the whole input of the stage instance.
    Retry {
        /// Attempts after the first.
        max_retries: u32,
        /// Waits between attempts.
        backoff: Backoff,
        /// What follows the last attempt.
        #[serde(default)]
        then: AfterRetries,
        /// Behind a key: items of an instance that wait at most, for another attempt or behind one of their key. When so
        /// many do, the instance takes no more input. At least 1.
        #[serde(default = "default_max_parked")]
        max_parked: u32,
    },
    /// The item leaves the stream as a dead letter.
    DeadLetter,
    /// The whole pipeline fails.
    #[default]
    Fail,
    /// The item is counted and forgotten.
    Ignore,
}

/// Items that wait in a stage instance behind a key when nothing else is said.
pub const DEFAULT_MAX_PARKED: u32 = 1024;

fn default_max_parked() -> u32 {
    DEFAULT_MAX_PARKED
}

impl ErrorPolicy {
    /// Tries again up to `max_retries` times; what still fails is a dead letter.
    pub const fn retry(max_retries: u32, backoff: Backoff) -> Self {
        Self::Retry { max_retries, backoff, then: AfterRetries::DeadLetter, max_parked: DEFAULT_MAX_PARKED }
    }

    /// The same, with something else in place of the dead letter after retries. Other policies stay as they are.
    #[must_use]
    pub const fn then(self, then: AfterRetries) -> Self {
        match self {
            Self::Retry { max_retries, backoff, max_parked, .. } => {
                Self::Retry { max_retries, backoff, then, max_parked }
            }
            other => other,
        }
    }

    /// What becomes of an item that no attempt is left for.
    pub const fn last_resort(self) -> AfterRetries {
        match self {
            Self::Retry { then, .. } => then,
            Self::DeadLetter => AfterRetries::DeadLetter,
            Self::Fail => AfterRetries::Fail,
            Self::Ignore => AfterRetries::Ignore,
        }
    }
}

/// What becomes of the input of a stage while its circuit breaker is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhileOpen {
    /// It waits: the stage takes no more, and backpressure does the rest.
    #[default]
    Wait,
    /// It goes to the dead letters, whatever the error policy says.
    DeadLetter,
    /// It waits, and the sources of the pipeline bring nothing in.
    PauseSources,
}

/// When a stage is taken out of service because it fails or is slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CircuitBreakerPolicy {
    /// Share of failed calls in the window that opens the breaker, in `0.0..=1.0`; of 0 any failed call does.
    pub error_threshold: f64,
    /// A call that takes longer counts as slow.
    #[serde(with = "super::duration_text")]
    pub latency_threshold: Duration,
    /// Share of slow calls in the window that opens the breaker, in `0.0..=1.0`; of 0 any slow call does.
    #[serde(default = "all_calls")]
    pub slow_call_threshold: f64,
    /// Length of the sliding window. Greater than zero.
    #[serde(with = "super::duration_text")]
    pub window_size: Duration,
    /// Calls in the window below which the breaker never opens.
    pub minimum_throughput: u32,
    /// Time in the open state before probes are let through.
    #[serde(with = "super::duration_text")]
    pub cooldown_period: Duration,
    /// Calls let through after that; by the same two thresholds they close the breaker or open it again. At least 1.
    #[serde(default = "one_probe")]
    pub half_open_probes: u32,
    /// What the input does meanwhile.
    #[serde(default)]
    pub while_open: WhileOpen,
}

fn all_calls() -> f64 {
    1.0
}

fn one_probe() -> u32 {
    1
}

impl CircuitBreakerPolicy {
    /// Opens when at least `error_threshold` of the calls of 10 s fail, or all of them take longer than a second, once there
    /// were 10; one probe after 5 s.
    pub const fn on_errors(error_threshold: f64) -> Self {
        Self {
            error_threshold,
            latency_threshold: Duration::from_secs(1),
            slow_call_threshold: 1.0,
            window_size: Duration::from_secs(10),
            minimum_throughput: 10,
            cooldown_period: Duration::from_secs(5),
            half_open_probes: 1,
            while_open: WhileOpen::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_never_below_its_base_nor_above_its_cap_c15(
            base in 1u64..1_000_000_000,
            factor in 1u64..1_000,
            jitter in 0u8..=255,
            attempt in 0u32..100,
            draw: u32,
        ) {
            let (base, cap) = (Duration::from_nanos(base), Duration::from_nanos(base * factor));
            let wait = Backoff::new(base, cap).with_jitter(jitter).jittered(attempt, draw);
            prop_assert!((base..=cap).contains(&wait), "{wait:?}");
            prop_assert_eq!(Backoff::new(base, cap).jittered(attempt, draw), Backoff::new(base, cap).delay(attempt));
        }
    }

    #[test]
    fn jitter_spreads_waits_on_both_sides_of_the_middle() {
        let ms = Duration::from_millis;
        let b = Backoff::new(ms(10), ms(1_000)).with_jitter(50);
        assert_eq!((b.jittered(0, 0), b.jittered(0, u32::MAX)), (ms(10), ms(15)));
        assert_eq!((b.jittered(2, 0), b.jittered(2, u32::MAX)), (ms(20), ms(60)));
        assert_eq!((b.jittered(9, 0), b.jittered(9, u32::MAX)), (ms(500), ms(1_000)));
    }

    #[test]
    fn files_written_before_there_was_jitter_and_slow_calls_still_read() {
        let policy: ErrorPolicy =
            toml::from_str("[retry]\nmax-retries = 2\nbackoff = { base = \"1ms\", cap = \"1s\" }").unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        assert_eq!(policy, ErrorPolicy::retry(2, backoff));
        let text = "error-threshold = 0.5\nlatency-threshold = \"1s\"\nwindow-size = \"10s\"\n\
                    minimum-throughput = 10\ncooldown-period = \"5s\"";
        let policy: CircuitBreakerPolicy = toml::from_str(text).unwrap();
        assert_eq!(policy, CircuitBreakerPolicy::on_errors(0.5));
    }
}
