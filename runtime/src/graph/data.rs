//! Nodes and edges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::StageKind;
use crate::policy::{
    AccumulationDescriptor, BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy,
    MergePolicy, Parallelism, PolicyRef, RebalancePolicy,
};

/// The label of the edge that takes a stage's dead letters. At a branch it is a label like any other.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Items an edge holds when nothing else is said.
pub const DEFAULT_BUFFER_SIZE: u64 = 4096;

/// A pipeline as data. Ids are kept as read, valid or not, so that all faults are reported together by
/// [`PipelineGraph::validate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PipelineGraph {
    /// Name of the pipeline; must be a valid id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Anything worth noting; not interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The stages.
    #[serde(default)]
    pub nodes: Vec<StageNode>,
    /// What flows where. At a merge by priority the order of its edges here is their priority.
    #[serde(default)]
    pub edges: Vec<Edge>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageNode {
    /// Its id, as read: `[A-Za-z0-9._-]{1,128}`, not starting with a dot, if it is valid.
    pub id: String,
    /// What sort of stage it is.
    pub kind: StageKind,
    /// Name of the item type it takes, if known. Compared along edges; otherwise for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_type: Option<String>,
    /// Name of the item type it gives, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_type: Option<String>,
    /// How many instances run.
    #[serde(default)]
    pub parallelism: Parallelism,
    /// How it accumulates. Needed by accumulators, refused elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<AccumulationDescriptor>,
    /// Buffer of the edges *into* this stage; of a source, of the edges out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<PolicyRef<BufferPolicy>>,
    /// How the edges *into* this stage (of a source: out of it) make their producers wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backpressure: Option<PolicyRef<BackpressureStrategy>>,
    /// What a failure on one item does.
    #[serde(default)]
    pub error_policy: PolicyRef<ErrorPolicy>,
    /// When the stage is taken out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<PolicyRef<CircuitBreakerPolicy>>,
    /// Whether shards of its keys move between its instances while it runs. For keyed stages whose state can be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<RebalancePolicy>,
    /// Whose turn it is at a merge; [`MergePolicy::Fair`] when absent. Refused on other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergePolicy>,
    /// For branches: every item has an output, because one of them is the default or because the branch broadcasts.
    /// A branch without is refused: items no route wants would have nowhere to go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_default: bool,
    /// For merges that wait (by timestamp, in turns): a promise that every input goes on whatever becomes of the others,
    /// as it does where watermarks keep up. Such a merge is left out when the graph is searched for deadlocks; where the
    /// promise does not hold, the pipeline can stand still for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assume_progress: bool,
    /// It may hold items back and hand results on when others have been taken. An ordered edge behind several instances of it
    /// is refused: their turns would overtake what they hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_items: bool,
}

impl StageNode {
    /// A stage with no policies but the defaults: sequential, and the pipeline fails when it fails.
    pub fn new(id: impl Into<String>, kind: StageKind) -> Self {
        Self {
            id: id.into(),
            kind,
            in_type: None,
            out_type: None,
            parallelism: Parallelism::default(),
            accumulation: None,
            buffer: None,
            backpressure: None,
            error_policy: PolicyRef::default(),
            circuit_breaker: None,
            rebalance: None,
            merge: None,
            has_default: false,
            assume_progress: false,
            holds_items: false,
        }
    }
}

/// What flows from one stage to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Edge {
    /// Id of the producing stage, as read.
    pub from: String,
    /// Id of the consuming stage, as read.
    pub to: String,
    /// Which output of a branch this is; otherwise for people. At most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The channel between them.
    #[serde(default)]
    pub channel: ChannelDescriptor,
}

impl Edge {
    /// Whether it takes the dead letters of its producing stage, which is of this kind.
    pub(super) fn takes_dead_letters(&self, from: StageKind) -> bool {
        from != StageKind::Branch && self.label.as_deref() == Some(DEAD_LETTERS)
    }
}

impl Edge {
    /// An edge without a label and with the default channel.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), label: None, channel: ChannelDescriptor::default() }
    }

    /// The same edge as the output `label` of a branch.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
}

/// The channel of an edge.
///
/// Its capacity and policies are, first found: its own `backpressure` (if bounded) and `buffer`, those of the
/// consuming stage, those of the producing stage if that is a source, and at last `buffer_size`, blocking when full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChannelDescriptor {
    /// Items it holds when no policy says otherwise. Rounded up to a power of two.
    #[serde(default = "default_buffer_size")]
    pub buffer_size: u64,
    /// Which order is kept.
    #[serde(default)]
    pub ordering: ChannelOrdering,
    /// Buffer of this edge only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<PolicyRef<BufferPolicy>>,
    /// Backpressure of this edge only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backpressure: Option<PolicyRef<BackpressureStrategy>>,
}

fn default_buffer_size() -> u64 {
    DEFAULT_BUFFER_SIZE
}

impl Default for ChannelDescriptor {
    fn default() -> Self {
        Self {
            buffer_size: DEFAULT_BUFFER_SIZE,
            ordering: ChannelOrdering::default(),
            buffer: None,
            backpressure: None,
        }
    }
}

/// Which order an edge keeps between the instances of its two stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum ChannelOrdering {
    /// None across instances; what one instance hands to one other stays in order.
    #[default]
    Unordered,
    /// The order of the input of the stage that was spread over instances.
    Ordered,
    /// Items of one key stay in order and go to one instance.
    PartitionOrdered {
        /// Name of the key; the function that takes it from an item stands in the typed builder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
}
