//! Pipelines under an open load: items come when they are due, whether or not the pipeline keeps up.

mod keyed;
mod recorder;
mod schedule;
mod traces;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corelane::engine::{Engine, ExecutionOptions, StartError};
use corelane::flow::Pipeline;
use corelane::graph::{GraphErrors, ValidatedGraph};
use corelane::observe::Outcome;
use hdrhistogram::Histogram;

use crate::otlp::{DecodeError, InputError, RepeatError};

pub use keyed::KeyedLoad;
pub use schedule::Schedule;
pub use traces::TraceLoad;

/// The longest time until an interruption is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A pipeline that is not done so long after everything was due, and as long again as that took, has not kept up.
const GRACE: Duration = Duration::from_millis(300);

/// A pipeline that can be loaded.
pub trait Load {
    /// Its graph.
    ///
    /// # Errors
    /// [`LoadError`], of which most can only come from [`run`](Self::run).
    fn graph(&self) -> Result<ValidatedGraph, LoadError>;

    /// What comes in, in the plural.
    fn items(&self) -> &'static str;

    /// Of how many items latencies come, at a guess: a share. Better too low: loads are longer then, until more is known.
    fn measured_share(&self) -> f64;

    /// Runs it once by `schedule` and returns the latencies, from the time that an item was due.
    ///
    /// # Errors
    /// [`LoadError`].
    fn run(
        &self,
        options: ExecutionOptions,
        schedule: Schedule,
        interrupted: &AtomicBool,
    ) -> Result<Taken, LoadError>;
}

/// What became of a load.
#[derive(Debug)]
pub enum Taken {
    /// All of it was taken: nanoseconds from due to done, of those that were measured.
    All(Histogram<u64>),
    /// The pipeline did not keep up, and was stopped.
    TooMuch,
    /// Somebody wants an end.
    Interrupted,
}

/// Why a pipeline could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The pipeline is refused: a fault of ours.
    #[error(transparent)]
    Graph(#[from] GraphErrors),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No thread, or no memory for a histogram.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A request of the input cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The length of the recording cannot be measured.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The input has nothing to send.
    #[error("the input has no spans")]
    Empty,
    /// It failed, or lost items.
    #[error("the pipeline failed under load: {0}")]
    Failed(String),
}

/// How a run ended.
enum Ran {
    Done,
    TooMuch,
    Interrupted,
}

/// Starts `pipeline` and waits until it has taken everything, or until it is clear that it does not keep up.
fn run(
    pipeline: Pipeline,
    options: ExecutionOptions,
    schedule: &Schedule,
    interrupted: &AtomicBool,
) -> Result<Ran, LoadError> {
    let running = Engine::new(options).start(pipeline)?;
    let longest = schedule.lasts() * 2 + GRACE;
    let mut stopped = None;
    while !running.wait_timeout(LOOK_EVERY) {
        if stopped.is_some() {
            continue;
        }
        if interrupted.load(Ordering::Relaxed) {
            stopped = Some(Ran::Interrupted);
        } else if running.elapsed() > longest {
            stopped = Some(Ran::TooMuch);
        } else {
            continue;
        }
        running.stop();
    }
    let result = running.join();
    let told = |problems: Vec<corelane::observe::Imbalance>| {
        LoadError::Failed(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    result.account.verify().map_err(told)?;
    match (stopped, &result.outcome) {
        (_, Outcome::Failed { .. }) => Err(LoadError::Failed(result.outcome.to_string())),
        // It may have ended by itself just before it was stopped.
        (Some(ran), Outcome::Stopped) => Ok(ran),
        _ => Ok(Ran::Done),
    }
}
