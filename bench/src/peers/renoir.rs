//! Renoir: a block per core, batches of a fixed size, and the fused operators it is fast with.
//!
//! Batches of its default size are also sent when they are old, for which it reads the clock at every item; its own NEXMark sends full
//! ones only, and so do we.

mod aligned;
mod here;
mod nexmark;

use core_affinity::CoreId;
use renoir::operator::Operator;
use renoir::operator::source::IteratorSource;
use renoir::{BatchMode, Replication, RuntimeConfig, Stream, StreamContext};

use aligned::{Aligned, last_moment};
use here::Here;
pub(super) use nexmark::query;

use crate::case::{Latencies, Measured};
use crate::pin;
use crate::share::Watch;
use crate::workload::chain::{fold_bits, keep, scramble};
use crate::workload::keyed::{Totals, pair};
use crate::workload::latency::hand::Receiver;
use crate::workload::latency::{Clock, Item, Schedule, latencies};
use crate::workload::tumbling::{self, BLOCK_NS};

/// Items of a batch, as in Renoir's own NEXMark.
const BATCH: usize = 16 << 10;

fn context(parallelism: usize) -> StreamContext {
    StreamContext::new(RuntimeConfig::local(parallelism as u64).expect("a local configuration"))
}

/// Runs what `describe` says on `cores`, and gives the sum of the sums that it makes.
///
/// # Panics
/// If Renoir gives no result.
fn summed<O: Operator<Out = u64> + 'static>(
    items: u64,
    cores: &[CoreId],
    describe: impl FnOnce(&StreamContext) -> Stream<O> + Send,
) -> Measured {
    pin::timed_on_all(items, cores, || {
        let env = context(cores.len());
        let sums = describe(&env).collect_vec();
        env.execute_blocking();
        sums.get().expect("the sums").into_iter().fold(0, u64::wrapping_add)
    })
}

/// The sum of what `value` says of each item, added up where the items are, and then the sums.
fn sum<T: Send + 'static>(
    stream: Stream<impl Operator<Out = T> + 'static>,
    value: fn(&T) -> u64,
) -> Stream<impl Operator<Out = u64>> {
    stream.fold_assoc(
        0_u64,
        move |sum, item| *sum = sum.wrapping_add(value(&item)),
        |sum, part| *sum = sum.wrapping_add(part),
    )
}

/// The chain in one block on one core.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    summed(items, &[core], |env| kept_sum(env.stream(IteratorSource::new(0..items)).map(scramble)))
}

/// The chain in two blocks: the first operator in the one, the rest in the other.
pub(super) fn chain_split(items: u64, cores: &[CoreId]) -> Measured {
    let batches = BatchMode::fixed(BATCH);
    summed(items, &cores[..2], |env| {
        let scrambled = env.stream(IteratorSource::new(0..items)).batch_mode(batches).map(scramble);
        kept_sum(scrambled.replication(Replication::One))
    })
}

fn kept_sum(stream: Stream<impl Operator<Out = u64> + 'static>) -> Stream<impl Operator<Out = u64>> {
    stream.filter(|item| keep(*item)).map(fold_bits).fold_assoc(
        0_u64,
        |sum, item| *sum = sum.wrapping_add(item),
        |sum, part| *sum = sum.wrapping_add(part),
    )
}

/// Sum and count per key: every pair is exchanged, then folded.
///
/// # Panics
/// If Renoir gives no result.
pub(super) fn keyed(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    pin::timed_on_all(pairs, &cores[..2], || {
        let env = context(2);
        let sums = env
            .stream_par_iter(move |id: u64, instances: u64| share(pairs, keys, id, instances))
            .batch_mode(BatchMode::fixed(BATCH))
            .group_by(|pair| pair.0)
            .fold((0_u64, 0_u64), add)
            .collect_vec_all();
        env.execute_blocking();
        checksum(sums.get().expect("the sums"))
    })
}

/// Sum and count per key: folded where the pairs are made, the parts exchanged and added up.
///
/// # Panics
/// If Renoir gives no result.
pub(super) fn keyed_two_phase(pairs: u64, keys: u64, cores: &[CoreId]) -> Measured {
    pin::timed_on_all(pairs, &cores[..2], || {
        let env = context(2);
        let sums = env
            .stream_par_iter(move |id: u64, instances: u64| share(pairs, keys, id, instances))
            .batch_mode(BatchMode::fixed(BATCH))
            .group_by_fold(
                |pair| pair.0,
                (0_u64, 0_u64),
                add,
                |(sum, count), (more, n)| {
                    *sum = sum.wrapping_add(more);
                    *count += n;
                },
            )
            .collect_vec_all();
        env.execute_blocking();
        checksum(sums.get().expect("the sums"))
    })
}

fn share(pairs: u64, keys: u64, id: u64, instances: u64) -> impl Iterator<Item = (u64, u64)> + Send + Clone {
    let part = move |id: u64| pairs * id / instances;
    (part(id)..part(id + 1)).map(move |index| pair(index, keys))
}

fn add((sum, count): &mut (u64, u64), (_, value): (u64, u64)) {
    *sum = sum.wrapping_add(value);
    *count += 1;
}

fn checksum(sums: Vec<(u64, (u64, u64))>) -> u64 {
    let mut totals = Totals::default();
    sums.into_iter().for_each(|(key, (sum, count))| totals.add(key, sum, count));
    totals.checksum()
}

/// Counts per key and window: every event is exchanged, then counted.
pub(super) fn tumbling(events: u64, cores: &[CoreId]) -> Measured {
    summed(events, &cores[..2], |env| {
        let counts = keys(env, events).group_by(|key| *key).map(|_| ()).window(second()).count().unkey();
        sum(counts.rich_map_custom(with_window), |((key, count), window)| {
            tumbling::counted(*key, *window, *count as u64)
        })
    })
}

/// Counts per key and window: counted where the events are made, the counts exchanged and added up.
pub(super) fn tumbling_two_phase(events: u64, cores: &[CoreId]) -> Measured {
    summed(events, &cores[..2], |env| {
        let here = keys(env, events).key_by(|key| *key).map(|_| ()).window(second()).count().unkey();
        let counts = here.group_by(|count| count.0).window(second()).fold(0, |all, (_, count)| *all += count);
        sum(counts.unkey().rich_map_custom(with_window), |((key, count), window)| {
            tumbling::counted(*key, *window, *count as u64)
        })
    })
}

fn second() -> Aligned {
    Aligned::tumbling(tumbling::SIZE)
}

/// The keys of the events, each with its time, and a watermark for each block.
fn keys(env: &StreamContext, events: u64) -> Stream<impl Operator<Out = u64> + use<>> {
    let made = move |id, instances| tumbling::part(events, id, instances).flatten().map(tumbling::event);
    let (mut said, block) = (0, BLOCK_NS.cast_signed());
    env.stream_par_iter(made)
        .batch_mode(BatchMode::fixed(BATCH))
        .add_timestamps(
            |event| event.1.cast_signed(),
            move |_, &at| {
                (at >= said + WATERMARK_EVERY * block).then(|| {
                    said = at;
                    at
                })
            },
        )
        .map(|event| event.0)
}

/// Blocks from one watermark to the next. At each of them Renoir looks at the windows of every key.
const WATERMARK_EVERY: i64 = 256;

/// A count with the number of its window, which Renoir tells by the time of the result.
fn with_window<T, O: Operator<Out = T>>(
    mut counts: renoir::operator::ElementGenerator<'_, O>,
) -> renoir::operator::StreamElement<(T, u64)> {
    let element = counts.next();
    let number = tumbling::window(last_moment(&element).cast_unsigned());
    element.map(|count| (count, number))
}

/// Emits every item of an open loop at its intended time.
#[derive(Clone)]
struct Paced {
    schedule: Schedule,
    clock: Clock,
    watch: Watch,
    next: u64,
    core: CoreId,
}

impl Iterator for Paced {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.next == 0 {
            // On the thread that Renoir has started for it.
            core_affinity::set_for_current(self.core);
            self.watch.begin();
        }
        if self.next == self.schedule.items {
            self.watch.end();
            return None;
        }
        let item = self.schedule.item(self.next);
        self.next += 1;
        while self.clock.ns() < item.intended_ns {}
        Some(item)
    }
}

/// The shortest period at which Renoir keeps up with items that it sends each by itself.
const SINGLE_NS: u64 = 5_000;
/// Items of a batch at higher rates.
const FEW: usize = 32;

/// An open loop from a source on the first core to a fold on the second.
///
/// # Panics
/// If Renoir gives no result.
pub(super) fn latency(schedule: Schedule, cores: &[CoreId]) -> Latencies {
    let (clock, watch) = (Clock::start(), Watch::default());
    let paced = Paced { schedule, clock, watch: watch.clone(), next: 0, core: cores[0] };
    let receiving = cores[1];
    let batches = if schedule.period_ns < SINGLE_NS { BatchMode::fixed(FEW) } else { BatchMode::single() };
    let sums = pin::on_all(&cores[..2], || {
        let env = context(1);
        let sums = env
            .stream(IteratorSource::new(paced))
            .batch_mode(batches)
            .fold(Here(None), move |sums: &mut Here<Option<Box<Receiver>>>, item| {
                let sums = sums.0.get_or_insert_with(|| {
                    core_affinity::set_for_current(receiving);
                    Box::new(Receiver::new())
                });
                sums.take(item, clock);
            })
            .collect_vec();
        env.execute_blocking();
        sums.get().and_then(|mut sums| sums.pop()?.0).expect("the sums")
    });
    latencies(sums.histogram, sums.checksum).watched(&watch)
}
