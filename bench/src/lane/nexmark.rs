//! Queries of NEXMark, on one core or two, each row of the answer in a checksum.

use std::time::Duration;

use super::{everything_on, run};
use crate::case::{Latencies, Measured, Setup};
use crate::nexmark::{Feed, Moments, add_query, add_timed_query};
use crate::workload::latency::{Clock, Schedule, histogram, latencies};

/// The query called `query` over all of `feed`, on `cores` cores.
///
/// # Errors
/// There is no such query, or what kept it from running.
pub fn query(query: &str, feed: Feed, cores: usize, setup: &Setup) -> Result<Measured, String> {
    let (result, sums) = run(setup, everything_on(cores), |p| add_query(query, p, feed))?;
    let sums = sums.ok_or_else(|| format!("there is no query {query}"))?;
    let checksum = sums.take().into_iter().fold(0, u64::wrapping_add);
    Ok(Measured { items: feed.events.len() as u64, elapsed: result.duration, checksum })
}

/// How long it takes until the rows of the query called `query` are complete, at moments `every` so often in event time, while the events of
/// `feed` come by `schedule`.
///
/// # Errors
/// There is no such query, or what kept it from running.
pub fn completion(
    query: &str,
    feed: Feed,
    every: Duration,
    schedule: Schedule,
    cores: usize,
    setup: &Setup,
) -> Result<Latencies, String> {
    let clock = Clock::start();
    let moments = Moments::new(feed, every, schedule, clock);
    let feed = feed
        .watermarks_every(every)
        .due(clock.at(schedule.first_ns), Duration::from_nanos(schedule.period_ns));
    let (_, completions) =
        run(setup, everything_on(cores), |p| add_timed_query(query, p, feed, moments.clone()))?;
    let completions = completions.ok_or_else(|| format!("there is no query {query}"))?.take();
    let mut delays = histogram();
    moments.delays(&completions).for_each(|delay| delays.saturating_record(delay));
    let checksum = completions.iter().fold(0, |sum: u64, core| sum.wrapping_add(core.checksum));
    Ok(latencies(delays, checksum))
}
