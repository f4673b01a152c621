//! The simulation driver: one thread, a seeded scheduler, a virtual clock. Public, so that you can simulate your own graphs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::disk_sim::{DiskFaults, SimDisks};
use super::launch::{Environment, LaunchError, Monitor, prepare};
use super::resources::Means;
use crate::disk::Disks;
use crate::flow::Pipeline;
use crate::model::{Now, Timestamp};
use crate::observe::{CallClock, PipelineResult, RunTimes, VirtualClock};
use crate::partition::{Failure, Partition, Phase, Progress};
use crate::topology::{CoreMap, CoreMapErrors, CpuList, Placement};

/// Rounds in which every partition was stepped, none had work, and no deadline was ahead, after which a run is stuck.
const STUCK_AFTER_ROUNDS: u32 = 64;

/// A pipeline run on one thread in an order drawn from a seed: the same seed gives the same run, step for step.
///
/// Time is virtual: it moves by a random amount with each step, and jumps to the next deadline when there is nothing else
/// to do. Partitions are stepped in random order with random budgets, some are starved for a while, so that rings run
/// full and empty and batches split anywhere.
///
/// ```
/// use corelane::driver::Simulation;
/// use corelane::flow::PipelineBuilder;
///
/// let p = PipelineBuilder::new("count");
/// let out = p.generate("n", 100, |i| i).key_by(|i| i % 7).fold("count", || 0u64, |n, _| *n += 1).collect("out");
/// let report = Simulation::new(42).partitions(3).run(p.build()?)?;
/// assert!(report.result.success);
/// assert_eq!(out.take().iter().map(|(_, n)| n).sum::<u64>(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    partitions: usize,
    budgets: Option<Range<usize>>,
    stop_at: Option<u64>,
    drain_at: Option<u64>,
    step_nanos: Range<u64>,
    wall: WallClock,
    core_map: CoreMap,
    clock: VirtualClock,
    each_step: Option<EachStep>,
    memory: Option<u64>,
    disks: Option<SimDisks>,
}

/// A simulated run before one of its steps.
pub struct SimStep<'a> {
    /// Reads the pipeline's counters and states, and changes policies. Counters are exact: every partition has just
    /// published its own.
    pub monitor: &'a Monitor,
    /// Steps taken so far.
    pub step: u64,
    /// The virtual time.
    pub now: Now,
}

/// What is called before each step.
#[derive(Clone)]
struct EachStep(Arc<dyn Fn(&SimStep<'_>) + Send + Sync>);

impl fmt::Debug for EachStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EachStep")
    }
}

/// The clock on the wall, by monotonic time.
#[derive(Clone)]
struct WallClock(Arc<dyn Fn(i64) -> Timestamp + Send + Sync>);

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// What a simulated run came to.
#[derive(Clone, Debug)]
pub struct SimReport {
    /// As on any driver. The duration is virtual.
    pub result: PipelineResult,
    /// Steps taken.
    pub steps: u64,
    /// A hash over every step: which partition, when, with which budget, and what it found. Equal for equal seeds.
    pub trace_hash: u64,
}

/// Why a simulated run has no result.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// It could not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A stage cannot be placed.
    #[error(transparent)]
    CoreMap(#[from] CoreMapErrors),
    /// Nothing moved any more, nothing was due, and the pipeline had not ended: a deadlock.
    #[error("stuck after {steps} steps: {waiting}")]
    Stuck {
        /// Steps taken.
        steps: u64,
        /// The account at that point, as text.
        waiting: String,
    },
}

impl Simulation {
    /// A run on 2 partitions in an order drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            partitions: 2,
            budgets: None,
            stop_at: None,
            drain_at: None,
            step_nanos: 1..2_000,
            wall: WallClock(Arc::new(|now| Timestamp(1_700_000_000_000_000_000_i64.saturating_add(now)))),
            core_map: CoreMap::default(),
            each_step: None,
            clock: VirtualClock::default(),
            memory: None,
            disks: None,
        }
    }

    /// The virtual clock of a run: a stage that moves it on takes that long. One run at a time uses it.
    pub fn clock(&self) -> VirtualClock {
        self.clock.clone()
    }

    /// What the clock on the wall says at a monotonic time, in nanoseconds from the start. Otherwise it starts in November 2023
    /// and never jumps.
    #[must_use]
    pub fn wall(mut self, wall: impl Fn(i64) -> Timestamp + Send + Sync + 'static) -> Self {
        self.wall = WallClock(Arc::new(wall));
        self
    }

    /// How many partitions the pipeline is spread over.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Which stages are on which partitions, counted from 0. Otherwise every stage may be on all of them.
    #[must_use]
    pub fn core_map(mut self, map: CoreMap) -> Self {
        self.core_map = map;
        self
    }

    /// The range that each step's budget, in items per task, is drawn from. Otherwise the seed chooses one.
    #[must_use]
    pub fn budgets(mut self, budgets: Range<usize>) -> Self {
        let start = budgets.start.max(1);
        self.budgets = Some(start..budgets.end.max(start + 1));
        self
    }

    /// Stops the pipeline before this step.
    #[must_use]
    pub fn stop_at(mut self, step: u64) -> Self {
        self.stop_at = Some(step);
        self
    }

    /// Drains the pipeline from this step on.
    #[must_use]
    pub fn drain_at(mut self, step: u64) -> Self {
        self.drain_at = Some(step);
        self
    }

    /// Bounds the memory that rings and keyed state may take.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The disks that state is spilled to: by default such without faults. The directory that the pipeline names is not
    /// touched.
    #[must_use]
    pub fn disks(mut self, disks: SimDisks) -> Self {
        self.disks = Some(disks);
        self
    }

    /// Calls `f` before each step: to check what must always hold, or to change a policy at a given step.
    ///
    /// ```
    /// use corelane::driver::Simulation;
    /// use corelane::flow::PipelineBuilder;
    /// use corelane::policy::BackpressureStrategy;
    ///
    /// let p = PipelineBuilder::new("switch");
    /// let out = p.generate("n", 1_000, |i| i).map("work", |i| i).input_cut().collect("out");
    /// let simulation = Simulation::new(1).each_step(|at| {
    ///     if at.step == 5 {
    ///         let credits = BackpressureStrategy::CreditBased { initial: 8, replenish_threshold: 4 };
    ///         at.monitor.set_policy(("n", "work"), credits).unwrap();
    ///     }
    ///     let edge = at.monitor.inspect_edge(("n", "work")).unwrap();
    ///     assert!(edge.depth <= edge.capacity);
    /// });
    /// assert!(simulation.run(p.build()?)?.result.success);
    /// assert_eq!(out.take(), (0..1_000).collect::<Vec<_>>());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn each_step(mut self, f: impl Fn(&SimStep<'_>) + Send + Sync + 'static) -> Self {
        self.each_step = Some(EachStep(Arc::new(f)));
        self
    }

    /// Runs `pipeline` to its end.
    ///
    /// # Errors
    /// [`SimError::Launch`] if it cannot start, [`SimError::Stuck`] if it deadlocks.
    pub fn run(&self, pipeline: Pipeline) -> Result<SimReport, SimError> {
        self.run_in(pipeline, &Environment::default())
    }

    fn disks_for(&self, pipeline: &Pipeline) -> Option<Arc<dyn Disks>> {
        let options = pipeline.spill_options()?;
        let disks = self.disks.clone().unwrap_or_else(|| SimDisks::new(self.seed, DiskFaults::NONE));
        Some(Arc::new(match options.max_bytes {
            Some(bytes) => disks.with_quota(bytes),
            None => disks,
        }))
    }

    /// As [`run`](Self::run), with your own logger, tracer and metrics.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_in(&self, pipeline: Pipeline, environment: &Environment) -> Result<SimReport, SimError> {
        let stages = pipeline.stages();
        let partitions = u32::try_from(self.partitions).unwrap_or(u32::MAX);
        let placement = Placement::virtual_cores(partitions, &CpuList::EMPTY, &self.core_map, &stages)?;
        self.clock.set(0);
        let means = Means { memory: self.memory, disks: self.disks_for(&pipeline) };
        let launch = prepare(pipeline, &placement, environment, Arc::new(self.clock.clone()), &means)?;
        let control = launch.monitor.control().clone();
        let mut partitions = Vec::with_capacity(launch.partitions.len());
        for blueprint in launch.partitions {
            match crate::stage::catch(|| blueprint.build()) {
                Ok(Ok(partition)) => partitions.push(partition),
                Ok(Err(failure)) => control.fail(failure),
                Err(panic) => control.fail(Failure { stage: None, error: panic.to_string() }),
            }
        }
        let mut run = Run::new(self, partitions);
        while !run.is_done() {
            if self.stop_at == Some(run.steps) {
                control.advance(Phase::Stopping);
            }
            if self.drain_at == Some(run.steps) {
                control.advance(Phase::Draining);
            }
            if let Some(EachStep(f)) = &self.each_step {
                run.partitions.iter_mut().for_each(|(p, _)| p.report());
                f(&SimStep { monitor: &launch.monitor, step: run.steps, now: run.now() });
            }
            run.step();
            if run.empty_rounds > STUCK_AFTER_ROUNDS {
                run.partitions.iter_mut().for_each(|(p, _)| p.report());
                let waiting = launch.monitor.account().to_string();
                return Err(SimError::Stuck { steps: run.steps, waiting });
            }
        }
        for (partition, _) in std::mem::take(&mut run.partitions) {
            if let Err(panic) = crate::stage::catch(|| partition.close()) {
                control.fail(Failure { stage: None, error: panic.to_string() });
            }
        }
        let duration = Duration::from_nanos(u64::try_from(run.now).unwrap_or(0));
        Ok(SimReport {
            result: launch.monitor.result(false, RunTimes { running: duration, ..RunTimes::default() }),
            steps: run.steps,
            trace_hash: run.trace.digest(),
        })
    }
}

/// A run in progress.
struct Run {
    rng: fastrand::Rng,
    partitions: Vec<(Partition, bool)>,
    budgets: Range<usize>,
    step_nanos: Range<u64>,
    wall: WallClock,
    now: i64,
    clock: VirtualClock,
    steps: u64,
    /// Which partitions have been stepped, and had nothing to do, since any had; and whole rounds of that.
    idle: Vec<bool>,
    empty_rounds: u32,
    /// A partition that is not stepped until this step.
    starved: Option<(usize, u64)>,
    trace: xxhash_rust::xxh3::Xxh3,
}

impl Run {
    fn new(simulation: &Simulation, partitions: Vec<Partition>) -> Self {
        let mut rng = fastrand::Rng::with_seed(simulation.seed);
        // Swarm: some seeds have only tiny budgets, so that every batch splits.
        let drawn = if rng.u8(..4) == 0 { 1..4 } else { 1..1025 };
        let budgets = simulation.budgets.clone().unwrap_or(drawn);
        Self {
            rng,
            idle: vec![false; partitions.len()],
            partitions: partitions.into_iter().map(|p| (p, false)).collect(),
            budgets,
            step_nanos: simulation.step_nanos.clone(),
            wall: simulation.wall.clone(),
            now: 0,
            clock: simulation.clock.clone(),
            steps: 0,
            empty_rounds: 0,
            starved: None,
            trace: xxhash_rust::xxh3::Xxh3::new(),
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.now, wall: self.wall.0(self.now) }
    }

    fn is_done(&self) -> bool {
        self.partitions.iter().all(|(_, drained)| *drained)
    }

    fn pick(&mut self) -> usize {
        let live: Vec<usize> = (0..self.partitions.len()).filter(|&i| !self.partitions[i].1).collect();
        match self.starved {
            Some((_, until)) if until <= self.steps => self.starved = None,
            None if live.len() > 1 && self.rng.u8(..) == 0 => {
                let victim = live[self.rng.usize(..live.len())];
                self.starved = Some((victim, self.steps + self.rng.u64(1..200)));
            }
            _ => {}
        }
        let starved = self.starved.map(|(victim, _)| victim);
        let fit: Vec<usize> = live.iter().copied().filter(|&i| Some(i) != starved).collect();
        let from = if fit.is_empty() { &live } else { &fit };
        from[self.rng.usize(..from.len())]
    }

    fn step(&mut self) {
        let chosen = self.pick();
        let budget = self.rng.usize(self.budgets.clone());
        self.now = self.now.saturating_add_unsigned(self.rng.u64(self.step_nanos.clone()));
        let now = self.now();
        let (partition, drained) = &mut self.partitions[chosen];
        self.clock.set(self.now);
        let progress = partition.step(now, budget);
        self.now = self.clock.nanos();
        *drained = progress == Progress::Drained;
        if *drained {
            partition.report();
        }
        self.steps += 1;
        for value in [chosen as u64, budget as u64, self.now.cast_unsigned(), worked(progress)] {
            self.trace.update(&value.to_le_bytes());
        }
        match progress {
            Progress::Worked(_) | Progress::Drained => {
                self.idle.fill(false);
                self.empty_rounds = 0;
            }
            Progress::Idle | Progress::Blocked => {
                self.idle[chosen] = true;
                self.wait_if_all_are_idle();
            }
        }
    }

    /// Time jumps only when every partition has said that there is nothing to do: one that has been starved may have much to do.
    fn wait_if_all_are_idle(&mut self) {
        let live = || self.partitions.iter().zip(&self.idle).filter(|((_, drained), _)| !drained);
        if live().any(|(_, idle)| !idle) {
            return;
        }
        let deadlines = live().filter_map(|((p, _), _)| p.next_deadline());
        let next = deadlines.filter(|&d| d > self.now).min();
        self.starved = None;
        self.idle.fill(false);
        match next {
            Some(deadline) => self.now = deadline,
            None => self.empty_rounds += 1,
        }
    }
}

fn worked(progress: Progress) -> u64 {
    match progress {
        Progress::Worked(n) => n as u64,
        Progress::Blocked => u64::MAX,
        Progress::Idle => u64::MAX - 1,
        Progress::Drained => u64::MAX - 2,
    }
}
