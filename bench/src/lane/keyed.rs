//! Sum and count per key: generated on two cores, exchanged by hash, folded where the key lives.

use corelane::policy::{BackpressureStrategy, Parallelism};

use super::run;
use crate::case::{Measured, Setup};
use crate::workload::keyed::{Totals, pair};

/// `pairs` pairs over `keys` keys; `strategy` holds on the exchange, if there is one.
///
/// # Errors
/// What kept it from running.
pub fn exchange(
    pairs: u64,
    keys: u64,
    strategy: Option<BackpressureStrategy>,
    setup: &Setup,
) -> Result<Measured, String> {
    let (result, totals) = run(setup, "*={0},{1}", |p| {
        let sums = p
            .generate("pairs", pairs, move |i| pair(i, keys))
            .parallel(Parallelism::CpuBound)
            .key_by(|pair| pair.0)
            .fold(
                "sum-and-count",
                || (0u64, 0u64),
                |(sum, count), (_, value)| {
                    *sum = sum.wrapping_add(value);
                    *count += 1;
                },
            );
        let sums = match strategy {
            Some(strategy) => sums.input_backpressure(strategy),
            None => sums,
        };
        sums.fold("totals", Totals::default(), |mut totals, (key, (sum, count))| {
            totals.add(key, sum, count);
            totals
        })
    })?;
    let mut all = Totals::default();
    totals.take().iter().for_each(|shard| all.merge(shard));
    Ok(Measured { items: pairs, elapsed: result.duration, checksum: all.checksum() })
}
