//! Sliding windows under an open loop: a source that keeps to a schedule on one core, the windows on the other.

use std::time::Duration;

use corelane::model::Timestamp;
use corelane::policy::Watermarks;
use corelane_stages::window::{Count, KeyedWindows, Sliding};

use super::latency::Scheduled;
use super::run;
use crate::case::{Latencies, Measured, Setup};
use crate::share::Watch;
use crate::workload::latency::{Schedule, latencies};
use crate::workload::window::{Delays, EVERY, Run, SIZE};

/// Counts per key of the last ten seconds, every ten milliseconds, of what `query` sends.
///
/// # Errors
/// What kept it from running.
pub fn sliding(query: Run, setup: &Setup) -> Result<Latencies, String> {
    let (schedule, clock, watch) = (query.schedule, query.clock(), Watch::default());
    let sender = watch.clone();
    let (_, delays) = run(setup, "send={0};time={0};*={1}", |p| {
        p.source("send", move |_| Ok(Scheduled::new(schedule, clock, sender.clone())))
            .watermarks("time", Watermarks::ascending(), |item| Timestamp(item.intended_ns as i64))
            .key_by(|item| item.key)
            .window_at(|item| Timestamp(item.intended_ns as i64), Sliding::of(SIZE).every(EVERY))
            .aggregate("counts", Count)
            // In a box, because the fold hands it on by value for every item.
            .fold("delays", Box::new(Delays::new(query)), move |mut delays, count| {
                delays.take(count.key, count.window.end.as_nanos(), count.value, clock);
                delays
            })
    })?;
    let delays = delays.take().pop().ok_or("the windows handed nothing over")?;
    Ok(latencies(delays.histogram, delays.checksum).watched(&watch))
}

/// How long an item takes in windows of `size` that begin `every` so often, on one core: events a microsecond apart, of
/// [`KEYS`](crate::workload::latency::KEYS) keys. The checksum is the number of items, found again in the counts.
///
/// # Errors
/// What kept it from running.
pub fn cost(items: u64, size: Duration, every: Duration, setup: &Setup) -> Result<Measured, String> {
    let schedule = Schedule::at_rate(1_000_000, items);
    let (result, total) = run(setup, "*={0}", |p| {
        p.generate("events", items, move |i| schedule.item(i))
            .watermarks("time", Watermarks::ascending(), |item| Timestamp(item.intended_ns as i64))
            .key_by(|item| item.key)
            .window_at(|item| Timestamp(item.intended_ns as i64), Sliding::of(size).every(every))
            .aggregate("counts", Count)
            .fold("total", 0u64, |total, count| total + count.value)
    })?;
    // Every item is counted once in each window it lies in.
    let windows = (size.as_nanos() / every.as_nanos()) as u64;
    let total: u64 = total.take().into_iter().sum();
    Ok(Measured { items, elapsed: result.duration, checksum: total / windows })
}
