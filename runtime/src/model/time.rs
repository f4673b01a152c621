//! Time as an argument.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch, signed; negative values are before 1970.
///
/// Arithmetic with durations saturates at [`Timestamp::MIN`] and [`Timestamp::MAX`].
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time; as a watermark: nothing more will come.
    pub const MAX: Self = Self(i64::MAX);

    /// This many nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// `self + d`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// `self - d`, at least [`Timestamp::MIN`].
    #[must_use]
    pub fn saturating_sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// What a driver tells a partition about time with each step.
///
/// `monotonic` never goes back and has an arbitrary origin (the start of the driver); deadlines are measured on it.
/// `wall` may jump; it only labels things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds on a clock that never goes back.
    pub monotonic: i64,
    /// Wall clock time.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn adding_and_taking_away_is_clamped_exact_arithmetic(t: i64, nanos: u64) {
            let d = Duration::from_nanos(nanos);
            let clamp = |n: i128| Timestamp(n.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
            // A duration counts as at most i64::MAX nanoseconds, 292 years.
            let exact = i128::from(nanos.min(i64::MAX as u64));
            prop_assert_eq!(Timestamp(t).saturating_add(d), clamp(i128::from(t) + exact));
            prop_assert_eq!(Timestamp(t).saturating_sub(d), clamp(i128::from(t) - exact));
        }

        #[test]
        fn the_time_between_two_is_their_distance_or_zero(a: i64, b: i64) {
            let exact = (i128::from(a) - i128::from(b)).max(0);
            prop_assert_eq!(Timestamp(a).saturating_since(Timestamp(b)).as_nanos(), exact as u128);
        }
    }

    #[test]
    fn a_timestamp_is_written_as_a_bare_number() {
        assert_eq!(serde_json::to_string(&Timestamp::MIN).unwrap(), i64::MIN.to_string());
        assert_eq!(serde_json::from_str::<Timestamp>("-7").unwrap(), Timestamp::from_nanos(-7));
        assert_eq!(Timestamp(3).to_string(), "3ns");
    }
}
