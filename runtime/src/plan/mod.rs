//! From a graph and a placement to what runs where: which edges are fused, which are rings, and how items are spread.
//!
//! A pure function: values in, values out.

use std::collections::{BTreeMap, HashMap};

use crate::graph::{ChannelOrdering, PipelineGraph};
use crate::model::{StageId, StageKind};
use crate::policy::{BufferPolicy, DropPolicy};
use crate::topology::Placement;

/// How an edge is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// Both stages are one chain: a call, no ring.
    Fused,
    /// Rings from instance `i` to instance `i`.
    Forward,
    /// Rings from every instance to every instance; a step's items go to one that has room.
    Balance,
    /// As `Balance`, strictly in turn, so that order can be restored.
    Turns,
    /// Rings from every instance to every instance; an item goes to the owner of its key's shard.
    Exchange,
}

/// One edge of the plan, in the order of the graph's edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgePlan {
    /// How items cross it.
    pub carriage: Carriage,
    /// Items each of its rings holds.
    pub capacity: u64,
    /// What a full ring does.
    pub drop_policy: DropPolicy,
    /// Whether the consumer takes its inputs in turns, to restore the order in which they were split.
    pub restores_order: bool,
}

/// What runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number of partitions.
    pub partitions: usize,
    /// For each node of the graph, the partition of each of its instances.
    pub instances: Vec<Vec<usize>>,
    /// For each edge of the graph, how it is carried out.
    pub edges: Vec<EdgePlan>,
    /// For each edge of the graph, the nodes it leads from and to.
    pub edge_ends: Vec<(usize, usize)>,
}

/// Why a graph cannot run as placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A stage has no place.
    #[error("stage {0} is not in the placement")]
    Unplaced(String),
    /// An ordered edge whose order is lost upstream.
    #[error("edge {from} -> {to} is ordered, but {why}")]
    OrderLost {
        /// The producing stage.
        from: String,
        /// The consuming stage.
        to: String,
        /// Where the order is lost.
        why: String,
    },
}

/// Plans `graph` on `placement`.
///
/// An edge is fused when both of its stages have their instances on the same partitions, one each, it is the only output
/// and the only input, it needs no exchange, and no buffer was asked for.
///
/// # Errors
/// All errors, in the order of the graph.
pub fn plan(graph: &PipelineGraph, placement: &Placement) -> Result<Plan, Vec<PlanError>> {
    let mut errors = Vec::new();
    let index: HashMap<&str, usize> =
        graph.nodes.iter().enumerate().map(|(i, n)| (n.id.as_str(), i)).collect();
    let mut instances = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        match placed(&placement.stages, &node.id) {
            Some(places) if !places.is_empty() => instances.push(places),
            _ => {
                errors.push(PlanError::Unplaced(node.id.clone()));
                instances.push(vec![0]);
            }
        }
    }
    let ends: Vec<(usize, usize)> =
        graph.edges.iter().map(|e| (index[e.from.as_str()], index[e.to.as_str()])).collect();
    let mut planner = Planner { graph, instances: &instances, ends, edges: Vec::new() };
    for i in 0..graph.edges.len() {
        let edge = planner.edge(i);
        planner.edges.push(edge);
    }
    for i in 0..graph.edges.len() {
        if let Err(error) = planner.order(i) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let Planner { ends: edge_ends, edges, .. } = planner;
    Ok(Plan { partitions: placement.partitions.len(), instances, edges, edge_ends })
}

fn placed(stages: &BTreeMap<StageId, Vec<usize>>, id: &str) -> Option<Vec<usize>> {
    stages.get(&StageId::new(id).ok()?).cloned()
}

struct Planner<'a> {
    graph: &'a PipelineGraph,
    instances: &'a [Vec<usize>],
    ends: Vec<(usize, usize)>,
    edges: Vec<EdgePlan>,
}

impl Planner<'_> {
    fn edge(&self, i: usize) -> EdgePlan {
        let (from, to) = self.ends[i];
        let channel = &self.graph.edges[i].channel;
        let same_place = self.instances[from] == self.instances[to];
        let (n, m) = (self.instances[from].len(), self.instances[to].len());
        let keyed = matches!(channel.ordering, ChannelOrdering::PartitionOrdered { .. });
        let buffered = channel.buffer.is_some();
        let merges = self.graph.nodes[to].kind == StageKind::Merge;
        let carriage = match () {
            () if same_place && !buffered && !merges && (!keyed || m == 1) => Carriage::Fused,
            () if keyed && m > 1 => Carriage::Exchange,
            () if n == m => Carriage::Forward,
            () if n == 1 || m > 1 => Carriage::Balance,
            () => Carriage::Forward,
        };
        let buffer = channel.buffer.as_ref().and_then(|policy| policy.inline().copied());
        let BufferPolicy { capacity, drop_policy } =
            buffer.unwrap_or(BufferPolicy { capacity: channel.buffer_size, drop_policy: DropPolicy::Block });
        EdgePlan { carriage, capacity, drop_policy, restores_order: false }
    }

    /// Finds where the items of ordered edge `i` were split over instances, and makes that split take turns.
    fn order(&mut self, i: usize) -> Result<(), PlanError> {
        let (from, to) = self.ends[i];
        let lost = |why: String| PlanError::OrderLost {
            from: self.graph.nodes[from].id.clone(),
            to: self.graph.nodes[to].id.clone(),
            why,
        };
        if self.graph.edges[i].channel.ordering != ChannelOrdering::Ordered || self.instances[from].len() == 1
        {
            return Ok(());
        }
        if self.edges[i].carriage == Carriage::Fused {
            return Ok(());
        }
        if self.instances[to].len() > 1 {
            return Err(lost("both stages have several instances".to_owned()));
        }
        let mut node = from;
        loop {
            let id = &self.graph.nodes[node].id;
            let mut inputs = (0..self.ends.len()).filter(|&e| self.ends[e].1 == node);
            let (Some(edge), None) = (inputs.next(), inputs.next()) else {
                return Err(lost(format!("stage {id} makes or merges items in several instances")));
            };
            if matches!(
                self.graph.nodes[node].kind,
                StageKind::Branch | StageKind::Accumulator | StageKind::Merge
            ) {
                return Err(lost(format!("stage {id} does not keep the order of its input")));
            }
            match self.edges[edge].carriage {
                Carriage::Fused | Carriage::Forward => node = self.ends[edge].0,
                Carriage::Balance | Carriage::Turns if self.instances[self.ends[edge].0].len() == 1 => {
                    self.edges[edge].carriage = Carriage::Turns;
                    self.edges[i].restores_order = true;
                    return Ok(());
                }
                _ => {
                    return Err(lost(format!(
                        "the input of stage {id} is spread from several instances or by key"
                    )));
                }
            }
        }
    }
}
