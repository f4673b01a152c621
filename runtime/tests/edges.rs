//! What an edge promises: its bounds, its strategies, its drops, and what it shows of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::driver::{DriverChoice, SetPolicyError, SimStep, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::{Cost, Envelope};
use corelane::observe::{Outcome, PipelineResult};
use corelane::partition::{Demand, DropReason, MergePolicy};
use corelane::policy::BackpressureStrategy::{Adaptive, Bounded, CreditBased, RateShaping, ReactivePull};
use corelane::policy::{BackpressureStrategy, BufferPolicy, DropPolicy, Parallelism, PolicyRegistry};
use corelane::stage::StageSite;

mod common;

use common::stages::{Stamp, worst_window};
use common::watchdog::{real_drivers, watched};

/// One of each, tight enough to be felt.
const STRATEGIES: [BackpressureStrategy; 5] = [
    Bounded { capacity: 4, drop_policy: DropPolicy::Block },
    CreditBased { initial: 6, replenish_threshold: 2 },
    RateShaping { rate: 20_000_000, burst: 64 },
    Adaptive { min_batch: 2, max_batch: 40 },
    ReactivePull { window_size: 7 },
];

fn verified(result: PipelineResult) -> PipelineResult {
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    assert!(result.account.totals().closes(), "{}", result.account);
    result
}

fn simulate(simulation: &Simulation, pipeline: Pipeline) -> PipelineResult {
    verified(simulation.run(pipeline).unwrap().result)
}

fn run(driver: DriverChoice, cores: u32, pipeline: Pipeline) -> PipelineResult {
    let options = ExecutionOptions { driver, virtual_cores: Some(cores), ..ExecutionOptions::default() };
    let running = Engine::new(options).start(pipeline).unwrap();
    let ended = running.wait_timeout(common::watchdog::PATIENCE);
    assert!(ended, "hangs on {driver:?}:\n{}\n{:#?}", running.account(), running.monitor().edges());
    verified(running.join())
}

#[test]
fn every_strategy_delivers_everything_in_order_on_every_driver() {
    let pipeline = |strategy| {
        let p = PipelineBuilder::new("strategy");
        let out = p
            .generate("numbers", 3_000, |i| i)
            .flat_map("twice", |i| [2 * i, 2 * i + 1])
            .map("work", |i| i)
            .parallel(Parallelism::CpuBound)
            .input_backpressure(strategy)
            .map("join", |i| i)
            .parallel(Parallelism::Sequential)
            .input_ordered()
            .input_backpressure(strategy)
            .collect("out");
        (p.build().unwrap(), out)
    };
    let expected: Vec<u64> = (0..6_000).collect();
    for strategy in STRATEGIES {
        for cores in [1, 2, 3] {
            for seed in 0..20 {
                let (pipeline, out) = pipeline(strategy);
                simulate(&Simulation::new(seed).partitions(cores), pipeline);
                assert_eq!(out.take(), expected, "{strategy:?}, {cores} cores, seed {seed}");
            }
            for driver in real_drivers() {
                let (pipeline, out) = pipeline(strategy);
                run(driver, cores as u32, pipeline);
                assert_eq!(out.take(), expected, "{strategy:?}, {cores} cores, {driver:?}");
            }
        }
    }
}

#[test]
fn a_strategy_and_a_buffer_can_be_named_in_the_registry_and_unknown_names_are_errors() {
    let mut registry = PolicyRegistry::default();
    registry.backpressure_policies.insert("few".into(), CreditBased { initial: 3, replenish_threshold: 1 });
    registry.buffer_policies.insert("small".into(), BufferPolicy::new(2, DropPolicy::Block));
    let build = |buffer: &str, strategy: &str| {
        let p = PipelineBuilder::new("named").with_policies(registry.clone());
        p.generate("numbers", 100, |i| i)
            .map("work", |i| i)
            .input_buffer_named(buffer)
            .input_backpressure_named(strategy)
            .for_each("out", drop);
        p.build()
    };
    let edge = build("small", "few").unwrap().validated().edges()[0].clone();
    assert_eq!((edge.capacity, edge.backpressure), (2, Some(registry.backpressure_policies["few"])));
    assert_eq!(build("large", "many").err().unwrap().errors().len(), 2);
}

#[test]
fn an_edge_with_a_strategy_is_never_fused() {
    for strategy in STRATEGIES {
        let p = PipelineBuilder::new("ring");
        p.generate("numbers", 10, |i| i)
            .map("work", |i| i)
            .input_backpressure(strategy)
            .for_each("out", drop);
        let simulation = Simulation::new(0).partitions(1).each_step(move |at| {
            let edge = at.monitor.inspect_edge(("numbers", "work")).unwrap();
            assert!(!edge.fused && edge.strategy == strategy, "{edge:?}");
            assert!(at.monitor.inspect_edge(("work", "out")).unwrap().fused);
            assert_eq!(at.monitor.inspect("work").unwrap().inputs, [edge]);
        });
        simulate(&simulation, p.build().unwrap());
    }
}

#[test]
fn a_shaped_edge_lets_no_window_out_faster_than_its_rate_and_wakes_when_a_token_is_due() {
    for seed in 0..60 {
        let (rate, burst) = [(1_000, 1), (7, 3), (3_000_000, 20), (900_001, 5)][seed as usize % 4];
        let stamps = Arc::new(Mutex::new(Vec::new()));
        let p = PipelineBuilder::new("shaped");
        let stamp = Stamp(Arc::clone(&stamps));
        p.generate("numbers", 300, |i| i)
            .parallel(Parallelism::CpuBound)
            .transform("stamp", move |_: &StageSite| Ok(stamp.clone()))
            .input_cut()
            .input_backpressure(RateShaping { rate, burst })
            .for_each("out", drop);
        simulate(&Simulation::new(seed).partitions(1 + seed as usize % 3), p.build().unwrap());
        let mut stamps = stamps.lock().unwrap().clone();
        stamps.sort_unstable();
        assert_eq!(stamps.len(), 300);
        assert_eq!(worst_window(&stamps, rate, burst), None, "seed {seed}, {rate}/s, burst {burst}");
        // Virtual time jumps to deadlines: had one not been reported, the run would have been stuck; had it come late, slow.
        let (took, least) =
            (stamps[299] - stamps[0], (300 - i64::from(burst)) * 1_000_000_000 / i64::from(rate));
        assert!(took <= least + least / 4 + 3_000_000, "seed {seed}: {took} ns, {least} would do");
    }
}

/// Both ends of the edge in question on one partition, or each on its own.
fn apart(seed: u64) -> Simulation {
    let map = "work=1;out=1;*=0".parse().unwrap();
    let simulation = Simulation::new(seed).partitions(2);
    if seed.is_multiple_of(4) { simulation } else { simulation.core_map(map) }
}

/// Checks, before every step, what holds for an edge.
fn always(seed: u64, check: impl Fn(&SimStep<'_>) + Send + Sync + 'static) -> Simulation {
    apart(seed).each_step(check)
}

#[test]
fn credits_in_hand_and_items_under_way_are_never_more_than_the_credits_there_are() {
    let most = Arc::new(AtomicU64::new(0));
    for seed in 0..100 {
        let initial = [1, 2, 8, 30, 4, 3, 30][seed as usize % 7];
        let p = PipelineBuilder::new("credits");
        let out = p
            .generate("numbers", 400, |i| i)
            .map("work", |i| i)
            .input_backpressure(CreditBased { initial, replenish_threshold: initial / 2 })
            .collect("out");
        let seen = Arc::clone(&most);
        let simulation = always(seed, move |at| {
            let edge = at.monitor.inspect_edge(("numbers", "work")).unwrap();
            let credits = edge.credits.unwrap();
            // C12; a single producer has nothing staged, since it takes no more than there is room for.
            assert!(credits + edge.depth <= u64::from(initial), "{edge:?}");
            seen.fetch_max(edge.depth, Ordering::Relaxed);
        });
        simulate(&simulation, p.build().unwrap());
        assert_eq!(out.take(), (0..400).collect::<Vec<u64>>(), "seed {seed}");
    }
    assert_eq!(most.load(Ordering::Relaxed), 30, "all of them are used");
}

#[test]
fn nothing_moves_without_demand_and_exactly_what_was_asked_for_arrives() {
    for seed in 0..100 {
        let demand = Demand::new();
        let p = PipelineBuilder::new("pull");
        let out =
            p.generate("numbers", 500, |i| i).map("work", |i| i).input_demand(&demand, 16).collect("out");
        let (asked, requests) = (Arc::new(AtomicU64::new(0)), demand.clone());
        let simulation = always(seed, move |at| {
            let asked_for = asked.load(Ordering::Relaxed);
            let delivered = at.monitor.account().stages[&"work".parse().unwrap()].received;
            assert!(delivered <= asked_for, "{delivered} of {asked_for}");
            let edge = at.monitor.inspect_edge(("numbers", "work")).unwrap();
            assert_eq!(edge.demand, Some(asked_for - delivered));
            if asked_for == 0 {
                // Not even made before anybody asked.
                assert_eq!(at.monitor.account().stages[&"numbers".parse().unwrap()].received, 0);
            }
            if delivered == asked_for && at.step > 30 {
                let n = 1 + at.step % 9;
                requests.request(n).unwrap();
                asked.fetch_add(n, Ordering::Relaxed);
            }
        });
        simulate(&simulation, p.build().unwrap());
        assert_eq!(out.take(), (0..500).collect::<Vec<u64>>(), "seed {seed}");
    }
}

#[test]
fn demand_may_be_stated_from_within_the_stage_it_feeds_a_million_times() {
    const ITEMS: u64 = 1_000_000;
    let demand = Demand::new();
    demand.request(1).unwrap();
    let p = PipelineBuilder::new("self-fed");
    let more = demand.clone();
    let sum = p
        .generate("numbers", ITEMS, |i| i)
        .map("ask", move |i| {
            // The rule of Reactive Streams that this must not recurse: it only adds to a number.
            more.request(1).unwrap();
            i
        })
        .input_demand(&demand, 1)
        .fold("sum", 0u64, |sum, i| sum + i);
    simulate(&Simulation::new(3).partitions(2), p.build().unwrap());
    assert_eq!(sum.take(), [ITEMS * (ITEMS - 1) / 2]);
    assert_eq!(demand.outstanding(), 1);
}

#[test]
fn an_adaptive_batch_follows_the_queue_between_its_bounds() {
    let p = PipelineBuilder::new("adaptive");
    p.generate("numbers", 60_000, |i| i)
        .map("work", |i| i)
        .input_backpressure(Adaptive { min_batch: 4, max_batch: 200 })
        .for_each("out", drop);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let simulation = Simulation::new(7).partitions(2).budgets(1_000..1_001).each_step(move |at| {
        log.lock().unwrap().push(at.monitor.inspect_edge(0).unwrap().batch.unwrap());
    });
    simulate(&simulation, p.build().unwrap());
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|batch| (4..=200).contains(batch)));
    assert_eq!((seen.first(), seen.iter().max()), (Some(&4), Some(&200)), "it rises while the queue stands");
    let risen = seen.windows(2).filter(|pair| pair[0] < pair[1]).all(|pair| pair[1] - pair[0] <= 12);
    assert!(risen, "by one step at a time");
}

#[test]
fn an_edge_bounded_by_bytes_holds_no_more_than_them_or_one_item() {
    for seed in 0..100 {
        let p = PipelineBuilder::new("bytes");
        let size = |i: &u64| [1, 10, 300, 40][*i as usize % 4];
        let out = p
            .generate("numbers", 400, |i| i)
            .cost_by(move |i| Cost::of_bytes(size(i)))
            .filter("odd-or-not", |_| true)
            .map("work", |i| i)
            .input_buffer(BufferPolicy::new(64, DropPolicy::Block).with_max_bytes(100))
            .collect("out");
        let simulation = always(seed, |at| {
            let edge = at.monitor.inspect_edge(("odd-or-not", "work")).unwrap();
            // Room is told by the average of what is in flight: what came beyond it waits in the producer's memory.
            let in_ring = at.monitor.account().edges[1].clone();
            assert_eq!(edge.max_bytes, Some(100));
            assert!(edge.bytes <= 100 || in_ring.depth <= 1 || in_ring.staged > 0, "{edge:?}");
            assert!(edge.depth > 0 || edge.bytes == 0, "{edge:?}");
        });
        simulate(&simulation, p.build().unwrap());
        assert_eq!(out.take(), (0..400).collect::<Vec<u64>>(), "seed {seed}");
    }
}

#[test]
fn without_a_cost_the_size_of_the_type_counts() {
    let p = PipelineBuilder::new("sizes");
    p.generate("numbers", 1_000, |i| [i; 4])
        .map("work", |i| i)
        .input_buffer(BufferPolicy::new(64, DropPolicy::Block).with_max_bytes(100))
        .for_each("out", drop);
    let simulation = always(1, |at| {
        let edge = at.monitor.inspect_edge(0).unwrap();
        assert_eq!(edge.capacity, 3, "32 bytes each");
        assert!(edge.depth <= 3 && edge.bytes == 32 * edge.depth, "{edge:?}");
    });
    simulate(&simulation, p.build().unwrap());
}

#[test]
fn an_envelope_brings_its_cost() {
    let p = PipelineBuilder::new("envelopes");
    p.generate("numbers", 200, |i| Envelope::new(i).with_cost(Cost::of_bytes(50)))
        .costed()
        .map("work", |e| e)
        .input_buffer(BufferPolicy::new(64, DropPolicy::Block).with_max_bytes(120))
        .for_each("out", drop);
    let simulation = always(2, |at| {
        let edge = at.monitor.inspect_edge(0).unwrap();
        assert_eq!(edge.bytes, 50 * edge.depth);
    });
    simulate(&simulation, p.build().unwrap());
}

/// What the callback was told, by reason.
type Told = Arc<Mutex<Vec<(DropReason, u64)>>>;

fn dropping(policy: BufferPolicy) -> (Pipeline, corelane::flow::Collected<u64>, Told) {
    let told = Told::default();
    let log = Arc::clone(&told);
    let p = PipelineBuilder::new("drops");
    let out = p
        .generate("numbers", 2_000, |i| i)
        .cost_by(|i| Cost::of_bytes(1 + i % 7))
        .on_drop(move |dropped| {
            assert_eq!((dropped.from.as_str(), dropped.to.as_str()), ("numbers", "work"));
            log.lock().unwrap().push((dropped.reason, dropped.item));
        })
        .map("work", |i| i)
        .input_buffer(policy)
        .collect("out");
    (p.build().unwrap(), out, told)
}

#[test]
fn the_callback_is_told_of_each_dropped_item_once_and_why() {
    let policies = [
        (BufferPolicy::new(8, DropPolicy::DropNewest), DropReason::Newest),
        (BufferPolicy::new(8, DropPolicy::DropOldest), DropReason::Oldest),
        (BufferPolicy::new(64, DropPolicy::DropNewest).with_max_bytes(20), DropReason::Newest),
        (BufferPolicy::new(64, DropPolicy::DropOldest).with_max_bytes(20), DropReason::Oldest),
    ];
    for (policy, reason) in policies {
        let mut lost = 0;
        for seed in 0..60 {
            let (pipeline, out, told) = dropping(policy);
            let result = simulate(&apart(seed), pipeline);
            let (out, told) = (out.take(), told.lock().unwrap().clone());
            assert!(out.is_sorted() && told.iter().all(|(why, _)| *why == reason), "{policy:?}, seed {seed}");
            let edge = &result.account.edges[0];
            let counted =
                [edge.dropped_newest, edge.dropped_oldest][usize::from(reason == DropReason::Oldest)];
            assert_eq!((told.len() as u64, edge.dropped_newest + edge.dropped_oldest), (counted, counted));
            let mut all: Vec<u64> = told.iter().map(|(_, item)| *item).chain(out).collect();
            all.sort_unstable();
            assert_eq!(all, (0..2_000).collect::<Vec<u64>>(), "{policy:?}, seed {seed}");
            lost += told.len();
        }
        assert!(lost > 0, "{policy:?} never dropped");
    }
}

#[test]
fn user_code_of_an_edge_that_panics_fails_the_pipeline_and_names_the_stage_behind_it() {
    common::quiet::planned_panics();
    for (cost, drops) in [(true, false), (false, true)] {
        let p = PipelineBuilder::new("panics");
        p.items("numbers", 0u64..)
            .cost_by(move |i| {
                if cost && *i == 77 { panic!("{} cost", common::quiet::PLANNED) } else { Cost::of_bytes(1) }
            })
            .on_drop(move |_| assert!(!drops, "{} callback", common::quiet::PLANNED))
            .map("work", |i| i)
            .input_buffer(BufferPolicy::new(8, DropPolicy::DropNewest).with_max_bytes(4))
            .for_each("out", drop);
        let result = simulate(&apart(5), p.build().unwrap());
        match result.outcome {
            Outcome::Failed { stage: Some(stage), error } => {
                assert_eq!(stage.as_str(), "work");
                assert!(error.contains(common::quiet::PLANNED), "{error}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_policy_that_cannot_be_set_is_a_typed_error_and_changes_nothing() {
    let p = PipelineBuilder::new("errors");
    let [a, b] = p.generate("numbers", 1_000, |i| i).input_cut().broadcast("copy", ["a", "b"]);
    p.merge("join", MergePolicy::Fair, [a.into_input(), b.into_input()])
        .map("work", |i| i)
        .for_each("out", drop);
    let simulation = Simulation::new(0).partitions(2).each_step(|at| {
        let credits = CreditBased { initial: 4, replenish_threshold: 1 };
        let set = |edge| at.monitor.set_policy(edge, credits);
        assert_eq!(set(("numbers", "out")), Err(SetPolicyError::UnknownEdge("numbers -> out".into())));
        assert_eq!(at.monitor.set_policy(99, credits), Err(SetPolicyError::UnknownEdge("number 99".into())));
        assert!(matches!(set(("copy", "join")), Err(SetPolicyError::Ambiguous { indices, .. }) if indices == [1, 2]));
        assert!(matches!(set(("work", "out")), Err(SetPolicyError::Fused { to, .. }) if to == "out"));
        let never = CreditBased { initial: 4, replenish_threshold: 4 };
        assert!(matches!(at.monitor.set_policy(1, never), Err(SetPolicyError::Policy(problems)) if problems.len() == 1));
        assert!(matches!(at.monitor.inspect_edge(1).unwrap().strategy, Bounded { .. }));
    });
    simulate(&simulation, p.build().unwrap());
}

#[test]
fn a_capacity_set_while_running_holds_and_is_at_most_that_of_the_beginning() {
    for seed in 0..60 {
        let p = PipelineBuilder::new("capacity");
        let out = p
            .generate("numbers", 3_000, |i| i)
            .map("work", |i| i)
            .input_buffer(BufferPolicy::new(64, DropPolicy::Block))
            .collect("out");
        let tight = Arc::new(AtomicU64::new(0));
        let simulation = apart(seed).budgets(1..40).each_step(move |at| {
            let set = |capacity| {
                at.monitor.set_policy(0, Bounded { capacity, drop_policy: DropPolicy::Block }).unwrap()
            };
            match at.step {
                20 => set(3),
                300 => set(1_000_000),
                _ => {}
            }
            let edge = at.monitor.inspect_edge(0).unwrap();
            assert_eq!(edge.capacity, if (20..300).contains(&at.step) { 3 } else { 64 });
            // C11, from when what was there before the change has gone.
            if at.step == 20 {
                tight.store(0, Ordering::Relaxed);
            } else if (20..300).contains(&at.step) && edge.depth <= 3 {
                tight.store(1, Ordering::Relaxed);
            }
            let holds =
                if (20..300).contains(&at.step) && tight.load(Ordering::Relaxed) == 1 { 3 } else { 64 };
            assert!(edge.depth <= holds, "step {}: {edge:?}", at.step);
        });
        simulate(&simulation, p.build().unwrap());
        assert_eq!(out.take(), (0..3_000).collect::<Vec<u64>>(), "seed {seed}");
    }
}

/// Swaps the policy of the edge of a pipeline under full load every few milliseconds.
fn swapped(driver: DriverChoice, drops: bool, seconds: f64) {
    let p = PipelineBuilder::new("swapped");
    let count = p
        .items("numbers", 0u64..)
        .parallel(Parallelism::Fixed(2))
        .key_by(|i| i % 1_009)
        .fold("count", || 0u64, |n, _| *n += 1)
        .input_buffer(BufferPolicy::new(256, DropPolicy::Block))
        .fold("sum", 0u64, |sum, (_, n)| sum + n);
    let options = ExecutionOptions { driver, ..ExecutionOptions::default() };
    let mut running = Engine::new(options).start(p.build().unwrap()).unwrap();
    let mut policies = STRATEGIES.to_vec();
    policies.push(Bounded { capacity: 200, drop_policy: DropPolicy::Block });
    if drops {
        policies.push(Bounded { capacity: 64, drop_policy: DropPolicy::DropOldest });
        policies.push(Bounded { capacity: 64, drop_policy: DropPolicy::DropNewest });
    }
    let mut swaps = 0;
    while running.elapsed() < Duration::from_secs_f64(seconds) {
        running.set_policy(("numbers", "count"), policies[swaps % policies.len()]).unwrap();
        swaps += 1;
        assert!(!running.wait_timeout(Duration::from_millis(10)), "ended by itself:\n{}", running.account());
    }
    // A shaped edge with much in it could take long: the last policy lets it flow.
    running.set_policy(0, Bounded { capacity: 256, drop_policy: DropPolicy::Block }).unwrap();
    assert!(running.drain(common::watchdog::PATIENCE), "does not drain:\n{}", running.account());
    let result = verified(running.join());
    assert_eq!(result.outcome, Outcome::Drained);
    let (edge, totals) = (&result.account.edges[0], result.account.totals());
    assert!(drops || totals.dropped == 0, "{}", result.account);
    assert_eq!(edge.offered, edge.popped + edge.dropped_newest + edge.dropped_oldest);
    assert_eq!(count.take().iter().sum::<u64>(), edge.popped);
    println!("{driver:?}: {swaps} swaps, {} items, {} dropped", edge.offered, totals.dropped);
}

#[test]
fn a_policy_swapped_every_10_ms_under_full_load_loses_nothing_beyond_what_it_says() {
    for driver in real_drivers() {
        for drops in [false, true] {
            watched("a swapped policy", move || swapped(driver, drops, 1.0));
        }
    }
}

#[test]
#[ignore = "takes a minute: run by `make soak`"]
fn a_policy_swapped_every_10_ms_for_30_s_under_full_load_loses_nothing_beyond_what_it_says() {
    for driver in real_drivers() {
        watched("a swapped policy", move || swapped(driver, true, 30.0));
    }
}
