//! The output, written on a thread of its own, as a sink.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use corelane::stage::{Rejected, Sink, StageError, StageSite};
use corelane_stages::outbox::{self, Inbox, Outbox, ThreadGone};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::output::{LineWriter, OutputError};

/// Bytes that wait on the core for the thread before the sink takes no more.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Latencies above this count as this: a day.
const LONGEST_NS: u64 = 86_400_000_000_000;

/// A line of output.
#[derive(Debug)]
pub struct Line {
    /// With the newline.
    pub bytes: Vec<u8>,
    /// When the last of what it is made of was read, on the clock of the job, if its latency is to be measured; nanoseconds.
    pub read_at_ns: Option<u64>,
}

/// What was written in all.
#[derive(Debug)]
pub struct Written {
    /// Bytes handed to the operating system.
    pub bytes: u64,
    /// From when the last of a line's input was read to the line written, in nanoseconds.
    pub latencies: Histogram<u64>,
}

/// The thread that writes, as it goes.
pub struct Delivery {
    result: Receiver<Result<Written, OutputError>>,
}

/// Lines on their way to the thread.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// When what its lines are made of was read, of those whose latency is measured.
    read_at_ns: Vec<u64>,
}

impl outbox::Batch for Batch {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.read_at_ns.clear();
    }
}

/// The sink `write`. Clones share the way to the thread: only one of them is to run.
#[derive(Clone)]
pub struct DeliverySink(Outbox<Batch>);

/// The thread that writes, before it starts.
pub struct DeliveryThread {
    inbox: Inbox<Batch>,
    /// Latencies of what was read before are left out.
    measured_from_ns: u64,
}

impl DeliverySink {
    /// Both ends of the way from the core to the thread.
    pub fn new() -> (Self, DeliveryThread) {
        let (outbox, inbox) = Outbox::new();
        (Self(outbox), DeliveryThread { inbox, measured_from_ns: 0 })
    }
}

impl DeliveryThread {
    /// Leaves out the latencies of what was read before `ns`, on the clock of the job.
    #[must_use]
    pub fn measuring_from(self, ns: u64) -> Self {
        Self { measured_from_ns: ns, ..self }
    }

    /// Starts writing to `output`.
    ///
    /// # Errors
    ///
    /// The operating system's, when no thread can be started.
    pub fn start<W>(self, output: LineWriter<W>, clock: Clock) -> io::Result<Delivery>
    where
        W: Write + Send + 'static,
    {
        let latencies = Histogram::new_with_max(LONGEST_NS, 3).map_err(io::Error::other)?; // exact to 0.1 %
        let (ended, result) = bounded(1);
        // Not a partition: it blocks in the operating system, which a core must never do.
        thread::Builder::new().name("corelane-write".to_owned()).spawn(move || {
            let _ = ended.send(self.write(output, latencies, clock)); // there is room for one
        })?;
        Ok(Delivery { result })
    }

    fn write<W: Write>(
        self,
        mut output: LineWriter<W>,
        mut latencies: Histogram<u64>,
        clock: Clock,
    ) -> Result<Written, OutputError> {
        while let Some(batch) = self.inbox.take() {
            output.write(&batch.bytes)?;
            output.flush()?;
            let now_ns = clock.nanos();
            let measured = batch.read_at_ns.iter().filter(|at_ns| **at_ns >= self.measured_from_ns);
            let waited = measured.map(|at_ns| now_ns.saturating_sub(*at_ns));
            waited.for_each(|ns| latencies.saturating_record(ns));
            self.inbox.give_back(batch);
        }
        Ok(Written { bytes: output.finish()?, latencies })
    }
}

impl Delivery {
    /// Waits until everything handed over is written, at most `timeout`.
    ///
    /// `None` when it took longer, or when the thread panicked.
    ///
    /// # Errors
    ///
    /// What writing met.
    pub fn finish(self, timeout: Option<Duration>) -> Result<Option<Written>, OutputError> {
        let result = match timeout {
            None => self.result.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => self.result.recv_timeout(timeout),
        };
        result.map_or(Ok(None), |result| result.map(Some))
    }
}

/// What the thread met is in its result.
fn unwritable(_: ThreadGone) -> StageError {
    StageError::msg("the output cannot be written")
}

impl Sink for DeliverySink {
    type Item = Line;

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.0.wake(&site.doorbell);
        Ok(())
    }

    fn accept(&mut self, line: Line) -> Result<(), Rejected<Line>> {
        let batch = self.0.batch();
        batch.bytes.extend_from_slice(&line.bytes);
        batch.read_at_ns.extend(line.read_at_ns);
        Ok(())
    }

    fn room(&mut self) -> usize {
        self.0.room(MAX_WAITING_BYTES)
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.0.hand_over().map(drop).map_err(unwritable)
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        self.0.finish().map_err(unwritable)
    }
}
