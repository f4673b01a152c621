//! Buffers, what happens when they are full, and how demand travels upstream.

use serde::{Deserialize, Serialize};

/// What a full buffer does with the next item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPolicy {
    /// The oldest waiting item makes room and is counted.
    DropOldest,
    /// The new item is refused and counted.
    DropNewest,
    /// Nothing is dropped: the producing step takes no more input until there is room.
    #[default]
    Block,
}

/// Bound of an edge's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BufferPolicy {
    /// Items the edge holds at most. Rounded up to a power of two.
    pub capacity: u64,
    /// What happens when it is full.
    #[serde(default)]
    pub drop_policy: DropPolicy,
    /// Bytes the edge holds at most, beside the bound in items. An item counts what the stream's cost says, otherwise the
    /// size of its type; one that is larger than the whole bound passes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

impl BufferPolicy {
    /// A buffer of `capacity` items, of whatever size.
    pub const fn new(capacity: u64, drop_policy: DropPolicy) -> Self {
        Self { capacity, drop_policy, max_bytes: None }
    }

    /// The same, also bounded by `bytes`.
    #[must_use]
    pub const fn with_max_bytes(self, bytes: u64) -> Self {
        Self { max_bytes: Some(bytes), ..self }
    }
}

impl Default for BufferPolicy {
    fn default() -> Self {
        Self::new(4096, DropPolicy::Block)
    }
}

/// How an edge makes its producer wait.
///
/// All five are derived from one mechanism: no room downstream means the step takes no more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum BackpressureStrategy {
    /// A bounded buffer.
    Bounded {
        /// Items held at most.
        capacity: u64,
        /// What happens when it is full.
        #[serde(default)]
        drop_policy: DropPolicy,
    },
    /// Credits stand for work processed; they are given back in lots once `replenish_threshold` remain.
    CreditBased {
        /// Credits at the start.
        initial: u32,
        /// Credits are replenished when no more than this many are left. Below `initial`.
        replenish_threshold: u32,
    },
    /// A token bucket: any window of `w` seconds lets out at most `rate * w + burst` items.
    RateShaping {
        /// Items per second.
        rate: u32,
        /// Bucket size in items.
        burst: u32,
    },
    /// Batch size follows the queue depth between two bounds.
    Adaptive {
        /// Smallest batch, in items.
        min_batch: u32,
        /// Largest batch, in items.
        max_batch: u32,
    },
    /// Nothing moves without demand from downstream.
    ReactivePull {
        /// Items requested at a time.
        window_size: u32,
    },
}
