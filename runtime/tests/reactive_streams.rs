//! The behaviours that the Reactive Streams specification asks for, on our edges.
//!
//! Publisher: the producing end of an edge. Subscriber: the stage behind it. `request(n)`: [`Demand::request`], or what the
//! runtime requests. `cancel`: the pipeline is stopped; a stage cannot be unsubscribed by itself. `onNext`: an item is taken.
//! `onComplete`: `Signal::End`. `onError`: the pipeline fails, which names the stage.
//!
//! | rule | where |
//! |---|---|
//! | 1.01 | `nothing_is_delivered_beyond_what_was_requested` |
//! | 1.02 | `a_source_may_end_or_fail_with_demand_left` |
//! | 1.03 | does not apply: a stage instance belongs to one core and takes `&mut self`, so that two signals at once do not compile |
//! | 1.04, 2.13 | `a_failure_is_told_exactly_once_and_unwinds_nowhere` |
//! | 1.05, 2.09 | `a_source_completes_once_and_an_empty_one_without_any_demand` |
//! | 1.06, 1.07, 1.08, 3.12 | `after_the_end_or_a_stop_nothing_more_is_delivered_and_everything_is_let_go` |
//! | 1.09, 2.05, 2.12 | `a_stage_is_opened_once_and_before_any_item`, `a_stage_that_refuses_to_open_is_named_and_gets_nothing` |
//! | 1.10 | `the_same_edge_twice_is_refused_when_building` |
//! | 1.11 | `a_broadcast_gives_all_consumers_the_same_items_in_the_same_order_whatever_they_request` |
//! | 2.01 | `without_a_request_nothing_is_delivered_however_much_there_is` |
//! | 2.02, 2.07 | do not apply: requests may come from any thread at any time, they only add to a number |
//! | 2.03, 2.04 | `a_request_made_at_the_end_is_void`; emitting in a sink's `finish` does not compile |
//! | 2.06 | does not apply: there is no subscription object to be had twice |
//! | 2.08 | `items_under_way_at_a_stop_are_counted_not_lost` |
//! | 2.10 | `a_failure_reaches_a_stage_that_has_requested_nothing` |
//! | 2.11 | `tests/loom_ring.rs` (`items_arrive_once_and_in_order`), `examples/tsan_ring.rs` |
//! | 3.01, 3.10, 3.11 | do not apply: they allow what a subscription may be called from |
//! | 3.02, 3.03 | `demand_may_be_stated_from_within_the_stage_it_feeds_a_million_times` in `tests/edges.rs` |
//! | 3.04, 3.05 | `a_stop_may_be_asked_for_again_and_again`; `request` is one addition |
//! | 3.06, 3.07 | `a_stop_may_be_asked_for_again_and_again` |
//! | 3.08 | `requests_add_up` |
//! | 3.09 | `a_request_for_nothing_is_a_typed_error_and_changes_nothing` |
//! | 3.13 | `after_the_end_or_a_stop_nothing_more_is_delivered_and_everything_is_let_go`; of pooled buffers law C9 of every account |
//! | 3.14 to 3.16 | do not apply: they allow what a cancelled publisher may do |
//! | 3.17 | `requests_saturate_and_a_request_without_bound_stays_without` |
//! | 4.01 | `a_transform_between_two_pulled_edges_asks_upstream_only_for_what_it_was_asked_for` |
//! | 4.02 | `an_error_of_a_transform_stops_upstream_and_downstream_at_once`; recovering does not cancel upstream: `Ignore`, `DeadLetter` and `Retry` are about one item |
//! | TCK: demand of long ago | `what_was_requested_long_ago_is_still_delivered` |

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use corelane::driver::{SimError, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::graph::{Edge, PipelineGraph, StageNode, ValidationContext};
use corelane::model::StageKind;
use corelane::observe::{Outcome, PipelineResult};
use corelane::partition::{Demand, ZeroRequest};
use corelane::policy::{BackpressureStrategy, PolicyRegistry};
use corelane::stage::{Rejected, Sink, StageError, StageSite};

mod common;

/// Everything up to the edge on one partition, the rest on another.
fn apart(seed: u64) -> Simulation {
    Simulation::new(seed).partitions(2).core_map("work=1;out=1;*=0".parse().unwrap())
}

fn verified(result: PipelineResult) -> PipelineResult {
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    assert!(result.account.totals().closes(), "{}", result.account);
    result
}

/// `items` numbers pulled by `demand` over the edge to `work`, and what came through.
fn pulled(items: u64, demand: &Demand) -> (Pipeline, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let p = PipelineBuilder::new("pulled");
    p.generate("numbers", items, |i| i)
        .map("work", |i| i)
        .input_demand(demand, 8)
        .for_each("out", move |i| log.lock().unwrap().push(i));
    (p.build().unwrap(), seen)
}

fn received(account: &corelane::observe::Account, stage: &str) -> u64 {
    account.stages[&stage.parse().unwrap()].received
}

#[test]
fn without_a_request_nothing_is_delivered_however_much_there_is() {
    for seed in 0..20 {
        let (pipeline, seen) = pulled(1_000, &Demand::new());
        match apart(seed).run(pipeline) {
            Err(SimError::Stuck { .. }) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        assert!(seen.lock().unwrap().is_empty());
    }
}

#[test]
fn nothing_is_delivered_beyond_what_was_requested() {
    for seed in 0..50 {
        let demand = Demand::new();
        let (pipeline, _) = pulled(300, &demand);
        let asked = AtomicU64::new(0);
        let simulation = apart(seed).each_step(move |at| {
            let delivered = received(&at.monitor.account(), "work");
            assert!(delivered <= asked.load(Ordering::Relaxed));
            if at.step % 7 == seed % 7 {
                demand.request(1 + at.step % 5).unwrap();
                asked.fetch_add(1 + at.step % 5, Ordering::Relaxed);
            }
        });
        let result = verified(simulation.run(pipeline).unwrap().result);
        assert_eq!((result.outcome, result.account.totals().delivered), (Outcome::Completed, 300));
    }
}

#[test]
fn a_source_may_end_or_fail_with_demand_left() {
    let demand = Demand::new();
    demand.request(1_000).unwrap();
    let (pipeline, seen) = pulled(10, &demand);
    let result = verified(apart(1).run(pipeline).unwrap().result);
    assert_eq!(
        (result.outcome, seen.lock().unwrap().len(), demand.outstanding()),
        (Outcome::Completed, 10, 990)
    );
}

#[test]
fn a_source_completes_once_and_an_empty_one_without_any_demand() {
    for seed in 0..20 {
        for (items, requested) in [(0, 0), (0, 5), (5, 5)] {
            let demand = Demand::new();
            (requested > 0).then(|| demand.request(requested).unwrap());
            let finished = Arc::new(AtomicU64::new(0));
            let p = PipelineBuilder::new("ends");
            let sink = Counting { finished: Arc::clone(&finished), ..Counting::default() };
            // Completion needs no demand on the second edge either.
            p.generate("numbers", items, |i| i)
                .filter("all", |_| true)
                .map("work", |i| i)
                .input_demand(&demand, 8)
                .map("more", |i| i)
                .input_backpressure(BackpressureStrategy::ReactivePull { window_size: 2 })
                .sink("out", move |_: &StageSite| Ok(sink));
            let map = "work=1;out=1;*=0".parse().unwrap();
            let simulation = Simulation::new(seed).partitions(2).core_map(map);
            let result = verified(simulation.run(p.build().unwrap()).unwrap().result);
            assert_eq!(
                result.outcome,
                Outcome::Completed,
                "seed {seed}, {items} items, {requested} requested"
            );
            assert_eq!((finished.load(Ordering::Relaxed), result.account.totals().delivered), (1, items));
        }
    }
}

#[test]
fn a_failure_is_told_exactly_once_and_unwinds_nowhere() {
    common::quiet::planned_panics();
    for (requested, panics) in [(0, false), (0, true), (100, false), (100, true)] {
        let demand = Demand::new();
        (requested > 0).then(|| demand.request(requested).unwrap());
        let p = PipelineBuilder::new("fails");
        let numbers = (0..100u64).map(move |i| match i {
            50 if panics => panic!("{} panic", common::quiet::PLANNED),
            i => i,
        });
        p.items("numbers", numbers)
            .try_map("check", move |i| {
                if *i == 50 { Err(format!("{} error", common::quiet::PLANNED)) } else { Ok(*i) }
            })
            .map("work", |i| i)
            .input_demand(&demand, 200)
            .for_each("out", drop);
        // Without any demand the failure is not even reached: it lies behind 50 items that nobody wants.
        let outcome = apart(3).run(p.build().unwrap());
        match (requested, outcome) {
            (0, Err(SimError::Stuck { .. })) => {}
            (100, Ok(report)) => match verified(report.result).outcome {
                Outcome::Failed { stage: Some(stage), error } => {
                    assert_eq!(stage.as_str(), if panics { "numbers" } else { "check" });
                    assert_eq!(error.matches(common::quiet::PLANNED).count(), 1, "{error}");
                }
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// A sink that counts how it is treated.
#[derive(Clone, Default)]
struct Counting {
    opened: Arc<AtomicU64>,
    finished: Arc<AtomicU64>,
    _kept: Option<Arc<()>>,
}

impl Sink for Counting {
    type Item = u64;

    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn accept(&mut self, _item: u64) -> Result<(), Rejected<u64>> {
        assert_eq!(self.opened.load(Ordering::Relaxed), 1, "opened once, before any item");
        assert_eq!(self.finished.load(Ordering::Relaxed), 0, "an item after the end");
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}

#[test]
fn a_stage_is_opened_once_and_before_any_item() {
    let opened = Arc::new(AtomicU64::new(0));
    let p = PipelineBuilder::new("opens");
    let sink = Counting { opened: Arc::clone(&opened), ..Counting::default() };
    p.generate("numbers", 50, |i| i)
        .map("work", |i| i)
        .input_cut()
        .sink("out", move |_: &StageSite| Ok(sink));
    verified(apart(2).run(p.build().unwrap()).unwrap().result);
    assert_eq!(opened.load(Ordering::Relaxed), 1);
}

#[test]
fn a_stage_that_refuses_to_open_is_named_and_gets_nothing() {
    struct Refusing;
    impl Sink for Refusing {
        type Item = u64;

        fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
            Err(StageError::msg("no such table"))
        }

        fn accept(&mut self, item: u64) -> Result<(), Rejected<u64>> {
            unreachable!("{item} for a stage that is not open")
        }
    }
    let demand = Demand::new();
    demand.request(100).unwrap();
    let p = PipelineBuilder::new("refuses");
    p.generate("numbers", 50, |i| i)
        .map("work", |i| i)
        .input_demand(&demand, 8)
        .sink("out", |_: &StageSite| Ok(Refusing));
    let result = verified(apart(2).run(p.build().unwrap()).unwrap().result);
    match &result.outcome {
        Outcome::Failed { stage: Some(stage), error } => {
            assert_eq!((stage.as_str(), error.matches("no such table").count()), ("out", 1));
        }
        other => panic!("{other}"),
    }
    assert_eq!((result.account.totals().delivered, demand.outstanding()), (0, 100));
}

#[test]
fn a_failure_reaches_a_stage_that_has_requested_nothing() {
    for seed in 0..20 {
        let (pulled, free) = (Demand::new(), Arc::new(()));
        let kept = Arc::clone(&free);
        let p = PipelineBuilder::new("apart");
        p.generate("numbers", 100, |i| i).map("work", |i| i).input_demand(&pulled, 8).for_each(
            "out",
            move |i| {
                let _ = &kept;
                unreachable!("nobody asked for {i}")
            },
        );
        p.generate("others", 100, |i| i)
            .try_map("check", |i| {
                if *i == 50 { Err(format!("{} error", common::quiet::PLANNED)) } else { Ok(*i) }
            })
            .for_each("rest", drop);
        let result = verified(apart(seed).run(p.build().unwrap()).unwrap().result);
        assert!(
            matches!(&result.outcome, Outcome::Failed { stage: Some(stage), .. } if stage.as_str() == "check")
        );
        assert_eq!((received(&result.account, "work"), Arc::strong_count(&free)), (0, 1), "and it is let go");
    }
}

#[test]
fn an_error_of_a_transform_stops_upstream_and_downstream_at_once() {
    for seed in 0..20 {
        let (demand, window) = (Demand::new(), 8);
        demand.request(u64::MAX).unwrap();
        let p = PipelineBuilder::new("in-between");
        p.items("numbers", 0u64..)
            .try_map("between", |i| {
                if *i == 500 { Err(format!("{} error", common::quiet::PLANNED)) } else { Ok(*i) }
            })
            .input_backpressure(BackpressureStrategy::ReactivePull { window_size: window })
            .map("work", |i| i)
            .input_demand(&demand, window)
            .for_each("out", |i| assert!(i < 500, "{i} after the error"));
        let result = verified(apart(seed).run(p.build().unwrap()).unwrap().result);
        assert!(
            matches!(&result.outcome, Outcome::Failed { stage: Some(stage), .. } if stage.as_str() == "between")
        );
        // Upstream made no more than had been requested of it by then.
        let made = received(&result.account, "numbers");
        assert!(made <= 501 + u64::from(window), "{made}");
    }
}

#[test]
fn a_request_made_at_the_end_is_void() {
    #[derive(Clone)]
    struct Asking(Demand, Arc<AtomicU64>);
    impl Sink for Asking {
        type Item = u64;

        fn accept(&mut self, _item: u64) -> Result<(), Rejected<u64>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn finish(&mut self) -> Result<bool, StageError> {
            self.0.request(1_000).unwrap();
            Ok(true)
        }
    }
    for seed in 0..20 {
        let (demand, seen) = (Demand::new(), Arc::new(AtomicU64::new(0)));
        demand.request(50).unwrap();
        let p = PipelineBuilder::new("asks-at-the-end");
        let sink = Asking(demand.clone(), Arc::clone(&seen));
        p.generate("numbers", 50, |i| i)
            .map("work", |i| i)
            .input_demand(&demand, 8)
            .sink("out", move |_: &StageSite| Ok(sink));
        let result = verified(apart(seed).run(p.build().unwrap()).unwrap().result);
        assert_eq!((result.outcome, result.account.totals().delivered), (Outcome::Completed, 50));
        assert_eq!((seen.load(Ordering::Relaxed), demand.outstanding()), (50, 1_000));
    }
}

#[test]
fn after_the_end_or_a_stop_nothing_more_is_delivered_and_everything_is_let_go() {
    for stop in [None, Some(10), Some(40)] {
        let (demand, kept) = (Demand::new(), Arc::new(()));
        demand.request(u64::MAX).unwrap();
        let p = PipelineBuilder::new("lets-go");
        let sink = Counting { _kept: Some(Arc::clone(&kept)), ..Counting::default() };
        let item = Arc::clone(&kept);
        p.generate("numbers", 5_000, move |i| (i, Arc::clone(&item)))
            .map("work", |(i, _)| i)
            .input_demand(&demand, 64)
            .sink("out", move |_: &StageSite| Ok(sink));
        let simulation = stop.into_iter().fold(apart(4), Simulation::stop_at);
        let result = verified(simulation.run(p.build().unwrap()).unwrap().result);
        assert_eq!(result.outcome, if stop.is_some() { Outcome::Stopped } else { Outcome::Completed });
        assert_eq!(Arc::strong_count(&kept), 1, "items, stages and closures are gone");
        let delivered = result.account.totals().delivered;
        demand.request(10).unwrap();
        assert_eq!(result.account.totals().delivered, delivered);
    }
}

#[test]
fn the_same_edge_twice_is_refused_when_building() {
    let nodes = vec![StageNode::new("a", StageKind::Source), StageNode::new("b", StageKind::Sink)];
    let edges = vec![Edge::new("a", "b"), Edge::new("a", "b")];
    let graph = PipelineGraph { nodes, edges, ..PipelineGraph::default() };
    let errors = graph.validate(&PolicyRegistry::default(), &ValidationContext::default()).unwrap_err();
    assert!(errors.to_string().contains("stands in the graph already as edge 0"), "{errors}");
}

#[test]
fn a_broadcast_gives_all_consumers_the_same_items_in_the_same_order_whatever_they_request() {
    // One by one, all at once, and mixed.
    for (fast, slow) in [(1, 1), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
        for seed in 0..10 {
            let demands = [Demand::new(), Demand::new()];
            let p = PipelineBuilder::new("broadcast");
            let [a, b] = p.generate("numbers", 200, |i| i).broadcast("copy", ["a", "b"]);
            let a = a.map("work", |i| i).input_demand(&demands[0], 4).collect("out");
            let b = b.map("slow", |i| i).input_demand(&demands[1], 4).collect("out-b");
            let simulation = apart(seed).each_step(move |at| {
                let due = [true, at.step % 5 == 0];
                for ((demand, n), _) in demands.iter().zip([fast, slow]).zip(due).filter(|(_, due)| *due) {
                    if demand.outstanding() == 0 {
                        demand.request(n).unwrap();
                    }
                }
            });
            verified(simulation.run(p.build().unwrap()).unwrap().result);
            let expected: Vec<u64> = (0..200).collect();
            assert_eq!((a.take(), b.take()), (expected.clone(), expected), "seed {seed}");
        }
    }
}

#[test]
fn items_under_way_at_a_stop_are_counted_not_lost() {
    for step in 1..60 {
        let demand = Demand::new();
        demand.request(37).unwrap();
        let (pipeline, seen) = pulled(5_000, &demand);
        let result = verified(apart(step).stop_at(step).run(pipeline).unwrap().result);
        let totals = result.account.totals();
        assert_eq!(totals.delivered, seen.lock().unwrap().len() as u64);
        assert_eq!(totals.accepted, totals.delivered + totals.discarded, "step {step}\n{}", result.account);
    }
}

#[test]
fn a_stop_may_be_asked_for_again_and_again() {
    let demand = Demand::new();
    let (pipeline, _) = pulled(1_000, &demand);
    let running = Engine::new(ExecutionOptions { virtual_cores: Some(2), ..ExecutionOptions::default() });
    let running = running.start(pipeline).unwrap();
    (0..3).for_each(|_| running.stop());
    demand.request(5).unwrap();
    running.stop();
    let result = verified(running.join());
    assert_eq!(result.outcome, Outcome::Stopped);
    demand.request(5).unwrap();
}

#[test]
fn requests_add_up() {
    let demand = Demand::new();
    demand.request(3).unwrap();
    demand.request(2).unwrap();
    let (pipeline, seen) = pulled(1_000, &demand);
    assert!(matches!(apart(6).run(pipeline), Err(SimError::Stuck { .. })));
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3, 4], "exactly 5");
}

#[test]
fn a_request_for_nothing_is_a_typed_error_and_changes_nothing() {
    let demand = Demand::new();
    assert_eq!(demand.request(0), Err(ZeroRequest));
    assert_eq!(demand.outstanding(), 0);
}

#[test]
fn requests_saturate_and_a_request_without_bound_stays_without() {
    for requests in [vec![u64::MAX, 1], vec![u64::MAX / 2; 3]] {
        let demand = Demand::new();
        requests.iter().for_each(|n| demand.request(*n).unwrap());
        let (pipeline, seen) = pulled(3_000, &demand);
        verified(apart(7).run(pipeline).unwrap().result);
        assert_eq!((seen.lock().unwrap().len(), demand.outstanding()), (3_000, u64::MAX));
    }
}

#[test]
fn a_transform_between_two_pulled_edges_asks_upstream_only_for_what_it_was_asked_for() {
    for seed in 0..30 {
        let demand = Demand::new();
        let window = 4;
        let p = PipelineBuilder::new("between");
        let out = p
            .generate("numbers", 100, |i| i)
            .map("between", |i| i)
            .input_backpressure(BackpressureStrategy::ReactivePull { window_size: window })
            .map("work", |i| i)
            .input_demand(&demand, 8)
            .collect("out");
        let asked = AtomicU64::new(0);
        let simulation = apart(seed).each_step(move |at| {
            let account = at.monitor.account();
            let asked_for = asked.load(Ordering::Relaxed);
            assert!(received(&account, "work") <= asked_for);
            // A transform with nothing asked of it asks for nothing; what it asked for before is at most its window.
            assert!(asked_for > 0 || received(&account, "numbers") == 0);
            assert!(received(&account, "between") <= asked_for, "{account}");
            assert!(received(&account, "numbers") <= asked_for + u64::from(window), "{account}");
            if at.step > 20 && at.step % 9 == 0 {
                demand.request(1).unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        verified(simulation.run(p.build().unwrap()).unwrap().result);
        assert_eq!(out.take(), (0..100).collect::<Vec<u64>>(), "seed {seed}");
    }
}

#[test]
fn what_was_requested_long_ago_is_still_delivered() {
    // Two consumers of one source: one asks for everything at once, long before the other lets anything move.
    for seed in 0..20 {
        let (early, late) = (Demand::new(), Demand::new());
        early.request(50).unwrap();
        let p = PipelineBuilder::new("long-ago");
        let [a, b] = p.generate("numbers", 50, |i| i).broadcast("copy", ["a", "b"]);
        let a = a.map("work", |i| i).input_demand(&early, 8).collect("out");
        let b = b.map("late", |i| i).input_demand(&late, 8).collect("out-b");
        let simulation = apart(seed).each_step(move |at| {
            if at.step > 150 && at.step % 3 == 0 {
                late.request(1).unwrap();
            }
        });
        verified(simulation.run(p.build().unwrap()).unwrap().result);
        assert_eq!((a.take().len(), b.take().len()), (50, 50), "seed {seed}");
    }
}
