//! What is the same for every driver with real cores: a thread per partition, built there, closed together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::clock::Clock;
use super::rendezvous::{Party, Rendezvous};
use super::{Seat, pin_current_thread};
use crate::disk::Disks;
use crate::observe::RunTimes;
use crate::partition::{Control, Failure, Partition, PartitionBlueprint};
use crate::stage::StageError;
use crate::sync::HomeNode;

/// The three points that all partitions of a pipeline pass together.
pub(crate) struct Meeting {
    /// Every partition has been built, or has failed to.
    pub(crate) started: Arc<Rendezvous>,
    /// No partition is stepped any more: what is left in the rings can be counted.
    pub(crate) stepped: Arc<Rendezvous>,
    /// Every partition has been closed and dropped.
    pub(crate) closed: Arc<Rendezvous>,
}

impl Meeting {
    pub(crate) fn new(parties: usize) -> Self {
        let point = || Rendezvous::new(parties);
        Self { started: point(), stepped: point(), closed: point() }
    }
}

impl Meeting {
    /// The parts of a run that `clock` saw begin, once all has been closed.
    pub(crate) fn times(&self, clock: &Clock) -> RunTimes {
        let origin = clock.origin();
        let started = self.started.met().unwrap_or(origin);
        let stepped = self.stepped.met().unwrap_or(started);
        let closed = self.closed.met().unwrap_or(stepped);
        RunTimes { setup: started - origin, running: stepped - started, closing: closed - stepped }
    }
}

/// One partition on its way to its thread.
pub(crate) struct Worker {
    blueprint: Option<PartitionBlueprint>,
    index: usize,
    pub(super) seat: Seat,
    pub(super) clock: Clock,
    started: Party,
    stepped: Party,
    closed: Party,
    /// Kept open until this partition has been closed.
    disks: Option<Arc<dyn Disks>>,
}

impl Worker {
    pub(crate) fn new(blueprint: PartitionBlueprint, seat: Seat, clock: Clock, meeting: &Meeting) -> Self {
        Self {
            index: blueprint.index,
            blueprint: Some(PartitionBlueprint { home: seat.home, ..blueprint }),
            seat,
            clock,
            started: meeting.started.party(),
            stepped: meeting.stepped.party(),
            closed: meeting.closed.party(),
            disks: None,
        }
    }

    /// Keeps `disks` until this partition has been closed.
    pub(crate) fn holding(mut self, disks: Option<Arc<dyn Disks>>) -> Self {
        self.disks = disks;
        self
    }

    /// Pins this thread, builds the partition on it, so that this core touches its memory first, and waits for the others.
    /// `None` after a failure, which has been recorded.
    ///
    /// `wake` says how this thread is woken; it is set before any peer starts, as the doorbell demands, and only if this
    /// partition ever parks, so that peers of one that does not pay nothing.
    pub(super) fn build(
        &mut self,
        control: &Control,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<Partition> {
        let partition = self.build_here(control);
        if let Some(partition) = &partition
            && self.seat.idle.park
        {
            partition.doorbell().set_waker(wake);
        }
        self.started.arrive_and_wait();
        partition
    }

    fn build_here(&mut self, control: &Control) -> Option<Partition> {
        let failed = |error: String| control.fail(Failure { stage: None, error });
        if let Some(cpu) = self.seat.cpu
            && let Err(error) = pin_current_thread(cpu)
        {
            failed(format!("partition {} cannot be pinned: {error}", self.index));
            return None;
        }
        // What this thread allocates is as strict as what is bound.
        if let Some(Err(error)) = self.seat.home.map(HomeNode::bind_thread) {
            failed(format!("partition {}: {error}", self.index));
            return None;
        }
        let blueprint = self.blueprint.take()?;
        match catch_unwind(AssertUnwindSafe(|| blueprint.build())) {
            Ok(Ok(partition)) => Some(partition),
            Ok(Err(failure)) => {
                control.fail(failure);
                None
            }
            Err(panic) => {
                failed(format!("a stage could not be built: {}", StageError::from_panic(&*panic)));
                None
            }
        }
    }

    /// Waits until no partition is stepped any more, then closes this one.
    pub(super) fn finish(
        mut self,
        partition: Partition,
        stepped: std::thread::Result<()>,
        control: &Control,
    ) {
        if let Err(panic) = stepped {
            // User code is caught at its stage: this is a bug of ours. The others must not wait for this partition.
            let error =
                format!("internal error in partition {}: {}", self.index, StageError::from_panic(&*panic));
            control.fail(Failure { stage: None, error });
        }
        self.stepped.arrive_and_wait();
        let closed = catch_unwind(AssertUnwindSafe(|| partition.close()));
        if let Err(panic) = closed {
            let index = self.index;
            let error = format!("partition {index} could not be closed: {}", StageError::from_panic(&*panic));
            control.fail(Failure { stage: None, error });
        }
        // The last one lets go of the directory, before anybody is told that the pipeline has ended.
        drop(self.disks.take());
        self.closed.arrive();
    }
}

/// Starts a thread for each worker that calls `run`.
///
/// # Errors
/// The operating system's, when a thread cannot be made; those already made stop again.
pub(super) fn spawn_each(
    workers: Vec<Worker>,
    control: &Arc<Control>,
    run: impl Fn(Worker, &Arc<Control>) + Clone + Send + 'static,
) -> std::io::Result<()> {
    for worker in workers {
        let (there, run) = (Arc::clone(control), run.clone());
        let thread = std::thread::Builder::new().name(format!("corelane-{}", worker.index));
        // Dropping the handle detaches the thread; its end is known by the meeting, which a panic reaches too.
        thread.spawn(move || run(worker, &there)).inspect_err(|error| {
            control.fail(Failure { stage: None, error: format!("cannot start a thread: {error}") });
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{DriverChoice, Environment, Means, prepare};
    use super::*;
    use crate::flow::PipelineBuilder;
    use crate::observe::Outcome;
    use crate::topology::{CoreMap, CpuList, EffectiveIdle, Placement};

    #[test]
    fn the_parts_of_a_run_follow_one_another_without_a_gap() {
        let clock = Clock::new();
        let meeting = Meeting::new(1);
        assert_eq!(meeting.times(&clock), RunTimes::default(), "nothing has begun");
        meeting.started.party().arrive();
        let begun = meeting.times(&clock);
        assert_eq!(begun.setup, meeting.started.met().unwrap() - clock.origin());
        assert!(begun.running.is_zero() && begun.closing.is_zero());
        meeting.stepped.party().arrive();
        meeting.closed.party().arrive();
        let all = meeting.times(&clock);
        assert_eq!(all.setup, begun.setup);
        assert_eq!(all.setup + all.running + all.closing, meeting.closed.met().unwrap() - clock.origin());
    }

    #[test]
    fn a_core_that_cannot_be_pinned_to_fails_the_pipeline_and_holds_no_other_partition_up() {
        for choice in [DriverChoice::Thread, DriverChoice::Glommio] {
            let Ok(driver) = choice.resolve() else { continue };
            let p = PipelineBuilder::new("pin");
            p.items("numbers", 0u64..)
                .key_by(|x| x % 9)
                .fold("count", || 0u64, |n, _| *n += 1)
                .for_each("out", drop);
            let pipeline = p.build().unwrap();
            let stages = pipeline.stages();
            let placement =
                Placement::virtual_cores(3, &CpuList::EMPTY, &CoreMap::default(), &stages).unwrap();
            let launch = prepare(
                pipeline,
                &placement,
                &Environment::default(),
                Arc::new(Clock::new()),
                &Means::default(),
            )
            .unwrap();
            let (meeting, clock) = (Meeting::new(3), Clock::new());
            let idle = EffectiveIdle { spin: false, give_way: true, park: true, no_spin: None };
            let workers = launch.partitions.into_iter().map(|blueprint| {
                // No kernel has this CPU.
                let cpu = (blueprint.index == 1).then_some(1_000_000);
                Worker::new(
                    blueprint,
                    Seat { cpu, idle, budget: 64, most: 64, home: None },
                    clock.clone(),
                    &meeting,
                )
            });
            driver.spawn(workers.collect(), launch.monitor.control()).unwrap();
            assert!(meeting.closed.wait_timeout(Duration::from_secs(60)), "{driver} hangs");
            match launch.monitor.result(false, meeting.times(&clock)).outcome {
                Outcome::Failed { stage: None, error } => {
                    assert!(error.contains("partition 1") && error.contains("pinned"), "{error}");
                }
                other => panic!("{driver}: {other}"),
            }
        }
    }
}
