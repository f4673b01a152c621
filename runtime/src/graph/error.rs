//! All errors of a graph, and what is worth saying though it is no error.

use std::fmt;

use super::{At, GraphError};
use crate::model::counted;

/// Everything that is wrong with a graph; never empty. `Display` gives one numbered line each.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphErrors(pub(super) Vec<GraphError>);

impl GraphErrors {
    /// The errors: of the graph as a whole, then of its stages, then of its edges, then cycles.
    pub fn errors(&self) -> &[GraphError] {
        &self.0
    }
}

impl fmt::Display for GraphErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the graph has 1 error:")?,
            n => write!(f, "the graph has {n} errors:")?,
        }
        for (number, error) in self.0.iter().enumerate() {
            write!(f, "\n  {}. {error}", number + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for GraphErrors {}

impl<'a> IntoIterator for &'a GraphErrors {
    type Item = &'a GraphError;
    type IntoIter = std::slice::Iter<'a, GraphError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Something the user may want to know; the graph can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A capacity that is not a power of two holds more than was asked for.
    RoundedUp {
        /// The edge.
        at: At,
        /// The field the capacity comes from.
        field: String,
        /// What was asked for.
        asked: u64,
        /// What it holds.
        holds: u64,
    },
    /// More instances than cores: they take turns.
    MoreInstancesThanCores {
        /// The stage.
        at: At,
        /// The field.
        field: &'static str,
        /// Instances.
        instances: u32,
        /// Cores there are.
        cores: usize,
    },
    /// Items that fail are to be dead letters, and no edge takes those: they are lost but for their number.
    DeadLettersOnlyCounted {
        /// The stage.
        at: At,
    },
    /// An edge takes dead letters, and the stage's policies make none.
    NoDeadLetters {
        /// The stage.
        at: At,
    },
    /// A circuit breaker on a stage that makes no calls: it does nothing.
    BreakerWithoutCalls {
        /// The stage.
        at: At,
    },
    /// An accumulator whose keys go away only by growing.
    QuietKeysStay {
        /// The stage.
        at: At,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundedUp { at, field, asked, holds } => {
                write!(f, "{at}, field {field}: {asked} is rounded up to {holds}, the next power of two")
            }
            Self::MoreInstancesThanCores { at, field, instances, cores } => {
                let cores = counted(*cores, "core");
                write!(f, "{at}, field {field}: {instances} instances take turns on {cores}")
            }
            Self::DeadLettersOnlyCounted { at } => {
                write!(
                    f,
                    "{at}: its dead letters are counted and thrown away; connect an edge labelled dead-letters"
                )
            }
            Self::NoDeadLetters { at } => {
                write!(
                    f,
                    "{at}: an edge takes its dead letters, but neither error-policy nor circuit-breaker makes any"
                )
            }
            Self::BreakerWithoutCalls { at } => {
                write!(
                    f,
                    "{at}, field circuit-breaker: does nothing here; only try_map, transforms and sinks make calls"
                )
            }
            Self::QuietKeysStay { at } => write!(
                f,
                "{at}, field accumulation.policy: a key that gets no more items stays until the end of the input, so that \
                 memory grows with the number of keys; max-latency or completeness-ttl would end it"
            ),
        }
    }
}
