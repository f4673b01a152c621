//! Latencies of many instances in one histogram.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;

use super::Schedule;
use crate::clock::Clock;

/// Latencies above this count as this, in nanoseconds: a minute.
const LONGEST_NS: u64 = 60_000_000_000;
/// Of faster schedules only so many items a second are measured: a reading of the clock costs as much as the work for an item.
const MEASURED_PER_SECOND: f64 = 500_000.0;

/// An empty histogram, exact to a thousandth.
pub(super) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(io::Error::other)
}

/// The latencies of all instances that have ended.
pub(super) struct Recorded(Arc<Mutex<Histogram<u64>>>);

impl Recorded {
    /// All of them.
    pub(super) fn take(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes the latencies of one instance. Clones are empty and hand over to the same place when they are dropped.
pub(super) struct Recorder {
    clock: Clock,
    from_ns: u64,
    /// Items whose number has none of these bits are measured.
    mask: u64,
    own: Histogram<u64>,
    all: Arc<Mutex<Histogram<u64>>>,
}

impl Recorder {
    /// The first one.
    pub(super) fn new(schedule: &Schedule, clock: Clock) -> io::Result<Self> {
        let per_second = schedule.items() as f64 / schedule.lasts().as_secs_f64().max(1e-3);
        let one_in = (per_second / MEASURED_PER_SECOND).ceil().max(1.0) as u64;
        Ok(Self {
            clock,
            from_ns: schedule.measured_from_ns(),
            mask: one_in.next_power_of_two() - 1,
            own: histogram()?,
            all: Arc::new(Mutex::new(histogram()?)),
        })
    }

    /// Where all of them hand over what they have.
    pub(super) fn recorded(&self) -> Recorded {
        Recorded(Arc::clone(&self.all))
    }

    /// The clock of the run.
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Items with a random number that has none of these bits are measured.
    pub(super) fn mask(&self) -> u64 {
        self.mask
    }

    /// An item that was due at `due_ns` is done.
    #[inline]
    pub(super) fn done(&mut self, due_ns: u64) {
        if due_ns >= self.from_ns {
            self.own.saturating_record(self.clock.nanos().saturating_sub(due_ns));
        }
    }
}

impl Clone for Recorder {
    fn clone(&self) -> Self {
        let own = Histogram::new_from(&self.own);
        Self { clock: self.clock, from_ns: self.from_ns, mask: self.mask, own, all: Arc::clone(&self.all) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Both have the same bounds.
        let _ = all.add(&self.own);
    }
}
