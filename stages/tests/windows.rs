//! Every kind of window in whole pipelines: the same results on any number of shards, in any schedule, and on real cores.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Collected, Keyed, Pipeline, PipelineBuilder, Segment, Stream};
use corelane::model::{Envelope, Timed, Timestamp};
use corelane::policy::{Parallelism, Watermarks};
use corelane::testing::StageTest;
use corelane_stages::window::{
    Count, Counted, Distinct, Global, KeyedWindows, Leaders, Max, Mean, Pane, Percentiles, Session, Sliding,
    Sum, Timing, TopK, Trigger, Tumbling, Window, Windowed,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bid {
    auction: u32,
    at: i64,
    price: u64,
}

impl Timed for Bid {
    fn timestamp(&self) -> Timestamp {
        Timestamp(self.at)
    }
}

const fn nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

/// Bids whose times go up by 3, with up to 40 of disorder.
fn bids(count: u64) -> Vec<Bid> {
    let bid = |n: u64| {
        let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (auction, jitter) = ((mixed >> 60) as u32, (mixed >> 50) % 41);
        Bid { auction, at: n as i64 * 3 - jitter as i64, price: mixed >> 56 }
    };
    (0..count).map(bid).collect()
}

const DISORDER: Watermarks = Watermarks::bounded(Duration::from_nanos(43)).any_ahead();

type ByAuction<S> = Keyed<S, fn(&Bid) -> u32>;

fn by_auction<S: Segment<Item = Bid>>(bids: Stream<S>) -> ByAuction<S> {
    bids.key_by((|bid: &Bid| bid.auction) as fn(&Bid) -> u32)
}

/// Runs what `build` makes on one, two and eight shards in many schedules, and on threads; it must give `expected` each
/// time, in some order.
fn everywhere<T: Ord + Debug + Send + 'static>(build: impl Fn() -> (Pipeline, Collected<T>), expected: &[T]) {
    for seed in 0..24 {
        let (pipeline, out) = build();
        let report = Simulation::new(seed).partitions([1, 2, 8][seed as usize % 3]).run(pipeline).unwrap();
        report.result.account.verify().unwrap();
        assert!(report.result.success, "seed {seed}");
        assert_eq!(report.result.account.stages.values().map(|stage| stage.keys).sum::<u64>(), 0);
        let mut got = out.take();
        got.sort();
        assert_eq!(got, expected, "seed {seed}");
    }
    for cores in [1, 2, 8] {
        let (pipeline, out) = build();
        let options = ExecutionOptions {
            driver: DriverChoice::Thread,
            virtual_cores: Some(cores),
            ..ExecutionOptions::default()
        };
        let result = Engine::new(options).run(pipeline).unwrap();
        result.account.verify().unwrap();
        assert!(result.success, "{}", result.outcome);
        let mut got = out.take();
        got.sort();
        assert_eq!(got, expected, "{cores} cores");
    }
}

/// A pipeline of `bids` with watermarks and a stage behind a parallel stage, so that items come from several instances.
macro_rules! pipeline {
    ($count:expr, |$bids:ident| $windows:expr) => {
        || {
            let p = PipelineBuilder::new("windows");
            let $bids = p
                .items("bids", bids($count))
                .watermarks("time", DISORDER, |bid| Timestamp(bid.at))
                .map("work", |bid| bid)
                .parallel(Parallelism::CpuBound);
            let out = $windows.collect("out");
            (p.build().unwrap(), out)
        }
    };
}

fn expected<R: Ord>(
    count: u64,
    windows_of: impl Fn(i64) -> Vec<Window>,
    value: impl Fn(&[Bid]) -> R,
) -> Vec<Windowed<u32, R>> {
    let mut windows: BTreeMap<(u32, Window), Vec<Bid>> = BTreeMap::new();
    for bid in bids(count) {
        for window in windows_of(bid.at) {
            windows.entry((bid.auction, window)).or_default().push(bid);
        }
    }
    let result = |((key, window), bids): ((u32, Window), Vec<Bid>)| Windowed {
        key,
        window,
        value: value(&bids),
        pane: Pane::ONLY,
    };
    let mut all: Vec<_> = windows.into_iter().map(result).collect();
    all.sort();
    all
}

#[test]
fn tumbling_windows_are_the_same_everywhere() {
    let minutes = Tumbling::of(nanos(60)).aligned_to(Timestamp(-7));
    let expected = expected(
        2_000,
        |at| vec![minutes.window_of(Timestamp(at)).unwrap()],
        |bids| (bids.len() as u64, bids.iter().map(|bid| bid.price).sum::<u64>()),
    );
    everywhere(
        pipeline!(2_000, |bids| by_auction(bids)
            .window(minutes)
            .aggregate("sum", (Count, Sum::of(|bid: &Bid| bid.price)))),
        &expected,
    );
}

#[test]
fn sliding_windows_are_the_same_everywhere() {
    for (size, every) in [(100, 20), (90, 40), (20, 70)] {
        let windows = Sliding::of(nanos(size)).every(nanos(every));
        let of = |at| windows.windows_of(Timestamp(at)).unwrap().collect();
        let expected = expected(1_000, of, |bids| bids.iter().map(|bid| bid.price).max());
        everywhere(
            pipeline!(1_000, |bids| by_auction(bids)
                .window(windows)
                .aggregate("max", Max::of(|bid: &Bid| bid.price))),
            &expected,
        );
    }
}

#[test]
fn what_leads_a_window_of_all_keys_is_the_same_everywhere() {
    let price = |of_auction: &Windowed<u32, u64>| of_auction.value;
    for (size, every) in [(60, 60), (100, 20), (20, 70)] {
        let windows = Sliding::of(nanos(size)).every(nanos(every));
        let of = |at| windows.windows_of(Timestamp(at)).unwrap().collect();
        let all = expected(1_000, of, |bids| bids.iter().map(|bid| bid.price).sum::<u64>());
        let mut most = BTreeMap::new();
        for of_auction in &all {
            let most = most.entry(of_auction.window).or_default();
            *most = of_auction.value.max(*most);
        }
        let expected: Vec<_> =
            all.into_iter().filter(|of_auction| most[&of_auction.window] == of_auction.value).collect();
        everywhere(
            pipeline!(1_000, |bids| by_auction(bids)
                .window(windows)
                .aggregate_across("leaders-here", Sum::of(|bid: &Bid| bid.price), Leaders::of(price))
                .flat_map("candidates", |leaders| leaders.value)
                .key_by(|of_auction| of_auction.window)
                .window(Tumbling::of(nanos(1)))
                .aggregate("leaders", Leaders::of(price))
                .flat_map("rows", |leaders| leaders.value)),
            &expected,
        );
    }
}

#[test]
fn sessions_are_the_same_everywhere() {
    let gap = 60;
    let mut by_key: BTreeMap<u32, Vec<Bid>> = BTreeMap::new();
    bids(1_500).into_iter().for_each(|bid| by_key.entry(bid.auction).or_default().push(bid));
    let mut expected = Vec::new();
    for (key, mut bids) in by_key {
        bids.sort_by_key(|bid| bid.at);
        for session in bids.chunk_by(|a, b| b.at - a.at < gap) {
            let window = Window::from_nanos(session[0].at, session[session.len() - 1].at + gap);
            expected.push(Windowed { key, window, value: session.len() as u64, pane: Pane::ONLY });
        }
    }
    expected.sort();
    assert!(expected.len() > 100, "there are sessions to speak of");
    everywhere(
        pipeline!(1_500, |bids| by_auction(bids)
            .window(Session::with_gap(nanos(gap as u64)))
            .aggregate("count", Count)),
        &expected,
    );
}

#[test]
fn every_kind_of_window_passes_the_testing_kit() {
    let items = bids(60);
    let verify = |test: StageTest<Bid, (u32, u64)>, stage: fn(TestBids) -> Stream<Boxed>| {
        test.any_order().event_time(|bid: &Bid| Timestamp(bid.at)).verify(stage).unwrap();
    };
    let sums = |expected: Vec<Windowed<u32, u64>>| {
        expected.into_iter().map(|r| (r.key, r.value)).collect::<Vec<_>>()
    };
    let count = |bids: &[Bid]| bids.len() as u64;
    let tumbling = expected(60, |at| vec![Tumbling::of(nanos(20)).window_of(Timestamp(at)).unwrap()], count);
    verify(StageTest::new(items.clone(), sums(tumbling)), |bids| {
        told(by_auction(bids).window(Tumbling::of(nanos(20))).aggregate("count", Count))
    });
    let windows = Sliding::of(nanos(50)).every(nanos(20));
    let sliding = expected(60, |at| windows.windows_of(Timestamp(at)).unwrap().collect(), count);
    verify(StageTest::new(items.clone(), sums(sliding)), |bids| {
        told(by_auction(bids).window(Sliding::of(nanos(50)).every(nanos(20))).aggregate("count", Count))
    });
    let whole = sums(expected(60, |_| vec![Window::ALL], count));
    verify(StageTest::new(items.clone(), whole.clone()), |bids| {
        told(by_auction(bids).window(Global).aggregate("count", Count))
    });
    // A gap longer than all: one session for each key.
    verify(StageTest::new(items.clone(), whole.clone()), |bids| {
        told(by_auction(bids).window(Session::with_gap(nanos(1_000))).aggregate("count", Count))
    });
    let threes = |(key, n): &(u32, u64)| {
        (0..n / 3).map(|_| (*key, 3)).chain((n % 3 > 0).then_some((*key, n % 3))).collect::<Vec<_>>()
    };
    verify(StageTest::new(items, whole.iter().flat_map(threes).collect::<Vec<_>>()), |bids| {
        told(by_auction(bids).window(Counted::of(3)).aggregate("count", Count))
    });
}

type TestBids = corelane::testing::TestInput<Bid>;
type Boxed = corelane::flow::PortSegment<(u32, u64)>;

fn told(counts: Stream<impl Segment<Item = Windowed<u32, u64>>>) -> Stream<Boxed> {
    counts.map("tell", |result| (result.key, result.value)).boxed()
}

#[test]
fn every_item_is_in_a_result_or_late_whatever_the_watermarks_say() {
    // Watermarks that are far too bold.
    for seed in 0..40 {
        let p = PipelineBuilder::new("late");
        let bids =
            p.items("bids", bids(1_000))
                .watermarks("time", Watermarks::ascending().any_ahead(), |bid| Timestamp(bid.at));
        let (results, late) =
            by_auction(bids).window(Tumbling::of(nanos(10))).aggregate_with_late("count", Count);
        let (results, late) = (results.collect("results"), late.collect("late"));
        let report = Simulation::new(seed).partitions(1 + seed as usize % 4).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        let (results, late) = (results.take(), late.take());
        let stage = report.result.account.stages[&"count".parse().unwrap()];
        assert_eq!((stage.late, stage.passed), (late.len() as u64, late.len() as u64));
        assert_eq!(
            results.iter().map(|result| result.value).sum::<u64>() + late.len() as u64,
            1_000,
            "seed {seed}"
        );
        // Nothing is given out twice for a key and window.
        let mut windows: Vec<_> = results.iter().map(|result| (result.key, result.window)).collect();
        windows.sort();
        assert!(windows.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn results_are_on_time_for_the_windows_behind_them() {
    // Windows of windows: no result of the first is late for the second, on any number of shards.
    for seed in 0..20 {
        let p = PipelineBuilder::new("nested");
        let bids = p.items("bids", bids(1_000)).watermarks("time", DISORDER, |bid| Timestamp(bid.at));
        let out = by_auction(bids)
            .window(Tumbling::of(nanos(30)))
            .aggregate("count", Count)
            .key_by(|_| ())
            .window(Tumbling::of(nanos(30)))
            .aggregate("most", TopK::of(1, |count: &Windowed<u32, u64>| count.value))
            .collect("out");
        let report = Simulation::new(seed).partitions(1 + seed as usize % 4).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        assert_eq!(report.result.account.stages[&"most".parse().unwrap()].late, 0, "seed {seed}");
        let out = out.take();
        assert!(out.iter().all(|top| top.value[0].window == top.window));
        assert!(out.len() >= 100);
    }
}

#[test]
fn envelopes_of_a_window_come_as_a_batch_with_its_bounds() {
    let p = PipelineBuilder::new("batches");
    let out = p
        .generate("numbers", 30, |i| Envelope::at(i, Timestamp(i as i64), i))
        .watermarks("time", Watermarks::ascending(), |envelope| envelope.timestamp)
        .key_by(|envelope| envelope.payload % 2)
        .window(Tumbling::of(nanos(10)))
        .batches("batches")
        .collect("out");
    Simulation::new(1).run(p.build().unwrap()).unwrap().result.account.verify().unwrap();
    let mut batches = out.take();
    batches.sort_by_key(|batch| (batch.window, batch.key));
    assert_eq!(batches.len(), 6);
    let batch = &batches[3].value;
    assert_eq!((batch.window_start(), batch.window_end()), (Timestamp(10), Timestamp(20)));
    let payloads: Vec<_> = batch.iter().map(|envelope| envelope.payload).collect();
    assert_eq!(payloads, [11, 13, 15, 17, 19]);
}

#[test]
fn early_results_come_while_the_source_waits_and_the_last_is_right() {
    let p = PipelineBuilder::new("early");
    let out = p
        .items("bids", bids(300))
        .key_by(|bid| bid.auction % 3)
        .window(Global)
        .trigger(Trigger::new().early_count(50))
        .aggregate("count", Count)
        .collect("out");
    let result = Simulation::new(3).run(p.build().unwrap()).unwrap().result;
    result.account.verify().unwrap();
    let out = out.take();
    let of = |timing| out.iter().filter(move |result| result.pane.timing == timing);
    assert_eq!(of(Timing::OnTime).map(|result| result.value).sum::<u64>(), 300);
    assert!(of(Timing::Early).all(|result| result.value == 50 * (u64::from(result.pane.index) + 1)));
    assert_eq!(
        of(Timing::Early).count() as u64,
        result.account.stages[&"count".parse().unwrap()].results_partial
    );
}

#[test]
fn case_83_one_hot_key_and_many_distinct_ones() {
    let counts = |keys: u64| {
        let p = PipelineBuilder::new("skew");
        let out = p
            .generate("numbers", 20_000, move |i| Bid { auction: (i % keys) as u32, at: i as i64, price: i })
            .watermarks("time", Watermarks::ascending(), |bid| Timestamp(bid.at))
            .key_by(|bid| bid.auction)
            .window(Tumbling::of(nanos(5_000)))
            .aggregate(
                "count",
                (Count, Distinct::of(|bid: &Bid| bid.price), Mean::of(|bid: &Bid| bid.price as f64)),
            )
            .collect("out");
        let result = Simulation::new(keys).partitions(4).run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        assert_eq!(result.account.stages[&"count".parse().unwrap()].keys, 0);
        out.take()
    };
    let hot = counts(1);
    assert_eq!(hot.len(), 4);
    assert!(hot.iter().all(|result| (result.value.0, result.value.1) == (5_000, 5_000)));
    assert_eq!(counts(20_000).len(), 20_000);
}

#[test]
fn a_size_that_cannot_be_is_an_error_at_the_start_with_the_stage_and_the_field() {
    let p = PipelineBuilder::new("zero");
    p.items("bids", bids(10))
        .key_by(|bid| bid.auction)
        .window(Sliding::of(nanos(10)).every(Duration::ZERO))
        .aggregate("slide", Count)
        .for_each("out", drop);
    let result = Simulation::new(1).run(p.build().unwrap()).unwrap().result;
    let said = result.outcome.to_string();
    assert!(!result.success && said.contains("slide") && said.contains("step is zero"), "{said}");
}

#[test]
fn a_panic_in_an_aggregate_ends_the_pipeline_and_the_account_closes() {
    for seed in 0..10 {
        let p = PipelineBuilder::new("panic");
        p.items("bids", bids(500))
            .watermarks("time", DISORDER, |bid| Timestamp(bid.at))
            .key_by(|bid| bid.auction)
            .window(Tumbling::of(nanos(100)))
            .aggregate(
                "sum",
                Percentiles::of(|bid: &Bid| if bid.at == 900 { panic!("no {}", bid.at) } else { bid.price }),
            )
            .for_each("out", drop);
        let report = Simulation::new(seed).partitions(2).run(p.build().unwrap());
        let result = report.unwrap().result;
        result.account.verify().unwrap();
        let hit = bids(500).iter().any(|bid| bid.at == 900);
        assert_eq!(result.success, !hit, "seed {seed}");
    }
}

#[test]
fn stops_and_drains_in_the_middle_account_for_every_item() {
    for seed in 0..60 {
        let build = || {
            let p = PipelineBuilder::new("stop");
            let bids = p.items("bids", bids(2_000)).watermarks("time", DISORDER, |bid| Timestamp(bid.at));
            let out = by_auction(bids)
                .window(Sliding::of(nanos(100)).every(nanos(30)))
                .aggregate("count", Count)
                .key_by(|count| count.key)
                .window(Session::with_gap(nanos(50)))
                .aggregate("again", Count)
                .collect("out");
            (p.build().unwrap(), out)
        };
        let at = 3 + seed * 7;
        let stopped = Simulation::new(seed).partitions(3).stop_at(at).run(build().0).unwrap();
        stopped.result.account.verify().unwrap();
        let drained = Simulation::new(seed).partitions(3).drain_at(at).run(build().0).unwrap();
        drained.result.account.verify().unwrap();
    }
}
