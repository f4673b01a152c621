//! The output, written on a thread of its own, as a sink.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use corelane::stage::{Rejected, Sink, StageError, StageSite};
use corelane::sync::Doorbell;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::output::{LineWriter, OutputError};

/// Bytes that wait on the core for the thread before the sink takes no more.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Latencies above this count as this: a day.
const LONGEST_NS: u64 = 86_400_000_000_000;

/// A line of output.
#[derive(Debug)]
pub(crate) struct Line {
    /// With the newline.
    pub(crate) bytes: Vec<u8>,
    /// When the last of what it is made of was read, on the clock of the job, if its latency is to be measured; nanoseconds.
    pub(crate) read_at_ns: Option<u64>,
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

#[derive(Default)]
struct Shared {
    /// Of the core that hands lines over, once it is known.
    doorbell: OnceLock<Arc<Doorbell>>,
    /// The thread has ended.
    done: AtomicBool,
}

impl Shared {
    fn ring(&self) {
        if let Some(doorbell) = self.doorbell.get() {
            doorbell.ring();
        }
    }
}

/// What the sink `write` is made of. Clones share it; there is one sink.
#[derive(Clone)]
pub struct Handover {
    // One batch may wait while another is written: lines collect on the core meanwhile, so that batches grow when
    // the output is slow and are small when it is not.
    batches: Sender<Batch>,
    /// Empty again, to be filled.
    used: Receiver<Batch>,
    shared: Arc<Shared>,
}

/// The thread that writes, before it starts.
pub struct DeliveryThread {
    batches: Receiver<Batch>,
    used: Sender<Batch>,
    shared: Arc<Shared>,
    /// Latencies of what was read before are left out.
    measured_from_ns: u64,
}

impl Handover {
    /// Both ends of the way from the core to the thread.
    pub fn new() -> (Self, DeliveryThread) {
        let (batches, filled) = bounded(1);
        let (returned, used) = bounded(2);
        let shared = Arc::<Shared>::default();
        let thread = DeliveryThread {
            batches: filled,
            used: returned,
            shared: Arc::clone(&shared),
            measured_from_ns: 0,
        };
        (Handover { batches, used, shared }, thread)
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
            let _end = Ended(Arc::clone(&self.shared)); // also after a panic: the sink must not wait for ever
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
        for mut batch in &self.batches {
            self.shared.ring(); // there is room for the next
            output.write(&batch.bytes)?;
            output.flush()?;
            let now_ns = clock.nanos();
            let measured = batch.read_at_ns.iter().filter(|at_ns| **at_ns >= self.measured_from_ns);
            let waited = measured.map(|at_ns| now_ns.saturating_sub(*at_ns));
            waited.for_each(|ns| latencies.saturating_record(ns));
            batch.bytes.clear();
            batch.read_at_ns.clear();
            let _ = self.used.try_send(batch); // only saves an allocation
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

/// Says that the thread has ended, however it does.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
        self.0.ring();
    }
}

/// The sink `write`.
pub(crate) struct DeliverySink {
    /// `None` once everything has been handed over.
    batches: Option<Sender<Batch>>,
    used: Receiver<Batch>,
    shared: Arc<Shared>,
    batch: Batch,
}

impl DeliverySink {
    pub(crate) fn new(handover: Handover) -> Self {
        let Handover { batches, used, shared } = handover;
        DeliverySink { batches: Some(batches), used, shared, batch: Batch::default() }
    }

    /// Hands over what has been collected. True if nothing is left here.
    fn hand_over(&mut self) -> Result<bool, StageError> {
        let Some(batches) = &self.batches else { return Ok(true) };
        if self.batch.bytes.is_empty() {
            return Ok(true);
        }
        match batches.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => {
                self.batch = self.used.try_recv().unwrap_or_default();
                Ok(true)
            }
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                Ok(false)
            }
            // What it met is in its result.
            Err(TrySendError::Disconnected(_)) => Err(StageError::msg("the output cannot be written")),
        }
    }
}

impl Sink for DeliverySink {
    type Item = Line;

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.shared.doorbell.get_or_init(|| Arc::clone(&site.doorbell));
        Ok(())
    }

    fn accept(&mut self, line: Line) -> Result<(), Rejected<Line>> {
        self.batch.bytes.extend_from_slice(&line.bytes);
        self.batch.read_at_ns.extend(line.read_at_ns);
        Ok(())
    }

    fn room(&mut self) -> usize {
        // Asked on every step, so this is where a batch that found the channel full is tried again. An error is met
        // again, and reported, by `flush` or `finish`.
        match self.hand_over() {
            Ok(_) if self.batch.bytes.len() < MAX_WAITING_BYTES => usize::MAX,
            Ok(_) => 0,
            Err(_) => usize::MAX,
        }
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.hand_over().map(drop)
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        if !self.hand_over()? {
            return Ok(false);
        }
        self.batches = None; // the thread sees the end after the last batch
        Ok(self.shared.done.load(Ordering::Acquire))
    }
}
