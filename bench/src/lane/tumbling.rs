//! Counts per key and window: events made on two cores, counted where their key lives, or where they are made and added up there.

use corelane::flow::{Collected, PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane::policy::{Parallelism, Watermarks};
use corelane::stage::StageSite;
use corelane_stages::window::{Count, KeyedWindows, PerCore, Sum, Tumbling, Windowed};

use super::turns::in_turn;
use super::{checksum, run};
use crate::case::{Measured, Setup};
use crate::workload::tumbling::{SIZE, counted, event, window};

/// A key, and when it was seen.
type Event = (u64, Timestamp);
type Counted = Windowed<u64, u64>;

/// Every event goes to the core of its key.
///
/// # Errors
/// What kept it from running.
pub fn exchange(events: u64, setup: &Setup) -> Result<Measured, String> {
    measured(events, setup, |p| {
        let counts =
            made(p, events).key_by(key).window_at(time, Tumbling::of(SIZE)).aggregate("counts", Count);
        summed(counts)
    })
}

/// Each core counts what it makes, and counts go to the core of their key.
///
/// # Errors
/// As [`exchange`].
pub fn combining(events: u64, setup: &Setup) -> Result<Measured, String> {
    measured(events, setup, |p| {
        let counts = made(p, events)
            .per_core(key)
            .window_at(time, Tumbling::of(SIZE))
            .aggregate("counts-here", Count)
            .key_by(|count: &Counted| count.key)
            .window(Tumbling::of(SIZE))
            .aggregate("counts", Sum::of(|count: &Counted| count.value));
        summed(counts)
    })
}

fn key(event: &Event) -> u64 {
    event.0
}

fn time(event: &Event) -> Timestamp {
    event.1
}

fn made(p: &PipelineBuilder, events: u64) -> Stream<impl Segment<Item = Event> + use<>> {
    p.source("events", move |site: &StageSite| {
        Ok(in_turn(events, site, |index| {
            let (key, at) = event(index);
            (key, Timestamp(at.cast_signed()))
        }))
    })
    .parallel(Parallelism::CpuBound)
    .watermarks("time", Watermarks::ascending(), time)
}

fn summed<S: Segment<Item = Counted>>(counts: Stream<S>) -> Collected<u64> {
    counts.fold("checksum", 0u64, |sum, count| {
        let number = window(count.window.start.as_nanos().unsigned_abs());
        sum.wrapping_add(counted(count.key, number, count.value))
    })
}

fn measured(
    events: u64,
    setup: &Setup,
    describe: impl FnOnce(&PipelineBuilder) -> Collected<u64>,
) -> Result<Measured, String> {
    let (result, sums) = run(setup, "*={0},{1}", describe)?;
    Ok(Measured { items: events, elapsed: result.duration, checksum: checksum(&sums) })
}
