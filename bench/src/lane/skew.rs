//! Sum and count per key, with shards that move while it runs.

use std::time::Duration;

use corelane::engine::{Engine, Running};
use corelane::flow::{Collected, PipelineBuilder};
use corelane::policy::{Parallelism, RebalancePolicy};
use corelane::shard::Rebalance;

use super::options;
use crate::case::{Measured, Outcome, Setup};
use crate::workload::keyed::Totals;
use crate::workload::skew::Keys;

/// How often the run is looked at from outside. The looker sleeps in between: the cores belong to the pipeline.
const LOOK: Duration = Duration::from_millis(2);
/// Of so many pairs, one has been folded before the load is judged.
const JUDGED_AFTER: u64 = 8;

/// On two cores, without a move.
///
/// # Errors
/// What kept it from running.
pub fn still(pairs: u64, keys: &Keys, right: u64, setup: &Setup) -> Result<Outcome, String> {
    let (running, totals) = start(pairs, keys, setup)?;
    let result = running.join();
    result.account.verify().map_err(|broken| format!("the account does not close: {broken:?}"))?;
    let checksum = sum(&totals).checksum() ^ right;
    Ok(Measured { items: pairs, elapsed: result.duration, checksum }.into())
}

/// The same, with shards moved while it runs; measured from the end of the move on.
///
/// # Errors
/// What kept it from running, and that no shard moved.
pub fn moved(pairs: u64, keys: &Keys, right: u64, setup: &Setup) -> Result<Outcome, String> {
    let (running, totals) = start(pairs, keys, setup)?;
    let monitor = running.monitor();
    let folded = || monitor.inspect("sum-and-count").map_or(0, |stage| stage.processed_count);
    while folded() < pairs / JUDGED_AFTER && !running.wait_timeout(LOOK) {}
    let called = running.elapsed();
    let Rebalance::Moving { moves, .. } =
        running.rebalance("sum-and-count").map_err(|error| error.to_string())?
    else {
        return Err("no shard moved".to_owned());
    };
    let shards = || monitor.inspect("sum-and-count").and_then(|stage| stage.shards);
    while shards().is_some_and(|shards| shards.moving) && !running.wait_timeout(LOOK) {}
    let (from, before) = (running.elapsed(), folded());
    // Its end is known to within the time of a look, of seconds.
    while !running.wait_timeout(LOOK) {}
    let elapsed = running.elapsed().saturating_sub(from);
    let result = running.join();
    result.account.verify().map_err(|broken| format!("the account does not close: {broken:?}"))?;
    let handed_over: u64 = result.account.stages.values().map(|stage| stage.handed_over).sum();
    let checksum = sum(&totals).checksum() ^ right;
    let measured = Measured { items: pairs - before, elapsed, checksum };
    let took = (from - called).as_millis();
    Ok(Outcome::from(measured).note(format!(
        "{} shards with {:.1} M of the pairs folded until then moved, within {took} ms",
        moves.len(),
        handed_over as f64 / 1e6,
    )))
}

fn sum(totals: &Collected<Totals>) -> Totals {
    let mut all = Totals::default();
    totals.take().iter().for_each(|shard| all.merge(shard));
    all
}

fn start(pairs: u64, keys: &Keys, setup: &Setup) -> Result<(Running, Collected<Totals>), String> {
    let p = PipelineBuilder::new("bench");
    let keys = keys.clone();
    let totals = p
        .generate("pairs", pairs, move |i| keys.pair(i))
        .parallel(Parallelism::CpuBound)
        .key_by(|pair| pair.0)
        .fold(
            "sum-and-count",
            || (0u64, 0u64),
            |(sum, count), (_, value)| {
                *sum = sum.wrapping_add(value);
                *count += 1;
            },
        )
        .rebalanced(RebalancePolicy::default())
        .fold("totals", Totals::default(), |mut totals, (key, (sum, count))| {
            totals.add(key, sum, count);
            totals
        });
    let pipeline = p.build().map_err(|error| error.to_string())?;
    let running =
        Engine::new(options(setup, "*={0},{1}")?).start(pipeline).map_err(|error| error.to_string())?;
    Ok((running, totals))
}
