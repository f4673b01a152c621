//! The state of a circuit breaker, as it is shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a stage is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum BreakerState {
    /// It is.
    Closed = 1,
    /// A few calls are let through, to see whether it works again.
    HalfOpen = 2,
    /// It is not.
    Open = 3,
}

impl BreakerState {
    /// The state that was cast to `n`; `None` for 0, a stage without a breaker.
    pub(super) fn from_u8(n: u8) -> Option<Self> {
        [Self::Closed, Self::HalfOpen, Self::Open].into_iter().find(|state| *state as u8 == n)
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_passes_through_its_number_and_is_written_as_it_displays() {
        assert_eq!(BreakerState::from_u8(0), None);
        for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
            assert_eq!(BreakerState::from_u8(state as u8), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
    }
}
