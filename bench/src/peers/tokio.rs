//! tokio: tasks and bounded mpsc channels, in batches where batches are allowed.

use core_affinity::CoreId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::shard::Shard;
use crate::case::{Latencies, Measured};
use crate::pin;
use crate::share::Watch;
use crate::workload::chain::hand::kept_sum;
use crate::workload::chain::scramble;
use crate::workload::keyed::{Totals, pair};
use crate::workload::latency::hand::Receiver as Sums;
use crate::workload::latency::{Clock, Item, Schedule, latencies};

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
    pin::timed_on_one(items, core, || on_one_core().block_on(two_tasks(items)))
}

/// The same two tasks on two cores.
///
/// # Panics
/// As [`chain`].
pub(super) fn chain_split(items: u64, cores: &[CoreId]) -> Measured {
    let cores = &cores[..2];
    pin::timed_on_all(items, cores, || on_two_cores(cores).block_on(two_tasks(items)))
}

async fn two_tasks(items: u64) -> u64 {
    let (out, mut inward) = channel::<Vec<u64>>(MESSAGES);
    let make = tokio::spawn(async move {
        let mut next = 0;
        while next < items {
            let end = items.min(next + BATCH);
            if out.send((next..end).map(scramble).collect()).await.is_err() {
                return;
            }
            next = end;
        }
    });
    let sum = tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some(batch) = inward.recv().await {
            sum = sum.wrapping_add(kept_sum(&batch));
        }
        sum
    });
    make.await.expect("the producing task");
    sum.await.expect("the summing task")
}

type Batch = Vec<(u64, u64)>;

async fn make(range: std::ops::Range<u64>, keys: u64, owners: [Sender<Batch>; 2]) {
    let shard = Shard::new(0);
    let fresh = || Batch::with_capacity(BATCH as usize);
    let mut staged = [fresh(), fresh()];
    for index in range {
        let pair = pair(index, keys);
        let owner = shard.owner(pair.0);
        staged[owner].push(pair);
        if staged[owner].len() == BATCH as usize {
            let full = std::mem::replace(&mut staged[owner], fresh());
            if owners[owner].send(full).await.is_err() {
                return;
            }
        }
    }
    for (owner, rest) in owners.iter().zip(staged) {
        // Nobody receives any more: the checksum will tell.
        let _ = owner.send(rest).await;
    }
}

async fn fold(keys: u64, mut inward: Receiver<Batch>) -> Shard {
    let mut shard = Shard::new(keys);
    while let Some(batch) = inward.recv().await {
        shard.add_all(&batch);
    }
    shard
}

/// Sum and count per key: two tasks make pairs, two fold them, batches between them.
///
/// # Panics
/// If tokio does not start, or a task panics.
pub(super) fn keyed(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    let cores = &cores[..2];
    pin::timed_on_all(pairs, cores, || {
        let runtime = on_two_cores(cores);
        runtime.block_on(async move {
            let ((to_one, one), (to_two, two)) = (channel(MESSAGES), channel(MESSAGES));
            let folds = [tokio::spawn(fold(keys, one)), tokio::spawn(fold(keys, two))];
            let half = pairs / 2;
            for range in [0..half, half..pairs] {
                tokio::spawn(make(range, keys, [to_one.clone(), to_two.clone()]));
            }
            drop((to_one, to_two));
            let mut totals = Totals::default();
            for fold in folds {
                fold.await.expect("the folding task").add_to(&mut totals);
            }
            totals.checksum()
        })
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
        let mut sums = Sums::new();
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
