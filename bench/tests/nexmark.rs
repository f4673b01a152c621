//! Every NEXMark query gives what its reference gives: with one, two and eight instances, on every driver, in any schedule.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Collected, PipelineBuilder};
use corelane::observe::{PipelineResult, StageAccount};
use corelane_bench::nexmark::{self, Feed, QUERIES, Settings, add_query, checksum_of};

/// Half a minute of events, out of order by up to 60 ms.
fn feed() -> Feed {
    let settings = Settings { events: 6_000, per_second: 200, group: 13, texts: true };
    Feed::generate(settings).in_blocks_of(50)
}

fn finished(result: &PipelineResult) {
    result.account.verify().unwrap();
    assert!(result.success, "{}", result.outcome);
    let held = |stage: &StageAccount| stage.keys + stage.items_open;
    assert_eq!(result.account.stages.values().map(held).sum::<u64>(), 0, "something stays behind");
    assert_eq!(result.account.stages.values().map(|stage| stage.late).sum::<u64>(), 0);
}

/// Runs what `build` adds to a pipeline everywhere, and hands what came out, sorted, to `check`.
fn everywhere<T: Ord + Debug + Send + 'static>(
    build: impl Fn(&PipelineBuilder) -> Collected<T>,
    check: impl Fn(Vec<T>, &str),
) {
    let sorted = |out: Collected<T>| {
        let mut rows = out.take();
        rows.sort();
        rows
    };
    for shards in [1, 2, 8] {
        for driver in [DriverChoice::Thread, DriverChoice::Glommio] {
            if let Err(why) = driver.resolve() {
                println!("skipped: {driver:?} cannot run here: {why}");
                continue;
            }
            let p = PipelineBuilder::new("nexmark");
            let out = build(&p);
            let options =
                ExecutionOptions { driver, virtual_cores: Some(shards), ..ExecutionOptions::default() };
            finished(&Engine::new(options).run(p.build().unwrap()).unwrap());
            check(sorted(out), &format!("{shards} shards, {driver:?}"));
        }
    }
    for seed in 0..6 {
        let p = PipelineBuilder::new("nexmark");
        let out = build(&p);
        let shards = [1, 2, 8][seed as usize % 3];
        let simulation = Simulation::new(seed).partitions(shards);
        finished(&simulation.run(p.build().unwrap()).unwrap().result);
        check(sorted(out), &format!("{shards} shards, seed {seed}"));
    }
}

macro_rules! agrees {
    ($($query:ident),+) => {
        $(
            #[test]
            fn $query() {
                let feed = feed();
                let mut expected = nexmark::$query::reference(feed.events);
                assert!(!expected.is_empty(), "nothing to compare");
                expected.sort();
                everywhere(
                    |p| nexmark::$query::query(p, feed).collect("out"),
                    |rows, how| assert!(rows == expected, "{how}: {}", difference(&rows, &expected)),
                );
            }
        )+
    };
}

agrees!(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q11, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22);

/// Without turns, as the bench reads: instances take blocks as they get to it, whoever of them runs more often.
#[test]
fn instances_that_take_blocks_when_they_have_time_give_the_same_rows() {
    let settings = Settings { events: 90_000, per_second: 1_000, group: 13, texts: false };
    let feed = Feed::generate(settings);
    let mut expected = nexmark::q7::reference(feed.events);
    expected.sort();
    everywhere(
        |p| nexmark::q7::query(p, feed).collect("out"),
        |rows, how| assert!(rows == expected, "{how}: {}", difference(&rows, &expected)),
    );
}

/// Two days, so that queries that ask for days have several.
#[test]
fn days_end_at_midnight() {
    let settings = Settings { events: 4_000, per_second: 1, group: 3, texts: true };
    // The generator writes at least one event a second: one in fifty of these makes it 2 days.
    let feed = Feed::generate(settings);
    let feed = Feed::of(feed.events.iter().map(|event| event.slowed(50)).collect()).in_blocks_of(50);
    let mut expected = nexmark::q16::reference(feed.events);
    expected.sort();
    assert!(expected.iter().map(|row| row.1).collect::<BTreeSet<_>>().len() >= 2);
    everywhere(
        |p| nexmark::q16::query(p, feed).collect("out"),
        |rows, how| assert!(rows == expected, "{how}"),
    );
}

#[test]
fn q10_writes_every_bid_into_the_file_of_its_minute() {
    let (feed, expected) = (feed(), nexmark::q10::reference(feed().events));
    for shards in [1, 2, 8] {
        let directory = tempfile::tempdir().unwrap();
        let p = PipelineBuilder::new("nexmark");
        nexmark::q10::query(&p, feed, directory.path());
        let options = ExecutionOptions { virtual_cores: Some(shards), ..ExecutionOptions::default() };
        finished(&Engine::new(options).run(p.build().unwrap()).unwrap());
        for (minute, lines) in &expected {
            let files = std::fs::read_dir(directory.path().join(minute)).unwrap();
            let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
            let mut got: Vec<String> =
                texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
            let mut lines = lines.clone();
            got.sort();
            lines.sort();
            assert!(got == lines, "{shards} shards, {}: {}", minute.display(), difference(&got, &lines));
        }
        let minutes: usize = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|day| std::fs::read_dir(day.unwrap().path()).unwrap().count())
            .sum();
        assert_eq!(minutes, expected.len());
    }
}

#[test]
fn q12_counts_bids_by_when_they_came() {
    let (feed, size) = (feed(), std::time::Duration::from_micros(20));
    let build = |p: &PipelineBuilder| {
        let [counted, kept] = nexmark::q12::arrivals(p, feed).broadcast("copies", ["counted", "kept"]);
        (nexmark::q12::count(counted, size).collect("rows"), kept.collect("kept-arrivals"))
    };
    let check = |(rows, arrivals): (Collected<nexmark::q12::Row>, Collected<nexmark::q12::Arrival>),
                 how: &str| {
        let (mut rows, arrivals) = (rows.take(), arrivals.take());
        let mut expected = nexmark::q12::reference(&arrivals, size);
        rows.sort();
        expected.sort();
        assert_eq!(arrivals.len(), nexmark::q0::reference(feed.events).len());
        assert!(rows == expected, "{how}: {}", difference(&rows, &expected));
    };
    for seed in 0..6 {
        let p = PipelineBuilder::new("nexmark");
        let out = build(&p);
        let simulation = Simulation::new(seed).partitions([1, 2, 8][seed as usize % 3]);
        finished(&simulation.run(p.build().unwrap()).unwrap().result);
        check(out, &format!("seed {seed}"));
    }
    let p = PipelineBuilder::new("nexmark");
    let out = build(&p);
    finished(&Engine::default().run(p.build().unwrap()).unwrap());
    check(out, "two cores");
}

/// The first row that only one side has.
fn difference<T: Ord + Debug>(rows: &[T], expected: &[T]) -> String {
    let at = rows.iter().zip(expected).take_while(|(row, expected)| row == expected).count();
    let (row, expected_row) = (rows.get(at), expected.get(at));
    format!("{} rows for {}, {row:?} for {expected_row:?}", rows.len(), expected.len())
}

#[test]
fn a_query_is_found_by_its_name_and_its_checksum_is_that_of_its_rows() {
    let feed = feed();
    for name in QUERIES {
        let p = PipelineBuilder::new("nexmark");
        let sums = add_query(name, &p, feed).unwrap();
        finished(&Engine::default().run(p.build().unwrap()).unwrap());
        let sum = sums.take().into_iter().fold(0, u64::wrapping_add);
        assert_eq!(Some(sum), nexmark::expected(name, feed), "{name}");
    }
    assert!(add_query("q99", &PipelineBuilder::new("none"), feed).is_none());
    assert_eq!(checksum_of([0u64; 0]), 0);
}

#[test]
fn a_feed_knows_its_disorder_and_is_the_same_for_the_same_settings() {
    let (one, other) = (feed(), feed());
    assert_eq!(one.events, other.events);
    // Twelve events of 5 ms before the last of a group, and the first of those is not the earliest.
    assert_eq!(one.disorder.as_millis(), 55);
    let in_order = Feed::generate(Settings { events: 6_000, ..Settings::default() });
    assert!(in_order.disorder.is_zero());
}
