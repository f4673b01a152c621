//! Named policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy};

/// Policies by name, so that stages can refer to them; usually read from TOML.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyRegistry {
    /// Error policies.
    #[serde(default)]
    pub error_policies: BTreeMap<String, ErrorPolicy>,
    /// Backpressure strategies.
    #[serde(default)]
    pub backpressure_policies: BTreeMap<String, BackpressureStrategy>,
    /// Circuit breakers.
    #[serde(default)]
    pub circuit_breaker_policies: BTreeMap<String, CircuitBreakerPolicy>,
    /// Buffers.
    #[serde(default)]
    pub buffer_policies: BTreeMap<String, BufferPolicy>,
}
