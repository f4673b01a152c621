//! From a plan and typed segments to partition blueprints.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::blueprint::{ChainBlueprint, Ends, ErasedBlueprint, OutletBlueprint};
use super::draft::{Erased, Taps};
use super::merge::AssembleInto;
use super::segment::Segment;
use crate::model::StageId;
use crate::observe::PartitionCells;
use crate::partition::{
    Control, CostOf, Demand, DropHook, EdgeCells, EdgeControl, EdgePolicy, Inlet, InletCells, InletRing,
    InletTask, MergePolicy, OutletCells, PartitionBlueprint, Sender, Senders, Spread, TaskBlueprint,
};
use crate::plan::{Carriage, EdgePlan, Plan};
use crate::ring::ring;
use crate::stage::{StageError, StageSite};
use crate::sync::Doorbell;

/// The stage that could not be built, and why.
pub type BuildError = (StageId, StageError);

/// Where a branch or a merge goes on: found again when the parts of a pipeline are put together.
pub(super) type Port = usize;

/// The counters of one edge of a running pipeline.
#[derive(Clone)]
pub struct EdgeWires {
    /// Index into the graph's edges.
    pub edge: usize,
    /// What both ends share; `None` for a fused edge, which is a call and not a ring and has no counters of its own.
    pub control: Option<Arc<EdgeControl>>,
    /// Bytes of one item's type.
    pub item_bytes: u64,
    /// Whether items are weighed, so that the ends count bytes.
    pub weighed: bool,
    /// One for each producing instance.
    pub outlets: Vec<Arc<OutletCells>>,
    /// One for each ring.
    pub inlets: Vec<Arc<InletCells>>,
}

impl EdgeWires {
    /// Whether the edge is a call.
    pub fn is_fused(&self) -> bool {
        self.control.is_none()
    }

    /// The sum of its counters now.
    pub fn read(&self) -> EdgeCells {
        let mut sum = EdgeCells::default();
        self.outlets.iter().for_each(|o| o.add_to(&mut sum));
        self.inlets.iter().for_each(|i| i.add_to(&mut sum));
        sum
    }
}

/// What a pipeline is built into: partitions to send to their cores, and what the handle reads.
pub struct Assembled {
    /// One for each partition, in order.
    pub partitions: Vec<PartitionBlueprint>,
    /// The sites of each node's instances.
    pub sites: Vec<Arc<[StageSite]>>,
    /// Counters of each edge, in the order of the graph's edges.
    pub edges: Vec<EdgeWires>,
    /// Shared by all partitions and the handle.
    pub control: Arc<Control>,
}

/// Puts a pipeline together, from its sinks upstream.
pub struct Assembly {
    plan: Plan,
    /// For each edge, the nodes it leads from and to.
    ends: Vec<(usize, usize)>,
    sites: Vec<Arc<[StageSite]>>,
    tasks: Vec<Vec<TaskBlueprint>>,
    ports: HashMap<Port, Box<dyn Any>>,
    edges: Vec<EdgeWires>,
    taps: Vec<Taps>,
    doorbells: Vec<Arc<Doorbell>>,
    /// Where each partition publishes what it counts of its steps.
    pulses: Vec<Arc<PartitionCells>>,
    errors: Vec<BuildError>,
}

/// Both ends of an edge's rings.
struct Rings<T> {
    ends: Ends<T>,
    /// For each consuming instance, one input for each producing instance that reaches it.
    inputs: Vec<Vec<InletRing<T>>>,
}

/// The typed function that was kept without its type.
fn typed<F: Clone + 'static>(erased: &Option<Erased>) -> Option<F> {
    erased.as_ref().and_then(|erased| erased.downcast_ref::<F>()).cloned()
}

impl Assembly {
    /// Starts with nothing assembled. `sites` are the instances of each node of the planned graph, `taps` belong to its
    /// edges, `doorbells` and `pulses` to its partitions.
    pub(super) fn new(
        plan: Plan,
        ends: Vec<(usize, usize)>,
        sites: Vec<Arc<[StageSite]>>,
        taps: Vec<Taps>,
        doorbells: Vec<Arc<Doorbell>>,
        pulses: Vec<Arc<PartitionCells>>,
    ) -> Self {
        let wires = |edge| EdgeWires {
            edge,
            control: None,
            item_bytes: 0,
            weighed: false,
            outlets: Vec::new(),
            inlets: Vec::new(),
        };
        Self {
            edges: (0..plan.edges.len()).map(wires).collect(),
            tasks: (0..plan.partitions).map(|_| Vec::new()).collect(),
            plan,
            ends,
            sites,
            ports: HashMap::new(),
            taps,
            doorbells,
            pulses,
            errors: Vec::new(),
        }
    }

    /// The blueprints, if nothing went wrong.
    pub(crate) fn finish(self, control: Arc<Control>) -> Result<Assembled, Vec<BuildError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let mut pulses = self.pulses.into_iter();
        let blueprint = |(index, (mut tasks, doorbell)): (usize, (Vec<TaskBlueprint>, Arc<Doorbell>))| {
            // Assembled from the sinks upstream, stepped from the sources downstream.
            tasks.reverse();
            control.add_doorbell(Arc::clone(&doorbell));
            let cells = pulses.next().unwrap_or_default();
            PartitionBlueprint { index, tasks, control: Arc::clone(&control), doorbell, cells, home: None }
        };
        let partitions = self.tasks.into_iter().zip(self.doorbells).enumerate().map(blueprint).collect();
        Ok(Assembled { partitions, sites: self.sites, edges: self.edges, control })
    }

    pub(super) fn sites(&self, node: usize) -> Arc<[StageSite]> {
        Arc::clone(&self.sites[node])
    }

    /// Adds a task for each instance of `node`, made by `task`.
    pub(super) fn add_tasks(&mut self, node: usize, mut task: impl FnMut(usize) -> TaskBlueprint) {
        for (instance, &partition) in self.plan.instances[node].iter().enumerate() {
            self.tasks[partition].push(task(instance));
        }
    }

    /// Puts `up` in front of `head`, the chain of the stage that `edge` leads to.
    pub(super) fn connect<P: Segment, B: ChainBlueprint<P::Item>>(&mut self, edge: usize, up: P, head: B) {
        let head = up.head(head, &self.sites(self.ends[edge].1));
        if self.plan.edges[edge].carriage == Carriage::Fused {
            return up.assemble(self, head);
        }
        if let Some(outlet) = self.cut(edge, head) {
            up.assemble(self, outlet);
        }
    }

    /// As [`connect`](Self::connect), over an edge keyed by `hash`.
    pub(super) fn connect_keyed<P, B, H>(&mut self, edge: usize, up: P, hash: H, head: B)
    where
        P: Segment,
        B: ChainBlueprint<P::Item>,
        H: FnMut(&P::Item) -> u64 + Clone + Send + 'static,
    {
        let head = up.head(head, &self.sites(self.ends[edge].1));
        match self.plan.edges[edge].carriage {
            Carriage::Fused => up.assemble(self, head),
            Carriage::Exchange => {
                if let Some(outlet) = self.cut(edge, head) {
                    up.assemble(self, outlet.by_key(hash));
                }
            }
            _ => {
                if let Some(outlet) = self.cut(edge, head) {
                    up.assemble(self, outlet);
                }
            }
        }
    }

    /// Makes `edge` a set of rings: the consuming tasks are added, the producing end is returned.
    fn cut<T: Send + 'static, B: ChainBlueprint<T>>(
        &mut self,
        edge: usize,
        head: B,
    ) -> Option<OutletBlueprint<T>> {
        let (outlet, inputs) = self.rings::<T>(edge)?;
        let to = self.ends[edge].1;
        let turns = self.plan.edges[edge].restores_order;
        let mut inputs = inputs.into_iter();
        let sites = self.sites(to);
        self.add_tasks(to, |instance| {
            let inputs = inputs.next().unwrap_or_default();
            let (head, site) = (head.clone(), sites[instance].clone());
            Box::new(move || {
                let policy = if turns { MergePolicy::Turns } else { MergePolicy::Fair };
                Ok(Box::new(InletTask::new(Inlet::new(inputs, policy), head.build(instance)?, &site)) as _)
            })
        });
        Some(outlet)
    }

    /// Makes the tasks of `node`, which reads the rings of several edges, and then what is upstream of each: `task` is
    /// given the rings of an instance.
    pub(super) fn gather<T: Send + 'static>(
        &mut self,
        node: usize,
        parts: Vec<(usize, AssembleInto<T>)>,
        mut task: impl FnMut(usize, Vec<InletRing<T>>) -> TaskBlueprint,
    ) {
        let mut rings: Vec<Vec<_>> = self.plan.instances[node].iter().map(|_| Vec::new()).collect();
        let mut outlets = Vec::new();
        for (edge, assemble) in parts {
            let Some((outlet, inputs)) = self.rings::<T>(edge) else { return };
            rings.iter_mut().zip(inputs).for_each(|(all, some)| all.extend(some));
            outlets.push((assemble, outlet));
        }
        let mut rings = rings.into_iter();
        self.add_tasks(node, |instance| task(instance, rings.next().unwrap_or_default()));
        for (assemble, outlet) in outlets {
            assemble(self, outlet);
        }
    }

    /// Makes the rings of `edge`: the producing end, and each consuming instance's inputs.
    #[expect(clippy::type_complexity, reason = "two halves of one thing, taken apart at once")]
    pub(super) fn rings<T: Send + 'static>(
        &mut self,
        edge: usize,
    ) -> Option<(OutletBlueprint<T>, Vec<Vec<InletRing<T>>>)> {
        let (from, to) = self.ends[edge];
        match self.make_rings(edge, from, to) {
            Ok(Rings { ends, inputs }) => {
                let spread = match self.plan.edges[edge].carriage {
                    Carriage::Balance => Spread::Balance,
                    Carriage::Turns => Spread::Turns,
                    _ => Spread::Forward,
                };
                Some((OutletBlueprint { ends, spread, sites: self.sites(to) }, inputs))
            }
            Err(error) => {
                let stage = self.sites[to][0].context.stage_id.clone();
                self.errors.push((stage, StageError::User(Box::new(error))));
                None
            }
        }
    }

    fn make_rings<T: Send + 'static>(
        &mut self,
        edge: usize,
        from: usize,
        to: usize,
    ) -> Result<Rings<T>, crate::ring::RingError> {
        let cost = typed::<CostOf<T>>(&self.taps[edge].cost);
        let on_drop = typed::<DropHook<T>>(&self.taps[edge].on_drop);
        let control = self.control::<T>(edge, from, to, cost.is_some());
        let slots = usize::try_from(self.plan.edges[edge].capacity).unwrap_or(usize::MAX);
        let (n, m) = (self.plan.instances[from].len(), self.plan.instances[to].len());
        let pairwise = self.plan.edges[edge].carriage == Carriage::Forward && n == m;
        let mut inputs: Vec<Vec<_>> = (0..m).map(|_| Vec::new()).collect();
        let mut ends = Vec::with_capacity(n);
        for i in 0..n {
            let mut senders = Vec::new();
            for (j, input) in inputs.iter_mut().enumerate() {
                if pairwise && i != j {
                    continue;
                }
                let (mut producer, mut consumer) = ring::<T>(slots)?;
                let (home, away) = (self.plan.instances[from][i], self.plan.instances[to][j]);
                if home != away {
                    producer.attach_doorbell(Arc::clone(&self.doorbells[away]));
                    consumer.attach_doorbell(Arc::clone(&self.doorbells[home]));
                }
                let cells = Arc::new(InletCells::default());
                self.edges[edge].inlets.push(Arc::clone(&cells));
                input.push(InletRing { ring: consumer, cells, edge: Arc::clone(&control) });
                let edge = Arc::clone(&control);
                senders.push(Sender::new(producer, edge, cost.clone(), on_drop.clone()));
            }
            let cells = Arc::new(OutletCells::default());
            self.edges[edge].outlets.push(Arc::clone(&cells));
            ends.push(Some(Senders::new(senders, Arc::clone(&control), cells)));
        }
        Ok(Rings { ends: Arc::new(Mutex::new(ends)), inputs })
    }

    /// What both ends of `edge` share.
    fn control<T>(&mut self, edge: usize, from: usize, to: usize, costed: bool) -> Arc<EdgeControl> {
        let EdgePlan { capacity, drop_policy, max_bytes, backpressure, .. } = self.plan.edges[edge];
        let id = |node: usize| self.sites[node][0].context.stage_id.clone();
        let item_bytes = size_of::<T>() as u64;
        // Without a cost every item counts the same: then the bound in bytes is one in items.
        let most = max_bytes.filter(|_| !costed && item_bytes > 0).map(|bytes| (bytes / item_bytes).max(1));
        let policy = EdgePolicy {
            capacity: capacity.min(most.unwrap_or(u64::MAX)),
            drop_policy,
            max_bytes,
            strategy: backpressure,
        };
        let demand = self.taps[edge].demand.clone();
        let control = Arc::new(EdgeControl::new(id(from), id(to), policy, capacity, demand.clone()));
        for &partition in self.plan.instances[from].iter().chain(&self.plan.instances[to]) {
            control.attach(&self.doorbells[partition]);
        }
        for &partition in &self.plan.instances[to] {
            demand.iter().for_each(|demand: &Demand| demand.attach(Arc::clone(&self.doorbells[partition])));
        }
        let wires = &mut self.edges[edge];
        (wires.item_bytes, wires.weighed) = (item_bytes, costed && max_bytes.is_some());
        wires.control = Some(Arc::clone(&control));
        control
    }

    /// Leaves what follows `port` for the branch or merge that feeds it.
    pub(super) fn leave<T: Send + 'static, B: ChainBlueprint<T>>(&mut self, port: Port, down: B) {
        let erased: Box<dyn ErasedBlueprint<T>> = Box::new(down);
        self.ports.insert(port, Box::new(erased));
    }

    /// Fetches what was left at `port`; an error is recorded if nothing was (its stage then could not be built).
    pub(super) fn fetch<T: Send + 'static>(&mut self, port: Port) -> Option<Box<dyn ErasedBlueprint<T>>> {
        let erased = self.ports.remove(&port)?;
        erased.downcast::<Box<dyn ErasedBlueprint<T>>>().ok().map(|b| *b)
    }
}

/// A result that sinks of several instances push to and the user reads when the pipeline has ended.
#[derive(Debug)]
pub struct Collected<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Collected<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    pub(super) fn shared(&self) -> Arc<Mutex<Vec<T>>> {
        Arc::clone(&self.0)
    }

    /// Takes what has been handed over so far: everything, once the pipeline has ended. Items of one instance are in
    /// order; instances follow one another in the order in which they ended.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
