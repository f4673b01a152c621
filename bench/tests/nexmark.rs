//! Every NEXMark query gives what its reference gives: with one, two and eight instances, on every driver, in any schedule.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

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
        for driver in [DriverChoice::Thread, DriverChoice::Auto] {
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

agrees!(q0, q1, q2, q3, q4, q5, q7, q8);

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
