//! Sum and count per key: generated on two cores, exchanged by hash, folded where the key lives.

use std::time::Duration;

use corelane::engine::ExecutionOptions;
use corelane::flow::{Collected, PipelineBuilder};
use corelane::model::Timestamp;
use corelane::observe::PipelineResult;
use corelane::policy::{BackpressureStrategy, Parallelism};
use corelane_stages::window::{Count, PerCore, Sum, Tumbling};

use super::{run, verified};
use crate::case::{Measured, Setup};
use crate::pipelines::sums_by_key;
use crate::workload::keyed::{Totals, pair};

/// `pairs` pairs over `keys` keys on two cores; `strategy` holds on the exchange, if there is one.
///
/// # Errors
/// What kept it from running.
pub fn exchange(
    pairs: u64,
    keys: u64,
    strategy: Option<BackpressureStrategy>,
    setup: &Setup,
) -> Result<Measured, String> {
    let (result, totals) = run(setup, "*={0},{1}", |p| sums(p, pairs, keys, strategy))?;
    Ok(measured(pairs, &result, &totals))
}

/// The same on as many partitions as asked for, which take turns on all allowed cores. They do not spin: there are more of them than cores.
///
/// # Errors
/// What kept it from running.
pub fn sharded(pairs: u64, keys: u64, shards: u32, setup: &Setup) -> Result<Measured, String> {
    let builder = PipelineBuilder::new("bench");
    let totals = sums(&builder, pairs, keys, None);
    let options = ExecutionOptions {
        driver: setup.driver.into(),
        virtual_cores: Some(shards),
        ..ExecutionOptions::default()
    };
    let result = verified(options, builder)?;
    Ok(measured(pairs, &result, &totals))
}

/// The same on two cores, each of which sums up the keys of its own pairs first: what goes to the core of a key are sums.
///
/// # Errors
/// What kept it from running.
pub fn combining(pairs: u64, keys: u64, setup: &Setup) -> Result<Measured, String> {
    let (result, totals) = run(setup, "*={0},{1}", |p| {
        p.generate("pairs", pairs, move |i| pair(i, keys))
            .parallel(Parallelism::CpuBound)
            .per_core(|pair| pair.0)
            // All in one window: it ends with the input.
            .window_at(|_| Timestamp(0), Tumbling::of(Duration::from_secs(1)))
            .aggregate("sum-and-count-here", (Sum::of(value), Count))
            .key_by(|here| here.key)
            .fold(
                "sum-and-count",
                || (0u64, 0u64),
                |(sum, count), here| {
                    *sum = sum.wrapping_add(here.value.0);
                    *count += here.value.1;
                },
            )
            .fold("totals", Totals::default(), total)
    })?;
    Ok(measured(pairs, &result, &totals))
}

fn value(pair: &(u64, u64)) -> u64 {
    pair.1
}

fn total(mut totals: Totals, (key, (sum, count)): (u64, (u64, u64))) -> Totals {
    totals.add(key, sum, count);
    totals
}

fn sums(
    p: &PipelineBuilder,
    pairs: u64,
    keys: u64,
    strategy: Option<BackpressureStrategy>,
) -> Collected<Totals> {
    let sums = sums_by_key(p, pairs, move |i| pair(i, keys));
    let sums = match strategy {
        Some(strategy) => sums.input_backpressure(strategy),
        None => sums,
    };
    sums.fold("totals", Totals::default(), total)
}

fn measured(pairs: u64, result: &PipelineResult, totals: &Collected<Totals>) -> Measured {
    let mut all = Totals::default();
    totals.take().iter().for_each(|shard| all.merge(shard));
    Measured { items: pairs, elapsed: result.duration, checksum: all.checksum() }
}
