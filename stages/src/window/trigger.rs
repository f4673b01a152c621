//! When a window says what it has, besides once at its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where in the life of its window a result was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// Before the watermark reached the end of the window.
    Early,
    /// When it did.
    OnTime,
    /// After that, with items that came late.
    Late,
}

/// Which of the results of a window one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pane {
    /// Before, at or after the end of the window.
    pub timing: Timing,
    /// Counted from 0, per window and key.
    pub index: u32,
    /// Whether it is certainly the last one of its window and key.
    pub last: bool,
}

impl Pane {
    /// The only result of its window.
    pub const ONLY: Self = Self { timing: Timing::OnTime, index: 0, last: true };
}

/// When windows give results early and late, and what a result has that is not the first.
///
/// Without one, a window gives one result per key when the watermark reaches its end, and takes no late items.
///
/// ```
/// use std::time::Duration;
/// use corelane_stages::window::Trigger;
///
/// // A preview every second, the result in time, and a correction for each item that is up to a minute late.
/// let trigger = Trigger::new().early_every(Duration::from_secs(1)).allowed_lateness(Duration::from_secs(60));
/// # let _ = trigger;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Trigger {
    early_count: Option<u32>,
    early_every: Option<Duration>,
    late_count: Option<u32>,
    allowed_lateness: Duration,
    discarding: bool,
    on_time_only_if_new: bool,
}

impl Default for Trigger {
    fn default() -> Self {
        Self::new()
    }
}

impl Trigger {
    /// One result when the watermark reaches the end of the window.
    pub const fn new() -> Self {
        Self {
            early_count: None,
            early_every: None,
            late_count: Some(1),
            allowed_lateness: Duration::ZERO,
            discarding: false,
            on_time_only_if_new: false,
        }
    }

    /// An early result for every `items` items of a key; at least 1.
    #[must_use]
    pub const fn early_count(mut self, items: u32) -> Self {
        self.early_count = Some(items);
        self
    }

    /// Early results in processing time: this long after a window got something new, for all keys that have.
    #[must_use]
    pub const fn early_every(mut self, period: Duration) -> Self {
        self.early_every = Some(period);
        self
    }

    /// How long, in event time, a window is kept after its end for items that are late.
    #[must_use]
    pub const fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = lateness;
        self
    }

    /// A late result for every `items` late items of a key, the rest when the window goes. The default is 1.
    #[must_use]
    pub const fn late_count(mut self, items: u32) -> Self {
        self.late_count = Some(items);
        self
    }

    /// What late items change is given out when the window goes, in one result.
    #[must_use]
    pub const fn late_at_the_end(mut self) -> Self {
        self.late_count = None;
        self
    }

    /// Each result has only what came since the one before it. Otherwise it has everything.
    #[must_use]
    pub const fn discarding(mut self) -> Self {
        self.discarding = true;
        self
    }

    /// No result at the end of the window where nothing is new since an early one. Otherwise every key that was in the
    /// window gives one then, even if it has nothing new.
    #[must_use]
    pub const fn on_time_only_if_new(mut self) -> Self {
        self.on_time_only_if_new = true;
        self
    }

    pub(super) const fn lateness_time(&self) -> Duration {
        self.allowed_lateness
    }

    pub(super) fn lateness(&self) -> i64 {
        i64::try_from(self.allowed_lateness.as_nanos()).unwrap_or(i64::MAX)
    }

    pub(super) fn period(&self) -> Option<i64> {
        self.early_every.map(|period| i64::try_from(period.as_nanos()).unwrap_or(i64::MAX).max(1))
    }

    pub(super) const fn discards(&self) -> bool {
        self.discarding
    }

    /// What a key has fired in a window and what it has not.
    pub(super) fn wants(&self, timing: Timing, progress: &Progress) -> bool {
        let reached = |count: Option<u32>| count.is_some_and(|count| progress.fresh >= count.max(1));
        match timing {
            Timing::Early => reached(self.early_count),
            Timing::Late => reached(self.late_count),
            Timing::OnTime => progress.fresh > 0 || !self.on_time_only_if_new,
        }
    }
}

/// What a key has given out in a window so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Results.
    pub(super) fired: u32,
    /// Items since the last one.
    pub(super) fresh: u32,
}

impl Progress {
    /// The next result's place.
    pub(super) fn pane(&mut self, timing: Timing, last: bool) -> Pane {
        let index = self.fired;
        self.fired = self.fired.saturating_add(1);
        self.fresh = 0;
        Pane { timing, index, last }
    }
}
