//! How a partition is doing.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LatencyCell, LatencySummary};

/// What the latest step before a report found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Pulse {
    /// It has not been stepped.
    #[default]
    Created,
    /// There was work.
    Working,
    /// There was input, but no room downstream.
    Blocked,
    /// There was no input.
    Idle,
    /// Everything has ended.
    Drained,
}

impl Pulse {
    const ALL: [Self; 5] = [Self::Created, Self::Working, Self::Blocked, Self::Idle, Self::Drained];

    /// Whether the partition lives and waits for others.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Blocked | Self::Idle)
    }
}

/// What a partition publishes about its steps. One writer, any number of readers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PartitionCells {
    steps: AtomicU64,
    pulse: AtomicU8,
    now: AtomicI64,
    /// How long a step with work took, of every few steps one: from its time to the time of the next one.
    pub step: LatencyCell,
}

impl PartitionCells {
    /// Publishes the number of steps since the start, and what the latest found, at the monotonic time `now`.
    pub fn publish(&self, steps: u64, pulse: Pulse, now: i64) {
        self.now.store(now, Ordering::Relaxed);
        self.steps.store(steps, Ordering::Relaxed);
        self.pulse.store(pulse as u8, Ordering::Relaxed);
    }

    /// The monotonic time of the latest step before a report.
    pub fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    /// What the latest step before a report found.
    pub fn pulse(&self) -> Pulse {
        // Cells only ever hold what was cast from a pulse.
        Pulse::ALL.get(usize::from(self.pulse.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// What has been published, as seen at the monotonic time `now`.
    pub fn read(&self, partition: usize, now: i64) -> PartitionState {
        let (steps, pulse) = (self.steps.load(Ordering::Relaxed), self.pulse());
        let silent = if pulse == Pulse::Drained { 0 } else { now.saturating_sub(self.now()) };
        let silent_for = Duration::from_nanos(u64::try_from(silent).unwrap_or(0));
        PartitionState { partition, steps, pulse, silent_for, step: self.step.summary() }
    }
}

/// A partition as it is seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Its index.
    pub partition: usize,
    /// Steps since the start.
    pub steps: u64,
    /// What the latest step found.
    pub pulse: Pulse,
    /// Time since the step that it last told of; zero once it has ended. A partition that works tells every few steps, one
    /// without work before and after each of its short sleeps: much more than that is a stage that does not return from a call,
    /// or a core that others have.
    #[serde(default)]
    pub silent_for: Duration,
    /// How long steps with work took, sampled.
    pub step: LatencySummary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pulse_passes_through_its_cell() {
        let cells = PartitionCells::default();
        assert_eq!(cells.pulse(), Pulse::Created);
        for (steps, pulse) in (7..).zip(Pulse::ALL) {
            cells.publish(steps, pulse, 70 + steps.cast_signed());
            assert_eq!(cells.now(), 70 + steps.cast_signed());
            let state = cells.read(4, 100 + steps.cast_signed());
            assert_eq!((state.partition, state.steps, state.pulse), (4, steps, pulse));
            let silent = if pulse == Pulse::Drained { 0 } else { 30 };
            assert_eq!(state.silent_for, Duration::from_nanos(silent));
        }
        assert!(Pulse::Blocked.is_waiting() && !Pulse::Drained.is_waiting() && !Pulse::Working.is_waiting());
    }
}
