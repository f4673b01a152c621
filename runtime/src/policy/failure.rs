//! What happens to an item whose stage failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Waiting time between attempts: `base * 2^attempt`, never above `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Backoff {
    /// Wait before the first retry. Greater than zero.
    #[serde(with = "super::duration_text")]
    pub base: Duration,
    /// Longest wait.
    #[serde(with = "super::duration_text")]
    pub cap: Duration,
}

impl Backoff {
    /// The wait before retry number `attempt` (the first is 0). Saturates, never overflows.
    ///
    /// ```
    /// use corelane::policy::Backoff;
    /// use std::time::Duration;
    /// let b = Backoff { base: Duration::from_millis(10), cap: Duration::from_secs(1) };
    /// assert_eq!(b.delay(0), Duration::from_millis(10));
    /// assert_eq!(b.delay(3), Duration::from_millis(80));
    /// assert_eq!(b.delay(4_000_000_000), Duration::from_secs(1));
    /// ```
    pub fn delay(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
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
    /// Try again after a wait; the items behind it wait too, so that nothing overtakes it.
    Retry {
        /// Attempts after the first.
        max_retries: u32,
        /// Waits between attempts.
        backoff: Backoff,
        /// What follows the last attempt.
        #[serde(default)]
        then: AfterRetries,
    },
    /// The item leaves the stream as a dead letter.
    DeadLetter,
    /// The whole pipeline fails.
    #[default]
    Fail,
    /// The item is counted and forgotten.
    Ignore,
}

/// When a stage is taken out of service because it fails or is slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CircuitBreakerPolicy {
    /// Share of failed calls in the window that opens the breaker, in `0.0..=1.0`.
    pub error_threshold: f64,
    /// A call that takes longer counts as slow.
    #[serde(with = "super::duration_text")]
    pub latency_threshold: Duration,
    /// Length of the sliding window. Greater than zero.
    #[serde(with = "super::duration_text")]
    pub window_size: Duration,
    /// Calls in the window below which the breaker never opens.
    pub minimum_throughput: u32,
    /// Time in the open state before a probe is let through.
    #[serde(with = "super::duration_text")]
    pub cooldown_period: Duration,
}
