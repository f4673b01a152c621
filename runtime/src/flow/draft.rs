//! The graph while it is being built.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::assembly::{Assembly, Port};
use crate::graph::{
    ChannelDescriptor, ChannelOrdering, DEAD_LETTERS, Edge, PipelineGraph, StageNode, StageOverrides,
    ValidationContext,
};
use crate::model::{StageId, StageKind};
use crate::partition::Demand;
use crate::policy::{
    AccumulationDescriptor, BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy,
    Parallelism, PolicyRef, RebalancePolicy,
};
use crate::stage::DeadLetter;

/// A typed function whose type the draft does not know.
pub(super) type Erased = Arc<dyn Any + Send + Sync>;

/// What an edge was given in code, beside its policies.
#[derive(Clone, Default)]
pub(super) struct Taps {
    /// A `CostOf` its items.
    pub(super) cost: Option<Erased>,
    /// A `DropHook` for its items.
    pub(super) on_drop: Option<Erased>,
    /// Demand that the user states.
    pub(super) demand: Option<Demand>,
}

/// Puts the last part of a branch of the graph together.
pub(super) type Terminal = Box<dyn FnOnce(&mut Assembly) + Send>;

/// Shared by the builder and its streams.
pub(super) type SharedDraft = Rc<RefCell<Draft>>;

/// Nodes, edges and typed parts, in the order in which they were named.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) graph: PipelineGraph,
    /// What was asked for; `None` takes over from upstream.
    pub(super) parallelism: Vec<Option<Parallelism>>,
    pub(super) terminals: Vec<Terminal>,
    /// Bytes of one item of each node's output.
    out_bytes: Vec<usize>,
    /// Bytes of one item of each edge.
    item_bytes: Vec<Option<usize>>,
    /// What was given to each edge.
    pub(super) taps: Vec<Taps>,
    /// For each node, whether a circuit breaker can keep its calls back.
    makes_calls: Vec<Option<bool>>,
    /// Keyed stages whose state can be written to disk.
    can_spill: Vec<usize>,
    /// Keyed stages whose state can move between instances.
    can_move: Vec<usize>,
    ports: usize,
}

impl Draft {
    /// Adds a stage; its index.
    pub(super) fn node<In, Out>(
        &mut self,
        name: &str,
        kind: StageKind,
        parallelism: Option<Parallelism>,
    ) -> usize {
        let type_of = |wanted: bool, name: &str| wanted.then(|| name.to_owned());
        let node = StageNode {
            in_type: type_of(kind != StageKind::Source, std::any::type_name::<In>()),
            out_type: type_of(kind != StageKind::Sink, std::any::type_name::<Out>()),
            ..StageNode::new(name, kind)
        };
        self.graph.nodes.push(node);
        self.parallelism.push(parallelism);
        self.out_bytes.push(size_of::<Out>());
        self.makes_calls.push(Some(false));
        self.graph.nodes.len() - 1
    }

    /// Adds an edge; its index.
    pub(super) fn edge(&mut self, from: &Origin, to: usize, ordering: ChannelOrdering) -> usize {
        self.graph.edges.push(Edge {
            from: self.graph.nodes[from.node].id.clone(),
            to: self.graph.nodes[to].id.clone(),
            label: from.label.clone(),
            channel: ChannelDescriptor { ordering, ..ChannelDescriptor::default() },
        });
        self.item_bytes.push(Some(from.item_bytes.unwrap_or(self.out_bytes[from.node])));
        self.taps.push(Taps { cost: from.cost.clone(), on_drop: from.on_drop.clone(), demand: None });
        self.graph.edges.len() - 1
    }

    /// Takes note that a circuit breaker can keep the calls of `node` back.
    pub(super) fn makes_calls(&mut self, node: usize) {
        self.makes_calls[node] = Some(true);
    }

    /// What validation should know beside the graph.
    pub(super) fn context(&self, spill_dir: bool) -> ValidationContext {
        ValidationContext {
            spill_dir,
            can_spill: Some(self.can_spill.clone()),
            can_move: Some(self.can_move.clone()),
            makes_calls: self.makes_calls.clone(),
            item_bytes: self.item_bytes.clone(),
            ..ValidationContext::default()
        }
    }

    /// Bytes of one item of each edge; the draft is done with them.
    pub(super) fn take_item_bytes(&mut self) -> Vec<Option<usize>> {
        std::mem::take(&mut self.item_bytes)
    }

    /// States that the accumulator of stage `node` can write its state to disk.
    pub(super) fn can_spill(&mut self, node: usize) {
        self.can_spill.push(node);
    }

    /// States that the state of stage `node` can move between its instances.
    pub(super) fn can_move(&mut self, node: usize) {
        self.can_move.push(node);
    }

    pub(super) fn port(&mut self) -> Port {
        self.ports += 1;
        self.ports - 1
    }

    /// Gives every stage its parallelism: what `overrides` or else the code asks for, or that of the stage before it.
    pub(super) fn settle_parallelism(&mut self, overrides: &BTreeMap<StageId, StageOverrides>) {
        // Nodes stand in the order in which they were named, upstream first.
        for to in 0..self.graph.nodes.len() {
            let id = &self.graph.nodes[to].id;
            let upstream = self.graph.edges.iter().find(|e| e.to == *id).map(|e| e.from.clone());
            let upstream = upstream.and_then(|from| self.graph.nodes[..to].iter().find(|n| n.id == from));
            let inherited = upstream.map(|n| n.parallelism).unwrap_or_default();
            let asked = id.parse().ok().and_then(|id: StageId| overrides.get(&id)?.parallelism);
            let asked = asked.or(self.parallelism[to]);
            self.graph.nodes[to].parallelism = asked.unwrap_or(inherited);
        }
    }
}

/// Where a stream comes from in the graph.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) node: usize,
    /// Which of its outputs it is.
    pub(super) label: Option<String>,
    /// What its items cost: goes along until the type of the items changes.
    pub(super) cost: Option<Erased>,
    /// Told of what the next edge drops.
    pub(super) on_drop: Option<Erased>,
    /// Bytes of one item, if they are not those of the stage's main output.
    pub(super) item_bytes: Option<usize>,
}

impl Origin {
    /// The output of `node`.
    pub(super) fn of(node: usize) -> Self {
        Self { node, label: None, cost: None, on_drop: None, item_bytes: None }
    }

    /// The dead letters of a stage that takes `T`.
    pub(super) fn dead_letters<T>(node: usize) -> Self {
        let item_bytes = Some(size_of::<DeadLetter<T>>());
        Self { label: Some(DEAD_LETTERS.to_owned()), item_bytes, ..Self::of(node) }
    }
}

/// Options of one stage, set by chaining. Everything is data: it shows in the graph and is checked by `build`.
pub struct StageOptions {
    pub(super) draft: SharedDraft,
    pub(super) node: usize,
}

impl StageOptions {
    /// What the stage's failure on an item does. The default fails the pipeline.
    pub fn on_error(&self, policy: ErrorPolicy) -> &Self {
        self.node(|n| n.error_policy = PolicyRef::Inline(policy))
    }

    /// As [`circuit_breaker`](Self::circuit_breaker), by the policy's name in the registry that the pipeline is built with.
    pub fn circuit_breaker_named(&self, name: &str) -> &Self {
        self.node(|n| n.circuit_breaker = Some(PolicyRef::named(name)))
    }

    /// As [`on_error`](Self::on_error), by the policy's name in the registry that the pipeline is built with.
    pub fn on_error_named(&self, name: &str) -> &Self {
        self.node(|n| n.error_policy = PolicyRef::Named(name.to_owned()))
    }

    /// How many instances run. The default is that of the stage before it; sources, merges and sinks have one, keyed
    /// stages one for each core.
    pub fn parallel(&self, parallelism: Parallelism) -> &Self {
        self.draft.borrow_mut().parallelism[self.node] = Some(parallelism);
        self
    }

    /// When the stage is taken out of service.
    pub fn circuit_breaker(&self, policy: CircuitBreakerPolicy) -> &Self {
        self.node(|n| n.circuit_breaker = Some(PolicyRef::Inline(policy)))
    }

    /// Puts a ring of this size and drop policy on every input of the stage, also where it would have been fused.
    pub fn input_buffer(&self, policy: BufferPolicy) -> &Self {
        self.inputs(|c| c.buffer = Some(PolicyRef::Inline(policy)))
    }

    /// As [`input_buffer`](Self::input_buffer), by the policy's name in the registry that the pipeline is built with.
    pub fn input_buffer_named(&self, name: &str) -> &Self {
        self.inputs(|c| c.buffer = Some(PolicyRef::named(name)))
    }

    /// How every input of the stage makes its producer wait. Puts a ring there, also where it would have been fused.
    ///
    /// [`BackpressureStrategy::Bounded`] says the same as a buffer, and goes before it; the other strategies act beside the
    /// buffer's bounds.
    pub fn input_backpressure(&self, strategy: BackpressureStrategy) -> &Self {
        self.inputs(|c| c.backpressure = Some(PolicyRef::Inline(strategy)))
    }

    /// As [`input_backpressure`](Self::input_backpressure), by the strategy's name in the registry that the pipeline is
    /// built with.
    pub fn input_backpressure_named(&self, name: &str) -> &Self {
        self.inputs(|c| c.backpressure = Some(PolicyRef::named(name)))
    }

    /// Only what `demand` asks for reaches the stage: its inputs are pulled ([`BackpressureStrategy::ReactivePull`]), and the
    /// runtime requests nothing by itself. At most one `window_size` of what was asked for waits in each ring.
    pub fn input_demand(&self, demand: &Demand, window_size: u32) -> &Self {
        let mut draft = self.draft.borrow_mut();
        let Draft { graph, taps, .. } = &mut *draft;
        let id = &graph.nodes[self.node].id;
        let inputs = graph.edges.iter().zip(taps).filter(|(edge, _)| edge.to == *id);
        inputs.for_each(|(_, taps)| taps.demand = Some(demand.clone()));
        drop(draft);
        self.input_backpressure(BackpressureStrategy::ReactivePull { window_size })
    }

    /// Puts a ring on every input of the stage, also where it would have been fused.
    pub fn input_cut(&self) -> &Self {
        self.input_buffer(BufferPolicy::default())
    }

    /// The stage sees its input in the order in which it was before the parallel instances upstream.
    pub fn input_ordered(&self) -> &Self {
        self.inputs(|c| c.ordering = ChannelOrdering::Ordered)
    }

    /// For a merge by timestamp or in turns: promises that every input goes on whatever becomes of the others, for instance
    /// because watermarks keep up. The graph is then not refused for a deadlock there; see
    /// [`StageNode::assume_progress`].
    pub fn assume_progress(&self) -> &Self {
        self.node(|n| n.assume_progress = true)
    }

    pub(super) fn accumulation(&self, descriptor: AccumulationDescriptor) -> &Self {
        self.node(|n| n.accumulation = Some(descriptor))
    }

    /// Lets the shards of a keyed stage move between its instances while it runs. For folds by key, and accumulators made with
    /// [`accumulate_movable`](super::Stream::accumulate_movable).
    pub fn rebalanced(&self, policy: RebalancePolicy) -> &Self {
        self.node(|n| n.rebalance = Some(policy))
    }

    fn node(&self, set: impl FnOnce(&mut StageNode)) -> &Self {
        set(&mut self.draft.borrow_mut().graph.nodes[self.node]);
        self
    }

    fn inputs(&self, set: impl Fn(&mut ChannelDescriptor)) -> &Self {
        let mut draft = self.draft.borrow_mut();
        let id = draft.graph.nodes[self.node].id.clone();
        draft.graph.edges.iter_mut().filter(|e| e.to == id).for_each(|e| set(&mut e.channel));
        drop(draft);
        self
    }
}
