//! The job `trace-assembly`, given the requests of a recording when they are due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use corelane::config::Config;
use corelane::engine::ExecutionOptions;
use corelane::graph::ValidatedGraph;
use corelane::pool::MemoryPool;

use super::{Load, LoadError, Ran, Schedule, Taken, run};
use crate::clock::Clock;
use crate::delivery::DeliverySink;
use crate::job::{self, Fault, Feed, InputFault, JobParts, Tallies};
use crate::otlp::{Frame, InputPath, Repeat, RequestReader, decode};
use crate::output::LineWriter;
use crate::trace::AssemblyRules;

/// The requests of a recording, over and over.
///
/// A thread of its own hands them over, as the one that reads files does. A request is due when the last of its spans is.
/// Latency is from there to the line of a complete trace, as `corelane run` measures it.
pub struct TraceLoad {
    rules: AssemblyRules,
    requests: Arc<[Recorded]>,
    repeat: Repeat,
}

/// A request in memory.
struct Recorded {
    frame: Frame,
    /// Spans of it and of all before it in the recording.
    spans_until: u64,
}

impl TraceLoad {
    /// Reads all of `inputs` into memory.
    ///
    /// # Errors
    /// [`LoadError`]: the input, or that there is nothing in it.
    pub fn read(inputs: Vec<InputPath>, rules: AssemblyRules) -> Result<Self, LoadError> {
        let frames: Result<Vec<Frame>, _> = RequestReader::open(inputs, 1)?
            .read_into(&MemoryPool::default())?
            .map(|frame| {
                // Of its own: the pool is for the pipeline.
                frame.map(|frame| Frame { bytes: Bytes::copy_from_slice(&frame.bytes), ..frame })
            })
            .collect();
        let frames = frames?;
        let (mut spans, mut requests) = (0, Vec::with_capacity(frames.len()));
        let repeat = Repeat::measure(frames.iter().cloned().map(Ok))?;
        for frame in frames {
            spans += decode(&frame)?.spans.len() as u64;
            requests.push(Recorded { frame, spans_until: spans });
        }
        if spans == 0 {
            return Err(LoadError::Empty);
        }
        Ok(Self { rules, requests: requests.into(), repeat })
    }

    /// The requests that `schedule` has spans for, each with when it is due.
    fn requests(&self, schedule: Schedule) -> impl Iterator<Item = (Frame, u64)> + Send + 'static {
        let requests = Arc::clone(&self.requests);
        let a_pass = requests.last().map_or(1, |last| last.spans_until.max(1));
        let numbered = (0..).flat_map(move |repetition: u32| {
            let requests = Arc::clone(&requests);
            (0..requests.len()).map(move |at| {
                let Recorded { frame, spans_until } = &requests[at];
                let index = u64::from(repetition) * requests.len() as u64 + at as u64;
                let spans = u64::from(repetition) * a_pass + spans_until;
                (Frame { index, repetition, ..frame.clone() }, spans)
            })
        });
        numbered
            .take_while(move |(_, spans)| *spans <= schedule.items())
            .map(move |(frame, spans)| (frame, schedule.due_ns(spans.saturating_sub(1))))
    }
}

impl Load for TraceLoad {
    fn graph(&self) -> Result<ValidatedGraph, LoadError> {
        let pipeline = job::build(JobParts::unconnected(self.rules, Config::default()))?;
        Ok(pipeline.validated().clone())
    }

    fn items(&self) -> &'static str {
        "spans"
    }

    fn measured_share(&self) -> f64 {
        // Complete traces that are kept.
        0.01
    }

    fn run(
        &self,
        options: ExecutionOptions,
        schedule: Schedule,
        interrupted: &AtomicBool,
    ) -> Result<Taken, LoadError> {
        let (fault, tallies) = (Fault::default(), Tallies::default());
        let (feed, reader) = Feed::new(fault.clone());
        let (sink, writer) = DeliverySink::new();
        let (rules, repeat) = (self.rules, self.repeat);
        let config = Config::default();
        let dead_letters = None;
        let parts =
            JobParts { feed, sink, rules, repeat, tallies, fault: fault.clone(), config, dead_letters };
        let pipeline = job::build(parts)?;
        let clock = Clock::start();
        let nowhere = LineWriter::new("nowhere".to_owned(), io::sink());
        let delivery = writer.measuring_from(schedule.measured_from_ns()).start(nowhere, clock)?;
        reader.start_at(self.requests(schedule), clock)?;
        let ran = run(pipeline, options, &schedule, interrupted)?;
        let written = delivery.finish(Some(Duration::from_secs(1)));
        match fault.take() {
            Some(InputFault::Read(error)) => return Err(error.into()),
            Some(InputFault::Decode(error)) => return Err(error.into()),
            None => {}
        }
        match (ran, written) {
            (Ran::TooMuch, _) => Ok(Taken::TooMuch),
            (Ran::Interrupted, _) => Ok(Taken::Interrupted),
            (Ran::Done, Ok(Some(written))) => Ok(Taken::All(written.latencies)),
            (Ran::Done, _) => Err(LoadError::Failed("the lines were not written".to_owned())),
        }
    }
}
