//! How long items wait in front of a stage, and how long a batch of them takes.

use std::sync::Arc;

use super::Inlet;
use crate::observe::{CallClock, LatencyRecorder, StageCells};
use crate::stage::StageSite;

/// Steps from the end of one probe to the start of the next.
const EVERY: u32 = 64;

/// Measures by probes: notes how many items have come in, and the time; once so many have been taken, the time between
/// is how long the last of them waited. One probe at a time, to the resolution of steps: a comparison per step, and a look
/// at the other side's position every [`EVERY`] steps.
pub(super) struct WaitProbe {
    cells: Arc<StageCells>,
    times: LatencyRecorder,
    /// Steps until the next probe starts, while none is under way.
    rest: u32,
    under_way: Option<Probe>,
}

#[derive(Clone, Copy)]
struct Probe {
    /// The probe ends when so many items have been taken.
    upto: u64,
    since: i64,
}

impl WaitProbe {
    pub(super) fn new(site: &StageSite) -> Self {
        let cells = Arc::clone(&site.cells);
        Self { cells, times: LatencyRecorder::default(), rest: 0, under_way: None }
    }

    /// To be called once in each step, after it has taken input; `moved` says whether there was any.
    #[inline]
    pub(super) fn look<T: Send + 'static>(&mut self, inlet: &Inlet<T>, moved: bool, now: i64) {
        match self.under_way {
            Some(probe) => {
                if inlet.taken() >= probe.upto {
                    self.times.record(now - probe.since);
                    (self.under_way, self.rest) = (None, EVERY);
                }
            }
            None if self.rest > 0 => self.rest -= 1,
            None => self.start(inlet, moved, now),
        }
    }

    #[cold]
    fn start<T: Send + 'static>(&mut self, inlet: &Inlet<T>, moved: bool, now: i64) {
        let (taken, waiting) = (inlet.taken(), inlet.depth());
        self.rest = EVERY;
        if waiting > 0 {
            self.under_way = Some(Probe { upto: taken + waiting, since: now });
        } else if moved {
            // Taken in the step in which it could first be seen.
            self.times.record(0);
        }
    }

    pub(super) fn publish(&mut self, now: i64) {
        self.times.publish(&self.cells.queue_wait, now);
    }

    pub(super) fn finish(&mut self) {
        self.times.finish(&self.cells.queue_wait);
    }
}

/// Measures how long a batch takes: of every [`EVERY`] steps one, so that the clock is not read in each.
pub(super) struct BatchTimer {
    clock: Arc<dyn CallClock>,
    cells: Arc<StageCells>,
    times: LatencyRecorder,
    /// Steps until the next one that is timed.
    rest: u32,
}

impl BatchTimer {
    pub(super) fn new(site: &StageSite) -> Self {
        let (clock, cells) = (Arc::clone(&site.clock), Arc::clone(&site.cells));
        Self { clock, cells, times: LatencyRecorder::default(), rest: 0 }
    }

    /// When the step started, if it is one that is timed.
    #[inline]
    pub(super) fn start(&mut self) -> Option<i64> {
        if self.rest == 0 {
            return Some(self.clock.nanos());
        }
        self.rest -= 1;
        None
    }

    /// Takes down a step that was timed and moved anything.
    #[inline]
    pub(super) fn stop(&mut self, started: Option<i64>, moved: bool) {
        let Some(started) = started else { return };
        // After one in which nothing moved too: a core that waits must not read the clock all the time.
        self.rest = EVERY;
        if moved {
            self.times.record(self.clock.nanos() - started);
        }
    }

    pub(super) fn publish(&mut self, now: i64) {
        self.times.publish(&self.cells.batch, now);
    }

    pub(super) fn finish(&mut self) {
        self.times.finish(&self.cells.batch);
    }
}
