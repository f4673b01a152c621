//! Renoir: a block per core, batches of its default size, and the fused operators it is fast with.

use core_affinity::CoreId;
use renoir::operator::source::IteratorSource;
use renoir::{RuntimeConfig, StreamContext};

use crate::case::Measured;
use crate::pin;
use crate::workload::chain::{fold_bits, keep, scramble};
use crate::workload::keyed::{Totals, pair};

fn context(parallelism: u64) -> StreamContext {
    StreamContext::new(RuntimeConfig::local(parallelism).expect("a local configuration"))
}

/// The chain in one block on one core.
///
/// # Panics
/// If Renoir gives no result.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    pin::timed_on_one(items, core, || {
        let env = context(1);
        let sum = env
            .stream(IteratorSource::new(0..items))
            .map(scramble)
            .filter(|item| keep(*item))
            .map(fold_bits)
            .fold(0_u64, |sum, item| *sum = sum.wrapping_add(item))
            .collect_vec();
        env.execute_blocking();
        sum.get().and_then(|sums| sums.first().copied()).expect("one sum")
    })
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
