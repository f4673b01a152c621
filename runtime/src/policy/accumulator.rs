//! Limits of an accumulator.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Parallelism;

/// Which clock an accumulator's deadlines are measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeDomain {
    /// The machine's monotonic clock, as the driver reads it before each step.
    #[default]
    Processing,
    /// The watermark: deadlines fire when event time passes them, so a replay gives the same result every time.
    Event,
}

/// When an accumulator lets go of a key, and of what.
///
/// All limits are per key. A limit that is `None` does not apply; a policy with no limit at all is refused at build
/// (unbounded state) unless the accumulator is flushed by the end of its input only, which
/// [`AccumulatorPolicy::until_end`] says explicitly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccumulatorPolicy {
    /// Forced flush once a key holds this many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// Forced flush once a key holds this many bytes (by the items' cost).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Forced flush this long after the key's first item, however incomplete.
    #[serde(default, with = "super::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub max_latency: Option<Duration>,
    /// The key expires this long after its first item unless it completed.
    #[serde(default, with = "super::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub completeness_ttl: Option<Duration>,
    /// Whether a forced flush or an expiry may emit what is there. When `false`, such a key emits nothing and its
    /// items are counted as `expired`.
    #[serde(default)]
    pub partial_flush: bool,
    /// Whether cold keys may be moved to disk once the state takes its share of memory.
    #[serde(default)]
    pub spill_allowed: bool,
    /// Bytes of memory that the state of one instance may take, index and buffers for spilling included. Beyond it cold
    /// keys go to disk if they may; otherwise input waits for keys whose time runs out, and where no time limit will free
    /// any, the pipeline fails. The pipeline's memory budget may say less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The clock of `max_latency` and `completeness_ttl`.
    #[serde(default)]
    pub clock: TimeDomain,
    /// States that keys live until the end of input on purpose (a bounded key space, an aggregate over all input).
    #[serde(default)]
    pub until_end: bool,
}

impl AccumulatorPolicy {
    /// No limit of any kind, nothing allowed.
    pub const NONE: Self = Self {
        max_items: None,
        max_bytes: None,
        max_latency: None,
        completeness_ttl: None,
        partial_flush: false,
        spill_allowed: false,
        memory_bytes: None,
        clock: TimeDomain::Processing,
        until_end: false,
    };

    /// Keys live until the end of input and are flushed then.
    pub const fn until_end() -> Self {
        Self { partial_flush: true, until_end: true, ..Self::NONE }
    }

    /// Keys expire `ttl` after their first item; what is there is flushed, marked partial.
    pub const fn ttl(ttl: Duration) -> Self {
        Self { completeness_ttl: Some(ttl), partial_flush: true, ..Self::NONE }
    }

    /// Measures deadlines on event time.
    #[must_use]
    pub const fn in_event_time(mut self) -> Self {
        self.clock = TimeDomain::Event;
        self
    }

    /// Bounds the items of one key.
    #[must_use]
    pub const fn max_items(mut self, items: u64) -> Self {
        self.max_items = Some(items);
        self
    }

    /// Bounds the memory of one instance's state; beyond it cold keys go to disk.
    #[must_use]
    pub const fn spill_beyond(mut self, bytes: u64) -> Self {
        self.spill_allowed = true;
        self.memory_bytes = Some(bytes);
        self
    }

    /// Cold keys may go to disk once the state takes its share of the pipeline's memory budget.
    #[must_use]
    pub const fn spilling(mut self) -> Self {
        self.spill_allowed = true;
        self
    }

    /// Whether any limit or `until_end` bounds the state.
    pub fn is_bounded(&self) -> bool {
        self.until_end
            || self.max_items.is_some()
            || self.max_bytes.is_some()
            || self.max_latency.is_some()
            || self.completeness_ttl.is_some()
    }
}

impl AccumulatorPolicy {
    /// Whether a key that gets no more items stays, without this having been asked for.
    pub(crate) fn keeps_quiet_keys(&self) -> bool {
        let timeless = self.max_latency.is_none() && self.completeness_ttl.is_none();
        self.is_bounded() && timeless && !self.until_end
    }

    /// Whether keys hold all of their items until the input ends.
    pub(crate) fn holds_until_end(&self) -> bool {
        self.until_end && !Self { until_end: false, ..self.clone() }.is_bounded()
    }
}

impl Default for AccumulatorPolicy {
    fn default() -> Self {
        Self::NONE
    }
}

/// How a graph node accumulates: its policy, how it is spread, and the weights of its completeness score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccumulationDescriptor {
    /// Limits per key.
    pub policy: AccumulatorPolicy,
    /// How the key space is spread over cores.
    #[serde(default)]
    pub engine_hint: Parallelism,
    /// Named parts of completeness and how much each counts: the score is the weight of the parts that are present
    /// over the weight of all parts. Finite and not negative.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress_weights: BTreeMap<String, f64>,
}
