//! spill: what keys in memory pay when others are on disk.
//!
//! An open loop at a fixed rate. Every other item is for one of a few hot keys, which are always in memory; the rest build up
//! the state of many cold ones. The same work is done twice: with all state in memory, and with a memory budget of a
//! twentieth of the state. Latency is that of hot items only, from the intended time of sending until the state has them.

use std::time::Duration;

use crate::case::{Case, Metric, Setup};
use crate::lane;
use crate::stats::splitmix;
use crate::workload::latency::observe_sum;

/// Keys that are always in memory.
pub const HOT: u64 = 256;
/// Items of each cold key.
const PARTS: u64 = 4;
/// Bytes that one item adds to a cold key's state.
pub const PART: usize = 2_000;
const RATE: u64 = 10_000;
const SECONDS: u64 = 4;
/// The percentiles a run speaks about.
pub const PERCENTILES: &[Metric] = &[Metric::P50, Metric::P90, Metric::P99, Metric::P999];

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// When it should be sent, in nanoseconds of the run's clock.
    pub intended_ns: u64,
    /// Below [`HOT`] for hot keys.
    pub key: u64,
    /// What is summed, and what a cold key's bytes are filled with.
    pub value: u64,
}

/// What is sent when, and how much state it comes to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many items, hot and cold.
    pub items: u64,
}

impl Load {
    /// Item `index`.
    #[inline]
    pub fn item(self, index: u64) -> Item {
        let cold = index / 2 % (self.items / 2 / PARTS).max(1);
        let value = splitmix(index);
        let key = if index.is_multiple_of(2) { value % HOT } else { HOT + cold };
        Item { intended_ns: 50_000_000 + index * (1_000_000_000 / RATE), key, value: value & 0xFFFF }
    }

    /// Bytes of all cold state.
    pub fn state_bytes(self) -> u64 {
        self.items / 2 * PART as u64
    }
}

/// The checksum of a cold key at the end.
pub fn observe_cold(checksum: u64, key: u64, sum: u64, bytes: &[u8]) -> u64 {
    let filled: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    observe_sum(checksum, key, sum.wrapping_add(filled << 20))
}

/// The right checksum: hot keys at their every change, cold ones at the end.
fn expected(load: Load) -> u64 {
    let mut hot = [0_u64; HOT as usize];
    let mut cold = std::collections::BTreeMap::<u64, (u64, Vec<u8>)>::new();
    let mut checksum = 0;
    for item in (0..load.items).map(|index| load.item(index)) {
        if item.key < HOT {
            let sum = &mut hot[item.key as usize];
            *sum += item.value;
            checksum = observe_sum(checksum, item.key, *sum);
        } else {
            let (sum, bytes) = cold.entry(item.key).or_default();
            *sum += item.value;
            bytes.extend_from_slice(&[item.value as u8; PART]);
        }
    }
    cold.iter().fold(checksum, |checksum, (key, (sum, bytes))| observe_cold(checksum, *key, *sum, bytes))
}

/// The comparison. There is no program by hand: what it is held against is the same pipeline without a budget.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let load = Load { items: setup.scaled(RATE * SECONDS) };
    let state = load.state_bytes();
    // A quick run has so little state that a twentieth of it would be all buffers.
    let budget = (state / 20).max(1 << 20);
    let duration = Duration::from_nanos(load.items * (1_000_000_000 / RATE));
    let work = format!(
        "{} items in {duration:?}, half of them for {HOT} hot keys; {} MB of cold state, a budget of {:.1} MB",
        load.items,
        state / 1_000_000,
        budget as f64 / 1e6
    );
    let case = Case::new("spill", "hot", 2, expected(load))
        .work(work)
        .reference("in-memory")
        .try_system("in-memory", move |setup| lane::spill::run(load, None, setup))
        .try_system("spilling", move |setup| lane::spill::run(load, Some(budget), setup));
    vec![case]
}
