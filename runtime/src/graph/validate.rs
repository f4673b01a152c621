//! Finds everything that is wrong with a graph.

use std::collections::{BTreeSet, HashMap};

use crate::model::{StageId, StageKind};
use crate::policy::{
    BackpressureStrategy, BufferPolicy, Checked, CircuitBreakerPolicy, DropPolicy, ErrorPolicy, FieldProblem,
    MAX_CAPACITY, NamedPolicy, Parallelism, PolicyRef, PolicyRegistry, within,
};

use super::failures;
use super::flow::flow_problems;
use super::order::{Successors, cycles, forward};
use super::{
    At, ChannelOrdering, Edge, GraphError, GraphErrors, PipelineGraph, ResolvedEdge, ResolvedStage,
    StageNode, ValidatedGraph, Warning,
};

/// Stages a graph has at most.
pub const MAX_STAGES: usize = 100_000;
/// Edges a graph has at most.
pub const MAX_EDGES: usize = 1_000_000;

/// What is known about the place where the graph will run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidationContext {
    /// Cores it may use, if known.
    pub cores: Option<usize>,
    /// Whether there is a directory to spill to.
    pub spill_dir: bool,
    /// Positions of the stages whose state can be written to disk, if known.
    pub can_spill: Option<Vec<usize>>,
    /// Positions of the stages whose state can move between their instances, if known.
    pub can_move: Option<Vec<usize>>,
    /// Bytes of one item, edge by edge, where known; may be shorter than the edges.
    pub item_bytes: Vec<Option<usize>>,
    /// Whether a stage makes calls that a circuit breaker can keep back, stage by stage, where known; may be shorter than
    /// the stages.
    pub makes_calls: Vec<Option<bool>>,
}

impl PipelineGraph {
    /// Checks everything and resolves names of policies in `registry`.
    ///
    /// Cost: linear in stages, edges and policies (sorting apart); no recursion.
    ///
    /// # Errors
    /// Every error of the graph. More than [`MAX_STAGES`] or [`MAX_EDGES`] are reported alone.
    pub fn validate(
        &self,
        registry: &PolicyRegistry,
        context: &ValidationContext,
    ) -> Result<ValidatedGraph, GraphErrors> {
        let mut check = Validator::new(self, registry, context);
        check.whole();
        if self.nodes.len() > MAX_STAGES || self.edges.len() > MAX_EDGES {
            return Err(GraphErrors(check.errors));
        }
        check.ids();
        let policies: Vec<_> = (0..self.nodes.len()).map(|index| check.stage(index)).collect();
        let edges: Vec<_> = (0..self.edges.len()).map(|index| check.edge(index, &policies)).collect();
        check.duplicate_edges();
        check.degrees();
        let order = check.order();
        if !check.errors.is_empty() {
            return Err(GraphErrors(check.errors));
        }
        let stages = resolved_stages(self, policies, &edges);
        let mut warnings = check.warnings;
        warnings.extend(failures::warnings(self, &stages, context));
        let graph = ValidatedGraph {
            graph: self.clone(),
            stages,
            edges: edges.into_iter().flatten().collect(),
            order,
            warnings,
        };
        let errors = flow_problems(&graph);
        if errors.is_empty() { Ok(graph) } else { Err(GraphErrors(errors)) }
    }

    /// For each edge the positions of its ends, if they are stages; the first of a name counts.
    pub(super) fn ends(&self) -> Vec<(Option<usize>, Option<usize>)> {
        let mut position = HashMap::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            position.entry(node.id.as_str()).or_insert(index);
        }
        let find = |id: &String| position.get(id.as_str()).copied();
        self.edges.iter().map(|edge| (find(&edge.from), find(&edge.to))).collect()
    }
}

/// Policies of one stage, as far as their names are known.
struct StagePolicies {
    buffer: Option<BufferPolicy>,
    backpressure: Option<BackpressureStrategy>,
    error: Option<ErrorPolicy>,
    breaker: Option<CircuitBreakerPolicy>,
}

/// A capacity, what happens when it is reached, and where that was said.
struct Room {
    at: At,
    field: &'static str,
    capacity: u64,
    drop_policy: DropPolicy,
    max_bytes: Option<u64>,
}

struct Validator<'a> {
    graph: &'a PipelineGraph,
    registry: &'a PolicyRegistry,
    context: &'a ValidationContext,
    ends: Vec<(Option<usize>, Option<usize>)>,
    /// Nodes whose id an earlier node has.
    repeated: Vec<bool>,
    /// Edges that stand earlier already.
    again: Vec<bool>,
    /// Stage fields whose capacity was said to be rounded up, so that it is said once and not for each edge.
    rounded: BTreeSet<(String, &'static str)>,
    errors: Vec<GraphError>,
    warnings: Vec<Warning>,
}

impl<'a> Validator<'a> {
    fn new(graph: &'a PipelineGraph, registry: &'a PolicyRegistry, context: &'a ValidationContext) -> Self {
        Self {
            graph,
            registry,
            context,
            ends: graph.ends(),
            repeated: vec![false; graph.nodes.len()],
            again: vec![false; graph.edges.len()],
            rounded: BTreeSet::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn whole(&mut self) {
        let graph = self.graph;
        if graph.nodes.is_empty() {
            self.errors.push(GraphError::Empty);
        }
        if graph.nodes.len() > MAX_STAGES {
            self.errors.push(GraphError::TooManyStages(graph.nodes.len()));
        }
        if graph.edges.len() > MAX_EDGES {
            self.errors.push(GraphError::TooManyEdges(graph.edges.len()));
        }
        if let Some((id, Err(problem))) = graph.id.as_ref().map(|id| (id, StageId::new(id))) {
            self.errors.push(GraphError::InvalidPipelineId { id: id.clone(), problem });
        }
    }

    fn ids(&mut self) {
        let mut exact: HashMap<&str, usize> = HashMap::new();
        let mut folded: HashMap<String, &str> = HashMap::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Err(problem) = StageId::new(&node.id) {
                self.errors.push(GraphError::InvalidStageId { at: at_stage(index, node), problem });
            }
            if let Some(&first) = exact.get(node.id.as_str()) {
                self.repeated[index] = true;
                self.errors.push(GraphError::DuplicateStage { id: node.id.clone(), first, second: index });
                continue;
            }
            exact.insert(&node.id, index);
            // Valid ids are ASCII, so that case is all there is to fold; others are refused above.
            if let Some(first) = folded.insert(node.id.to_lowercase(), &node.id) {
                let (first, second) = (first.to_owned(), node.id.clone());
                self.errors.push(GraphError::IdsDifferByCase { first, second });
            }
        }
    }

    fn stage(&mut self, index: usize) -> StagePolicies {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let at = || at_stage(index, node);
        self.kind_fields(index, node);
        self.parallelism(at(), "parallelism", node.parallelism);
        if let Some(accumulation) = &node.accumulation {
            for problem in accumulation.problems() {
                self.errors.push(GraphError::Policy {
                    at: at(),
                    problem: within("accumulation", problem),
                    name: None,
                });
            }
            if accumulation.policy.spill_allowed && !self.context.spill_dir {
                self.errors.push(GraphError::NoSpillDirectory { at: at() });
            }
            let able = self.context.can_spill.as_ref().is_none_or(|able| able.contains(&index));
            if accumulation.policy.spill_allowed && !able {
                self.errors.push(GraphError::CannotSpill { at: at() });
            }
            self.too_many_for_cores(at(), "accumulation.engine-hint", accumulation.engine_hint);
            if accumulation.policy.keeps_quiet_keys() {
                self.warnings.push(Warning::QuietKeysStay { at: at() });
            }
        }
        self.rebalance(index, node);
        StagePolicies {
            buffer: node.buffer.as_ref().and_then(|p| self.policy(&at, "buffer", p)),
            backpressure: node.backpressure.as_ref().and_then(|p| self.policy(&at, "backpressure", p)),
            error: self.policy(&at, "error-policy", &node.error_policy),
            breaker: node.circuit_breaker.as_ref().and_then(|p| self.policy(&at, "circuit-breaker", p)),
        }
    }

    fn rebalance(&mut self, index: usize, node: &StageNode) {
        let Some(rebalance) = &node.rebalance else { return };
        let at = || at_stage(index, node);
        for problem in rebalance.problems() {
            self.errors.push(GraphError::Policy {
                at: at(),
                problem: within("rebalance", problem),
                name: None,
            });
        }
        if self.context.can_move.as_ref().is_some_and(|able| !able.contains(&index)) {
            self.errors.push(GraphError::CannotMove { at: at() });
        }
        if node.accumulation.as_ref().is_some_and(|accumulation| accumulation.policy.spill_allowed) {
            self.errors.push(GraphError::MovesAndSpills { at: at() });
        }
    }

    fn kind_fields(&mut self, index: usize, node: &StageNode) {
        let (at, kind) = (|| at_stage(index, node), node.kind);
        let present = [
            ("accumulation", node.accumulation.is_some(), StageKind::Accumulator),
            ("rebalance", node.rebalance.is_some(), StageKind::Accumulator),
            ("merge", node.merge.is_some(), StageKind::Merge),
            ("has-default", node.has_default, StageKind::Branch),
            ("assume-progress", node.assume_progress, StageKind::Merge),
        ];
        for (field, present, belongs_to) in present {
            if present && kind != belongs_to {
                self.errors.push(GraphError::Misplaced { at: at(), kind, field });
            }
        }
        if kind == StageKind::Accumulator && node.accumulation.is_none() {
            self.errors.push(GraphError::NoAccumulation { at: at() });
        }
        if kind == StageKind::Branch && !node.has_default {
            self.errors.push(GraphError::BranchWithoutDefault { at: at() });
        }
    }

    fn parallelism(&mut self, at: At, field: &'static str, parallelism: Parallelism) {
        for problem in parallelism.problems() {
            let problem = within(field, problem);
            self.errors.push(GraphError::Policy { at: at.clone(), problem, name: None });
        }
        self.too_many_for_cores(at, field, parallelism);
    }

    fn too_many_for_cores(&mut self, at: At, field: &'static str, parallelism: Parallelism) {
        if let (Parallelism::Fixed(instances), Some(cores)) = (parallelism, self.context.cores)
            && usize::try_from(instances).is_ok_and(|instances| instances > cores)
        {
            self.warnings.push(Warning::MoreInstancesThanCores { at, field, instances, cores });
        }
    }

    /// The policy meant, if there is one of that name; its problems are noted.
    fn policy<P: NamedPolicy + Checked>(
        &mut self,
        at: &impl Fn() -> At,
        field: &'static str,
        policy: &PolicyRef<P>,
    ) -> Option<P> {
        let resolved = match policy.resolve(self.registry) {
            Ok(resolved) => resolved,
            Err(problem) => {
                self.errors.push(GraphError::UnknownPolicy { at: at(), field, problem });
                return None;
            }
        };
        for problem in resolved.problems() {
            let name = match policy {
                PolicyRef::Named(name) => Some(name.clone()),
                PolicyRef::Inline(_) => None,
            };
            self.errors.push(GraphError::Policy { at: at(), problem: within(field, problem), name });
        }
        Some(resolved.clone())
    }

    fn edge(&mut self, index: usize, policies: &[StagePolicies]) -> Option<ResolvedEdge> {
        let graph = self.graph;
        let edge = &graph.edges[index];
        let at = || at_edge(index, edge);
        let channel = &edge.channel;
        self.edge_ends(index, edge);
        if let Some(bytes) = edge.label.as_ref().map(String::len).filter(|bytes| !(1..=128).contains(bytes)) {
            self.errors.push(GraphError::InvalidLabel { at: at(), bytes });
        }
        if let ChannelOrdering::PartitionOrdered { key } = &channel.ordering
            && key.as_ref().is_none_or(String::is_empty)
        {
            self.errors.push(GraphError::NoPartitionKey { at: at() });
        }
        let plain = BufferPolicy::new(channel.buffer_size, DropPolicy::Block);
        for FieldProblem { problem, .. } in plain.problems() {
            let problem = FieldProblem { field: "channel.buffer-size".into(), problem };
            self.errors.push(GraphError::Policy { at: at(), problem, name: None });
        }
        let buffer = channel.buffer.as_ref().and_then(|p| self.policy(&at, "channel.buffer", p));
        let strategy =
            channel.backpressure.as_ref().and_then(|p| self.policy(&at, "channel.backpressure", p));

        let (Some(from), Some(to)) = self.ends[index] else { return None };
        let stage = |i: usize| (at_stage(i, &graph.nodes[i]), &policies[i]);
        let (to_at, consumer) = stage(to);
        let (from_at, producer) = stage(from);
        let source = graph.nodes[from].kind == StageKind::Source;
        let room = own_room(
            at(),
            strategy,
            buffer,
            "channel.backpressure.bounded.capacity",
            "channel.buffer.capacity",
        )
        .or_else(|| stage_room(to_at, consumer))
        .or_else(|| if source { stage_room(from_at, producer) } else { None })
        .unwrap_or_else(|| Room {
            at: at(),
            field: "channel.buffer-size",
            capacity: channel.buffer_size,
            drop_policy: DropPolicy::Block,
            max_bytes: None,
        });
        let backpressure = strategy
            .or(consumer.backpressure)
            .or(if source { producer.backpressure } else { None })
            .filter(|strategy| !matches!(strategy, BackpressureStrategy::Bounded { .. }));
        let (drop_policy, max_bytes) = (room.drop_policy, room.max_bytes);
        let capacity = self.round_up(index, room);
        Some(ResolvedEdge { from, to, capacity, drop_policy, max_bytes, backpressure })
    }

    fn edge_ends(&mut self, index: usize, edge: &Edge) {
        let at = || at_edge(index, edge);
        let (from, to) = self.ends[index];
        if from.is_none() {
            self.errors.push(GraphError::UnknownOrigin { at: at() });
        }
        if to.is_none() {
            self.errors.push(GraphError::UnknownTarget { at: at() });
        }
        if edge.from == edge.to && from.is_some() {
            self.errors.push(GraphError::SelfLoop { at: at() });
        }
        let node = |position: Option<usize>| position.map(|p| &self.graph.nodes[p]);
        let (producer, consumer) = (node(from), node(to));
        if consumer.is_some_and(|node| node.kind == StageKind::Source) {
            self.errors.push(GraphError::SourceWithInput { at: at() });
        }
        let letters = producer.is_some_and(|node| edge.takes_dead_letters(node.kind));
        if producer.is_some_and(|node| node.kind == StageKind::Sink) && !letters {
            self.errors.push(GraphError::SinkWithOutput { at: at() });
        }
        let gives = producer.filter(|_| !letters).and_then(|node| node.out_type.as_ref());
        let takes = consumer.and_then(|node| node.in_type.as_ref());
        if let (Some(gives), Some(takes)) = (gives, takes)
            && gives != takes
        {
            let (gives, takes) = (gives.clone(), takes.clone());
            self.errors.push(GraphError::TypeMismatch { at: at(), gives, takes });
        }
    }

    /// The power of two an edge holds. A capacity that is wrong by itself was reported where it stands.
    fn round_up(&mut self, index: usize, room: Room) -> u64 {
        let Room { at, field, capacity, .. } = room;
        if !(1..=MAX_CAPACITY).contains(&capacity) {
            return capacity;
        }
        let holds = capacity.next_power_of_two();
        let item_bytes = self.context.item_bytes.get(index).copied().flatten().unwrap_or(1);
        let fits = usize::try_from(holds)
            .ok()
            .and_then(|items| items.checked_mul(item_bytes))
            .is_some_and(|bytes| isize::try_from(bytes).is_ok());
        if !fits {
            let (at, field) = (at_edge(index, &self.graph.edges[index]), field.to_owned());
            self.errors.push(GraphError::CapacityBytesOverflow { at, field, capacity, item_bytes });
        } else if holds != capacity {
            let once = match &at {
                At::Stage { id, .. } => self.rounded.insert((id.clone(), field)),
                At::Edge { .. } => true,
            };
            if once {
                self.warnings.push(Warning::RoundedUp { at, field: field.into(), asked: capacity, holds });
            }
        }
        holds
    }

    fn duplicate_edges(&mut self) {
        let mut seen: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
        let mut outputs: HashMap<(&str, &str), usize> = HashMap::new();
        for (index, edge) in self.graph.edges.iter().enumerate() {
            let label = edge.label.as_deref();
            if let Some(&first) = seen.get(&(&edge.from, &edge.to, label)) {
                self.again[index] = true;
                self.errors.push(GraphError::DuplicateEdge { at: at_edge(index, edge), first });
                continue;
            }
            seen.insert((&edge.from, &edge.to, label), index);
            let producer = self.ends[index].0.map(|p| self.graph.nodes[p].kind);
            let once = |kind| kind == StageKind::Branch || edge.takes_dead_letters(kind);
            if let (true, Some(label)) = (producer.is_some_and(once), label) {
                if let Some(&first) = outputs.get(&(edge.from.as_str(), label)) {
                    let (at, label) = (at_edge(index, edge), label.to_owned());
                    self.errors.push(GraphError::DuplicateLabel { at, label, first });
                } else {
                    outputs.insert((&edge.from, label), index);
                }
            }
        }
    }

    /// Inputs and outputs of each stage. Edges that are wrong by themselves do not count twice: one that stands
    /// twice counts once, one to itself not at all, and one with an unknown other end counts.
    fn degrees(&mut self) {
        let mut inputs = vec![0; self.graph.nodes.len()];
        let mut outputs = vec![0; self.graph.nodes.len()];
        for (index, &(from, to)) in self.ends.iter().enumerate() {
            if self.again[index] || (from == to && from.is_some()) {
                continue;
            }
            if let Some(from) = from
                && !self.graph.edges[index].takes_dead_letters(self.graph.nodes[from].kind)
            {
                outputs[from] += 1;
            }
            if let Some(to) = to {
                inputs[to] += 1;
            }
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if self.repeated[index] {
                continue;
            }
            let (at, kind) = (|| at_stage(index, node), node.kind);
            match (kind, inputs[index]) {
                (StageKind::Source, _) => {}
                (_, 0) => self.errors.push(GraphError::NoInput { at: at(), kind }),
                (StageKind::Merge, _) | (_, 1) => {}
                (_, inputs) => self.errors.push(GraphError::SeveralInputs { at: at(), kind, inputs }),
            }
            match (kind, outputs[index]) {
                (StageKind::Sink, _) => {}
                (_, 0) => self.errors.push(GraphError::NoOutput { at: at(), kind }),
                (StageKind::Branch, _) | (_, 1) => {}
                (_, outputs) => self.errors.push(GraphError::SeveralOutputs { at: at(), kind, outputs }),
            }
        }
    }

    fn order(&mut self) -> Vec<usize> {
        let known: Vec<_> =
            self.ends.iter().filter_map(|&(from, to)| from.zip(to)).filter(|(from, to)| from != to).collect();
        let successors = Successors::new(self.graph.nodes.len(), &known);
        let order = forward(&successors);
        if order.len() < self.graph.nodes.len() {
            for cycle in cycles(&successors) {
                let stages = cycle.into_iter().map(|i| self.graph.nodes[i].id.clone()).collect();
                self.errors.push(GraphError::Cycle { stages });
            }
        }
        order
    }
}

fn at_stage(index: usize, node: &StageNode) -> At {
    At::Stage { index, id: node.id.clone() }
}

pub(super) fn at_edge(index: usize, edge: &Edge) -> At {
    At::Edge { index, from: edge.from.clone(), to: edge.to.clone(), label: edge.label.clone() }
}

fn stage_room(at: At, policies: &StagePolicies) -> Option<Room> {
    own_room(at, policies.backpressure, policies.buffer, "backpressure.bounded.capacity", "buffer.capacity")
}

/// The bound said in one place: that of the strategy goes before that of the buffer.
fn own_room(
    at: At,
    strategy: Option<BackpressureStrategy>,
    buffer: Option<BufferPolicy>,
    strategy_field: &'static str,
    buffer_field: &'static str,
) -> Option<Room> {
    match (strategy, buffer) {
        (Some(BackpressureStrategy::Bounded { capacity, drop_policy }), _) => {
            let max_bytes = buffer.and_then(|buffer| buffer.max_bytes);
            Some(Room { at, field: strategy_field, capacity, drop_policy, max_bytes })
        }
        (_, Some(BufferPolicy { capacity, drop_policy, max_bytes })) => {
            Some(Room { at, field: buffer_field, capacity, drop_policy, max_bytes })
        }
        _ => None,
    }
}

fn resolved_stages(
    graph: &PipelineGraph,
    policies: Vec<StagePolicies>,
    edges: &[Option<ResolvedEdge>],
) -> Vec<ResolvedStage> {
    let mut stages: Vec<ResolvedStage> = graph
        .nodes
        .iter()
        .zip(policies)
        .filter_map(|(node, policies)| {
            Some(ResolvedStage {
                id: StageId::new(&node.id).ok()?,
                error_policy: policies.error?,
                circuit_breaker: policies.breaker,
                inputs: Vec::new(),
                outputs: Vec::new(),
                dead_letters: None,
            })
        })
        .collect();
    for (index, edge) in edges.iter().enumerate() {
        if let Some(edge) = edge {
            stages[edge.from].outputs.push(index);
            if graph.edges[index].takes_dead_letters(graph.nodes[edge.from].kind) {
                stages[edge.from].dead_letters = Some(index);
            }
            stages[edge.to].inputs.push(index);
        }
    }
    stages
}
