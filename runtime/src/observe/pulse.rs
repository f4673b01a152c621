//! How a partition is doing.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

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

    /// What has been published.
    pub fn read(&self, partition: usize) -> PartitionState {
        let steps = self.steps.load(Ordering::Relaxed);
        PartitionState { partition, steps, pulse: self.pulse(), step: self.step.summary() }
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
            let state = cells.read(4);
            assert_eq!((state.partition, state.steps, state.pulse), (4, steps, pulse));
        }
        assert!(Pulse::Blocked.is_waiting() && !Pulse::Drained.is_waiting() && !Pulse::Working.is_waiting());
    }
}
