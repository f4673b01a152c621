//! How an edge is doing.

use serde::{Deserialize, Serialize};

use crate::model::StageId;
use crate::policy::{BackpressureStrategy, DropPolicy};

/// An edge as it is seen from outside: all its rings together, unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeRuntimeState {
    /// The producing stage.
    pub from: StageId,
    /// The consuming stage.
    pub to: StageId,
    /// Whether both stages run as one chain: then nothing ever waits here, and no policy applies.
    pub fused: bool,
    /// What the edge keeps to now.
    pub strategy: BackpressureStrategy,
    /// What happens when it is full.
    pub drop_policy: DropPolicy,
    /// Items that *each* ring holds at most. 0 if it is fused.
    pub capacity: u64,
    /// Bytes that *each* ring holds at most, if that is bounded.
    pub max_bytes: Option<u64>,
    /// Items in it, those that wait in producers' memory included.
    pub depth: u64,
    /// Bytes of these: as weighed where the edge weighs them, otherwise by the size of their type.
    pub bytes: u64,
    /// Credits that producers have and have not used (`CreditBased`).
    pub credits: Option<u64>,
    /// Items that a consuming instance takes in one step at most, the largest of all instances (`Adaptive`).
    pub batch: Option<u64>,
    /// Whole tokens in the bucket when it was last used (`RateShaping`).
    pub tokens: Option<u64>,
    /// Items requested and not yet delivered (`ReactivePull`): what the user stated, or what the runtime requested and
    /// producers have not yet pushed.
    pub demand: Option<u64>,
    /// Items refused because it was full.
    pub dropped_newest: u64,
    /// Items thrown out to make room for newer ones.
    pub dropped_oldest: u64,
}
