//! crossbeam's bounded channel between pinned threads.

use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use crate::case::{Latencies, Measured};
use crate::pin::{self, Gate, Span};
use crate::workload::chain::hand::kept_sum;
use crate::workload::chain::scramble;
use crate::workload::keyed::hand::{Pair, Shard, Sums, owner};
use crate::workload::keyed::{hasher, pair};
use crate::workload::latency::{Item, Schedule, hand};
use crate::workload::ring::Tally;

/// Items a channel holds.
const SLOTS: usize = 4_096;
/// Pairs in one message of the keyed workload.
const BATCH: usize = 256;

/// Moves `items` one by one; both ends spin.
pub(super) fn one_by_one(items: u64, cores: &[CoreId]) -> Measured {
    let (out, inward) = bounded::<u64>(SLOTS);
    let produce = move |gate: &Gate| {
        let start = gate.wait();
        for item in 0..items {
            while let Err(TrySendError::Full(_)) = out.try_send(item) {}
        }
        Span::since(start)
    };
    let consume = move |gate: &Gate| {
        let start = gate.wait();
        let mut tally = Tally::default();
        while tally.count() < items {
            inward.try_iter().for_each(|item| tally.take(&[item]));
        }
        (Span::since(start), tally)
    };
    let (sent, (received, tally)) = pin::on_two(cores, produce, consume);
    Measured { items, elapsed: sent.union(received), checksum: tally.checksum() }
}

/// The chain split between two cores, in batches.
pub(super) fn chain_split(items: u64, cores: &[CoreId]) -> Measured {
    let (out, inward) = bounded::<Vec<u64>>(64);
    let send = move |gate: &Gate| {
        let start = gate.wait();
        let mut next = 0;
        while next < items {
            let end = items.min(next + BATCH as u64);
            let mut batch: Vec<u64> = (next..end).map(scramble).collect();
            while let Err(TrySendError::Full(back)) = out.try_send(batch) {
                batch = back;
            }
            next = end;
        }
        Span::since(start)
    };
    let receive = move |gate: &Gate| {
        let start = gate.wait();
        let (mut sum, mut taken) = (0_u64, 0);
        while taken < items {
            inward.try_iter().for_each(|batch| {
                sum = sum.wrapping_add(kept_sum(&batch));
                taken += batch.len() as u64;
            });
        }
        (Span::since(start), sum)
    };
    let (sent, (received, checksum)) = pin::on_two(cores, send, receive);
    Measured { items, elapsed: sent.union(received), checksum }
}

type Batch = Vec<Pair>;

/// Sum and count per key: two threads make pairs, keep their own and send the others' in batches.
pub(super) fn keyed(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    let (there, arriving) = bounded::<Batch>(64);
    let (back, returning) = bounded::<Batch>(64);
    let half = pairs / 2;
    let work = |me: usize, range: std::ops::Range<u64>, out: Sender<Batch>, inward: Receiver<Batch>| {
        move |gate: &Gate| {
            let start = gate.wait();
            let (mut sums, hasher) = (Sums::new(keys), hasher());
            let mut staged = Vec::with_capacity(BATCH);
            for index in range {
                let (key, value) = pair(index, keys);
                if owner(&hasher, key) == me {
                    sums.add(key, value);
                    continue;
                }
                staged.push((key, value));
                if staged.len() == BATCH {
                    send(&out, std::mem::replace(&mut staged, Vec::with_capacity(BATCH)), &inward, &mut sums);
                }
            }
            send(&out, staged, &inward, &mut sums);
            drop(out);
            loop {
                match inward.try_recv() {
                    Ok(batch) => sums.take(0, &batch),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break,
                }
            }
            (Span::since(start), sums.totals())
        }
    };
    let first = work(0, 0..half, there, returning);
    let second = work(1, half..pairs, back, arriving);
    let (one, two) = pin::on_two(cores, first, second);
    let mut totals = one.1;
    totals.merge(&two.1);
    Measured { items: pairs, elapsed: one.0.union(two.0), checksum: totals.checksum() }
}

/// Sends `batch`; takes what arrives while there is no room, so that two full channels do not block each other.
fn send(out: &Sender<Batch>, mut batch: Batch, inward: &Receiver<Batch>, sums: &mut Sums) {
    while let Err(TrySendError::Full(back)) = out.try_send(batch) {
        batch = back;
        inward.try_iter().for_each(|batch| sums.take(0, &batch));
    }
}

/// An open loop over the channel, both ends spinning.
pub(super) fn latency(schedule: Schedule, cores: &[CoreId]) -> Latencies {
    let (out, inward) = bounded::<Item>(hand::SLOTS);
    hand::polled(schedule, cores, move |item| out.try_send(item).is_ok(), move || inward.try_recv().ok())
}
