//! tokio: tasks and bounded mpsc channels, in batches where batches are allowed.

use std::ops::Range;
use std::thread::{ThreadId, current};

use core_affinity::CoreId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::case::{Latencies, Measured, Outcome};
use crate::pin::{self, Gate, Span};
use crate::share::Watch;
use crate::workload::chain::hand::kept_sum;
use crate::workload::chain::scramble;
use crate::workload::keyed::hand::{Pair, Shard, Sums, owner};
use crate::workload::keyed::{Totals, hasher, pair};
use crate::workload::latency::{self, Clock, Item, Schedule, latencies};
use crate::workload::tumbling::hand::Counts;
use crate::workload::{blocks, tumbling};

/// Items in one message.
const BATCH: u64 = 256;
/// Messages that a channel holds.
const MESSAGES: usize = 64;

fn on_one_core() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime on this thread")
}

/// A worker for each of `cores`, pinned.
fn on_two_cores(cores: &[CoreId]) -> Runtime {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let cores = cores.to_vec();
    let pin = move || {
        let worker = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        core_affinity::set_for_current(cores[worker % cores.len()]);
    };
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(pin)
        .build()
        .expect("a runtime of two threads")
}

/// The chain as two tasks on one core, with batches in a channel between them.
///
/// # Panics
/// If tokio does not start, or a task panics.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    pin::timed_on_one(items, core, || on_one_core().block_on(two_tasks(items)).sum)
}

/// The same two tasks on two cores. Which of them runs where is for its scheduler to say: a note tells how many batches stayed on the
/// core that made them.
///
/// # Panics
/// As [`chain`].
pub(super) fn chain_split(items: u64, cores: &[CoreId]) -> Outcome {
    let cores = &cores[..2];
    let mut stayed = 0;
    let run = pin::timed_on_all(items, cores, || {
        let total = on_two_cores(cores).block_on(two_tasks(items));
        stayed = total.stayed;
        total.sum
    });
    let share = stayed as f64 / items.div_ceil(BATCH) as f64;
    Outcome::from(run).note(format!("{:.0} % of the batches stay on the core that made them", share * 100.0))
}

/// The same two tasks, each on a core and a runtime of its own.
///
/// # Panics
/// As [`chain`].
pub(super) fn chain_pinned(items: u64, cores: &[CoreId]) -> Measured {
    let (out, inward) = channel(MESSAGES);
    let producing = |gate: &Gate| {
        let runtime = on_one_core();
        let start = gate.wait();
        runtime.block_on(produce(items, out));
        Span::since(start)
    };
    let summing = |gate: &Gate| {
        let runtime = on_one_core();
        let start = gate.wait();
        let total = runtime.block_on(sum(inward));
        (Span::since(start), total.sum)
    };
    let (produced, (summed, checksum)) = pin::on_two(cores, producing, summing);
    Measured { items, elapsed: produced.union(summed), checksum }
}

/// Items, and the thread that made them.
type Items = (ThreadId, Vec<u64>);

/// What was taken.
#[derive(Default)]
struct Total {
    sum: u64,
    /// Batches taken by the thread that made them.
    stayed: u64,
}

async fn two_tasks(items: u64) -> Total {
    let (out, inward) = channel(MESSAGES);
    let producing = tokio::spawn(produce(items, out));
    let summing = tokio::spawn(sum(inward));
    producing.await.expect("the producing task");
    summing.await.expect("the summing task")
}

async fn produce(items: u64, out: Sender<Items>) {
    let mut next = 0;
    while next < items {
        let end = items.min(next + BATCH);
        let batch = (next..end).map(scramble).collect();
        if out.send((current().id(), batch)).await.is_err() {
            return;
        }
        next = end;
    }
}

async fn sum(mut inward: Receiver<Items>) -> Total {
    let mut total = Total::default();
    while let Some((maker, batch)) = inward.recv().await {
        total.stayed += u64::from(maker == current().id());
        total.sum = total.sum.wrapping_add(kept_sum(&batch));
    }
    total
}

/// Who made it, and what it is.
type Batch = (usize, Vec<Pair>);

async fn make(
    me: usize,
    blocks: impl Iterator<Item = Range<u64>>,
    pair: impl Fn(u64) -> Pair,
    owners: [Sender<Batch>; 2],
) {
    let hasher = hasher();
    let fresh = || Vec::with_capacity(BATCH as usize);
    let mut staged = [fresh(), fresh()];
    for pair in blocks.flatten().map(pair) {
        let owner = owner(&hasher, pair.0);
        staged[owner].push(pair);
        if staged[owner].len() == BATCH as usize {
            let full = std::mem::replace(&mut staged[owner], fresh());
            if owners[owner].send((me, full)).await.is_err() {
                return;
            }
        }
    }
    for (owner, rest) in owners.iter().zip(staged) {
        // Nobody receives any more: the checksum will tell.
        let _ = owner.send((me, rest)).await;
    }
}

async fn fold<S: Shard>(mut shard: S, mut inward: Receiver<Batch>) -> S::Out {
    while let Some((from, pairs)) = inward.recv().await {
        shard.take(from, &pairs);
    }
    shard.finish()
}

/// What two tasks make goes in batches to two that keep shards; what the shards come to.
fn exchanged<S: Shard<Out: 'static> + Send + 'static>(
    cores: &[CoreId],
    parts: [impl Iterator<Item = Range<u64>> + Send + 'static; 2],
    pair: impl Fn(u64) -> Pair + Copy + Send + 'static,
    shard: impl Fn() -> S,
) -> Vec<S::Out> {
    let runtime = on_two_cores(cores);
    runtime.block_on(async move {
        let ((to_one, one), (to_two, two)) = (channel(MESSAGES), channel(MESSAGES));
        let folds = [tokio::spawn(fold(shard(), one)), tokio::spawn(fold(shard(), two))];
        for (me, part) in parts.into_iter().enumerate() {
            tokio::spawn(make(me, part, pair, [to_one.clone(), to_two.clone()]));
        }
        drop((to_one, to_two));
        let mut results = Vec::new();
        for fold in folds {
            results.push(fold.await.expect("the folding task"));
        }
        results
    })
}

/// Sum and count per key: two tasks make pairs, two fold them, batches between them.
///
/// # Panics
/// If tokio does not start, or a task panics.
pub(super) fn keyed(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    let cores = &cores[..2];
    pin::timed_on_all(pairs, cores, || {
        let half = pairs / 2;
        let parts = [0..half, half..pairs].map(|range| blocks(range, BATCH, BATCH));
        let mut totals = Totals::default();
        let shards = exchanged(cores, parts, move |index| pair(index, keys), || Sums::new(keys));
        shards.iter().for_each(|shard| totals.merge(shard));
        totals.checksum()
    })
}

/// Counts per key and window: two tasks make events, two count them, batches between them.
///
/// # Panics
/// As [`keyed`].
pub(super) fn tumbling(events: u64, cores: &[CoreId]) -> Measured {
    let cores = &cores[..2];
    pin::timed_on_all(events, cores, || {
        let parts = [0, 1].map(|core| tumbling::part(events, core, 2));
        exchanged(cores, parts, tumbling::event, || Counts::new(hasher()))
            .into_iter()
            .fold(0, u64::wrapping_add)
    })
}

/// An open loop: a pinned thread that busy-polls the schedule sends to a task on the other core.
///
/// # Panics
/// If tokio does not start, or the task panics.
pub(super) fn latency(schedule: Schedule, cores: &[CoreId]) -> Latencies {
    let (out, mut inward) = channel::<Item>(4_096);
    let (clock, watch) = (Clock::start(), Watch::default());
    let mut sender = watch.clone();
    let send = move |gate: &pin::Gate| {
        gate.wait();
        sender.begin();
        for index in 0..schedule.items {
            let mut item = schedule.item(index);
            while clock.ns() < item.intended_ns {}
            while let Err(tokio::sync::mpsc::error::TrySendError::Full(back)) = out.try_send(item) {
                item = back;
            }
        }
        sender.end();
    };
    let receive = move |gate: &pin::Gate| {
        let mut sums = latency::hand::Receiver::new();
        gate.wait();
        on_one_core().block_on(async move {
            while let Some(item) = inward.recv().await {
                sums.take(item, clock);
            }
            sums
        })
    };
    let ((), sums) = pin::on_two(cores, send, receive);
    latencies(sums.histogram, sums.checksum).watched(&watch)
}
