//! From a graph and a placement to what runs where: which edges are fused, which are rings, and how items are spread.
//!
//! Pure functions: values in, values out. [`propose`] goes the other way and finds a placement; [`hops`] and [`conflicts`] say what a
//! placement costs.

mod hops;
mod propose;

pub use hops::{Conflict, Distance, EdgeHops, conflicts, hops};
pub use propose::{Proposal, ProposeError, Reason, Span, Wishes, propose};

use crate::graph::{
    ChannelOrdering, Crossing, Deadlock, Edge, MAX_WAITING_INPUTS, ResolvedEdge, Spread, StageNode,
    ValidatedGraph, deadlocks, split_of,
};
use crate::model::{StageKind, help_with_name};
use crate::policy::{BackpressureStrategy, DropPolicy};
use crate::topology::{EdgeName, Placement};

/// How an edge is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// Both stages are one chain: a call, no ring.
    Fused,
    /// Rings from instance `i` to instance `i`.
    Forward,
    /// Rings from every instance to every instance; what is published at once goes to one that has room.
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
    /// Bytes each of its rings holds at most, if that was bounded.
    pub max_bytes: Option<u64>,
    /// What makes its producer wait beyond that.
    pub backpressure: Option<BackpressureStrategy>,
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
}

impl Plan {
    /// Bytes that the slots of all rings of each edge take; `item_bytes` are those of one item, edge by edge.
    pub fn ring_bytes(&self, graph: &ValidatedGraph, item_bytes: &[Option<usize>]) -> Vec<u64> {
        let bytes = |(at, (plan, edge)): (usize, (&EdgePlan, &ResolvedEdge))| {
            let (n, m) = (self.instances[edge.from].len() as u64, self.instances[edge.to].len() as u64);
            let rings = match plan.carriage {
                Carriage::Fused => 0,
                Carriage::Forward if n == m => n,
                _ => n * m,
            };
            let item = item_bytes.get(at).copied().flatten().unwrap_or(0) as u64;
            rings.saturating_mul(plan.capacity).saturating_mul(item)
        };
        self.edges.iter().zip(graph.edges()).enumerate().map(bytes).collect()
    }
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
    /// It can come to a standstill on these instances.
    #[error("{0}")]
    Deadlock(Deadlock),
    /// The core map gives a capacity to an edge that is not there.
    #[error("core map: there is no edge {edge}; {help}")]
    NoSuchEdge {
        /// The edge, as the map names it.
        edge: EdgeName,
        /// What was probably meant.
        help: String,
    },
    /// More inputs of merges wait for others than can be looked through.
    #[error(
        "{0} inputs of merges wait for others, at most {MAX_WAITING_INPUTS} can be checked: use fewer instances"
    )]
    TooManyWaiting(usize),
}

impl PlanError {
    /// Whether it is about the core map, not about the graph.
    pub fn is_core_map(&self) -> bool {
        self.edge().is_some()
    }

    /// The edge that a core map names and that is not there.
    pub fn edge(&self) -> Option<&EdgeName> {
        match self {
            Self::NoSuchEdge { edge, .. } => Some(edge),
            _ => None,
        }
    }
}

/// Plans `graph` on `placement`.
///
/// An edge is fused when both of its stages have their instances on the same partitions, one each, it is the only output
/// and the only input, it needs no exchange, and neither a buffer nor a strategy was asked for.
///
/// # Errors
/// All errors, in the order of the graph.
pub fn plan(graph: &ValidatedGraph, placement: &Placement) -> Result<Plan, Vec<PlanError>> {
    let mut errors = Vec::new();
    let mut instances = Vec::with_capacity(graph.stages().len());
    for stage in graph.stages() {
        match placement.instances(&stage.id) {
            [] => {
                errors.push(PlanError::Unplaced(stage.id.to_string()));
                instances.push(vec![0]);
            }
            places => instances.push(places.to_vec()),
        }
    }
    let mut planner = Planner { graph, instances: &instances, edges: Vec::new() };
    for i in 0..graph.edges().len() {
        let edge = planner.edge(i);
        planner.edges.push(edge);
    }
    errors.extend(planner.set_capacities(placement));
    for i in 0..graph.edges().len() {
        if let Err(error) = planner.order(i) {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        errors = planner.deadlocks();
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let edges = planner.edges;
    Ok(Plan { partitions: placement.partitions.len(), instances, edges })
}

struct Planner<'a> {
    graph: &'a ValidatedGraph,
    instances: &'a [Vec<usize>],
    edges: Vec<EdgePlan>,
}

impl Planner<'_> {
    fn edge(&self, i: usize) -> EdgePlan {
        let ResolvedEdge { from, to, capacity, drop_policy, max_bytes, backpressure } = self.graph.edges()[i];
        let graph = self.graph.graph();
        let (channel, origin, node) = (&graph.edges[i].channel, &graph.nodes[from], &graph.nodes[to]);
        let same_place = self.instances[from] == self.instances[to];
        let (n, m) = (self.instances[from].len(), self.instances[to].len());
        let keyed = matches!(channel.ordering, ChannelOrdering::PartitionOrdered { .. });
        let source = (origin.kind == StageKind::Source).then_some(origin);
        let said = |node: &StageNode| node.buffer.is_some() || node.backpressure.is_some();
        let buffered = channel.buffer.is_some()
            || channel.backpressure.is_some()
            || said(node)
            || source.is_some_and(said);
        let merges = node.kind == StageKind::Merge;
        let carriage = match () {
            () if same_place && !buffered && !merges && (!keyed || m == 1) => Carriage::Fused,
            () if keyed && m > 1 => Carriage::Exchange,
            () if n == m => Carriage::Forward,
            () if n == 1 || m > 1 => Carriage::Balance,
            () => Carriage::Forward,
        };
        EdgePlan { carriage, capacity, drop_policy, max_bytes, backpressure, restores_order: false }
    }

    /// Takes over what the core map says of rings.
    fn set_capacities(&mut self, placement: &Placement) -> Vec<PlanError> {
        let edges = &self.graph.graph().edges;
        let mut errors = Vec::new();
        for (name, items) in &placement.rings {
            let meant = |edge: &Edge| {
                edge.from == name.from.as_str()
                    && edge.to == name.to.as_str()
                    && (name.label.is_none() || name.label == edge.label)
            };
            let named: Vec<usize> = (0..edges.len()).filter(|&i| meant(&edges[i])).collect();
            named.iter().for_each(|&i| self.edges[i].capacity = items.next_power_of_two());
            if named.is_empty() {
                let names: Vec<String> =
                    edges.iter().map(|edge| format!("{}->{}", edge.input_name(), edge.to)).collect();
                let help = help_with_name(&name.to_string(), names.iter().map(String::as_str));
                errors.push(PlanError::NoSuchEdge { edge: name.clone(), help });
            }
        }
        errors
    }

    /// Finds where the items of ordered edge `i` were split over instances, and makes that split take turns.
    fn order(&mut self, i: usize) -> Result<(), PlanError> {
        let ResolvedEdge { from, to, .. } = self.graph.edges()[i];
        let id = |node: usize| self.graph.stages()[node].id.to_string();
        let lost = |why: String| PlanError::OrderLost { from: id(from), to: id(to), why };
        if self.graph.graph().edges[i].channel.ordering != ChannelOrdering::Ordered
            || self.instances[from].len() == 1
        {
            return Ok(());
        }
        if self.edges[i].carriage == Carriage::Fused {
            return Ok(());
        }
        if self.instances[to].len() > 1 {
            return Err(lost("both stages have several instances".to_owned()));
        }
        let spread = |edge: usize| match self.edges[edge].carriage {
            Carriage::Fused | Carriage::Forward => Spread::Kept,
            Carriage::Balance | Carriage::Turns
                if self.instances[self.graph.edges()[edge].from].len() == 1 =>
            {
                Spread::Split
            }
            _ => Spread::Scattered,
        };
        let split = split_of(self.graph, i, spread).map_err(lost)?;
        self.edges[split].carriage = Carriage::Turns;
        self.edges[i].restores_order = true;
        Ok(())
    }

    /// What is still wrong when it is known how every edge is carried out.
    fn deadlocks(&self) -> Vec<PlanError> {
        let many: Vec<bool> = self.instances.iter().map(|instances| instances.len() > 1).collect();
        let crossing = |edge: &EdgePlan| match edge.carriage {
            Carriage::Fused | Carriage::Forward => Crossing::Straight,
            Carriage::Balance | Carriage::Turns => Crossing::Shared,
            Carriage::Exchange => Crossing::ByKey,
        };
        let crossings: Vec<Crossing> = self.edges.iter().map(crossing).collect();
        match deadlocks(self.graph, &many, &crossings) {
            Ok(found) => found.into_iter().map(PlanError::Deadlock).collect(),
            Err(inputs) => vec![PlanError::TooManyWaiting(inputs)],
        }
    }
}
