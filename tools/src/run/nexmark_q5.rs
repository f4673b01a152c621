//! `corelane run nexmark-q5`.

use std::fmt;
use std::io::{self, IsTerminal};

use corelane::engine::{Engine, Running};
use corelane::graph::GraphErrors;
use serde::Serialize;

use super::{JobError, Run, Screen, configured, execution, interrupts};
use super::{print_graph, print_summary, shows_progress};
use crate::args::NexmarkQ5;
use crate::check;
use crate::clock::Clock;
use crate::delivery::DeliverySink;
use crate::hottest::{self, Board, Parts, Reached, Table};
use crate::measurements::Measurements;
use crate::output::LineWriter;
use crate::report::stage_account;
use crate::summary::{Bytes, Told, per_second};

/// Runs `corelane run nexmark-q5` on the cores of the core map.
///
/// Options, core map and driver are checked before the output is touched.
///
/// # Errors
///
/// [`JobError`]; output written before stays.
pub fn nexmark_q5(job: &NexmarkQ5) -> Result<(), JobError> {
    let (config, core_map) = configured(&job.run)?;
    let (sink, writer) = DeliverySink::new();
    let board = Board::default();
    let parts = Parts {
        settings: job.settings(),
        pace: job.pace(),
        board: board.clone(),
        sink,
        config: config.clone(),
    };
    let refused = |errors: GraphErrors| check::Problems::of_graph(&config, &errors);
    let pipeline = hottest::build(parts).map_err(refused)?;
    if let Some(format) = job.run.graph {
        return print_graph(format, pipeline.graph());
    }
    let engine = Engine::new(execution(&job.run, &config, core_map, None));
    // Before the output is emptied.
    engine.check(&pipeline)?;
    let table = shows_progress(&job.run);
    let lines = job.output(table && io::stdout().is_terminal());
    let measurements = job.run.metrics(lines.as_ref())?;
    let measurements = measurements.map(|(output, every)| Measurements::new(output, every)).transpose()?;
    let output = lines.map(|lines| LineWriter::open(&lines, &[])).transpose()?;

    let clock = Clock::start();
    let interrupts = interrupts(&job.run)?;
    let delivery = match output {
        Some(output) => writer.start(output, clock),
        None => writer.start(LineWriter::new("nowhere".to_owned(), io::sink()), clock),
    };
    let delivery = delivery.map_err(JobError::System)?;
    let run = Run::start(&job.run, pipeline, &engine, interrupts, measurements)?;
    let screen = Live { table: Table::new(table.then(io::stderr)), board, reached: Reached::of(job.events) };
    let over = run.finish(delivery, screen)?;
    let written = over.check()?;
    let stage = |id| stage_account(&over.ended.result.account, id);
    let told = Answered {
        events: stage("events").emitted,
        bids: stage("bids").emitted,
        rows: stage("write").delivered,
        output_bytes: written.bytes,
    };
    let all = told.events == job.events;
    let summary = over.ended.summary(told, Vec::new());
    over.measured?;
    print_summary(job.run.summary(), &summary);
    let result = over.ended.result;
    if all && result.success { Ok(()) } else { Err(JobError::Stopped(result.outcome)) }
}

/// The table on the screen.
struct Live {
    table: Table<io::Stderr>,
    board: Board,
    reached: Reached,
}

impl Screen for Live {
    fn update(&mut self, running: &Running) {
        self.reached.elapsed = running.elapsed();
        self.reached.events = stage_account(&running.account(), "events").emitted;
        self.table.update(self.board.take(), self.reached);
    }

    fn make_way(&mut self) {
        self.table.leave(self.reached);
    }
}

/// What the summary tells of the job.
#[derive(Debug, Serialize)]
struct Answered {
    events: u64,
    bids: u64,
    rows: u64,
    output_bytes: u64,
}

impl Told for Answered {
    fn lines(&self, elapsed_s: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, bids, rows, output_bytes } = self;
        let rate = per_second(*events, elapsed_s);
        writeln!(f, "made    {events} events, {bids} bids ({rate:.0} events/s)")?;
        writeln!(f, "answer  {rows} rows ({})", Bytes(*output_bytes))
    }
}
