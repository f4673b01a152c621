//! `corelane run`: the jobs, from parsed options to written output.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use corelane::config::Config;
use corelane::driver::Driver;
use corelane::engine::{Engine, ExecutionOptions, Running, StartError, this_machine};
use corelane::flow::Pipeline;
use corelane::graph::{GraphErrors, PipelineGraph, PrintError, StageNode};
use corelane::observe::{Imbalance, Outcome};
use corelane::policy::{IdlePolicy, MemoryPoolOptions};
use corelane::pool::MemoryPool;
use corelane::topology::{CoreMap, CoreMapParseErrors};

use crate::args::{GraphArg, SummaryArg, TraceAssembly, UsageError};
use crate::check;
use crate::clock::Clock;
use crate::config::{ConfigError, read_config};
use crate::exit::Exit;
use crate::job::{self, Delivery, Fault, Feed, Feeding, Handover, InputFault, JobParts, Tallies};
use crate::measurements::Measurements;
use crate::otlp::{InputError, InputPath, InputProgress, Repeat, RepeatError, RequestReader};
use crate::output::{LineWriter, OutputError, check_appendable, print};
use crate::progress::ProgressLine;
use crate::report::{Ended, counts};
use crate::signals::{Interrupts, Waited};
use crate::summary::Summary;

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

/// Runs `corelane run trace-assembly` on the cores of the core map.
///
/// Inputs, options, core map and driver are checked before the output is touched.
///
/// # Errors
///
/// [`JobError`]; output written before stays.
pub fn trace_assembly(job: &TraceAssembly) -> Result<(), JobError> {
    run(job, job.inputs()?, None)
}

/// As [`trace_assembly`], with requests that stood in `file`.
///
/// # Errors
///
/// As [`trace_assembly`].
pub fn replay_requests(job: &TraceAssembly, requests: RequestReader, file: &Path) -> Result<(), JobError> {
    run(job, vec![InputPath::File(file.to_path_buf())], Some(requests))
}

fn run(job: &TraceAssembly, inputs: Vec<InputPath>, requests: Option<RequestReader>) -> Result<(), JobError> {
    let rules = job.rules()?;
    let config = check::load(&job.config)?;
    let core_map = core_map(job, &config)?;
    let refused = |errors: GraphErrors| check::Problems::of_graph(&config, &errors);
    if let Some(format) = job.graph {
        let pipeline = job::build(JobParts::unconnected(rules, config.clone())).map_err(refused)?;
        return print_graph(format, pipeline.graph());
    }
    let requests = match requests {
        Some(requests) => requests,
        None => RequestReader::open(inputs.clone(), job.repeat)?,
    };
    let input = requests.progress();
    let memory_budget = job.memory_budget.or(config.memory.budget_bytes);
    let memory_pool = MemoryPool::new(pool_options(job, &config, memory_budget));
    let repeat = if job.repeat > 1 {
        Repeat::measure(RequestReader::open(inputs.clone(), 1)?.read_into(&memory_pool)?)?
    } else {
        Repeat::default()
    };
    let (fault, tallies) = (Fault::default(), Tallies::default());
    let (feed, reader) = Feed::new(fault.clone());
    let (handover, writer) = Handover::new();
    let (tally, config) = (tallies.clone(), config.clone());
    let (fault_there, dead_letters) = (fault.clone(), job.dead_letters.clone());
    let parts =
        JobParts { feed, handover, rules, repeat, tallies: tally, fault: fault_there, config, dead_letters };
    let pipeline = job::build(parts).map_err(refused)?;
    let options = ExecutionOptions {
        driver: job.driver.into(),
        core_map,
        idle: job.idle.map(IdlePolicy::from),
        memory_pool: memory_pool.clone(),
        memory_budget,
        ..ExecutionOptions::default()
    };
    check_start(&pipeline, &options)?;
    let warnings = pipeline.warnings().iter().map(ToString::to_string).collect();
    if let Some(path) = &job.dead_letters {
        check_appendable(path, &inputs, &job.output())?;
    }
    let measurements = job.metrics()?.map(|(output, every)| Measurements::new(output, every)).transpose()?;
    let output = LineWriter::open(&job.output(), &inputs)?;

    let clock = Clock::start();
    let interrupts =
        Interrupts::catch(Duration::from_nanos(job.drain_deadline.0)).map_err(JobError::System)?;
    let delivery = writer.start(output, clock).map_err(JobError::System)?;
    let feeding = reader.start(requests, memory_pool, clock).map_err(JobError::System)?;
    let running = Engine::new(options).start(pipeline)?;
    Run { job, running, interrupts, delivery, feeding, input, fault, tallies, warnings, measurements }
        .finish()
}

/// The pool's options: its limit from the command line, else from the configuration, else a quarter of the budget.
fn pool_options(job: &TraceAssembly, config: &Config, budget: Option<u64>) -> MemoryPoolOptions {
    let by_default = MemoryPoolOptions::default().limit_bytes;
    let options = config.memory.pool.clone().unwrap_or_default();
    let stated = Some(options.limit_bytes).filter(|bytes| *bytes != by_default);
    let limit = job.pool_limit.or(stated).or(budget.map(|bytes| bytes / 4));
    MemoryPoolOptions { limit_bytes: limit.unwrap_or(by_default), ..options }
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

/// The core map of the options, else that of the configuration, else every stage on every core.
fn core_map(job: &TraceAssembly, config: &Config) -> Result<CoreMap, JobError> {
    if let Some(line) = &job.cores {
        return Ok(line.parse()?);
    }
    let Some(path) = &job.core_map else { return Ok(config.core_map.clone().unwrap_or_default()) };
    let invalid =
        |errors: CoreMapParseErrors| ConfigError::Invalid { path: path.clone(), message: errors.to_string() };
    Ok(CoreMap::from_toml(&read_config(path)?).map_err(invalid)?)
}

/// Finds what would keep the pipeline from starting, so that it shows before the output is emptied.
fn check_start(pipeline: &Pipeline, options: &ExecutionOptions) -> Result<(), StartError> {
    options.driver.resolve().map_err(StartError::Driver)?;
    options.core_map.resolve(&this_machine()?, &pipeline.stages())?;
    Ok(())
}

/// A job under way.
struct Run<'a> {
    job: &'a TraceAssembly,
    running: Running,
    interrupts: Interrupts,
    delivery: Delivery,
    feeding: Feeding,
    input: InputProgress,
    fault: Fault,
    tallies: Tallies,
    /// About the graph.
    warnings: Vec<String>,
    measurements: Option<Measurements>,
}

impl Run<'_> {
    fn finish(mut self) -> Result<(), JobError> {
        if let Driver::Thread { instead_of_glommio: Some(why) } = self.running.driver() {
            say(self.job, &format!("using the thread driver: {why}"));
        }
        if self.wait() == Waited::Stuck {
            return Err(JobError::Stuck("a core did not end its step"));
        }
        let (monitor, placement) = (self.running.monitor(), self.running.placement().clone());
        let driver = self.running.driver().to_string();
        let result = self.running.join();
        let measured = self.measurements.take().map_or(Ok(()), |measurements| measurements.finish(&monitor));
        let stopped = matches!(result.outcome, Outcome::Stopped | Outcome::DeadlineExceeded { .. });
        // The first error in the order of causes: a failed output fails the pipeline, not the other way round.
        let written = self.delivery.finish(stopped.then_some(LAST_LINES))?;
        if let Some(fault) = self.fault.take() {
            return Err(fault.into());
        }
        if matches!(result.outcome, Outcome::Failed { .. }) {
            return Err(JobError::Pipeline(result.outcome));
        }
        result.account.verify().map_err(JobError::Account)?;
        let all_read = self.feeding.reached_end() && self.feeding.frames() == result.processed_count;
        match written {
            None if stopped => return Err(JobError::Stuck("the output did not take the last lines")),
            None => return Err(JobError::Panicked("writing")),
            Some(_) if !all_read && !self.interrupts.came() => return Err(JobError::Panicked("reading")),
            Some(_) => {}
        }
        measured?;
        let dead = result.account.totals().dead_lettered;
        if let (1.., Some(path)) = (dead, &self.job.dead_letters) {
            say(self.job, &format!("{dead} requests could not be decoded and are in {}", path.display()));
        }
        let kind = |node: &StageNode| (node.id.clone(), node.kind.to_string());
        let ended = Ended {
            result: &result,
            kinds: monitor.graph().nodes.iter().map(kind).collect(),
            placement: &placement,
            driver,
            tallies: self.tallies.counts(),
            warnings: self.warnings,
            input_bytes: self.input.bytes_read(),
            written: written.as_ref(),
        };
        print_summary(self.job.summary(), &ended.summary());
        if all_read && result.success { Ok(()) } else { Err(JobError::Stopped(result.outcome)) }
    }

    fn wait(&mut self) -> Waited {
        let Run { job, running, interrupts, tallies, input, measurements, .. } = self;
        let mut progress = ProgressLine::stderr(job.progress(), input.clone());
        let look = |running: &Running| {
            let counts = counts(&running.account(), tallies.counts());
            progress.update(running.elapsed(), counts.spans, counts.traces);
            if let Some(measurements) = measurements {
                measurements.update(running.elapsed(), &running.monitor());
            }
        };
        let waited = interrupts.wait(running, look, |text| say(job, text));
        progress.clear();
        waited
    }
}

/// A line for the user who did not ask for silence. Standard error that cannot be written changes nothing.
fn say(job: &TraceAssembly, text: &str) {
    if !job.quiet {
        let _ = writeln!(io::stderr(), "corelane: {text}");
    }
}

/// The run is done and its output written: a standard error that cannot be written does not change that.
fn print_summary(style: SummaryArg, summary: &Summary) {
    let _ = match style {
        SummaryArg::Text => write!(io::stderr(), "{summary}"),
        SummaryArg::Json => writeln!(io::stderr(), "{}", summary.to_json()),
        SummaryArg::None => Ok(()),
    };
}
