//! Hot keys in memory beside cold ones, in memory or on disk.

use std::sync::{Arc, Mutex, PoisonError};

use corelane::flow::PipelineBuilder;
use corelane::keyed::{
    Accumulator, CheckTime, FlushReason, SpillError, SpillSchema, StateOf, from_archive, to_archive,
};
use corelane::model::Completeness;
use corelane::policy::{AccumulatorPolicy, SpillOptions};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError};
use hdrhistogram::Histogram;

use crate::case::{Latencies, Outcome, Setup};
use crate::lane::{options, verified};
use crate::workload::latency::{Clock, histogram, latencies, observe_sum};
use crate::workload::spill::{HOT, Item, Load, PART, PERCENTILES, observe_cold};

/// Emits every item at its intended time, as soon as its core looks at the clock.
struct Scheduled {
    load: Load,
    clock: Clock,
    next: u64,
}

impl Source for Scheduled {
    type Item = Item;

    fn produce<C: Chain<Item>>(&mut self, out: &mut Emitter<'_, Item, C>) -> Result<Produced, StageError> {
        let now = self.clock.ns();
        while self.next < self.load.items && out.room() > 0 {
            let item = self.load.item(self.next);
            if item.intended_ns > now {
                return Ok(Produced::Idle);
            }
            out.emit(item);
            self.next += 1;
        }
        Ok(if self.next == self.load.items { Produced::End } else { Produced::More })
    }
}

/// What was seen of hot keys.
struct Seen {
    histogram: Histogram<u64>,
    checksum: u64,
}

/// Sums every key; cold ones also keep bytes.
#[derive(Clone)]
struct Sums {
    clock: Clock,
    /// Uncontended: one instance has it.
    seen: Arc<Mutex<Seen>>,
}

impl Accumulator<Item> for Sums {
    type Key = u64;
    type State = (u64, Vec<u8>);
    type Out = u64;

    fn key(&self, item: &Item) -> u64 {
        item.key
    }
    fn init(&mut self, _: &u64, _: &Item) -> (u64, Vec<u8>) {
        (0, Vec::new())
    }
    fn update(&mut self, of: &mut StateOf<Item, Self>, item: Item) {
        of.state.0 += item.value;
        if item.key >= HOT {
            return of.state.1.extend_from_slice(&[item.value as u8; PART]);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.checksum = observe_sum(seen.checksum, of.key, of.state.0);
        seen.histogram.saturating_record(self.clock.ns().saturating_sub(item.intended_ns));
    }
    fn check(&mut self, _: &mut StateOf<Item, Self>, _: CheckTime) -> Completeness<u64> {
        Completeness::Incomplete
    }
    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, _: FlushReason) -> Option<u64> {
        let (sum, bytes) = &of.state;
        (of.key >= HOT).then(|| observe_cold(0, of.key, *sum, bytes))
    }
    fn held_bytes(&self, of: &StateOf<Item, Self>) -> u64 {
        of.state.1.capacity() as u64
    }
    fn spill_schema(&self) -> Option<SpillSchema> {
        Some(SpillSchema::archive_of::<StateOf<Item, Self>>())
    }
    fn serialize_spill(&self, of: &StateOf<Item, Self>, into: &mut Vec<u8>) -> Result<(), SpillError> {
        to_archive(of, into)
    }
    fn deserialize_spill(&self, bytes: &[u8]) -> Result<StateOf<Item, Self>, SpillError> {
        from_archive(bytes)
    }
}

/// Runs `load` with a memory budget or without.
///
/// # Errors
/// What kept it from running.
pub fn run(load: Load, budget: Option<u64>, setup: &Setup) -> Result<Outcome, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no directory to spill to: {error}"))?;
    let clock = Clock::start();
    let seen = Arc::new(Mutex::new(Seen { histogram: histogram(), checksum: 0 }));
    let sums = Sums { clock, seen: Arc::clone(&seen) };
    let builder = PipelineBuilder::new("bench").spill_to(SpillOptions::new(dir.path()));
    let policy = match budget {
        Some(_) => AccumulatorPolicy::until_end().spilling(),
        None => AccumulatorPolicy::until_end(),
    };
    let cold = builder
        .source("send", move |_| Ok(Scheduled { load, clock, next: 0 }))
        .accumulate("state", policy, sums)
        .fold("sum", 0_u64, u64::wrapping_add);
    let mut options = options(setup, "send={0};state={1};sum={1}")?;
    options.memory_budget = budget;
    // As by default. The other workloads spin: here that would leave no core to the threads that write under the thread driver, where all
    // cores have partitions.
    options.idle = None;
    let result = verified(options, builder)?;
    let spilled: u64 = result.account.stages.values().map(|stage| stage.spills).sum();
    let restored: u64 = result.account.stages.values().map(|stage| stage.restores).sum();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let cold = cold.take().into_iter().fold(0, u64::wrapping_add);
    let checksum = seen.checksum.wrapping_add(cold);
    let histogram = std::mem::replace(&mut seen.histogram, histogram());
    let latencies = latencies(histogram, checksum);
    let outcome = Outcome::from(Latencies { percentiles: PERCENTILES, ..latencies });
    match (budget, spilled) {
        (Some(_), 0) => Err("nothing was spilled: this compares nothing".to_owned()),
        (Some(_), _) => Ok(outcome.note(format!(
            "keys were written about {} and read back about {} thousand times in a run",
            spilled.div_ceil(1_000),
            restored.div_ceil(1_000)
        ))),
        (None, _) => Ok(outcome),
    }
}
