//! What is counted: one loop of corelane's each, run on one thread for as many items as asked for.
//!
//! The items are numbers from a counter; what is done with them is little, so that corelane's own instructions are most of the
//! count. Each program returns a checksum, which another process compares: the right answer's instructions are not counted.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::driver::Simulation;
use corelane::flow::{Collected, PipelineBuilder};
use corelane::model::Timestamp;
use corelane::observe::PipelineResult;
use corelane::policy::Watermarks;
use corelane::ring::ring;
use corelane_bench::pipelines::{bare_chain, envelope_chain, fold_bits, keep, scramble, sums_by_key};
use corelane_stages::window::{Count, KeyedWindows, Sliding};

/// One loop.
pub(crate) struct Program {
    /// Its name on the command line and in the file of counts.
    pub(crate) name: &'static str,
    /// Items of the shorter run: as many as it takes until a further item costs what every later one does.
    pub(crate) warm_up: u64,
    /// Items that the longer run has more.
    pub(crate) more: u64,
    /// Runs it and returns the checksum.
    pub(crate) run: fn(u64) -> Result<u64, String>,
    /// The right checksum.
    pub(crate) expected: fn(u64) -> u64,
}

/// All of them.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "ring-chunks",
        warm_up: 100_000,
        more: 2_000_000,
        run: ring_chunks,
        expected: sum_of_all,
    },
    Program {
        name: "ring-singles",
        warm_up: 100_000,
        more: 1_000_000,
        run: ring_singles,
        expected: sum_of_all,
    },
    Program { name: "chain-bare", warm_up: 200_000, more: 2_000_000, run: chain_bare, expected: chain_sum },
    Program {
        name: "chain-envelope",
        warm_up: 200_000,
        more: 2_000_000,
        run: chain_envelope,
        expected: envelope_sum,
    },
    Program { name: "keyed-few", warm_up: 200_000, more: 1_000_000, run: keyed_few, expected: few_sums },
    Program { name: "keyed-many", warm_up: 3_000_000, more: 1_000_000, run: keyed_many, expected: many_sums },
    Program { name: "exchange", warm_up: 200_000, more: 1_000_000, run: exchange, expected: few_sums },
    Program {
        name: "window-tumbling",
        warm_up: 200_000,
        more: 1_000_000,
        run: tumbling,
        expected: number_of_all,
    },
    // Panes are dropped once the first window of ten seconds is over.
    Program {
        name: "window-sliding",
        warm_up: 10_500_000,
        more: 1_000_000,
        run: sliding,
        expected: number_of_all,
    },
];

/// Items in one chunk of the ring, and in one step of a pipeline.
const BATCH: usize = 1_024;
const FEW_KEYS: u64 = 1_000;
/// So many that their table is looked up ahead.
const MANY_KEYS: u64 = 200_000;
/// As in the benchmark of windows: a million events a second.
const EVENT_NS: u64 = 1_000;
const SIZE: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_millis(10);

/// Item `index` of the keyed programs: its key, uniform below `keys`, and a value.
fn pair(index: u64, keys: u64) -> (u64, u64) {
    let random = fold_bits(scramble(index));
    (((u128::from(random) * u128::from(keys)) >> 64) as u64, random & 0xFFFF)
}

/// What a key's sum and count add to the checksum: the same in any order of keys.
fn contribution(key: u64, sum: u64, count: u64) -> u64 {
    scramble(fold_bits(scramble(key).wrapping_add(sum)).wrapping_add(count))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn ring_chunks(items: u64) -> Result<u64, String> {
    let (mut producer, mut consumer) = ring::<u64>(4 * BATCH).map_err(text)?;
    let (mut sum, mut next) = (0, 0);
    let mut buffer = [0; BATCH];
    while next < items {
        let count = (items - next).min(BATCH as u64);
        buffer.iter_mut().zip(next..).for_each(|(slot, item)| *slot = item);
        producer.push_slice(&buffer[..count as usize]);
        producer.publish();
        let chunk = consumer.read(BATCH);
        let (first, second) = chunk.as_slices();
        sum = first.iter().chain(second).copied().fold(sum, u64::wrapping_add);
        chunk.commit_all();
        next += count;
    }
    Ok(sum)
}

fn ring_singles(items: u64) -> Result<u64, String> {
    let (mut producer, mut consumer) = ring::<u64>(BATCH).map_err(text)?;
    let mut sum = 0u64;
    for item in 0..items {
        producer.push(item).map_err(|_| "the ring is full")?;
        producer.publish();
        sum = consumer.pop().map_or(0, |item| sum.wrapping_add(item));
    }
    Ok(sum)
}

fn sum_of_all(items: u64) -> u64 {
    (0..items).fold(0, u64::wrapping_add)
}

fn number_of_all(items: u64) -> u64 {
    items
}

/// In `partitions` that one thread steps by `BATCH` items. Steps of a real driver grow by how long they take, and partitions that wait for each
/// other take steps as well: a count would depend on the machine.
fn stepped<T>(
    partitions: usize,
    describe: impl FnOnce(&PipelineBuilder) -> Collected<T>,
) -> Result<Vec<T>, String> {
    let p = PipelineBuilder::new("instructions");
    let out = describe(&p);
    let simulation = Simulation::new(1).partitions(partitions).budgets(BATCH..BATCH + 1);
    verified(&simulation.run(p.build().map_err(text)?).map_err(text)?.result)?;
    Ok(out.take())
}

fn verified(result: &PipelineResult) -> Result<(), String> {
    result.account.verify().map_err(|broken| format!("the account does not close: {broken:?}"))?;
    if result.success { Ok(()) } else { Err(result.outcome.to_string()) }
}

fn chain_bare(items: u64) -> Result<u64, String> {
    Ok(stepped(1, |p| bare_chain(p, items, None))?.into_iter().fold(0, u64::wrapping_add))
}

fn chain_envelope(items: u64) -> Result<u64, String> {
    Ok(stepped(1, |p| envelope_chain(p, items, None))?.into_iter().fold(0, u64::wrapping_add))
}

fn chain_sum(items: u64) -> u64 {
    (0..items).map(scramble).filter(|item| keep(*item)).map(fold_bits).fold(0, u64::wrapping_add)
}

fn envelope_sum(items: u64) -> u64 {
    let others = (0..items).filter(|item| keep(scramble(*item))).map(|item| item * 1_001);
    others.fold(chain_sum(items), u64::wrapping_add)
}

/// Sum and count of each key, in one number.
fn sums(p: &PipelineBuilder, items: u64, keys: u64) -> Collected<u64> {
    let sums = sums_by_key(p, items, move |i| pair(i, keys));
    sums.fold("checksum", 0, |all: u64, (key, (sum, count))| all.wrapping_add(contribution(key, sum, count)))
}

fn keyed_few(items: u64) -> Result<u64, String> {
    Ok(stepped(1, |p| sums(p, items, FEW_KEYS))?.into_iter().fold(0, u64::wrapping_add))
}

fn keyed_many(items: u64) -> Result<u64, String> {
    Ok(stepped(1, |p| sums(p, items, MANY_KEYS))?.into_iter().fold(0, u64::wrapping_add))
}

/// Between two partitions.
fn exchange(items: u64) -> Result<u64, String> {
    Ok(stepped(2, |p| sums(p, items, FEW_KEYS))?.into_iter().fold(0, u64::wrapping_add))
}

fn sums_in_a_map(items: u64, keys: u64) -> u64 {
    let mut sums = BTreeMap::<u64, (u64, u64)>::new();
    for (key, value) in (0..items).map(|index| pair(index, keys)) {
        let (sum, count) = sums.entry(key).or_default();
        *sum = sum.wrapping_add(value);
        *count += 1;
    }
    sums.into_iter().map(|(key, (sum, count))| contribution(key, sum, count)).fold(0, u64::wrapping_add)
}

fn few_sums(items: u64) -> u64 {
    sums_in_a_map(items, FEW_KEYS)
}

fn many_sums(items: u64) -> u64 {
    sums_in_a_map(items, MANY_KEYS)
}

/// How many items were counted, each once for every window that it lies in.
fn windows(items: u64, size: Duration) -> Result<u64, String> {
    let time = |index: u64| Timestamp((index * EVENT_NS) as i64);
    let counts = stepped(1, |p| {
        p.generate("events", items, |i| (pair(i, FEW_KEYS).0, i))
            .watermarks("time", Watermarks::ascending(), move |event| time(event.1))
            .key_by(|event| event.0)
            .window_at(move |event| time(event.1), Sliding::of(size).every(EVERY))
            .aggregate("counts", Count)
            .fold("total", 0u64, |total, count| total + count.value)
    })?;
    Ok(counts.into_iter().sum::<u64>() / (size.as_nanos() / EVERY.as_nanos()) as u64)
}

fn tumbling(items: u64) -> Result<u64, String> {
    windows(items, EVERY)
}

fn sliding(items: u64) -> Result<u64, String> {
    windows(items, SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_computes_what_plain_loops_do() {
        for program in PROGRAMS {
            for items in [1, 30_011] {
                assert_eq!(
                    (program.run)(items),
                    Ok((program.expected)(items)),
                    "{} of {items}",
                    program.name
                );
            }
        }
    }

    #[test]
    fn every_program_has_a_name_of_its_own() {
        let mut names: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROGRAMS.len());
    }
}
