//! `corelane run trace-assembly`.

use std::fmt;
use std::io;
use std::path::Path;

use corelane::config::Config;
use corelane::engine::{Engine, Running};
use corelane::graph::GraphErrors;
use corelane::observe::Account;
use corelane::policy::MemoryPoolOptions;
use corelane::pool::MemoryPool;
use serde::Serialize;

use super::{JobError, Run, Screen, configured, execution, interrupts, memory_budget};
use super::{print_graph, print_summary, say, shows_progress};
use crate::args::TraceAssembly;
use crate::check;
use crate::clock::Clock;
use crate::delivery::{DeliverySink, Written};
use crate::job::{self, Fault, Feed, Feeding, JobParts, Tallies, TallyCounts};
use crate::measurements::Measurements;
use crate::otlp::{InputPath, InputProgress, Repeat, RequestReader};
use crate::output::{LineWriter, check_appendable};
use crate::progress::ProgressLine;
use crate::report::stage_account;
use crate::summary::{Bytes, LatencySummary, Told, per_second};
use crate::trace::AssemblyCounts;

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
    let (config, core_map) = configured(&job.run)?;
    let refused = |errors: GraphErrors| check::Problems::of_graph(&config, &errors);
    if let Some(format) = job.run.graph {
        let pipeline = job::build(JobParts::unconnected(rules, config.clone())).map_err(refused)?;
        return print_graph(format, pipeline.graph());
    }
    let requests = match requests {
        Some(requests) => requests,
        None => RequestReader::open(inputs.clone(), job.repeat)?,
    };
    let input = requests.progress();
    let pool_limit = pool_limit(job.pool_limit, memory_budget(&job.run, &config), &config);
    let execution = execution(&job.run, &config, core_map, pool_limit);
    let memory_pool = execution.memory_pool.clone();
    let engine = Engine::new(execution);
    let repeat = repeat(job, &inputs, &memory_pool)?;
    let (fault, tallies) = (Fault::default(), Tallies::default());
    let (feed, reader) = Feed::new(fault.clone());
    let (sink, writer) = DeliverySink::new();
    let parts = JobParts {
        feed,
        sink,
        rules,
        repeat,
        tallies: tallies.clone(),
        fault: fault.clone(),
        config: config.clone(),
        dead_letters: job.dead_letters.clone(),
    };
    let pipeline = job::build(parts).map_err(refused)?;
    // Before the output is emptied.
    engine.check(&pipeline)?;
    if let Some(path) = &job.dead_letters {
        check_appendable(path, &inputs, &job.output())?;
    }
    let measurements = job.run.metrics(Some(&job.output()))?;
    let measurements = measurements.map(|(output, every)| Measurements::new(output, every)).transpose()?;
    let output = LineWriter::open(&job.output(), &inputs)?;

    let clock = Clock::start();
    let interrupts = interrupts(&job.run)?;
    let delivery = writer.start(output, clock).map_err(JobError::System)?;
    let feeding = reader.start(requests, memory_pool, clock).map_err(JobError::System)?;
    let run = Run::start(&job.run, pipeline, &engine, interrupts, measurements)?;

    let line = ProgressLine::new(shows_progress(&job.run).then(io::stderr), input.clone());
    let over = run.finish(delivery, Progress { line, tallies: tallies.clone() })?;
    if let Some(fault) = fault.take() {
        return Err(fault.into());
    }
    let written = over.check()?;
    let all_read = all_read(&feeding, over.ended.result.processed_count);
    if !all_read && !over.interrupted {
        return Err(JobError::Panicked("reading"));
    }
    let told = Assembled::new(&over.ended.result.account, tallies.counts(), &input, written);
    let name = "last span of a complete trace read, to its line written";
    let latencies = vec![LatencySummary::new(name, &written.latencies)];
    let summary = over.ended.summary(told, latencies);
    over.measured?;
    let dead = summary.account.totals().dead_lettered;
    if let (1.., Some(path)) = (dead, &job.dead_letters) {
        say(&job.run, &format!("{dead} requests could not be decoded and are in {}", path.display()));
    }
    print_summary(job.run.summary(), &summary);
    let result = over.ended.result;
    if all_read && result.success { Ok(()) } else { Err(JobError::Stopped(result.outcome)) }
}

/// How passes over the input differ, if there are several.
fn repeat(job: &TraceAssembly, inputs: &[InputPath], memory_pool: &MemoryPool) -> Result<Repeat, JobError> {
    if job.repeat <= 1 {
        return Ok(Repeat::default());
    }
    Ok(Repeat::measure(RequestReader::open(inputs.to_vec(), 1)?.read_into(memory_pool)?)?)
}

/// The pool's limit: the one asked for, else that of the configuration, else a quarter of the budget.
pub(crate) fn pool_limit(asked: Option<u64>, budget: Option<u64>, config: &Config) -> Option<u64> {
    let by_default = MemoryPoolOptions::default().limit_bytes;
    let stated = config.memory.pool.as_ref().map(|pool| pool.limit_bytes);
    let stated = stated.filter(|bytes| *bytes != by_default);
    asked.or(stated).or(budget.map(|bytes| bytes / 4))
}

/// Whether all of the input was read, and all that was read has been taken.
fn all_read(feeding: &Feeding, taken: u64) -> bool {
    feeding.reached_end() && feeding.frames() == taken
}

/// The progress line of the job.
struct Progress {
    line: ProgressLine<io::Stderr>,
    tallies: Tallies,
}

impl Screen for Progress {
    fn update(&mut self, running: &Running) {
        let counts = counts(&running.account(), self.tallies.counts());
        self.line.update(running.elapsed(), counts.spans, counts.traces);
    }

    fn make_way(&mut self) {
        self.line.clear();
    }
}

/// What the summary tells of the job.
#[derive(Debug, Serialize)]
struct Assembled {
    /// Input bytes as stored (compressed), over all repetitions.
    input_bytes: u64,
    output_bytes: u64,
    counts: AssemblyCounts,
}

impl Assembled {
    fn new(account: &Account, tallies: TallyCounts, input: &InputProgress, written: &Written) -> Self {
        let counts = counts(account, tallies);
        Self { input_bytes: input.bytes_read(), output_bytes: written.bytes, counts }
    }
}

impl Told for Assembled {
    fn lines(&self, elapsed_s: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let rate = per_second(counts.spans, elapsed_s);
        let (requests, spans, bytes) = (counts.requests, counts.spans, Bytes(self.input_bytes));
        writeln!(f, "read    {requests} requests, {spans} spans from {bytes} ({rate:.0} spans/s)")?;
        writeln!(
            f,
            "        {} duplicate spans, {} bad spans left out",
            counts.duplicates, counts.bad_spans
        )?;
        writeln!(
            f,
            "traces  {}: {} complete, {} partial by time, {} partial at the end, {} reopened",
            counts.traces, counts.complete, counts.partial_by_ttl, counts.partial_at_end, counts.reopened
        )?;
        writeln!(
            f,
            "kept    {} ({}): {} with errors, {} slow, {} sampled; {} sampled out",
            counts.output_lines,
            Bytes(self.output_bytes),
            counts.kept_error,
            counts.kept_slow,
            counts.kept_sampled,
            counts.sampled_out
        )
    }
}

/// The counts of the reference, from the account.
fn counts(account: &Account, tallies: TallyCounts) -> AssemblyCounts {
    let stage = |id| stage_account(account, id);
    let (traces, rest) = (stage("traces"), stage("rest"));
    let kept = [stage("errors").emitted, stage("slow").emitted, rest.emitted];
    AssemblyCounts {
        requests: stage("spans").received,
        spans: traces.received,
        bad_spans: tallies.bad_spans,
        traces: tallies.traces,
        complete: traces.results_complete,
        partial_by_ttl: traces.results_expired,
        partial_at_end: traces.results_partial,
        reopened: tallies.reopened,
        duplicates: tallies.duplicates,
        kept_error: kept[0],
        kept_slow: kept[1],
        kept_sampled: kept[2],
        sampled_out: rest.filtered,
        output_lines: stage("write").delivered,
    }
}
