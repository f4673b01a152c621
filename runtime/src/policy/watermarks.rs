//! How event time advances.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the watermarks of a stream are made from the times of its items.
///
/// A watermark is a promise: no item before this time follows. Items that break it are late; what becomes of them is for
/// the windows and accumulators downstream to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watermarks {
    /// What moves event time forward.
    pub advance: Advance,
    /// How many sources are told apart; each has a watermark of its own, and the least one counts. At least 1.
    #[serde(default = "one")]
    pub sources: u32,
    /// A source that was silent for this long, in processing time, no longer holds back event time, until its next item.
    #[serde(default, with = "super::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<Duration>,
    /// An item that is further than this ahead of its source's latest does not move event time by itself: its time may be
    /// wrong, and a watermark cannot be taken back. Only [`CONFIRMATIONS`](Self::CONFIRMATIONS) such items in a row are
    /// believed, by the earliest of them. `None` believes everything.
    #[serde(default, with = "super::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub max_ahead: Option<Duration>,
    /// Watermarks stand at whole multiples of this since 1970 only, so that at most one is passed on in each such span of event time.
    /// Windows that end at a multiple close just as without it, others up to this much later. `None` passes one on with all that
    /// is made visible at once and moves time, which costs a signal through every ring.
    #[serde(default, with = "super::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
}

/// What moves event time forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advance {
    /// The latest item: the watermark stays this far behind it.
    Behind(#[serde(with = "super::duration_text")] Duration),
    /// Items that carry a mark; the watermark is the latest mark.
    Marks,
}

const fn one() -> u32 {
    1
}

impl Watermarks {
    /// Items ahead of their time, in a row, that are believed.
    pub const CONFIRMATIONS: u32 = 32;

    /// The limit ahead that strategies start with: a day.
    pub const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

    const fn of(advance: Advance) -> Self {
        Self { advance, sources: 1, idle_after: None, max_ahead: Some(Self::MAX_AHEAD), every: None }
    }

    /// Items come at most `disorder` behind the latest before them.
    pub const fn bounded(disorder: Duration) -> Self {
        Self::of(Advance::Behind(disorder))
    }

    /// The times of a source never go back.
    pub const fn ascending() -> Self {
        Self::bounded(Duration::ZERO)
    }

    /// Some items say how far event time has come.
    pub const fn punctuated() -> Self {
        Self::of(Advance::Marks)
    }

    /// Tells `sources` sources apart, by the number that each item is given with its time.
    #[must_use]
    pub const fn sources(mut self, sources: u32) -> Self {
        self.sources = sources;
        self
    }

    /// A source that was silent for `silence` no longer holds back event time.
    #[must_use]
    pub const fn idle_after(mut self, silence: Duration) -> Self {
        self.idle_after = Some(silence);
        self
    }

    /// How far ahead of the latest an item may be before its time is doubted.
    #[must_use]
    pub const fn max_ahead(mut self, limit: Duration) -> Self {
        self.max_ahead = Some(limit);
        self
    }

    /// Passes on watermarks at whole multiples of `span` only; zero is as if it were not said.
    #[must_use]
    pub const fn every(mut self, span: Duration) -> Self {
        self.every = if span.is_zero() { None } else { Some(span) };
        self
    }

    /// Believes every time, however far ahead.
    #[must_use]
    pub const fn any_ahead(mut self) -> Self {
        self.max_ahead = None;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_read_back_as_it_was_written() {
        let strategies = [
            Watermarks::bounded(Duration::from_millis(1500)).idle_after(Duration::from_secs(3)).sources(4),
            Watermarks::punctuated().any_ahead().every(Duration::from_millis(200)),
            Watermarks::ascending(),
        ];
        for strategy in strategies {
            let text = toml::to_string(&strategy).unwrap();
            assert_eq!(toml::from_str::<Watermarks>(&text).unwrap(), strategy, "{text}");
        }
        assert!(toml::from_str::<Watermarks>("advance = 'marks'\nlag = '1s'").is_err());
    }
}
