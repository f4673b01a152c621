//! Timely dataflow: a worker per core, exchange by hash, state in an operator, as in its own examples.

use std::sync::{Arc, Mutex, PoisonError};

use core_affinity::CoreId;
use timely::Config;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::{Filter, Map, ToStream};

use crate::case::{Latencies, Measured};
use crate::pin;
use crate::share::Watch;
use crate::workload::chain::hand::kept_sum;
use crate::workload::chain::{fold_bits, keep, scramble};
use crate::workload::keyed::hand::{Shard, Sums};
use crate::workload::keyed::{Totals, hasher, pair};
use crate::workload::latency::hand::Receiver;
use crate::workload::latency::{Clock, Item, Schedule, latencies};
use crate::workload::tumbling;

/// The chain on one worker. Its operators are not fused: each passes on buffers of 8 KiB.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    pin::timed_on_one(items, core, || {
        let total = Arc::new(Mutex::new(0_u64));
        let into = Arc::clone(&total);
        timely::execute_directly(move |worker| {
            worker.dataflow::<u64, _, _>(|scope| {
                let kept =
                    (0..items).to_stream(scope).map(scramble).filter(|item| keep(*item)).map(fold_bits);
                kept.sink(Pipeline, "sum", move |(input, _)| {
                    let mut sum = 0_u64;
                    input.for_each(|_, batch: &mut Vec<u64>| {
                        sum = batch.drain(..).fold(sum, u64::wrapping_add);
                    });
                    let mut total = into.lock().unwrap_or_else(PoisonError::into_inner);
                    *total = total.wrapping_add(sum);
                });
            });
        });
        *total.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

/// The chain split between two workers: the first operator on the one, the rest on the other, where all items are exchanged to.
///
/// # Panics
/// If Timely does not start.
pub(super) fn chain_split(items: u64, cores: &[CoreId]) -> Measured {
    let cores = cores[..2].to_vec();
    pin::timed_on_all(items, &cores.clone(), move || {
        let total = Arc::new(Mutex::new(0_u64));
        let into = Arc::clone(&total);
        let guards = timely::execute(Config::process(2), move |worker| {
            core_affinity::set_for_current(cores[worker.index()]);
            let mine = if worker.index() == 0 { 0..items } else { 0..0 };
            let into = Arc::clone(&into);
            worker.dataflow::<u64, _, _>(|scope| {
                let made = mine.to_stream(scope).map(scramble);
                made.sink(Exchange::new(|_: &u64| 1), "sum", move |(input, _)| {
                    let mut sum = 0_u64;
                    input.for_each(|_, batch: &mut Vec<u64>| {
                        sum = sum.wrapping_add(kept_sum(batch));
                        batch.clear();
                    });
                    let mut total = into.lock().unwrap_or_else(PoisonError::into_inner);
                    *total = total.wrapping_add(sum);
                });
            });
        });
        drop(guards.expect("Timely starts").join());
        *total.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

/// Gives its totals out when it is dropped with its worker's dataflow.
struct GivesTotals {
    sums: Sums,
    into: Arc<Mutex<Totals>>,
}

impl Drop for GivesTotals {
    fn drop(&mut self) {
        self.into.lock().unwrap_or_else(PoisonError::into_inner).merge(&self.sums.totals());
    }
}

/// Sum and count per key on two workers.
///
/// # Panics
/// If Timely does not start.
pub(super) fn keyed(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    let cores = cores[..2].to_vec();
    pin::timed_on_all(pairs, &cores.clone(), move || {
        let totals = Arc::new(Mutex::new(Totals::default()));
        let into = Arc::clone(&totals);
        let guards = timely::execute(Config::process(2), move |worker| {
            core_affinity::set_for_current(cores[worker.index()]);
            let (index, peers) = (worker.index() as u64, worker.peers() as u64);
            let range = pairs * index / peers..pairs * (index + 1) / peers;
            let mut mine = GivesTotals { sums: Sums::new(keys), into: Arc::clone(&into) };
            worker.dataflow::<u64, _, _>(|scope| {
                let hasher = hasher();
                let by_key = Exchange::new(move |pair: &(u64, u64)| hasher.hash_one(pair.0));
                let made = range.map(move |index| pair(index, keys)).to_stream(scope);
                made.sink(by_key, "sum and count", move |(input, _)| {
                    input.for_each(|_, batch: &mut Vec<(u64, u64)>| {
                        mine.sums.take(0, batch);
                        batch.clear();
                    });
                });
            });
        });
        drop(guards.expect("Timely starts").join());
        let totals = *totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.checksum()
    })
}

/// Counts per key and window on two workers. Windows are the dataflow's times: what is exchanged is keys only, and a window is
/// done when the frontier has passed it.
///
/// # Panics
/// If Timely does not start.
pub(super) fn tumbling(events: u64, cores: &[CoreId]) -> Measured {
    let cores = cores[..2].to_vec();
    pin::timed_on_all(events, &cores.clone(), move || {
        let total = Arc::new(Mutex::new(0_u64));
        let into = Arc::clone(&total);
        let guards = timely::execute(Config::process(2), move |worker| {
            core_affinity::set_for_current(cores[worker.index()]);
            let (index, peers) = (worker.index() as u64, worker.peers() as u64);
            let mut input = InputHandle::<u64, _>::new();
            let into = Arc::clone(&into);
            worker.dataflow(|scope| {
                let hasher = hasher();
                let by_key = Exchange::new(move |key: &u64| hasher.hash_one(key));
                let mut open: Vec<(u64, Counts)> = Vec::new();
                scope.input_from(&mut input).sink(by_key, "counts", move |(input, frontier)| {
                    input.for_each(|capability, batch: &mut Vec<u64>| {
                        let window = *capability.least().expect("a batch has a time");
                        let place = open.iter().position(|one| one.0 == window).unwrap_or_else(|| {
                            open.push((window, Counts::with_hasher(self::hasher())));
                            open.len() - 1
                        });
                        batch.drain(..).for_each(|key| *open[place].1.entry(key).or_default() += 1);
                    });
                    open.retain(|(window, counts)| {
                        let more = frontier.less_equal(window);
                        if !more {
                            let sum = |sum, (key, count): (&u64, &u64)| {
                                u64::wrapping_add(sum, tumbling::counted(*key, *window, *count))
                            };
                            let mut total = into.lock().unwrap_or_else(PoisonError::into_inner);
                            *total = counts.iter().fold(*total, sum);
                        }
                        more
                    });
                });
            });
            let mut batch = Vec::new();
            for block in tumbling::part(events, index, peers) {
                for (key, at) in block.map(tumbling::event) {
                    let window = tumbling::window(at);
                    if window != *input.time() {
                        input.send_batch(&mut batch);
                        input.advance_to(window);
                    }
                    batch.push(key);
                }
                input.send_batch(&mut batch);
                worker.step();
            }
            input.close();
            while worker.has_dataflows() {
                worker.step();
            }
        });
        drop(guards.expect("Timely starts").join());
        *total.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

type Counts = hashbrown::HashMap<u64, u64, ahash::RandomState>;

struct GivesSums {
    sums: Option<Receiver>,
    into: Arc<Mutex<Option<Receiver>>>,
}

impl Drop for GivesSums {
    fn drop(&mut self) {
        *self.into.lock().unwrap_or_else(PoisonError::into_inner) = self.sums.take();
    }
}

/// An open loop from worker 0 to worker 1, which both step without parking. What has been sent moves on at once.
///
/// # Panics
/// If Timely does not start or gives no result.
pub(super) fn latency(schedule: Schedule, cores: &[CoreId]) -> Latencies {
    let cores = cores[..2].to_vec();
    let sums = Arc::new(Mutex::new(None));
    let into = Arc::clone(&sums);
    let (clock, watch) = (Clock::start(), Watch::default());
    let sender = watch.clone();
    let guards = timely::execute(Config::process(2), move |worker| {
        core_affinity::set_for_current(cores[worker.index()]);
        let mut input = InputHandle::<u64, _>::new();
        let mut mine =
            (worker.index() == 1).then(|| GivesSums { sums: Some(Receiver::new()), into: Arc::clone(&into) });
        worker.dataflow(|scope| {
            let sent = scope.input_from(&mut input);
            sent.sink(Exchange::new(|_: &Item| 1), "sum", move |(items, _)| {
                items.for_each(|_, batch: &mut Vec<Item>| {
                    if let Some(sums) = mine.as_mut().and_then(|mine| mine.sums.as_mut()) {
                        batch.iter().for_each(|item| sums.take(*item, clock));
                    }
                    batch.clear();
                });
            });
        });
        if worker.index() == 0 {
            let (mut next, mut sender) = (0, sender.clone());
            sender.begin();
            while next < schedule.items {
                let before = next;
                while next < schedule.items && schedule.item(next).intended_ns <= clock.ns() {
                    input.send(schedule.item(next));
                    next += 1;
                }
                if next > before {
                    // A time of its own: what an exchange has staged for other workers leaves it only when time moves on.
                    input.advance_to(next);
                    worker.step();
                }
            }
            sender.end();
        }
        input.close();
        while worker.has_dataflows() {
            worker.step();
        }
    });
    drop(guards.expect("Timely starts").join());
    let sums = sums.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the sums");
    latencies(sums.histogram, sums.checksum).watched(&watch)
}
