//! Pipelines as a user writes them, on real threads and on the simulator.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{CancellationToken, Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::Timestamp;
use corelane::observe::{Outcome, PipelineResult, StageState};
use corelane::partition::MergePolicy;
use corelane::policy::{Backoff, BufferPolicy, DropPolicy, ErrorPolicy, Parallelism};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};

fn engine(cores: u32) -> Engine {
    Engine::new(ExecutionOptions {
        driver: DriverChoice::Thread,
        virtual_cores: Some(cores),
        ..ExecutionOptions::default()
    })
}

fn run(cores: u32, pipeline: Pipeline) -> PipelineResult {
    let result = engine(cores).run(pipeline).unwrap();
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    assert!(result.account.totals().closes());
    result
}

#[test]
fn a_chain_of_closures_gives_what_an_iterator_gives() {
    let p = PipelineBuilder::new("chain");
    let out = p
        .generate("numbers", 10_000, |i| i)
        .map("times-three", |x| x * 3)
        .filter("even", |x| x % 2 == 0)
        .flat_map("twice", |x| [x, x + 1])
        .filter_map("not-seven", |x| (x % 7 != 0).then_some(x))
        .inspect("look", |_| ())
        .collect("out");
    let result = run(1, p.build().unwrap());
    let expected: Vec<u64> = (0..10_000u64)
        .map(|x| x * 3)
        .filter(|x| x % 2 == 0)
        .flat_map(|x| [x, x + 1])
        .filter(|x| x % 7 != 0)
        .collect();
    assert_eq!(result.outcome, Outcome::Completed);
    assert_eq!(out.take(), expected);
    assert_eq!(result.final_states[&"even".parse().unwrap()].metrics["filtered"], 5_000.0);
    assert_eq!(result.final_states[&"out".parse().unwrap()].state, StageState::Finished);
}

/// Emits slices of `lengths` items, one after the other, as far as there is room for each; items are numbered.
struct Slices<const WORDS: usize> {
    slices: Vec<Vec<[u64; WORDS]>>,
    /// How far the first of them has gone.
    gone: usize,
}

impl<const WORDS: usize> Slices<WORDS> {
    fn of(lengths: &[usize]) -> Self {
        let mut numbers = 0..;
        let slices = lengths.iter().map(|n| numbers.by_ref().take(*n).map(|i| [i; WORDS]).collect());
        Self { slices: slices.collect(), gone: 0 }
    }
}

impl<const WORDS: usize> Source for Slices<WORDS> {
    type Item = [u64; WORDS];

    fn produce<C: Chain<[u64; WORDS]>>(
        &mut self,
        out: &mut Emitter<'_, [u64; WORDS], C>,
    ) -> Result<Produced, StageError> {
        while let Some(slice) = self.slices.first() {
            let (room, left) = (out.room(), slice.len() - self.gone);
            let emitted = out.emit_slice(&slice[self.gone..]);
            assert_eq!((emitted, out.room()), (left.min(room), room - left.min(room)));
            self.gone += emitted;
            if self.gone < slice.len() {
                return Ok(Produced::More);
            }
            self.slices.remove(0);
            self.gone = 0;
        }
        Ok(Produced::End)
    }
}

#[test]
fn slices_are_emitted_whole_and_in_order_however_long_they_and_their_items_are() {
    fn check<const WORDS: usize>() {
        let lengths = [0, 1, 300, 0, 7_000, 1_024, 3];
        let p = PipelineBuilder::new("slices");
        let out = p.source("slices", move |_: &StageSite| Ok(Slices::<WORDS>::of(&lengths))).collect("out");
        run(1, p.build().unwrap());
        let total = lengths.iter().sum::<usize>() as u64;
        assert_eq!(out.take(), (0..total).map(|i| [i; WORDS]).collect::<Vec<_>>());
    }
    check::<1>();
    check::<4>();
    check::<6>();
    check::<40>();
}

#[test]
fn a_keyed_fold_is_the_same_on_1_2_8_and_16_shards() {
    let mut expected = BTreeMap::<u64, u64>::new();
    (0..50_000u64).for_each(|i| *expected.entry(i % 1_013).or_default() += i);
    for cores in [1, 2, 8, 16] {
        let p = PipelineBuilder::new("keyed");
        let out = p
            .generate("numbers", 50_000, |i| i)
            .parallel(Parallelism::CpuBound)
            .key_by(|i| i % 1_013)
            .fold("sum", || 0u64, |sum, i| *sum += i)
            .collect("out");
        run(cores, p.build().unwrap());
        let got: BTreeMap<u64, u64> = out.take().into_iter().collect();
        assert_eq!(got, expected, "{cores} shards");
    }
}

#[test]
fn an_ordered_edge_restores_the_order_that_parallel_instances_lose() {
    for cores in [1, 2, 8] {
        let p = PipelineBuilder::new("ordered");
        let out = p
            .generate("numbers", 30_000, |i| i)
            .map("work", |x| x + 1)
            .parallel(Parallelism::CpuBound)
            .map("more", |x| x - 1)
            .map("order", |x| x)
            .parallel(Parallelism::Sequential)
            .input_ordered()
            .collect("out");
        run(cores, p.build().unwrap());
        assert_eq!(out.take(), (0..30_000).collect::<Vec<u64>>(), "{cores} cores");
    }
}

#[test]
fn an_order_that_a_stage_holding_items_would_break_is_refused_where_there_are_several_of_it() {
    use futures_util::StreamExt;
    let pipeline = |instances: Parallelism| {
        let p = PipelineBuilder::new("held");
        let out = p
            .generate("numbers", 100, |i| i)
            .stream_fn("hold", |items| items.chunks(3).flat_map(futures_util::stream::iter))
            .parallel(instances)
            .map("order", |x| x)
            .parallel(Parallelism::Sequential)
            .input_ordered()
            .collect("out");
        (p.build(), out)
    };
    let (several, _) = pipeline(Parallelism::Fixed(2));
    let refused = several.err().unwrap().to_string();
    assert!(refused.contains("order") && refused.contains("stage hold may hold items back"), "{refused}");

    let (one, out) = pipeline(Parallelism::Sequential);
    let report = Simulation::new(1).partitions(2).run(one.unwrap()).unwrap();
    report.result.account.verify().unwrap();
    assert_eq!(out.take(), (0..100).collect::<Vec<u64>>());
}

#[test]
fn branches_and_merges_neither_lose_nor_invent() {
    for cores in [1, 2, 4] {
        let p = PipelineBuilder::new("diamond");
        let [small, middle, large] =
            p.generate("numbers", 9_000, |i| i)
                .route("by-size", ["small", "middle", "large"], |i| (*i / 3_000) as usize);
        let small = small.map("negate", |x| -(x as i64)).into_input();
        let middle = middle.map("keep", |x| x as i64).into_input();
        let large = large.map("far", |x| x as i64 + 1_000_000).parallel(Parallelism::CpuBound).into_input();
        let out = p.merge("join", MergePolicy::Fair, [small, middle, large]).collect("out");
        run(cores, p.build().unwrap());
        let mut got = out.take();
        got.sort_unstable();
        let mut expected: Vec<i64> = (0..9_000)
            .map(|x| {
                if x < 3_000 {
                    -x
                } else if x < 6_000 {
                    x
                } else {
                    x + 1_000_000
                }
            })
            .collect();
        expected.sort_unstable();
        assert_eq!(got, expected, "{cores} cores");
    }
}

#[test]
fn a_broadcast_gives_every_output_every_item_in_order() {
    let p = PipelineBuilder::new("broadcast");
    let [a, b] = p.generate("numbers", 5_000, |i| i).broadcast("copy", ["a", "b"]);
    let (a, b) = (a.collect("out-a"), b.collect("out-b"));
    let result = run(2, p.build().unwrap());
    assert_eq!(a.take(), (0..5_000).collect::<Vec<u64>>());
    assert_eq!(b.take(), (0..5_000).collect::<Vec<u64>>());
    assert_eq!(result.account.totals().created, 5_000);
}

#[test]
fn a_merge_by_time_sorts_sorted_streams() {
    let p = PipelineBuilder::new("by-time");
    let odd = p.generate("odd", 2_000, |i| 2 * i + 1).into_input();
    let even = p.generate("even", 3_000, |i| 2 * i).into_input();
    let time = MergePolicy::ByTime(Arc::new(|x: &u64| Timestamp(*x as i64)));
    let out = p.merge("by-time", time, [odd, even]).collect("out");
    run(2, p.build().unwrap());
    let got = out.take();
    assert_eq!(got.len(), 5_000);
    assert!(got.is_sorted());
}

#[test]
fn each_error_policy_names_what_became_of_the_item() {
    let policies = [
        (ErrorPolicy::Ignore, "ignored"),
        (ErrorPolicy::DeadLetter, "dead_lettered"),
        (
            ErrorPolicy::retry(2, Backoff::new(Duration::from_micros(1), Duration::from_micros(4))),
            "dead_lettered",
        ),
    ];
    for (policy, counter) in policies {
        let p = PipelineBuilder::new("errors");
        let out = p
            .generate("numbers", 1_000, |i| i)
            .try_map("odd-only", |x| if x % 10 == 0 { Err(format!("{x} is round")) } else { Ok(*x) })
            .on_error(policy)
            .collect("out");
        let result = run(2, p.build().unwrap());
        assert!(result.success);
        let state = &result.final_states[&"odd-only".parse().unwrap()];
        assert_eq!(state.metrics[counter], 100.0, "{policy:?}");
        assert!(state.last_error.as_ref().unwrap().contains("is round"));
        let expected: Vec<u64> = (0..1_000).filter(|x| x % 10 != 0).collect();
        assert_eq!(out.take(), expected, "order is kept under {policy:?}");
    }
}

#[test]
fn a_panic_under_fail_ends_the_pipeline_and_names_the_stage() {
    for cores in [1, 2] {
        let p = PipelineBuilder::new("panics");
        let _out = p
            .generate("numbers", 100_000, |i| i)
            .map("explode", |x| if x == 777 { panic!("no {x} please") } else { x })
            .collect("out");
        let result = run(cores, p.build().unwrap());
        assert!(!result.success);
        match result.outcome {
            Outcome::Failed { stage, error } => {
                assert_eq!(stage.unwrap().as_str(), "explode");
                assert!(error.contains("no 777 please"), "{error}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn dropping_policies_drop_and_count_and_block_never_does() {
    for (drop_policy, counted) in
        [(DropPolicy::Block, false), (DropPolicy::DropNewest, true), (DropPolicy::DropOldest, true)]
    {
        let p = PipelineBuilder::new("drops");
        let out = p
            .generate("numbers", 20_000, |i| i)
            .map("pass", |x| x)
            .input_buffer(BufferPolicy::new(8, drop_policy))
            .collect("out");
        let result = run(1, p.build().unwrap());
        let (got, dropped) = (out.take(), result.account.totals().dropped);
        assert_eq!(got.len() as u64 + dropped, 20_000, "{drop_policy:?}");
        assert_eq!(dropped > 0, counted, "{drop_policy:?}");
        assert!(got.is_sorted(), "the order of the rest is kept");
        match drop_policy {
            DropPolicy::DropNewest => assert_eq!(got[0], 0),
            DropPolicy::DropOldest => assert_eq!(got.last(), Some(&19_999)),
            DropPolicy::Block => {}
        }
    }
}

#[test]
fn any_stream_function_is_a_stage() {
    use futures_util::StreamExt;
    let p = PipelineBuilder::new("stream-fn");
    let out = p
        .generate("numbers", 5_000, |i| i)
        .stream_fn("pairs", |input| input.chunks(2).map(|pair| pair.iter().sum::<u64>()))
        .collect("out");
    run(2, p.build().unwrap());
    assert_eq!(out.take(), (0..2_500).map(|i| 4 * i + 1).collect::<Vec<u64>>());
}

#[test]
fn stop_accounts_for_everything_and_drain_lets_it_flow_out() {
    let endless = || {
        let p = PipelineBuilder::new("endless");
        let out = p
            .items("numbers", 0u64..)
            .map("work", |x| x ^ 1)
            .input_cut()
            .key_by(|x| x % 100)
            .fold("count", || 0u64, |n, _| *n += 1)
            .collect("out");
        (p.build().unwrap(), out)
    };
    let (pipeline, _) = endless();
    let running = engine(2).start(pipeline).unwrap();
    assert!(!running.wait_timeout(Duration::from_millis(20)));
    running.stop();
    running.stop();
    let result = running.join();
    assert_eq!(result.outcome, Outcome::Stopped);
    result.account.verify().unwrap();

    let (pipeline, out) = endless();
    let mut running = engine(2).start(pipeline).unwrap();
    assert!(!running.wait_timeout(Duration::from_millis(20)));
    assert!(running.inspect("work").is_some() && running.inspect("nobody").is_none());
    assert!(running.drain(Duration::from_secs(60)));
    let result = running.join();
    assert_eq!(result.outcome, Outcome::Drained);
    result.account.verify().unwrap();
    assert_eq!(out.take().iter().map(|(_, n)| n).sum::<u64>(), result.processed_count);
}

#[test]
fn a_cancelled_token_stops_running_pipelines_and_those_started_later() {
    let cancellation = CancellationToken::new();
    let options = ExecutionOptions {
        driver: DriverChoice::Thread,
        cancellation: cancellation.clone(),
        virtual_cores: Some(2),
        ..ExecutionOptions::default()
    };
    let engine = Engine::new(options);
    let start = || {
        let p = PipelineBuilder::new("endless");
        p.items("numbers", 0u64..).for_each("out", drop);
        engine.start(p.build().unwrap()).unwrap()
    };
    let running = start();
    assert!(!running.wait_timeout(Duration::from_millis(5)));
    cancellation.cancel();
    assert_eq!(running.join().outcome, Outcome::Stopped);
    assert_eq!(start().join().outcome, Outcome::Stopped);
}

#[test]
fn the_simulator_repeats_a_seed_step_for_step_and_agrees_with_threads() {
    let build = || {
        let p = PipelineBuilder::new("sim");
        let out = p
            .generate("numbers", 3_000, |i| i)
            .map("spread", |x| x.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20)
            .parallel(Parallelism::CpuBound)
            .key_by(|x| x % 37)
            .fold("sum", || 0u64, |sum, x| *sum = sum.wrapping_add(x))
            .collect("out");
        (p.build().unwrap(), out)
    };
    let sorted =
        |out: corelane::flow::Collected<(u64, u64)>| out.take().into_iter().collect::<BTreeMap<_, _>>();
    let (pipeline, out) = build();
    run(2, pipeline);
    let expected = sorted(out);
    for seed in 0..20 {
        let simulate = || {
            let (pipeline, out) = build();
            let report = Simulation::new(seed).partitions(3).run(pipeline).unwrap();
            report.result.account.verify().unwrap();
            (report.trace_hash, report.steps, sorted(out))
        };
        let (first, second) = (simulate(), simulate());
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(first.2, expected, "seed {seed}");
    }
}
