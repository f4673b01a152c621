//! The testing kit: runs a stage of your own through everything the runtime may do to it.
//!
//! A stage that gives the right answer on a quiet machine can still be wrong: it may lose items when its input comes in
//! small batches, emit more than there is room for, or forget what it holds when the input ends. [`verify_stage`] gives
//! the same input to the same stage in every [`Mode`] and compares what comes out; in each of them the stage must also
//! keep the rules of [`Chain`](crate::stage::Chain) and its account must close.
//!
//! Anything that turns a stream into a stream can be tested: a closure, a [`Transform`](crate::stage::Transform), an
//! [`Operator`](crate::stage::Operator), or several stages in a row.
//!
//! ```
//! use corelane::stage::{Output, StageError, Transform};
//! use corelane::testing::assert_stage;
//!
//! /// Sums pairs; a last one without a partner counts alone.
//! #[derive(Default)]
//! struct Pairs {
//!     first: Option<u64>,
//! }
//!
//! impl Transform for Pairs {
//!     type In = u64;
//!     type Out = u64;
//!     const HOLDS_ITEMS: bool = true;
//!
//!     fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
//!         match self.first.take() {
//!             Some(first) => out.emit(first + item),
//!             None => self.first = Some(item),
//!         }
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self, out: &mut Output<'_, u64>) -> Result<(), StageError> {
//!         if let Some(first) = self.first.take() {
//!             out.emit(first);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! assert_stage(|input| input.transform("pairs", |_| Ok(Pairs::default())), 1..=5, [3, 7, 5]);
//! ```

mod collector;
mod report;
mod script;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

pub use report::{Difference, Fault, Mode, StageReport};
pub use script::{Script, ScriptSource};

use crate::driver::{SimError, SimReport, Simulation};
use crate::flow::{PipelineBuilder, Segment, SourceSegment, Stream};
use crate::model::Timestamp;
use crate::observe::Outcome;
use crate::policy::Parallelism;
use crate::stage::StageSite;
use collector::{Collector, Log};
use script::Pace;

/// What a stage under test reads: the input it is tested with.
pub type TestInput<T> = Stream<SourceSegment<Script<T>, ScriptSource<T>>>;

/// Tells the event time of an input.
type TimeOf<T> = Arc<dyn Fn(&T) -> Timestamp + Send + Sync>;

/// The stages that the kit puts around yours. A stage under test has another name.
const SOURCE: &str = "test-input";
const SINK: &str = "test-output";
/// A budget that never splits a batch.
const UNBOUNDED: usize = 1 << 40;
/// Steps after which a run counts as endless, and how many more each item is worth.
const STEPS: u64 = 20_000;
const STEPS_PER_ITEM: u64 = 2_000;

/// Runs `stage` with `input` in every mode and checks that `expected` comes out, in that order.
///
/// # Errors
/// The first mode in which something is wrong, and what.
///
/// Costs a few hundred microseconds for a short input; [`StageTest`] has options.
pub fn verify_stage<In, Out, S, F>(
    stage: F,
    input: impl IntoIterator<Item = In>,
    expected: impl IntoIterator<Item = Out>,
) -> Result<(), StageReport>
where
    In: Clone + Send + 'static,
    Out: PartialEq + Debug + Send + 'static,
    S: Segment<Item = Out>,
    F: Fn(TestInput<In>) -> Stream<S>,
{
    StageTest::new(input, expected).verify(stage)
}

/// As [`verify_stage`], for tests.
///
/// # Panics
/// With the report, if anything is wrong.
#[track_caller]
pub fn assert_stage<In, Out, S, F>(
    stage: F,
    input: impl IntoIterator<Item = In>,
    expected: impl IntoIterator<Item = Out>,
) where
    In: Clone + Send + 'static,
    Out: PartialEq + Debug + Send + 'static,
    S: Segment<Item = Out>,
    F: Fn(TestInput<In>) -> Stream<S>,
{
    if let Err(report) = verify_stage(stage, input, expected) {
        panic!("{report}");
    }
}

/// A stage's input, what must come out of it, and how to look at it.
///
/// ```
/// use corelane::testing::StageTest;
///
/// // Keyed stages run on several cores: what they emit has no order.
/// StageTest::new(["a", "b", "a"], [("a", 2), ("b", 1)])
///     .any_order()
///     .verify(|input| input.key_by(|word| *word).fold("count", || 0, |n, _| *n += 1))?;
/// # Ok::<(), corelane::testing::StageReport>(())
/// ```
#[derive(Clone)]
pub struct StageTest<In, Out> {
    input: Vec<In>,
    expected: Vec<Out>,
    any_order: bool,
    seeds: Range<u64>,
    time: Option<TimeOf<In>>,
}

impl<In, Out> StageTest<In, Out>
where
    In: Clone + Send + 'static,
    Out: PartialEq + Debug + Send + 'static,
{
    /// Expects exactly `expected`, in order, for `input`.
    pub fn new(input: impl IntoIterator<Item = In>, expected: impl IntoIterator<Item = Out>) -> Self {
        Self {
            input: input.into_iter().collect(),
            expected: expected.into_iter().collect(),
            any_order: false,
            seeds: 0..16,
            time: None,
        }
    }

    /// The outputs may come in any order: for stages that run in several instances or keep a hash table.
    #[must_use]
    pub fn any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    /// The seeds of the simulated runs. Default: 0 to 15.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// The event time of an input. The watermark between two inputs is then the earliest time still to come; otherwise
    /// watermarks rise but stay long before any real time.
    #[must_use]
    pub fn event_time(mut self, time: impl Fn(&In) -> Timestamp + Send + Sync + 'static) -> Self {
        self.time = Some(Arc::new(time));
        self
    }

    /// Runs `stage` in every mode. It is called once for each, and must build the same stage each time.
    ///
    /// # Errors
    /// The first mode in which something is wrong, and what.
    pub fn verify<S, F>(&self, stage: F) -> Result<(), StageReport>
    where
        S: Segment<Item = Out>,
        F: Fn(TestInput<In>) -> Stream<S>,
    {
        let fixed = [Mode::AllAtOnce, Mode::OneAtATime, Mode::RoomOfOne, Mode::WatermarkBetween];
        for mode in fixed.into_iter().chain(self.seeds.clone().map(|seed| Mode::Simulated { seed })) {
            self.run(mode, &stage).map_err(|fault| StageReport { mode, fault })?;
        }
        Ok(())
    }

    fn run<S, F>(&self, mode: Mode, stage: &F) -> Result<(), Fault>
    where
        S: Segment<Item = Out>,
        F: Fn(TestInput<In>) -> Stream<S>,
    {
        let settings = Settings::of(mode);
        let script = Script::new(self.input.clone(), self.watermarks(&settings), settings.pace);
        let log = Log::<Out>::shared();
        let (room, refill, kept) = (settings.room, settings.refill, Arc::clone(&log));
        let pipeline = PipelineBuilder::new("stage-test");
        stage(pipeline.source_by(SOURCE, script)).end_in(
            SINK,
            Some(Parallelism::Sequential),
            move |site: &StageSite| Ok(Collector::new(room, refill, kept, site.clone())),
        );
        let pipeline = pipeline.build().map_err(|errors| Fault::Graph(errors.to_string()))?;
        let items = (self.input.len() + self.expected.len()) as u64;
        let simulation = settings.simulation.stop_at(STEPS + STEPS_PER_ITEM * items);
        let ran = simulation.run(pipeline);
        let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A broken rule explains what went wrong after it.
        log.fault.take().map_or(Ok(()), Err)?;
        let report = ended(ran)?;
        report::compare(&self.expected, &log.items, self.any_order)?;
        report.result.account.verify().map_err(Fault::Account)
    }

    /// The watermark behind each input but the last, or none.
    fn watermarks(&self, settings: &Settings) -> Vec<Timestamp> {
        let last = self.input.len().saturating_sub(1);
        match &self.time {
            _ if !settings.watermarks => Vec::new(),
            None => (1i64..).take(last).map(|n| Timestamp(i64::MIN + n)).collect(),
            Some(time) => {
                let mut earliest = Timestamp::MAX;
                let mut times: Vec<_> = self.input[last.min(1)..]
                    .iter()
                    .rev()
                    .map(|item| {
                        earliest = earliest.min(time(item));
                        earliest
                    })
                    .collect();
                times.truncate(last);
                times.reverse();
                times
            }
        }
    }
}

/// What a mode means for the source, the sink and the driver.
struct Settings {
    pace: Pace,
    watermarks: bool,
    room: usize,
    refill: u32,
    simulation: Simulation,
}

impl Settings {
    fn of(mode: Mode) -> Self {
        let plain = Self {
            pace: Pace::Everything,
            watermarks: false,
            room: usize::MAX,
            refill: 1,
            simulation: Simulation::new(0).partitions(1).budgets(UNBOUNDED..UNBOUNDED + 1),
        };
        match mode {
            Mode::AllAtOnce => plain,
            Mode::OneAtATime => Self { pace: Pace::One, ..plain },
            // Every other step finds no room at all.
            Mode::RoomOfOne => Self { room: 1, refill: 2, ..plain },
            Mode::WatermarkBetween => Self { watermarks: true, ..plain },
            Mode::Simulated { seed } => {
                let mut rng = fastrand::Rng::with_seed(seed);
                Self {
                    pace: Pace::Random(rng.u64(..)),
                    watermarks: rng.bool(),
                    room: [1, 2, 7, usize::MAX][rng.usize(..4)],
                    refill: rng.u32(1..4),
                    simulation: Simulation::new(seed).partitions(rng.usize(1..5)),
                }
            }
        }
    }
}

/// The report of a run that came to its end by itself.
fn ended(ran: Result<SimReport, SimError>) -> Result<SimReport, Fault> {
    let report = ran.map_err(|error| match error {
        SimError::Stuck { waiting, .. } => Fault::Stuck { account: waiting },
        other => Fault::Start(other.to_string()),
    })?;
    match report.result.outcome {
        Outcome::Completed => Ok(report),
        Outcome::Failed { stage, error } => Err(Fault::Failed { stage, error }),
        _ => Err(Fault::Endless { steps: report.steps }),
    }
}
