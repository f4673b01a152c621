//! From a checked pipeline to partitions and something that watches them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resources::{Means, MemoryTooSmall, Shares};
use crate::flow::{Assembled, BuildError, EdgeWires, Pipeline};
use crate::graph::{PipelineGraph, StageNode, ValidatedGraph};
use crate::model::{StageId, StageKind};
use crate::observe::{
    Account, CallClock, EdgeAccount, InstanceState, LimitedLogger, Logger, MemoryHolder, MemoryPoolStats,
    MemoryUse, Metrics, NoMetrics, NoTracer, Outcome, PartitionCells, PipelinePhase, PipelineResult,
    PipelineState, RunTimes, StageAccount, StageCells, StageContext, StageRuntimeState, StageState, Tracer,
    TracingLogger,
};
use crate::partition::{Control, EdgeCells, PartitionBlueprint, Phase};
use crate::plan::{Plan, PlanError, plan};
use crate::pool::MemoryPool;
use crate::ring::RingError;
use crate::shard::{ShardControl, Shards, seats};
use crate::stage::{Resources, SourcePause, StageError, StageSite};
use crate::sync::Doorbell;
use crate::topology::Placement;

/// What stages are told of the world.
#[derive(Clone)]
pub struct Environment {
    /// Where stages write messages.
    pub logger: Arc<dyn Logger>,
    /// Where stages record spans.
    pub tracer: Arc<dyn Tracer>,
    /// Where stages record measurements.
    pub metrics: Arc<dyn Metrics>,
    /// What stages rent buffers from.
    pub memory_pool: MemoryPool,
}

impl Default for Environment {
    /// Messages go to the `tracing` crate, the rest nowhere.
    fn default() -> Self {
        Self {
            logger: Arc::new(TracingLogger),
            tracer: Arc::new(NoTracer),
            metrics: Arc::new(NoMetrics),
            memory_pool: MemoryPool::default(),
        }
    }
}

/// Why a checked pipeline cannot start as placed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The plan.
    #[error("the graph cannot run as placed: {}", list(.0))]
    Plan(Vec<PlanError>),
    /// The memory budget.
    #[error(transparent)]
    Memory(MemoryTooSmall),
    /// An edge whose rings cannot be made.
    #[error("{}", .0.iter().map(|(stage, error)| format!("stage {stage}: {error}")).collect::<Vec<_>>().join("; "))]
    Assembly(Vec<BuildError>),
}

fn list(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A pipeline ready to be driven.
pub(crate) struct Launch {
    pub(crate) partitions: Vec<PartitionBlueprint>,
    pub(crate) monitor: Monitor,
    /// What [`Plan::slots_of_a_step`](crate::plan::Plan::slots_of_a_step) says of each partition.
    pub(crate) slots: Vec<Option<u64>>,
}

/// Finds what would keep `pipeline` from being prepared on `placement`, within `memory` bytes if that is given.
pub(crate) fn check(
    pipeline: &Pipeline,
    placement: &Placement,
    memory: Option<u64>,
    pool: &MemoryPool,
) -> Result<(), LaunchError> {
    let graph = pipeline.validated();
    let plan = plan(graph, placement).map_err(LaunchError::Plan)?;
    let means = Means { memory, disks: None };
    Shares::new(graph, &plan, pipeline.item_bytes(), &means, pool.options().limit_bytes).map(drop)
}

/// Plans and assembles `pipeline` on `placement`; stages time their calls by `clock`.
pub(crate) fn prepare(
    pipeline: Pipeline,
    placement: &Placement,
    environment: &Environment,
    clock: Arc<dyn CallClock>,
    means: &Means,
) -> Result<Launch, LaunchError> {
    let graph = pipeline.validated().clone();
    let plan = plan(&graph, placement).map_err(LaunchError::Plan)?;
    let doorbells: Vec<Arc<Doorbell>> = (0..plan.partitions).map(|_| Arc::new(Doorbell::new())).collect();
    let pulses: Vec<Arc<PartitionCells>> = (0..plan.partitions).map(|_| Arc::default()).collect();
    let pool_limit = environment.memory_pool.options().limit_bytes;
    let shares = Shares::new(&graph, &plan, pipeline.item_bytes(), means, pool_limit)?;
    let mut environment = environment.clone();
    if let Some(bytes) = shares.pool {
        environment.memory_pool = environment.memory_pool.limited_to(bytes);
    }
    let memory = MemoryPlan {
        budget: means.memory,
        rings: shares.rings,
        item_bytes: pipeline.item_bytes().iter().map(|bytes| bytes.unwrap_or(0) as u64).collect(),
    };
    let control = Control::new(environment.memory_pool.clone());
    let seams = (&clock, control.source_pause());
    let sites = sites(&graph, &plan, (&doorbells, &pulses), &environment, seams, &shares.state)?;
    let ends = graph.edges().iter().map(|edge| (edge.from, edge.to)).collect();
    let places = plan.instances.clone().into();
    let slots = plan.slots_of_a_step(&graph);
    let assembled = pipeline.assemble(plan, sites, doorbells, pulses.clone(), control);
    let Assembled { partitions, sites, edges, control } = assembled.map_err(LaunchError::Assembly)?;
    let ids = graph.stages().iter().map(|stage| stage.id.clone()).collect();
    let monitor = Monitor {
        graph: Arc::new(graph),
        ids,
        ends,
        places,
        sites: sites.into(),
        edges: edges.into(),
        pulses: pulses.into(),
        clock,
        memory: Arc::new(memory),
        control,
    };
    Ok(Launch { partitions, monitor, slots })
}

fn sites(
    graph: &ValidatedGraph,
    plan: &Plan,
    (doorbells, pulses): (&[Arc<Doorbell>], &[Arc<PartitionCells>]),
    environment: &Environment,
    (clock, source_pause): (&Arc<dyn CallClock>, &Arc<SourcePause>),
    state: &Resources,
) -> Result<Vec<Arc<[StageSite]>>, LaunchError> {
    let pipeline_id: Arc<str> = graph.graph().id.as_deref().unwrap_or_default().into();
    let mut all = Vec::with_capacity(graph.stages().len());
    for ((stage, node), places) in graph.stages().iter().zip(&graph.graph().nodes).zip(&plan.instances) {
        let keyed = node.kind == StageKind::Accumulator;
        let shards = shards(node, places, doorbells).map_err(|error| {
            LaunchError::Assembly(vec![(stage.id.clone(), StageError::User(Box::new(error)))])
        })?;
        let site = |(instance, &partition): (usize, &usize)| {
            let cells = Arc::new(StageCells::default());
            let (logger, pulse) = (Arc::clone(&environment.logger), Arc::clone(&pulses[partition]));
            StageSite {
                context: StageContext {
                    pipeline_id: Arc::clone(&pipeline_id),
                    stage_id: stage.id.clone(),
                    instance,
                    partition,
                    parallelism: places.len(),
                    logger: Arc::new(LimitedLogger::new(logger, pulse, Arc::clone(&cells))),
                    tracer: Arc::clone(&environment.tracer),
                    metrics: Arc::clone(&environment.metrics),
                },
                error_policy: stage.error_policy,
                circuit_breaker: stage.circuit_breaker,
                dead_letters: stage.dead_letters.is_some(),
                clock: Arc::clone(clock),
                source_pause: Arc::clone(source_pause),
                cells,
                doorbell: Arc::clone(&doorbells[partition]),
                resources: if keyed { state.clone() } else { Resources::default() },
                memory_pool: environment.memory_pool.clone(),
                shards: shards.get(instance).cloned(),
            }
        };
        all.push(places.iter().enumerate().map(site).collect());
    }
    Ok(all)
}

/// What each instance of `node` is told of its shards; nothing where none move.
fn shards(node: &StageNode, places: &[usize], doorbells: &[Arc<Doorbell>]) -> Result<Vec<Shards>, RingError> {
    let Some(policy) = node.rebalance.filter(|_| places.len() > 1) else { return Ok(Vec::new()) };
    let control = Arc::new(ShardControl::new(policy, places.len(), doorbells.to_vec()));
    let bells: Vec<_> = places.iter().map(|&partition| Arc::clone(&doorbells[partition])).collect();
    seats(&control, &bells)
}

/// Reads a running pipeline's counters, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    graph: Arc<ValidatedGraph>,
    pub(super) ids: Arc<[StageId]>,
    /// For each edge, the stages it leads from and to.
    pub(super) ends: Arc<[(usize, usize)]>,
    /// For each stage, the partition of each of its instances.
    places: Arc<[Vec<usize>]>,
    sites: Arc<[Arc<[StageSite]>]>,
    pub(super) edges: Arc<[EdgeWires]>,
    memory: Arc<MemoryPlan>,
    pulses: Arc<[Arc<PartitionCells>]>,
    /// What partitions are stepped by.
    clock: Arc<dyn CallClock>,
    control: Arc<Control>,
}

/// What is known about memory before the start.
struct MemoryPlan {
    budget: Option<u64>,
    /// Bytes of the rings of each edge.
    rings: Vec<u64>,
    /// Bytes of one item of each edge.
    item_bytes: Vec<u64>,
}

impl Monitor {
    /// The graph that runs.
    pub fn graph(&self) -> &PipelineGraph {
        self.graph.graph()
    }

    /// For each stage, the cells of its instances.
    pub(super) fn instance_cells(&self) -> impl Iterator<Item = impl Iterator<Item = &StageCells>> {
        self.sites.iter().map(|sites| sites.iter().map(|site| &*site.cells))
    }

    pub(super) fn partition_cells(&self) -> impl Iterator<Item = &PartitionCells> {
        self.pulses.iter().map(|cells| &**cells)
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// What has been counted so far. Counters are published every few steps and by every idle partition, each on its
    /// own: only after the end do they close.
    pub fn account(&self) -> Account {
        let mut account = Account::default();
        for (sites, id) in self.sites.iter().zip(&*self.ids) {
            let mut sum = StageAccount::default();
            sites.iter().for_each(|site| sum.add(&site.cells.read()));
            account.stages.insert(id.clone(), sum);
        }
        for (wires, (from, to)) in self.edges.iter().zip(&*self.ends) {
            let (from, to) = (self.ids[*from].clone(), self.ids[*to].clone());
            account.edges.push(if wires.is_fused() {
                let items = account.stages.get(&to).map_or(0, |stage| stage.received);
                EdgeAccount::fused(from, to, items)
            } else {
                edge_account(from, to, &wires.read())
            });
        }
        account
    }

    /// Who holds how much memory. As up to date as [`account`](Self::account).
    pub fn memory(&self) -> MemoryUse {
        let mut holders = Vec::new();
        let plan = &self.memory;
        let per_edge = plan.rings.iter().zip(&plan.item_bytes);
        for ((wires, (from, to)), (rings, item)) in self.edges.iter().zip(&*self.ends).zip(per_edge) {
            let (from, to) = (self.ids[*from].clone(), self.ids[*to].clone());
            let staged = wires.read().staged.saturating_mul(*item);
            holders.push((MemoryHolder::Rings { from: from.clone(), to: to.clone() }, *rings));
            holders.push((MemoryHolder::Staging { from, to }, staged));
        }
        for (sites, id) in self.sites.iter().zip(&*self.ids) {
            let bytes = sites.iter().map(|site| site.cells.read().state_bytes).sum();
            holders.push((MemoryHolder::State(id.clone()), bytes));
        }
        holders.push((MemoryHolder::Pool, self.pool_statistics().total_allocated));
        holders.retain(|(_, bytes)| *bytes > 0);
        MemoryUse { budget: plan.budget, holders }
    }

    /// What the pipeline's cores have allocated and rented from its memory pool.
    pub fn pool_statistics(&self) -> MemoryPoolStats {
        self.control.pool_statistics()
    }

    /// What stage `id` is doing, or `None` if there is no such stage. Reads what has been published; no partition waits for
    /// it.
    pub fn inspect(&self, id: &str) -> Option<StageRuntimeState> {
        Some(self.stage_state(self.ids.iter().position(|name| name.as_str() == id)?))
    }

    /// What every stage and partition is doing, and the account so far. Reads what has been published; no partition waits
    /// for it.
    pub fn inspect_all(&self) -> PipelineState {
        let (partitions, now) = (self.pulses.iter().enumerate(), self.clock.nanos());
        PipelineState {
            pipeline_id: self.graph().id.clone().unwrap_or_default(),
            phase: match self.control.phase() {
                Phase::Running => PipelinePhase::Running,
                Phase::Draining => PipelinePhase::Draining,
                Phase::Stopping => PipelinePhase::Stopping,
            },
            failure: self.control.failure().map(|failure| failure.to_string()),
            stages: (0..self.ids.len()).map(|index| self.stage_state(index)).collect(),
            partitions: partitions.map(|(partition, cells)| cells.read(partition, now)).collect(),
            memory: self.memory(),
            pool: self.pool_statistics(),
            account: self.account(),
        }
    }

    fn stage_state(&self, index: usize) -> StageRuntimeState {
        let depth = |side: &dyn Fn(&(usize, usize)) -> usize| -> u64 {
            let wires = self.edges.iter().zip(&*self.ends).filter(|(_, ends)| side(ends) == index);
            wires.map(|(wires, _)| wires.read()).map(|cells| cells.depth + cells.staged).sum()
        };
        let (input, output) = (depth(&|ends| ends.1), depth(&|ends| ends.0));
        let places = self.places[index].iter().copied();
        let cells = places.zip(self.sites[index].iter().map(|site| &*site.cells));
        let phase = self.control.phase();
        let adjust = |instance: &mut InstanceState| {
            instance.state = match instance.state {
                StageState::Running if phase == Phase::Draining => StageState::Draining,
                StageState::Running if self.pulses[instance.partition].pulse().is_waiting() => {
                    StageState::Waiting
                }
                own => own,
            };
        };
        let mut state = StageRuntimeState::read(self.ids[index].clone(), cells, input, output, adjust);
        let inputs = (0..self.edges.len()).filter(|edge| self.ends[*edge].1 == index);
        state.inputs = inputs.map(|edge| self.edge_state(edge)).collect();
        state.shards = self.shards(index).map(ShardControl::state);
        if self.control.failure().is_some_and(|failure| failure.stage.as_ref() == Some(&state.stage_id)) {
            state.state = StageState::Failed;
        }
        state
    }

    /// The shards of a stage, if they move.
    pub(super) fn shards(&self, index: usize) -> Option<&ShardControl> {
        self.sites[index].first()?.shards.as_ref().map(|shards| &*shards.control)
    }

    /// Every stage, by id; for the result.
    fn states(&self) -> BTreeMap<StageId, StageRuntimeState> {
        let states = (0..self.ids.len()).map(|index| self.stage_state(index));
        states.map(|state| (state.stage_id.clone(), state)).collect()
    }

    /// The result of a pipeline all of whose partitions have been closed.
    pub(crate) fn result(&self, deadline_exceeded: bool, times: RunTimes) -> PipelineResult {
        let mut account = self.account();
        let memory_pool = self.pool_statistics();
        if !self.control.memory_pool().options().buffers_may_outlive {
            account.buffers_left = memory_pool.rented_buffers;
        }
        let outcome = match (self.control.failure(), self.control.phase()) {
            (Some(failure), _) => Outcome::Failed { stage: failure.stage, error: failure.error },
            (None, Phase::Stopping) if deadline_exceeded => {
                Outcome::DeadlineExceeded { left: left(&account) }
            }
            (None, Phase::Stopping) => Outcome::Stopped,
            (None, Phase::Draining) => Outcome::Drained,
            (None, Phase::Running) => Outcome::Completed,
        };
        PipelineResult { memory_pool, ..PipelineResult::new(outcome, times, self.states(), account) }
    }
}

/// Items that were not through when the pipeline stopped, by the stage they were in or in front of.
fn left(account: &Account) -> BTreeMap<StageId, u64> {
    let mut left = BTreeMap::<StageId, u64>::new();
    let inside = account
        .stages
        .iter()
        .map(|(id, stage)| (id, stage.discarded + stage.items_open + stage.waiting_retry));
    let in_front = account.edges.iter().map(|edge| (&edge.to, edge.left + edge.staged));
    for (stage, items) in inside.chain(in_front).filter(|(_, items)| *items > 0) {
        *left.entry(stage.clone()).or_default() += items;
    }
    left
}

fn edge_account(from: StageId, to: StageId, cells: &EdgeCells) -> EdgeAccount {
    EdgeAccount {
        from,
        to,
        offered: cells.offered,
        popped: cells.popped,
        dropped_newest: cells.dropped_newest,
        dropped_oldest: cells.dropped_oldest,
        unroutable: cells.unroutable,
        staged: cells.staged,
        left: cells.left,
        depth: cells.depth,
    }
}
