//! stub
#![allow(missing_docs, clippy::all, unused)]
use crate::model::*;
use crate::policy::*;
use std::collections::BTreeMap;
#[derive(Clone, Default, Debug)]
pub struct PipelineGraph {
    pub name: String,
    pub nodes: Vec<StageNode>,
    pub edges: Vec<Edge>,
    pub metadata: BTreeMap<String, String>,
}
#[derive(Clone, Debug)]
pub struct StageNode {
    pub id: String,
    pub kind: StageKind,
    pub in_type: Option<String>,
    pub out_type: Option<String>,
    pub parallelism: Parallelism,
    pub accumulation: Option<AccumulationDescriptor>,
    pub error_policy: PolicyRef<ErrorPolicy>,
    pub circuit_breaker: Option<PolicyRef<CircuitBreakerPolicy>>,
    pub has_default: bool,
}
impl StageNode {
    pub fn new(id: &str, kind: StageKind) -> Self {
        Self {
            id: id.into(),
            kind,
            in_type: None,
            out_type: None,
            parallelism: Default::default(),
            accumulation: None,
            error_policy: PolicyRef::Inline(Default::default()),
            circuit_breaker: None,
            has_default: false,
        }
    }
}
#[derive(Clone, Debug)]
pub enum PolicyRef<P> {
    Inline(P),
    Named(String),
}
impl<P> PolicyRef<P> {
    pub fn inline(&self) -> Option<&P> {
        match self {
            Self::Inline(p) => Some(p),
            _ => None,
        }
    }
}
#[derive(Clone, Debug)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub label: Option<String>,
    pub channel: ChannelDescriptor,
}
#[derive(Clone, Debug, Default)]
pub struct ChannelDescriptor {
    pub buffer_size: u64,
    pub ordering: ChannelOrdering,
    pub buffer: Option<PolicyRef<BufferPolicy>>,
}
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ChannelOrdering {
    #[default]
    Unordered,
    Ordered,
    PartitionOrdered {
        key: Option<String>,
    },
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct GraphErrors;
#[derive(Default)]
pub struct ValidationContext;
pub struct Validated {
    pub warnings: Vec<String>,
    pub graph: PipelineGraph,
}
impl PipelineGraph {
    pub fn validate(&self, _r: &PolicyRegistry, _c: &ValidationContext) -> Result<Validated, GraphErrors> {
        let mut g = self.clone();
        g.edges.iter_mut().for_each(|e| {
            if e.channel.buffer_size == 0 {
                e.channel.buffer_size = 1024
            }
        });
        Ok(Validated { warnings: vec![], graph: g })
    }
    pub fn stage_parallelism(&self) -> Vec<(StageId, Parallelism)> {
        self.nodes.iter().map(|n| (StageId::new(&n.id).unwrap(), n.parallelism)).collect()
    }
}
