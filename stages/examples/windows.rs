//! Temperatures of ten sensors: mean and maximum of each minute, with previews, and the readings that came too late.

use std::error::Error;
use std::time::Duration;

use corelane::engine::Engine;
use corelane::flow::PipelineBuilder;
use corelane::model::Timestamp;
use corelane::policy::Watermarks;
use corelane_stages::window::{Count, KeyedWindows, Max, Mean, Timing, Trigger, Tumbling};

const SECOND: i64 = 1_000_000_000;

/// A sensor, when it was read, and what it said.
#[derive(Clone, Copy)]
struct Reading {
    sensor: u8,
    second: i64,
    celsius: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let p = PipelineBuilder::new("temperatures");
    let reading = |i: u64| {
        // Every hundredth reading was held up for five minutes.
        let delay = if i % 100 == 99 { 300 } else { 0 };
        let second = i as i64 / 10 - delay;
        Reading { sensor: (i % 10) as u8, second, celsius: 20.0 + (second % 7) as f64 }
    };
    let (results, late) = p
        .generate("readings", 10_000, reading)
        .watermarks("time", Watermarks::bounded(Duration::from_secs(5)), |r| Timestamp(r.second * SECOND))
        .key_by(|r| r.sensor)
        .window_at(|r| Timestamp(r.second * SECOND), Tumbling::of(Duration::from_secs(60)))
        .trigger(Trigger::new().early_count(20))
        .aggregate_with_late(
            "minutes",
            (Count, Mean::of(|r: &Reading| r.celsius), Max::of(|r: &Reading| r.celsius)),
        );
    let results = results.collect("results");
    let late = late.fold("late", 0u64, |n, _| n + 1);
    let result = Engine::default().run(p.build()?)?;
    println!("{}", result.account);

    let results = results.take();
    let in_time: u64 = results.iter().filter(|r| r.pane.timing == Timing::OnTime).map(|r| r.value.0).sum();
    let late: u64 = late.take().into_iter().sum();
    println!("{} results; {in_time} readings came in time, {late} too late", results.len());
    if !result.success || in_time + late != 10_000 {
        return Err(format!("{}: {in_time} and {late} readings, not 10000", result.outcome).into());
    }
    Ok(())
}
