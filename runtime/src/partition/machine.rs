//! The step machine.

use std::sync::Arc;

use super::control::PoolHome;
use super::{Control, Failure, Phase, Task, TaskBlueprint};
use crate::model::{Now, StageId, Timestamp};
use crate::observe::{LatencyRecorder, PartitionCells, Pulse};
use crate::pool::LocalPool;
use crate::stage::{StageError, StepCx};
use crate::sync::{Doorbell, HomeNode};

/// Steps between two publications of counters while there is work.
const REPORT_EVERY: u64 = 4 * TIME_EVERY;
/// Of so many steps with work, the time of one is recorded.
const TIME_EVERY: u64 = 16;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many items or signals were moved.
    Worked(usize),
    /// There was input, but no room downstream.
    Blocked,
    /// There was no input.
    Idle,
    /// Everything has ended; stepping again does nothing.
    Drained,
}

impl Progress {
    pub(super) fn ticked(moved: bool) -> Self {
        if moved { Self::Worked(1) } else { Self::Idle }
    }

    fn pulse(self) -> Pulse {
        match self {
            Self::Worked(_) => Pulse::Working,
            Self::Blocked => Pulse::Blocked,
            Self::Idle => Pulse::Idle,
            Self::Drained => Pulse::Drained,
        }
    }

    /// The livelier of two.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Worked(a), Self::Worked(b)) => Self::Worked(a + b),
            (Self::Worked(n), _) | (_, Self::Worked(n)) => Self::Worked(n),
            (Self::Blocked, _) | (_, Self::Blocked) => Self::Blocked,
            (Self::Idle, _) | (_, Self::Idle) => Self::Idle,
            (Self::Drained, Self::Drained) => Self::Drained,
        }
    }
}

/// Everything a partition is built from, on its own core.
pub struct PartitionBlueprint {
    /// Its index, counted from 0 over the pipeline.
    pub index: usize,
    /// Tasks, upstream first.
    pub tasks: Vec<TaskBlueprint>,
    /// Phase and failure, shared with the handle.
    pub control: Arc<Control>,
    /// Rung by peers and by the handle.
    pub doorbell: Arc<Doorbell>,
    /// Where it publishes what it counts of its steps.
    pub cells: Arc<PartitionCells>,
    /// Where its memory is to lie, if that is known.
    pub home: Option<HomeNode>,
}

impl PartitionBlueprint {
    /// Builds and opens the partition. To be called on the core that will step it: memory is first touched here.
    ///
    /// # Errors
    /// The first stage that could not be built or opened, that the memory pool has no room for what it should make ready, or that memory
    /// does not lie where it strictly must.
    pub fn build(self) -> Result<Partition, Failure> {
        let (memory, bell) = (self.control.memory_pool(), Some(Arc::clone(&self.doorbell)));
        let pool = match self.home {
            Some(home) => memory.open_on(bell, home),
            None => memory.open(bell),
        };
        let pool = pool.map_err(|error| Failure { stage: None, error: error.to_string() })?;
        self.control.add_home(PoolHome { partition: self.index, home: self.home, gauge: pool.gauge() });
        let blueprints = self.tasks;
        let tasks = pool.enter(|| {
            let named = |(stage, error): (StageId, StageError)| Failure {
                stage: Some(stage),
                error: error.to_string(),
            };
            let build = |blueprint: TaskBlueprint| {
                let mut task = blueprint().map_err(named)?;
                task.settle(self.index, self.home).map_err(|error| Failure {
                    stage: None,
                    error: format!("rings of partition {}: {error}", self.index),
                })?;
                task.open().map_err(named)?;
                Ok((task, false))
            };
            blueprints.into_iter().map(build).collect::<Result<Vec<_>, _>>()
        })?;
        let phase = Phase::Running;
        Ok(Partition {
            index: self.index,
            has_source: tasks.iter().any(|(task, _)| task.is_source()),
            tasks,
            control: self.control,
            doorbell: self.doorbell,
            cells: self.cells,
            phase,
            steps: 0,
            pulse: Pulse::Created,
            is_timed: false,
            step_times: LatencyRecorder::default(),
            cx: StepCx::new(Now { monotonic: i64::MIN, wall: Timestamp(i64::MIN) }),
            pool,
        })
    }
}

/// One core's part of a pipeline: a state machine that a driver steps.
pub struct Partition {
    index: usize,
    tasks: Vec<(Box<dyn Task>, bool)>,
    has_source: bool,
    control: Arc<Control>,
    doorbell: Arc<Doorbell>,
    cells: Arc<PartitionCells>,
    phase: Phase,
    steps: u64,
    /// What the last step found.
    pulse: Pulse,
    /// Whether it ends with the start of this one, for `step_times`.
    is_timed: bool,
    step_times: LatencyRecorder,
    /// What the tasks are told of a step, its time too; kept, because its arena has been warmed up.
    cx: StepCx,
    /// After the tasks, whose buffers go back to it.
    pool: LocalPool,
}

impl Partition {
    /// The partition's index.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The bell that says there may be work.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// Whether it asks a source for items: that costs several times what a look at rings does.
    #[inline]
    pub fn has_source(&self) -> bool {
        self.has_source
    }

    /// Whether the next step is to be given the time that it starts at: those whose length is recorded, and each behind one. Others may be
    /// given the time of a step before them, as [`StepCx::now`] says.
    #[inline]
    pub fn wants_time(&self) -> bool {
        self.is_timed || (self.steps + 1).is_multiple_of(TIME_EVERY)
    }

    /// Does a bounded slice of work: up to `budget` items per task. `now` must not go back.
    ///
    /// Costs one virtual call per task that has not ended.
    pub fn step(&mut self, now: Now, budget: usize) -> Progress {
        self.look(now, budget, 1)
    }

    /// As [`step`](Self::step), and where it finds nothing at first, it looks again, `looks` times in all: what comes meanwhile is found sooner than by
    /// the next step. All of it has the same time.
    #[inline]
    pub fn look(&mut self, now: Now, budget: usize, looks: u32) -> Progress {
        let pool = self.pool.clone();
        pool.enter(|| self.step_at_home(now, budget, looks))
    }

    fn step_at_home(&mut self, now: Now, budget: usize, looks: u32) -> Progress {
        let phase = self.control.phase();
        if phase != self.phase {
            self.change_phase(phase);
        }
        if phase == Phase::Stopping {
            return Progress::Drained;
        }
        if std::mem::take(&mut self.is_timed) {
            self.step_times.record(now.monotonic - self.now());
        }
        self.cx.begin(now, self.control.source_pause().is_paused());
        let mut progress = self.ask_tasks(|task, cx| task.step(budget, cx));
        // A task that is alone looks again by itself; of several each has its turn.
        let again = looks - 1;
        let (rounds, times) = if self.tasks.len() == 1 { (again.min(1), again) } else { (again, 1) };
        for _ in 0..rounds {
            if progress != Progress::Idle {
                break;
            }
            progress = self.ask_tasks(|task, cx| task.look(budget, cx, times));
        }
        self.cx.end_span();
        if self.cx.is_failing() {
            self.fail();
            return Progress::Drained;
        }
        self.pulse = progress.pulse();
        self.steps += 1;
        if self.steps.is_multiple_of(TIME_EVERY) {
            self.is_timed = self.pulse == Pulse::Working;
            if self.steps.is_multiple_of(REPORT_EVERY) {
                self.report();
            }
        }
        progress
    }

    #[inline]
    fn ask_tasks(&mut self, mut ask: impl FnMut(&mut dyn Task, &StepCx) -> Progress) -> Progress {
        let mut progress = Progress::Drained;
        for (task, drained) in &mut self.tasks {
            if *drained {
                continue;
            }
            let one = ask(&mut **task, &self.cx);
            if one == Progress::Drained {
                *drained = true;
                task.report(self.cx.now().monotonic);
                // The end has just been passed on: that is work, and the others must still be looked at.
                progress = progress.and(Progress::Worked(1));
            } else {
                progress = progress.and(one);
            }
        }
        progress
    }

    #[cold]
    fn change_phase(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Draining {
            self.tasks.iter_mut().for_each(|(task, _)| task.end_input());
        }
    }

    #[cold]
    fn fail(&mut self) {
        if let Some((stage, error)) = self.cx.take_failure() {
            self.control.fail(Failure { stage: Some(stage), error: error.to_string() });
        }
    }

    /// The earliest monotonic time after the last step at which a step has something to do without new input. What was due
    /// in the last step and is still there waits for room: a driver that woke for it would spin.
    pub fn next_deadline(&self) -> Option<i64> {
        let live = self.tasks.iter().filter(|(_, drained)| !drained);
        live.filter_map(|(task, _)| task.next_deadline(self.now())).min()
    }

    /// The time of the last step.
    fn now(&self) -> i64 {
        self.cx.now().monotonic
    }

    /// Publishes all counters. Done every few steps while there is work; a driver calls it before it idles.
    pub fn report(&mut self) {
        let now = self.now();
        self.tasks.iter_mut().for_each(|(task, _)| task.report(now));
        self.cells.publish(self.steps, self.pulse, now);
        self.step_times.publish(&self.cells.step, now);
    }

    /// Releases user code, counts what is left for the account, and drops everything. To be called once no partition of
    /// the pipeline is stepped any more, or a peer could still push into a ring that has been counted. A stage that panics
    /// meanwhile fails the pipeline.
    pub fn close(self) {
        let now = self.now();
        let Self { mut tasks, control, cells, steps, mut step_times, pool, .. } = self;
        cells.publish(steps, Pulse::Drained, now);
        step_times.finish(&cells.step);
        pool.enter(|| {
            let mut failures = Vec::new();
            for (task, drained) in &mut tasks {
                // What a stage throws is caught there; this is for the `Drop` of items. The other tasks are still to be counted.
                if let Err(error) = crate::stage::catch(|| task.close(!*drained)) {
                    control.fail(Failure { stage: None, error: format!("while it was closed: {error}") });
                }
            }
            tasks.into_iter().for_each(|(task, _)| task.release(&mut failures));
            for (stage, error) in failures {
                control.fail(Failure { stage: Some(stage), error: format!("while it was closed: {error}") });
            }
        });
    }
}
