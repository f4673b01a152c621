//! `corelane run`: the jobs, from parsed options to written output.

mod nexmark_q5;
mod trace_assembly;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use corelane::config::Config;
use corelane::driver::{Driver, ParkPrice, ParkProbe, measure_park};
use corelane::engine::{Engine, ExecutionOptions, Running, StartError, this_machine};
use corelane::flow::Pipeline;
use corelane::graph::{PipelineGraph, PrintError};
use corelane::observe::{Imbalance, Outcome};
use corelane::policy::{IdlePolicy, MemoryPoolOptions};
use corelane::pool::MemoryPool;
use corelane::topology::{CoreMap, CoreMapParseErrors};

use crate::args::{GraphArg, ProgressArg, RunOptions, SummaryArg, UsageError};
use crate::check;
use crate::config::{ConfigError, read_config};
use crate::delivery::{Delivery, Written};
use crate::exit::Exit;
use crate::job::InputFault;
use crate::measurements::Measurements;
use crate::otlp::{InputError, RepeatError};
use crate::output::{OutputError, print};
use crate::report::Ended;
use crate::signals::{Interrupts, Waited, Watch};
use crate::summary::{IdleSummary, MemorySummary, Summary, Told};

pub use nexmark_q5::nexmark_q5;
pub(crate) use trace_assembly::pool_limit;
pub use trace_assembly::{replay_requests, trace_assembly};

/// Time that the output is given to take the last lines after a run was stopped. A pipe that nobody reads would keep
/// the process for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why a job did not do all of its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The options contradict each other.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An input is not usable.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The length of the recording could not be measured.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// An input turned out not to be usable while it was read.
    #[error(transparent)]
    Fault(#[from] InputFault),
    /// The output is not usable.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A configuration file is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `--cores` is not a core map.
    #[error("--cores: {0}")]
    Cores(#[from] CoreMapParseErrors),
    /// The configuration or the graph that it makes is refused.
    #[error(transparent)]
    Problems(#[from] check::Problems),
    /// The graph cannot be written in the format that was asked for.
    #[error("the graph cannot be printed: {0}")]
    Print(#[from] PrintError),
    /// The pipeline could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operating system refused a thread or the handling of signals.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
    /// A stage failed.
    #[error("the pipeline {0}")]
    Pipeline(Outcome),
    /// Items are unaccounted for.
    #[error("the account does not close: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Account(Vec<Imbalance>),
    /// A thread of ours ended without saying why.
    #[error("internal error: the {0} thread panicked")]
    Panicked(&'static str),
    /// A signal ended it.
    #[error("{0} by a signal before the end of the input")]
    Stopped(Outcome),
    /// A signal asked for its end and a core did not answer, or the output did not take the last lines.
    #[error("stopped by a signal; {0}")]
    Stuck(&'static str),
}

impl From<&JobError> for Exit {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::Usage(_) => Exit::Usage,
            JobError::Input(error) => error.into(),
            JobError::Repeat(error) => error.into(),
            JobError::Fault(InputFault::Read(error)) => error.into(),
            JobError::Fault(InputFault::Decode(_)) => Exit::Input,
            JobError::Output(error) => error.into(),
            JobError::Config(ConfigError::Invalid { .. }) | JobError::Cores(_) => Exit::Placement,
            JobError::Config(error) => error.into(),
            JobError::Problems(problems) => problems.into(),
            JobError::Print(_) => Exit::Internal,
            JobError::Start(error) => error.into(),
            JobError::System(_) => Exit::Environment,
            JobError::Pipeline(_) | JobError::Account(_) => Exit::Pipeline,
            JobError::Panicked(_) => Exit::Internal,
            JobError::Stopped(_) | JobError::Stuck(_) => Exit::Stopped,
        }
    }
}

/// The configuration that the options name, and where stages run by them: the core map of the options, else that of the
/// configuration, else every stage on every core.
fn configured(options: &RunOptions) -> Result<(Config, CoreMap), JobError> {
    let config = check::load(&options.config)?;
    let core_map = match (&options.cores, &options.core_map) {
        (Some(line), _) => line.parse()?,
        (None, Some(path)) if path.to_string_lossy().contains('=') && !path.exists() => {
            let message = "no such file; a core map in one line goes with --cores".to_owned();
            return Err(ConfigError::Invalid { path: path.clone(), message }.into());
        }
        (None, Some(path)) => {
            let invalid = |errors: CoreMapParseErrors| ConfigError::Invalid {
                path: path.clone(),
                message: errors.to_string(),
            };
            CoreMap::from_toml(&read_config(path)?).map_err(invalid)?
        }
        (None, None) => config.core_map.clone().unwrap_or_default(),
    };
    Ok((config, core_map))
}

/// What rings, state and pool may take together.
fn memory_budget(options: &RunOptions, config: &Config) -> Option<u64> {
    options.memory_budget.or(config.memory.budget_bytes)
}

/// The engine's options. `pool_limit` goes before the limit of the configuration.
fn execution(
    options: &RunOptions,
    config: &Config,
    core_map: CoreMap,
    pool_limit: Option<u64>,
) -> ExecutionOptions {
    let memory_budget = memory_budget(options, config);
    let configured = configured_execution(config, core_map, memory_budget, pool_limit);
    let step_budget = options.step_budget.and_then(|items| usize::try_from(items).ok());
    ExecutionOptions {
        driver: options.driver.into(),
        idle: options.idle.map(IdlePolicy::from),
        step_budget: step_budget.unwrap_or(configured.step_budget),
        ..configured
    }
}

/// What of the engine's options a configuration can say.
pub(crate) fn configured_execution(
    config: &Config,
    core_map: CoreMap,
    memory_budget: Option<u64>,
    pool_limit: Option<u64>,
) -> ExecutionOptions {
    let pool = config.memory.pool.clone().unwrap_or_default();
    let pool = MemoryPoolOptions { limit_bytes: pool_limit.unwrap_or(pool.limit_bytes), ..pool };
    ExecutionOptions {
        core_map,
        memory_pool: MemoryPool::new(pool),
        memory_budget,
        ..ExecutionOptions::default()
    }
}

/// Writes the graph to standard output.
fn print_graph(format: GraphArg, graph: &PipelineGraph) -> Result<(), JobError> {
    let text = match format {
        GraphArg::Text => graph.to_string(),
        GraphArg::Dot => graph.to_dot(),
        GraphArg::Mermaid => graph.to_mermaid(),
        GraphArg::Svg => graph.to_svg(),
        GraphArg::Toml => graph.to_toml()?,
        GraphArg::Json => graph.to_json()?,
    };
    Ok(print(&format!("{}\n", text.trim_end()))?)
}

/// Catches signals from now on.
fn interrupts(options: &RunOptions) -> Result<Interrupts, JobError> {
    Interrupts::catch(Duration::from_nanos(options.drain_deadline.0)).map_err(JobError::System)
}

/// What parking costs on the cores that this process may use; a machine where that cannot be measured runs all the same.
fn park_price() -> Option<ParkPrice> {
    let cpus = this_machine().ok()?.allowed();
    measure_park(cpus.get(cpus.len() - 1)?, cpus.first()?, ParkProbe::default()).ok()
}

/// A pipeline under way.
struct Run<'a> {
    options: &'a RunOptions,
    running: Running,
    interrupts: Interrupts,
    idle: Option<IdleSummary>,
    /// About the graph.
    warnings: Vec<String>,
    measurements: Option<Measurements>,
}

/// What a job shows while it runs.
trait Screen {
    /// Shows how far it is.
    fn update(&mut self, running: &Running);

    /// Leaves the cursor at the start of a line of its own.
    fn make_way(&mut self);
}

/// What is done while a run is waited for.
struct Watcher<'a, S> {
    options: &'a RunOptions,
    measurements: &'a mut Option<Measurements>,
    screen: &'a mut S,
}

impl<S: Screen> Watch for Watcher<'_, S> {
    fn look(&mut self, running: &Running) {
        self.screen.update(running);
        if let Some(measurements) = self.measurements {
            measurements.update(running.elapsed(), &running.monitor());
        }
    }

    fn say(&mut self, text: &str) {
        self.make_way();
        say(self.options, text);
    }

    fn make_way(&mut self) {
        self.screen.make_way();
    }
}

/// A run that has ended, and what it left.
struct Over {
    ended: Ended,
    /// `None` if the output did not take the last lines, or if writing panicked.
    written: Option<Written>,
    /// It was stopped, or drained for too long.
    stopped: bool,
    /// A signal asked for the end.
    interrupted: bool,
    measured: Result<(), OutputError>,
}

impl<'a> Run<'a> {
    fn start(
        options: &'a RunOptions,
        pipeline: Pipeline,
        engine: &Engine,
        interrupts: Interrupts,
        measurements: Option<Measurements>,
    ) -> Result<Self, JobError> {
        let warnings = pipeline.warnings().iter().map(ToString::to_string).collect();
        // Before its partitions take the cores.
        let price = (options.summary() != SummaryArg::None).then(park_price).flatten();
        let running = engine.start(pipeline)?;
        let idle = price.map(|price| IdleSummary::new(running.idle(), &price));
        Ok(Run { options, running, interrupts, idle, warnings, measurements })
    }

    /// Waits for the end of the pipeline, and then for the last line.
    fn finish(mut self, delivery: Delivery, mut screen: impl Screen) -> Result<Over, JobError> {
        if let Driver::Thread { instead_of_glommio: Some(why) } = self.running.driver() {
            say(self.options, &format!("using the thread driver: {why}"));
        }
        let Run { options, running, interrupts, measurements, .. } = &mut self;
        let mut watcher = Watcher { options, measurements, screen: &mut screen };
        if interrupts.wait(running, &mut watcher) == Waited::Stuck {
            return Err(JobError::Stuck("a core did not end its step"));
        }
        screen.update(&self.running);
        screen.make_way();
        let (monitor, placement) = (self.running.monitor(), self.running.placement().clone());
        let driver = self.running.driver().to_string();
        let binding = self.running.memory_binding();
        let result = self.running.join();
        let measured = self.measurements.take().map_or(Ok(()), |measurements| measurements.finish(&monitor));
        let stopped = matches!(result.outcome, Outcome::Stopped | Outcome::DeadlineExceeded { .. });
        // The first error in the order of causes: a failed output fails the pipeline, not the other way round.
        let written = delivery.finish(stopped.then_some(LAST_LINES))?;
        let (graph, warnings) = (monitor.graph().clone(), self.warnings);
        // A system that does not say where pages lie has not let them be bound either.
        let memory = MemorySummary::new(binding, &monitor.held_pages().unwrap_or_default());
        let ended = Ended { result, graph, placement, driver, idle: self.idle, memory, warnings };
        Ok(Over { ended, written, stopped, interrupted: self.interrupts.came(), measured })
    }
}

impl Over {
    /// Finds what is wrong with the pipeline and its output.
    fn check(&self) -> Result<&Written, JobError> {
        let result = &self.ended.result;
        if matches!(result.outcome, Outcome::Failed { .. }) {
            return Err(JobError::Pipeline(result.outcome.clone()));
        }
        result.account.verify().map_err(JobError::Account)?;
        match &self.written {
            Some(written) => Ok(written),
            None if self.stopped => Err(JobError::Stuck("the output did not take the last lines")),
            None => Err(JobError::Panicked("writing")),
        }
    }
}

/// Whether to show progress on standard error.
fn shows_progress(options: &RunOptions) -> bool {
    match options.progress() {
        ProgressArg::Always => true,
        ProgressArg::Never => false,
        ProgressArg::Auto => io::stderr().is_terminal(),
    }
}

/// A line for the user who did not ask for silence. Standard error that cannot be written changes nothing.
fn say(options: &RunOptions, text: &str) {
    if !options.quiet {
        let _ = writeln!(io::stderr(), "corelane: {text}");
    }
}

/// The run is done and its output written: a standard error that cannot be written does not change that.
fn print_summary<J: Told>(style: SummaryArg, summary: &Summary<J>) {
    let _ = match style {
        SummaryArg::Text => write!(io::stderr(), "{summary}"),
        SummaryArg::Json => writeln!(io::stderr(), "{}", summary.to_json()),
        SummaryArg::None => Ok(()),
    };
}
