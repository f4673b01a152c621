//! A stage that fails to be made, to open, to run or to close ends the pipeline under its own name, on every driver.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::marker::PhantomData;

use common::quiet::{PLANNED, planned_panics};
use common::watchdog::{real_drivers, watched};
use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::observe::{Outcome, PipelineResult};
use corelane::policy::Parallelism;
use corelane::stage::{
    Chain, Emitter, Output, Produced, Rejected, Sink, Source, StageError, StageSite, Transform,
};

/// When and how a stage misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    FactoryError,
    FactoryPanic,
    OpenError,
    OpenPanic,
    RunError,
    RunPanic,
    /// Of a sink that is asked for its room; others fail as they run.
    RoomPanic,
    FinishError,
    FinishPanic,
    DropPanic,
}

const FAULTS: [Fault; 10] = [
    Fault::FactoryError,
    Fault::FactoryPanic,
    Fault::OpenError,
    Fault::OpenPanic,
    Fault::RunError,
    Fault::RunPanic,
    Fault::RoomPanic,
    Fault::FinishError,
    Fault::FinishPanic,
    Fault::DropPanic,
];

/// A source, a transform or a sink that misbehaves, if at all.
struct Bad<Role> {
    fault: Option<Fault>,
    made: u64,
    role: PhantomData<Role>,
}

struct AsSource;
struct AsTransform;
struct AsSink;

impl<Role> Bad<Role> {
    fn new(fault: Option<Fault>) -> Result<Self, StageError> {
        misbehave(fault, Fault::FactoryError, Fault::FactoryPanic)?;
        Ok(Self { fault, made: 0, role: PhantomData })
    }

    fn check(&self, error: Fault, panic: Fault) -> Result<(), StageError> {
        misbehave(self.fault, error, panic)
    }
}

fn misbehave(fault: Option<Fault>, error: Fault, panic: Fault) -> Result<(), StageError> {
    assert!(fault != Some(panic), "{PLANNED} panic");
    if fault == Some(error) { Err(StageError::msg(format!("{PLANNED} error"))) } else { Ok(()) }
}

impl<Role> Drop for Bad<Role> {
    fn drop(&mut self) {
        assert!(self.fault != Some(Fault::DropPanic) || std::thread::panicking(), "{PLANNED} panic");
    }
}

impl Source for Bad<AsSource> {
    type Item = u64;

    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.check(Fault::OpenError, Fault::OpenPanic)
    }

    fn produce<C: Chain<u64>>(&mut self, out: &mut Emitter<'_, u64, C>) -> Result<Produced, StageError> {
        if self.made == 500 {
            self.check(Fault::RunError, Fault::RunPanic)?;
            self.check(Fault::RunError, Fault::RoomPanic)?;
        }
        if self.made == 1_000 {
            self.check(Fault::FinishError, Fault::FinishPanic)?;
            return Ok(Produced::End);
        }
        out.emit(self.made);
        self.made += 1;
        Ok(Produced::More)
    }
}

impl Transform for Bad<AsTransform> {
    type In = u64;
    type Out = u64;

    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.check(Fault::OpenError, Fault::OpenPanic)
    }

    fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        if item >= 500 {
            self.check(Fault::RunError, Fault::RunPanic)?;
            self.check(Fault::RunError, Fault::RoomPanic)?;
        }
        out.emit(item);
        Ok(())
    }

    fn finish(&mut self, _out: &mut Output<'_, u64>) -> Result<(), StageError> {
        self.check(Fault::FinishError, Fault::FinishPanic)
    }
}

impl Sink for Bad<AsSink> {
    type Item = u64;

    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.check(Fault::OpenError, Fault::OpenPanic)
    }

    fn accept(&mut self, item: u64) -> Result<(), Rejected<u64>> {
        let said = if item >= 500 { self.check(Fault::RunError, Fault::RunPanic) } else { Ok(()) };
        self.made += 1;
        said.map_err(|error| Rejected { item, error })
    }

    fn room(&mut self) -> usize {
        assert!(self.fault != Some(Fault::RoomPanic) || self.made < 500, "{PLANNED} panic");
        usize::MAX
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        self.check(Fault::FinishError, Fault::FinishPanic).map(|()| true)
    }
}

/// A pipeline in which one stage has `fault`.
fn pipeline(guilty: &str, fault: Fault) -> Pipeline {
    let of = |stage: &str| (stage == guilty).then_some(fault);
    let (source, transform, sink) = (of("source"), of("transform"), of("sink"));
    let p = PipelineBuilder::new("faults");
    p.source("source", move |_: &StageSite| Bad::<AsSource>::new(source))
        .map("spread", |x| x)
        .parallel(Parallelism::CpuBound)
        .transform("transform", move |_: &StageSite| Bad::<AsTransform>::new(transform))
        .sink("sink", move |_: &StageSite| Bad::<AsSink>::new(sink));
    p.build().unwrap()
}

fn run(driver: Option<DriverChoice>, cores: u32, pipeline: Pipeline) -> PipelineResult {
    match driver {
        None => Simulation::new(7).partitions(cores as usize).run(pipeline).unwrap().result,
        Some(driver) => {
            let options =
                ExecutionOptions { driver, virtual_cores: Some(cores), ..ExecutionOptions::default() };
            Engine::new(options).run(pipeline).unwrap()
        }
    }
}

/// Case 71 for sources, transforms and sinks; `panics` has closures and accumulators.
#[test]
fn whatever_a_stage_does_wrong_the_pipeline_fails_under_its_name_and_the_account_closes() {
    planned_panics();
    let mut drivers = vec![None];
    drivers.extend(real_drivers().into_iter().map(Some));
    for driver in drivers {
        for (guilty, fault) in
            ["source", "transform", "sink"].into_iter().flat_map(|stage| FAULTS.map(|fault| (stage, fault)))
        {
            for cores in [1, 2, 3] {
                let what = format!("{fault:?} of {guilty} on {driver:?} with {cores} cores");
                let result = watched(&what, move || run(driver, cores, pipeline(guilty, fault)));
                match &result.outcome {
                    Outcome::Failed { stage: Some(stage), error } => {
                        assert_eq!(stage.as_str(), guilty, "{what}: {error}");
                        assert!(error.contains(PLANNED), "{what}: {error}");
                    }
                    other => panic!("{what}: {other}"),
                }
                result
                    .account
                    .verify()
                    .unwrap_or_else(|broken| panic!("{what}: {broken:?}\n{}", result.account));
                assert!(result.account.totals().closes(), "{what}");
                assert!(result.final_states[&guilty.parse().unwrap()].last_error.is_some(), "{what}");
            }
        }
    }
}

/// Something a stage owns whose `Drop` panics.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // Clones die with the recipe of the stage, on the thread that builds it; only one in a finished stage counts.
        if ARMED.with(std::cell::Cell::get) && !std::thread::panicking() {
            panic!("{PLANNED} panic");
        }
    }
}

thread_local! {
    static ARMED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[test]
fn a_stream_function_whose_drop_panics_at_a_stop_is_named_and_the_rest_is_still_counted() {
    use futures_util::StreamExt;
    planned_panics();
    let p = PipelineBuilder::new("drop");
    p.items("numbers", 0u64..)
        .stream_fn("stream", |input| {
            let bomb = Bomb;
            input.map(move |x| {
                let _owned = &bomb;
                ARMED.with(|armed| armed.set(true));
                x
            })
        })
        .map("after", |x| x)
        .input_cut()
        .for_each("out", |_| ());
    let report = Simulation::new(3).partitions(2).stop_at(300).run(p.build().unwrap()).unwrap();
    ARMED.with(|armed| armed.set(false));
    report.result.account.verify().unwrap();
    match report.result.outcome {
        Outcome::Failed { stage: Some(stage), error } => {
            assert_eq!(stage.as_str(), "stream");
            assert!(error.contains(PLANNED), "{error}");
        }
        other => panic!("{other}"),
    }
}
