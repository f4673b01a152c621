//! Configuration files: reading several as one, and `corelane check`, which says what is wrong with them without
//! running anything.

use std::fmt;
use std::path::{Path, PathBuf};

use corelane::config::{Config, ConfigError, MemorySettings};
use corelane::driver::{DriverChoice, LaunchError};
use corelane::engine::{Engine, ExecutionOptions, StartError};
use corelane::flow::Pipeline;
use corelane::graph::{GraphError, GraphErrors, StageOverrides};
use corelane::model::counted;
use corelane::policy::{MemoryPoolOptions, PolicyRegistry};
use corelane::topology::{CoreMap, Placement};

use crate::args::{Check, JobArg};
use crate::config::read_config;
use crate::exit::Exit;
use crate::hottest::{self, Parts};
use crate::job::{self, JobParts};
use crate::output::{OutputError, print};
use crate::run::{configured_execution, pool_limit};
use crate::trace::{AssemblyRules, SampleThreshold, SamplingRules};

/// Any rules: they are not checked here, and the stages are the same under all.
const RULES: AssemblyRules = AssemblyRules {
    sampling: SamplingRules { slow_ns: 0, sample: SampleThreshold::ALL },
    ttl_ns: 1_000_000_000,
    lag_ns: 0,
};

/// Everything that is wrong with a configuration, one line each; at least one.
#[derive(Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    lines: Vec<String>,
    /// Whether one of them is about more than the core map.
    beside_core_map: bool,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&counted(self.lines.len(), "problem"))?;
        self.lines.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

impl From<&Problems> for Exit {
    fn from(problems: &Problems) -> Self {
        if problems.beside_core_map { Exit::Config } else { Exit::Placement }
    }
}

impl Problems {
    fn add(&mut self, line: impl fmt::Display) {
        self.lines.push(line.to_string());
        self.beside_core_map = true;
    }

    fn add_core_map(&mut self, line: impl fmt::Display) {
        self.lines.push(line.to_string());
    }

    fn add_config(&mut self, errors: &[ConfigError]) {
        for error in errors {
            self.lines.push(error.to_string());
            self.beside_core_map |= !error.is_core_map();
        }
    }

    /// The errors of a graph that `config` changed, each with the place of the setting it comes from; without those
    /// that `config` is known to have.
    fn add_graph(&mut self, config: &Config, errors: &GraphErrors) {
        for error in errors.errors().iter().filter(|error| !config.is_known(error)) {
            let line = match (config.place_of(error), error) {
                (Some(place), GraphError::UnknownPolicy { problem, .. }) => format!("{place}: {problem}"),
                (Some(place), error) => format!("{place}: {error}"),
                (None, error) => error.to_string(),
            };
            // A setting of a stage is one of each of its edges.
            if !self.lines.contains(&line) {
                self.add(line);
            }
        }
    }

    /// The errors of a graph that a configuration without errors changed.
    pub fn of_graph(config: &Config, errors: &GraphErrors) -> Self {
        let mut problems = Self::default();
        problems.add_graph(config, errors);
        problems
    }

    fn none_or<T>(self, value: T) -> Result<T, Self> {
        if self.lines.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// Why `corelane check` does not say that all is well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Something is wrong with the files.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] StartError),
    /// The summary could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<&CheckError> for Exit {
    fn from(error: &CheckError) -> Self {
        match error {
            CheckError::Problems(problems) => problems.into(),
            CheckError::Machine(error) => error.into(),
            CheckError::Output(error) => error.into(),
        }
    }
}

/// Reads the files as one configuration.
///
/// # Errors
///
/// Everything that is wrong with them, but for what only the graph can tell.
pub fn load(files: &[PathBuf]) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let config = examine(files, &mut problems);
    problems.none_or(config)
}

fn examine(files: &[PathBuf], problems: &mut Problems) -> Config {
    let mut texts = Vec::new();
    for file in files {
        match read_config(file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(error) => problems.add(error),
        }
    }
    let texts = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    let (config, errors) = Config::examine(texts);
    problems.add_config(&errors);
    config
}

/// Checks the files and the graph and the placement that they make, and prints a summary to standard output.
///
/// # Errors
///
/// [`CheckError`], with all problems at once.
pub fn check(options: &Check) -> Result<(), CheckError> {
    let mut problems = Problems::default();
    let config = examine(&options.files, &mut problems);
    let pipeline = match build(options.job, config.clone()) {
        Ok(pipeline) => Some(pipeline),
        Err(errors) => {
            problems.add_graph(&config, &errors);
            // Without the settings there is a graph whose stages the core map can be held against.
            build(options.job, Config::default()).ok()
        }
    };
    let summary =
        pipeline.map(|pipeline| place(options.job, &config, &pipeline, &mut problems)).transpose()?;
    let summary = problems.none_or(summary.flatten().unwrap_or_default())?;
    Ok(print(&format!("{}: ok\n{summary}", names(&options.files)))?)
}

/// The pipeline of a job, with nothing behind its ends.
pub(crate) fn build(job: JobArg, config: Config) -> Result<Pipeline, GraphErrors> {
    match job {
        JobArg::TraceAssembly => job::build(JobParts::unconnected(RULES, config)),
        JobArg::NexmarkQ5 => hottest::build(Parts::unconnected(config)),
    }
}

/// Places the pipeline on this machine, plans it and shares the memory out; what came of it, if nothing is wrong.
fn place(
    job: JobArg,
    config: &Config,
    pipeline: &Pipeline,
    problems: &mut Problems,
) -> Result<Option<String>, StartError> {
    let budget = config.memory.budget_bytes;
    let pool_limit = match job {
        JobArg::TraceAssembly => pool_limit(None, budget, config),
        JobArg::NexmarkQ5 => None,
    };
    let core_map = config.core_map.clone().unwrap_or_default();
    // Which driver there is here is no matter of the files.
    let execution = ExecutionOptions {
        driver: DriverChoice::Thread,
        ..configured_execution(config, core_map, budget, pool_limit)
    };
    match Engine::new(execution).check(pipeline) {
        Ok(placement) => return Ok(Some(summary(config, pipeline, &placement))),
        Err(StartError::CoreMap(errors)) => errors.iter().for_each(|error| problems.add_core_map(error)),
        Err(StartError::Launch(LaunchError::Plan(errors))) => {
            for error in &errors {
                if error.is_core_map() { problems.add_core_map(error) } else { problems.add(error) }
            }
        }
        Err(StartError::Launch(error)) => problems.add(error),
        Err(error) => return Err(error),
    }
    Ok(None)
}

fn summary(config: &Config, pipeline: &Pipeline, placement: &Placement) -> String {
    let mut text = format!("policies: {}\n", policies(&config.policies));
    let core_map = config
        .core_map
        .as_ref()
        .map_or_else(|| format!("none given, as {}", CoreMap::default()), ToString::to_string);
    text += &format!("core map: {core_map}\n");
    text += &format!("memory:   {}\n", memory(&config.memory));
    let stages: Vec<String> = config.stages.iter().map(|(id, stage)| changes(id.as_str(), stage)).collect();
    text += &format!(
        "stages:   {}\n",
        if stages.is_empty() { "as in the code".into() } else { stages.join("; ") }
    );
    let graph = pipeline.graph();
    text += &format!(
        "pipeline: {}, {} and {} on {}\n",
        graph.id.as_deref().unwrap_or_default(),
        counted(graph.nodes.len(), "stage"),
        counted(graph.edges.len(), "edge"),
        counted(placement.partitions.len(), "core")
    );
    let notes = pipeline.warnings().iter().map(ToString::to_string);
    let notes = notes.chain(placement.warnings.iter().map(ToString::to_string));
    notes.for_each(|note| text += &format!("note:     {note}\n"));
    text
}

fn policies(registry: &PolicyRegistry) -> String {
    let PolicyRegistry { error_policies, backpressure_policies, circuit_breaker_policies, buffer_policies } =
        registry;
    let counts = [
        (error_policies.len(), "of errors"),
        (backpressure_policies.len(), "of backpressure"),
        (circuit_breaker_policies.len(), "of circuit breakers"),
        (buffer_policies.len(), "of buffers"),
    ];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, kind)| format!("{n} {kind}"));
    let counts: Vec<String> = counts.collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

/// `at most 1000 bytes; pool of at most 500 bytes, checked`.
fn memory(settings: &MemorySettings) -> String {
    let budget =
        settings.budget_bytes.map_or("no budget".to_owned(), |bytes| format!("at most {bytes} bytes"));
    let Some(MemoryPoolOptions { limit_bytes, huge_pages, checked, preallocate, .. }) = &settings.pool else {
        return format!("{budget}; pool as by default");
    };
    let mut text = format!("{budget}; pool of at most {limit_bytes} bytes");
    let flags = [("huge pages", *huge_pages), ("checked", *checked)];
    flags.iter().filter(|(_, set)| *set).for_each(|(flag, _)| text += &format!(", {flag}"));
    preallocate
        .iter()
        .for_each(|one| text += &format!(", {} buffers of {} bytes ready", one.count, one.size));
    text
}

/// `decode (parallelism, buffer)`.
fn changes(id: &str, stage: &StageOverrides) -> String {
    let StageOverrides { parallelism, buffer, backpressure, error_policy, circuit_breaker, inputs } = stage;
    let fields = [
        ("parallelism", parallelism.is_some()),
        ("buffer", buffer.is_some()),
        ("backpressure", backpressure.is_some()),
        ("error-policy", error_policy.is_some()),
        ("circuit-breaker", circuit_breaker.is_some()),
        ("inputs", !inputs.is_empty()),
    ];
    let given: Vec<&str> = fields.iter().filter(|(_, given)| *given).map(|(field, _)| *field).collect();
    format!("{id} ({})", given.join(", "))
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|file| Path::display(file).to_string()).collect::<Vec<_>>().join(", ")
}
