//! What a driver does when a step found nothing to do.

use serde::{Deserialize, Serialize};

/// What a driver does when a step found nothing to do: latency against burnt CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdlePolicy {
    /// Step again at once. Lowest latency, one whole core per partition.
    Spin,
    /// Give the core away between empty steps.
    Yield,
    /// Sleep until a peer rings the doorbell, a timer is due, or a bounded time has passed.
    Park,
    /// Spin, then yield, then park; no spinning when there are not more allowed cores than runnable partitions.
    #[default]
    Adaptive,
}
