//! What an item costs to hold and to handle.

use serde::{Deserialize, Serialize};

/// A number that must be finite and not negative, and is not.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("must be finite and not negative, not {0}")]
pub struct NotAnAmount(pub f64);

/// `x` if it is finite and not negative.
pub(super) fn amount(x: f64) -> Result<f64, NotAnAmount> {
    if x.is_finite() && x >= 0.0 { Ok(x) } else { Err(NotAnAmount(x)) }
}

/// What an item costs: bytes held, and a hint how much computing it takes.
///
/// The hint is relative: only hints of the same stage are compared. It is always finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Cost {
    bytes: u64,
    cpu_hint: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    cpu_hint: f64,
}

impl TryFrom<Raw> for Cost {
    type Error = NotAnAmount;
    fn try_from(raw: Raw) -> Result<Self, NotAnAmount> {
        Self::new(raw.bytes, raw.cpu_hint)
    }
}

impl Cost {
    /// No cost.
    pub const ZERO: Self = Self { bytes: 0, cpu_hint: 0.0 };

    /// A cost of `bytes` and `cpu_hint`.
    ///
    /// # Errors
    /// The hint is negative, infinite or not a number.
    pub fn new(bytes: u64, cpu_hint: f64) -> Result<Self, NotAnAmount> {
        Ok(Self { bytes, cpu_hint: amount(cpu_hint)? })
    }

    /// A cost of `bytes`, without a hint.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self { bytes, cpu_hint: 0.0 }
    }

    /// Bytes held.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// How much computing it takes, relative to others.
    pub const fn cpu_hint(self) -> f64 {
        self.cpu_hint
    }

    /// The cost of both, each part at most the greatest number of its type.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            cpu_hint: (self.cpu_hint + other.cpu_hint).min(f64::MAX),
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Knows what it costs.
pub trait Costed {
    /// The cost of holding and handling this item.
    fn cost(&self) -> Cost;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hint_that_is_no_amount_is_refused_everywhere() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE] {
            assert!(Cost::new(1, bad).is_err(), "{bad}");
        }
        for bad in ["cpu_hint = nan", "cpu_hint = inf", "cpu_hint = -0.5", "cpu = 1.0", "bytes = -1"] {
            assert!(toml::from_str::<Cost>(bad).is_err(), "{bad}");
        }
        assert_eq!(Cost::new(1, -2.0).unwrap_err().to_string(), "must be finite and not negative, not -2");
    }

    #[test]
    fn adding_saturates_and_never_makes_an_invalid_cost() {
        let most = Cost::new(u64::MAX, f64::MAX).unwrap();
        assert_eq!(most.saturating_add(most), most);
        let sum: Cost = [Cost::of_bytes(3), Cost::new(4, 0.5).unwrap(), Cost::ZERO].into_iter().sum();
        assert_eq!(sum, Cost::new(7, 0.5).unwrap());
    }

    proptest! {
        #[test]
        fn a_cost_reads_back_as_it_was_written(bytes: u64, hint in 0.0..1e300f64) {
            let cost = Cost::new(bytes, hint).unwrap();
            let text = serde_json::to_string(&cost).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cost>(&text).unwrap(), cost);
        }
    }
}
