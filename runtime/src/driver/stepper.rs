//! The step loop's decisions, the same for every driver with real cores; how to sleep is the driver's own.

use std::time::Duration;

use super::Seat;
use super::clock::Clock;
use super::idler::{Idler, Pause, park_nanos};
use super::reading::Reading;
use super::stride::Stride;
use crate::partition::{Partition, Progress};

/// After so many looks in vain the core is told that it spins. That costs several times what a look does, and what it delays is the item
/// that comes next.
const TELL_EVERY: u32 = 64;

/// What the driver does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Step again.
    Step,
    /// Park, between [`Stepper::announce`] and [`Stepper::retract`].
    Park,
    /// Everything has ended and the counters are published.
    End,
}

/// Steps a partition and paces it by its idle policy.
pub(super) struct Stepper<'a> {
    partition: &'a mut Partition,
    clock: &'a mut Clock,
    idler: Idler,
    reading: Reading,
    stride: Stride,
}

impl<'a> Stepper<'a> {
    pub(super) fn new(partition: &'a mut Partition, seat: &'a Seat, clock: &'a mut Clock) -> Self {
        let idler = Idler::new(seat.idle);
        Self { partition, clock, idler, reading: Reading::none(), stride: Stride::new(seat) }
    }

    /// One step, and the pause after an empty one unless that is to park.
    #[inline]
    pub(super) fn step(&mut self) -> Next {
        let mut looks = self.idler.looks(self.partition.has_source());
        if self.partition.wants_time() {
            self.reading.expire();
            looks = 1;
        }
        let now = self.reading.next(|| self.clock.now());
        if let Some(nanos) = self.reading.step_nanos() {
            self.stride.fit(nanos);
        }
        match self.partition.look(now, self.stride.items(), looks) {
            Progress::Worked(items) => {
                self.stride.moved(items);
                self.idler.reset();
            }
            Progress::Drained => {
                self.partition.report();
                return Next::End;
            }
            Progress::Idle | Progress::Blocked => {
                self.stride.rest();
                let pause = self.idler.pause(looks, now.monotonic);
                if self.idler.should_report() {
                    self.partition.report();
                }
                match pause {
                    Pause::Spin if self.idler.passed(TELL_EVERY) => std::hint::spin_loop(),
                    Pause::Spin => {}
                    Pause::Yield => {
                        self.reading.expire();
                        std::thread::yield_now();
                    }
                    Pause::Park => return Next::Park,
                }
            }
        }
        Next::Step
    }

    /// Monotonic nanoseconds now.
    pub(super) fn monotonic(&self) -> i64 {
        self.clock.monotonic()
    }

    /// Parks by `sleep`, which ends when the doorbell rings or after the time it is given.
    pub(super) fn park(&mut self, sleep: impl FnOnce(Duration)) {
        if let Some(longest) = self.announce() {
            sleep(longest);
        }
        self.retract();
    }

    /// Announces a park. How long to sleep at most: until the next deadline, and never longer than a bounded time; `None`
    /// if there is work after all.
    pub(super) fn announce(&mut self) -> Option<Duration> {
        self.partition.doorbell().announce();
        // What arrived before the announcement rang no bell: look once more.
        let now = self.reading.renew(self.clock.now());
        let progress = self.partition.step(now, self.stride.items());
        if !matches!(progress, Progress::Idle | Progress::Blocked) {
            self.idler.reset();
            return None;
        }
        self.partition.report();
        let nanos = park_nanos(self.clock.monotonic(), self.partition.next_deadline());
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Awake again.
    pub(super) fn retract(&mut self) {
        self.lose_time();
        self.partition.doorbell().retract();
    }

    /// Time has passed that no step took.
    pub(super) fn lose_time(&mut self) {
        self.reading.expire();
    }
}
