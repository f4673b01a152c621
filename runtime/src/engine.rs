//! Starting pipelines and holding on to them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::driver::{
    Clock, Driver, DriverChoice, EdgeRef, Environment, LaunchError, Means, Meeting, MemoryBinding, Monitor,
    MoveShardsError, NotMovable, Seat, SetPolicyError, SpillDirError, Worker, check, current_affinity,
    most_in_a_step, prepare, refused_cpus,
};
use crate::flow::Pipeline;
use crate::graph::PipelineGraph;
use crate::observe::{
    Account, EdgeRuntimeState, Logger, Metrics, PipelineResult, PipelineState, StageRuntimeState, Tracer,
};
use crate::partition::{Control, Phase};
use crate::policy::{BackpressureStrategy, IdlePolicy};
use crate::pool::MemoryPool;
use crate::shard::{Rebalance, ShardMove};
use crate::sync::{BindError, HomeNode};
use crate::topology::{
    CoreMap, CoreMapErrors, EffectiveIdle, Machine, MachineError, PartitionPlace, Placement, effective_idle,
};

/// Stops every pipeline that was started with it. Clones share one state.
#[derive(Clone, Default)]
pub struct CancellationToken {
    shared: Arc<Mutex<Cancellation>>,
}

#[derive(Default)]
struct Cancellation {
    cancelled: bool,
    pipelines: Vec<Weak<Control>>,
}

impl CancellationToken {
    /// A token that has not been cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the pipelines, now and those started later. Idempotent.
    pub fn cancel(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.cancelled = true;
        shared.pipelines.drain(..).filter_map(|weak| weak.upgrade()).for_each(|c| c.advance(Phase::Stopping));
    }

    /// Whether [`cancel`](Self::cancel) has been called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).cancelled
    }

    fn attach(&self, control: &Arc<Control>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.pipelines.retain(|weak| weak.strong_count() > 0);
        if shared.cancelled {
            control.advance(Phase::Stopping);
        } else {
            shared.pipelines.push(Arc::downgrade(control));
        }
    }
}

/// How a pipeline is run (the contract's `ExecutionOptions`; policies are given to the builder, which checks them).
#[derive(Clone)]
pub struct ExecutionOptions {
    /// Stops the pipeline from outside.
    pub cancellation: CancellationToken,
    /// Where stages record measurements. Default: nowhere.
    pub metrics: Arc<dyn Metrics>,
    /// Where stages record spans. Default: nowhere.
    pub tracer: Arc<dyn Tracer>,
    /// Where messages go. Default: the `tracing` crate.
    pub logger: Arc<dyn Logger>,
    /// What stages rent buffers from; it may serve several pipelines. Default: a pool of its own with the default options.
    pub memory_pool: MemoryPool,
    /// Which driver. Default: automatic.
    pub driver: DriverChoice,
    /// Which stages run on which cores. Default: every stage may use every allowed core.
    pub core_map: CoreMap,
    /// As if there were this many cores; their partitions take turns on the real ones. For more shards than cores.
    /// Default: the real cores.
    pub virtual_cores: Option<u32>,
    /// What partitions do between empty steps. Default: what the core map says for their core.
    pub idle: Option<IdlePolicy>,
    /// Items that a task moves in one step. Up to sixteen times as many where steps of so many take less than eight microseconds, but no more
    /// than a quarter of the smallest ring at either end of which the partition stands; half of it in an exchange by key, which has several.
    pub step_budget: usize,
    /// Bytes of memory that rings, the memory pool and keyed state may take together. At the limit cold keys go to disk where they may, input
    /// waits, and sources that rent wait; the process does not run out of memory on account of them. The pool counts with its limit if
    /// one was set; otherwise it has what the rings leave, and nothing beside keyed state. Default: no limit.
    pub memory_budget: Option<u64>,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        let Environment { logger, tracer, metrics, memory_pool } = Environment::default();
        Self {
            cancellation: CancellationToken::new(),
            metrics,
            tracer,
            logger,
            memory_pool,
            driver: DriverChoice::Auto,
            core_map: CoreMap::default(),
            virtual_cores: None,
            idle: None,
            step_budget: 1024,
            memory_budget: None,
        }
    }
}

/// Why a pipeline did not start. Nothing has run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The operating system does not say which CPUs the process may use.
    #[error("cannot read the CPU affinity of this process: {0}")]
    Affinity(std::io::Error),
    /// The core map does not fit the pipeline or the machine.
    #[error(transparent)]
    CoreMap(#[from] CoreMapErrors),
    /// The graph cannot run as placed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The driver that was asked for cannot run here.
    #[error("the glommio driver cannot run here: {0}")]
    Driver(String),
    /// The spill directory cannot be used.
    #[error(transparent)]
    Spill(#[from] SpillDirError),
    /// The core map says that memory must lie near its cores, and the system does not let it.
    #[error("the core map says @memory=strict, but {0}")]
    Memory(#[from] BindError),
    /// The operating system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The machine that this process runs on, and what of it the process may use: what files and affinity mask say, less the CPUs that a
/// thread cannot in fact be pinned to.
///
/// # Errors
/// The operating system does not say which CPUs the process may use, or none of them is left.
pub fn this_machine() -> Result<Machine, StartError> {
    let machine = Machine::read(Path::new("/"), &current_affinity().map_err(StartError::Affinity)?)?;
    let refused = refused_cpus(&machine.allowed());
    Ok(machine.without(refused)?)
}

/// Runs pipelines. Cheap to make; holds nothing but its options.
#[derive(Clone, Default)]
pub struct Engine {
    options: ExecutionOptions,
}

impl Engine {
    /// An engine with these options.
    pub fn new(options: ExecutionOptions) -> Self {
        Self { options }
    }

    /// Starts `pipeline` and waits for its end.
    ///
    /// # Errors
    /// As [`start`](Self::start). That the pipeline fails later is not an error here but in the result.
    pub fn run(&self, pipeline: Pipeline) -> Result<PipelineResult, StartError> {
        Ok(self.start(pipeline)?.join())
    }

    /// Finds what would keep `pipeline` from starting, and starts nothing: the driver, the core map, the plan and the memory budget.
    /// Returns where its stages would run. A spill directory that cannot be used shows only at the start.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn check(&self, pipeline: &Pipeline) -> Result<Placement, StartError> {
        let options = &self.options;
        options.driver.resolve().map_err(StartError::Driver)?;
        let machine = this_machine()?;
        let placement = self.place(pipeline, &machine)?;
        MemoryBinding::of(&placement, &machine)?;
        check(pipeline, &placement, options.memory_budget, &options.memory_pool)?;
        Ok(placement)
    }

    fn place(&self, pipeline: &Pipeline, machine: &Machine) -> Result<Placement, CoreMapErrors> {
        let (options, stages) = (&self.options, pipeline.stages());
        match options.virtual_cores {
            Some(cores) => Placement::virtual_cores(cores, &machine.allowed(), &options.core_map, &stages),
            None => options.core_map.resolve(machine, &stages),
        }
    }

    /// Starts `pipeline` on its cores and returns at once.
    ///
    /// # Errors
    /// [`StartError`]: nothing has run. A stage that fails while it is built or opened, or a core that cannot be pinned to,
    /// shows in the result of [`Running::join`].
    pub fn start(&self, pipeline: Pipeline) -> Result<Running, StartError> {
        let options = &self.options;
        let driver = options.driver.resolve().map_err(StartError::Driver)?;
        let machine = this_machine()?;
        let placement = self.place(&pipeline, &machine)?;
        let memory = MemoryBinding::of(&placement, &machine)?;
        let environment = Environment {
            logger: Arc::clone(&options.logger),
            tracer: Arc::clone(&options.tracer),
            metrics: Arc::clone(&options.metrics),
            memory_pool: options.memory_pool.clone(),
        };
        let clock = Clock::new();
        let means = Means { memory: options.memory_budget, disks: driver.disks(&pipeline)? };
        let launch = prepare(pipeline, &placement, &environment, Arc::new(clock.clone()), &means)?;
        let control = Arc::clone(launch.monitor.control());
        options.cancellation.attach(&control);
        let meeting = Meeting::new(launch.partitions.len());
        let seats = self.seats(&placement, &machine, memory, &launch.slots);
        let idle = seats.iter().map(|seat| seat.idle).collect();
        let partitions = launch.partitions.into_iter().zip(seats);
        let workers = partitions.map(|(blueprint, seat)| {
            Worker::new(blueprint, seat, clock.clone(), &meeting).holding(means.disks.clone())
        });
        let workers = workers.collect();
        // From here on the partitions hold the disks, and the last one lets go of them.
        drop(means);
        driver.spawn(workers, &control)?;
        Ok(Running {
            monitor: launch.monitor,
            meeting,
            clock,
            placement,
            idle,
            memory,
            driver,
            deadline_exceeded: false,
        })
    }

    fn seats(
        &self,
        placement: &Placement,
        machine: &Machine,
        memory: MemoryBinding,
        slots: &[Option<u64>],
    ) -> Vec<Seat> {
        let homes = memory.homes(placement, machine);
        let budget = self.options.step_budget.max(1);
        let seat = |((place, home), slots): ((&PartitionPlace, Option<HomeNode>), &Option<u64>)| Seat {
            cpu: place.cpu,
            idle: effective_idle(self.options.idle.unwrap_or(place.idle), placement, machine),
            budget,
            most: most_in_a_step(budget, *slots),
            home,
        };
        placement.partitions.iter().zip(homes).zip(slots).map(seat).collect()
    }
}

/// A pipeline that has been started. Dropping it lets the pipeline run on; [`join`](Self::join) waits for its end.
pub struct Running {
    monitor: Monitor,
    meeting: Meeting,
    clock: Clock,
    placement: Placement,
    idle: Vec<EffectiveIdle>,
    memory: MemoryBinding,
    driver: Driver,
    deadline_exceeded: bool,
}

impl Running {
    /// The graph that runs.
    pub fn graph(&self) -> &PipelineGraph {
        self.monitor.graph()
    }

    /// Where it runs.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What each partition does when it has nothing to do: what its policy comes to on this machine.
    pub fn idle(&self) -> &[EffectiveIdle] {
        &self.idle
    }

    /// What has become of the core map's wish for memory near its cores. Where it lies in fact is said by
    /// [`Monitor::held_pages`].
    pub fn memory_binding(&self) -> MemoryBinding {
        self.memory
    }

    /// What drives it.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Reads counters and states; may be kept and used from other threads.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// What stage `id` is doing, or `None` if there is no such stage.
    pub fn inspect(&self, id: &str) -> Option<StageRuntimeState> {
        self.monitor.inspect(id)
    }

    /// What every stage and partition is doing; see [`Monitor::inspect_all`].
    pub fn inspect_all(&self) -> PipelineState {
        self.monitor.inspect_all()
    }

    /// What has been counted so far; see [`Monitor::account`].
    pub fn account(&self) -> Account {
        self.monitor.account()
    }

    /// Changes how an edge makes its producers wait; see [`Monitor::set_policy`].
    ///
    /// # Errors
    /// As there.
    pub fn set_policy<'a>(
        &self,
        edge: impl Into<EdgeRef<'a>>,
        strategy: BackpressureStrategy,
    ) -> Result<(), SetPolicyError> {
        self.monitor.set_policy(edge, strategy)
    }

    /// What an edge is doing; see [`Monitor::inspect_edge`].
    pub fn inspect_edge<'a>(&self, edge: impl Into<EdgeRef<'a>>) -> Option<EdgeRuntimeState> {
        self.monitor.inspect_edge(edge)
    }

    /// Evens out the load of a keyed stage's instances; see [`Monitor::rebalance`].
    ///
    /// # Errors
    /// As there.
    pub fn rebalance(&self, id: &str) -> Result<Rebalance, NotMovable> {
        self.monitor.rebalance(id)
    }

    /// Moves shards of a keyed stage between its instances; see [`Monitor::move_shards`].
    ///
    /// # Errors
    /// As there.
    pub fn move_shards(&self, id: &str, moves: &[ShardMove]) -> Result<u64, MoveShardsError> {
        self.monitor.move_shards(id, moves)
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Ends the pipeline after the current step of each partition; what is in flight is discarded and accounted for. Does
    /// not wait. Idempotent.
    pub fn stop(&self) {
        self.monitor.control().advance(Phase::Stopping);
    }

    /// Ends the sources; everything inside flows out. Does not wait. Idempotent.
    pub fn begin_drain(&self) {
        self.monitor.control().advance(Phase::Draining);
    }

    /// Ends the sources and waits until everything has flowed out, at most `timeout`; what is left then is discarded and
    /// listed by stage in the result. True if it all flowed out in time.
    pub fn drain(&mut self, timeout: Duration) -> bool {
        self.begin_drain();
        let in_time = self.meeting.closed.wait_timeout(timeout);
        if !in_time {
            self.deadline_exceeded = true;
            self.stop();
        }
        in_time
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.meeting.closed.is_complete()
    }

    /// Waits until it has ended or `timeout` has passed. True if it has ended.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.meeting.closed.wait_timeout(timeout)
    }

    /// Waits until it has ended; its result.
    pub fn join(self) -> PipelineResult {
        self.meeting.closed.wait();
        self.monitor.result(self.deadline_exceeded, self.meeting.times(&self.clock))
    }
}
