//! When shards of a keyed stage move between its instances.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Shards that a stage has at most.
pub const MAX_SHARDS: u32 = 1 << 16;

/// Lets the shards of a keyed stage move between its instances while it runs.
///
/// A shard is a slice of the key space and moves as a whole: a key that alone is more than an instance can do stays too much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RebalancePolicy {
    /// Shards of the stage, rounded up to a power of two and to one for each instance. More shards even out finer; each takes 24 bytes on
    /// every instance.
    pub shards: u32,
    /// Moves them by the load that is measured. Otherwise they move when asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automatic: Option<AutoRebalance>,
}

impl Default for RebalancePolicy {
    /// 256 shards that move when asked to.
    fn default() -> Self {
        Self { shards: 256, automatic: None }
    }
}

impl RebalancePolicy {
    /// Moves shards by measured load, with the default periods.
    pub fn automatic() -> Self {
        Self { automatic: Some(AutoRebalance::default()), ..Self::default() }
    }

    /// Shards of a stage with so many instances.
    pub fn shards_for(&self, instances: usize) -> usize {
        let most = MAX_SHARDS as usize;
        (self.shards as usize).max(instances).clamp(1, most).next_power_of_two()
    }
}

/// When load counts as uneven, and how often that may have consequences. Time is that of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AutoRebalance {
    /// How often the load is looked at.
    #[serde(with = "super::duration_text")]
    pub period: Duration,
    /// Uneven: the busiest instance had more than the mean by more than this share of it.
    pub imbalance: f64,
    /// In so many periods in a row.
    pub periods: u32,
    /// After a move, and after finding none that would help, the load is not judged for so long.
    #[serde(with = "super::duration_text")]
    pub cooldown: Duration,
}

impl Default for AutoRebalance {
    /// More than a fifth above the mean in each of three periods of 200 ms; then a rest of 2 s.
    fn default() -> Self {
        Self {
            period: Duration::from_millis(200),
            imbalance: 0.2,
            periods: 3,
            cooldown: Duration::from_secs(2),
        }
    }
}
