//! What becomes of items that fail: dead letters, retries that park their key, circuit breakers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::driver::{Environment, SimReport, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::observe::{BreakerState, LogLevel, MemoryLogger, PipelineResult};
use corelane::partition::MergePolicy;
use corelane::policy::{
    AfterRetries, Backoff, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy, Parallelism, WhileOpen,
};
use corelane::stage::{DeadLetter, FailureKind, Output, Rejected, Sink, StageError, StageSite, Transform};

mod common;

use common::quiet::{PLANNED, planned_panics};
use common::run::{stage, verified};
use common::watchdog::real_drivers;

fn simulate(seed: u64, pipeline: Pipeline) -> SimReport {
    let report = Simulation::new(seed).run(pipeline).unwrap();
    verified(&report.result);
    report
}

const MS: Duration = Duration::from_millis(1);

fn retry(max: u32) -> ErrorPolicy {
    ErrorPolicy::retry(max, Backoff::new(MS, 8 * MS).with_jitter(50))
}

/// Fails on multiples of ten, by an error or a panic.
fn not_round(x: &u64) -> Result<u64, String> {
    match x % 20 {
        0 => Err(format!("{x} is round")),
        10 => panic!("{PLANNED}: {x} is half round"),
        _ => Ok(*x),
    }
}

#[test]
fn a_dead_letter_has_its_item_its_stage_its_error_and_how_often_it_was_tried_on_every_driver() {
    planned_panics();
    let build = |policy| {
        let p = PipelineBuilder::new("letters");
        let (good, dead) = p
            .generate("numbers", 1_000, |i| i)
            .parallel(Parallelism::Fixed(2))
            .try_map("not-round", not_round)
            .on_error(policy)
            .dead_letters();
        let (good, dead) = (good.collect("good"), dead.collect("dead"));
        (p.build().unwrap(), good, dead)
    };
    let check = |result: PipelineResult, good: Vec<u64>, mut dead: Vec<DeadLetter<u64>>, attempts: u32| {
        verified(&result);
        assert_eq!(good.len(), 900);
        dead.sort_by_key(|letter| letter.item);
        let items: Vec<u64> = dead.iter().filter_map(|letter| letter.item).collect();
        assert_eq!(items, (0..1_000).step_by(10).collect::<Vec<u64>>());
        for letter in &dead {
            let item = letter.item.unwrap();
            let (kind, text) = match item % 20 {
                0 => (FailureKind::Error, format!("{item} is round")),
                _ => (FailureKind::Panic, format!("panic: {PLANNED}: {item} is half round")),
            };
            assert_eq!((letter.kind, &letter.error), (kind, &text));
            assert_eq!((letter.stage.as_str(), letter.attempts), ("not-round", attempts));
            assert_eq!(letter.instance, usize::from(item >= 500), "the numbers are split in two");
            assert!(letter.time.0 > 0);
        }
        let account = stage(&result, "not-round");
        assert_eq!((account.dead_lettered, account.passed, account.emitted), (100, 900, 1_000));
        let edge = result.account.edges.iter().find(|edge| edge.to.as_str() == "dead").unwrap();
        assert_eq!((edge.from.as_str(), edge.popped), ("not-round", 100));
    };
    for (policy, attempts) in [(ErrorPolicy::DeadLetter, 1), (retry(2), 3)] {
        for seed in 0..20 {
            let (pipeline, good, dead) = build(policy);
            let report = simulate(seed, pipeline);
            check(report.result, good.take(), dead.take(), attempts);
        }
        for driver in real_drivers() {
            let (pipeline, good, dead) = build(policy);
            let options = ExecutionOptions { driver, virtual_cores: Some(2), ..ExecutionOptions::default() };
            check(Engine::new(options).run(pipeline).unwrap(), good.take(), dead.take(), attempts);
        }
    }
}

#[test]
fn dead_letters_may_be_connected_before_the_main_output_and_merged_with_others() {
    let p = PipelineBuilder::new("merged");
    let (a, dead_a) = p
        .generate("numbers", 100, |i| i)
        .try_map("a", |x| if x % 3 == 0 { Err("a") } else { Ok(*x) })
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    let dead_a = dead_a.into_input();
    let (b, dead_b) = a
        .try_map("b", |x| if x % 5 == 0 { Err("b") } else { Ok(*x) })
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    let dead = p.merge("dead", MergePolicy::Fair, [dead_a, dead_b.into_input()]).collect("letters");
    let good = b.collect("good");
    let pipeline = p.build().unwrap();
    assert!(pipeline.warnings().is_empty(), "{:?}", pipeline.warnings());
    let graph = pipeline.graph().to_toml().unwrap();
    assert_eq!(graph.matches("label = \"dead-letters\"").count(), 2, "{graph}");
    simulate(1, pipeline);
    let mut by_stage = BTreeMap::<String, u64>::new();
    dead.take().iter().for_each(|letter| *by_stage.entry(letter.stage.to_string()).or_default() += 1);
    assert_eq!(by_stage, BTreeMap::from([("a".to_owned(), 34), ("b".to_owned(), 13)]));
    assert_eq!(good.take().len(), 100 - 34 - 13);
}

/// Refuses what is round.
struct Picky(Arc<Mutex<Vec<u64>>>);

impl Sink for Picky {
    type Item = u64;
    fn accept(&mut self, item: u64) -> Result<(), Rejected<u64>> {
        if item.is_multiple_of(10) {
            return Err(Rejected { item, error: StageError::msg("round") });
        }
        self.0.lock().unwrap().push(item);
        Ok(())
    }
}

#[test]
fn a_sink_hands_its_refused_items_to_the_dead_letters() {
    for policy in [ErrorPolicy::DeadLetter, retry(1)] {
        let p = PipelineBuilder::new("sink");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let there = Arc::clone(&taken);
        let sink = p.generate("numbers", 200, |i| i).sink("picky", move |_: &StageSite| Ok(Picky(there)));
        sink.on_error(policy);
        let dead = sink.dead_letters().map("item", |letter| letter.item).collect("dead");
        let report = simulate(3, p.build().unwrap());
        assert_eq!(dead.take(), (0..200).step_by(10).map(Some).collect::<Vec<_>>());
        assert_eq!(taken.lock().unwrap().len(), 180);
        let account = stage(&report.result, "picky");
        assert_eq!((account.delivered, account.dead_lettered, account.emitted), (180, 20, 20));
    }
}

/// Refuses what is round: gives it back, or keeps it.
struct Refuser {
    gives_back: bool,
}

impl Transform for Refuser {
    type In = u64;
    type Out = u64;
    fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        match item % 10 {
            0 if self.gives_back => return Err(StageError::handing_back(item, "round")),
            0 => return Err(StageError::msg("round")),
            _ => out.emit(item),
        }
        Ok(())
    }
}

#[test]
fn a_transform_that_gives_its_item_back_can_be_retried_and_its_letter_has_the_item() {
    for (gives_back, attempts) in [(true, 3), (false, 1)] {
        let p = PipelineBuilder::new("transform");
        let (good, dead) = p
            .generate("numbers", 100, |i| i)
            .transform("refuse", move |_: &StageSite| Ok(Refuser { gives_back }))
            .on_error(retry(2))
            .dead_letters();
        let (good, dead) = (good.collect("good"), dead.collect("dead"));
        simulate(4, p.build().unwrap());
        let dead = dead.take();
        assert_eq!((good.take().len(), dead.len()), (90, 10));
        assert!(
            dead.iter()
                .all(|l| l.attempts == attempts && l.error == "round" && l.item.is_some() == gives_back)
        );
    }
}

#[test]
fn build_warns_of_dead_letters_that_nobody_takes_and_of_those_that_never_come() {
    let p = PipelineBuilder::new("warn");
    p.generate("numbers", 10, |i| i)
        .try_map("a", |x| Ok::<_, String>(*x))
        .on_error(ErrorPolicy::DeadLetter)
        .for_each("out", drop);
    let pipeline = p.build().unwrap();
    let [warning] = pipeline.warnings() else { panic!("{:?}", pipeline.warnings()) };
    assert!(
        warning.to_string().contains("\"a\"") && warning.to_string().contains("thrown away"),
        "{warning}"
    );

    let p = PipelineBuilder::new("warn");
    let (out, dead) = p.generate("numbers", 10, |i| i).try_map("a", |x| Ok::<_, String>(*x)).dead_letters();
    out.for_each("out", drop);
    dead.for_each("dead", drop);
    let pipeline = p.build().unwrap();
    let [warning] = pipeline.warnings() else { panic!("{:?}", pipeline.warnings()) };
    assert!(warning.to_string().contains("neither"), "{warning}");
}

/// C15: keys keep their order whatever fails; other keys overtake.
#[test]
fn a_retry_parks_its_key_and_other_keys_go_on() {
    for seed in 0..50 {
        let p = PipelineBuilder::new("keys");
        let mut failures = BTreeMap::<u64, u32>::new();
        let out = p
            .generate("numbers", 2_000, |i| i)
            .key_by(|i| i % 7)
            .try_map("call", move |x: &u64| {
                // Key 0 is down for its first item for long, and now and then for others.
                let failed = failures.entry(*x).or_default();
                let fails = if *x == 0 { 6 } else { u32::from(x.is_multiple_of(28)) };
                *failed += 1;
                if *failed <= fails { Err("down") } else { Ok(*x) }
            })
            .on_error(retry(8))
            .collect("out");
        let report = simulate(seed, p.build().unwrap());
        let got = out.take();
        for key in 0..7 {
            let of_key: Vec<u64> = got.iter().copied().filter(|x| x % 7 == key).collect();
            assert_eq!(
                of_key,
                (0..2_000).filter(|x| x % 7 == key).collect::<Vec<u64>>(),
                "key {key}, seed {seed}"
            );
        }
        let account = stage(&report.result, "call");
        assert_eq!((account.passed, account.waiting_retry), (2_000, 0));
        let at = got.iter().position(|x| *x == 0).unwrap();
        assert!(at >= 500, "while the first item of key 0 was retried, other keys went on: it came at {at}");
    }
}

#[test]
fn a_full_lot_takes_no_more_input() {
    let mut most = 0;
    for stop in 0..120 {
        let p = PipelineBuilder::new("lot");
        let (backoff, then) = (Backoff::new(MS, MS), AfterRetries::Ignore);
        let out = p
            .items("numbers", 0u64..)
            .key_by(|i| *i)
            .try_map("call", |_: &u64| Err::<u64, _>("down"))
            .on_error(ErrorPolicy::Retry { max_retries: 3, backoff, then, max_parked: 5 })
            .parallel(Parallelism::Sequential)
            .input_cut()
            .collect("out");
        let report = Simulation::new(9).partitions(1).stop_at(stop).run(p.build().unwrap()).unwrap();
        verified(&report.result);
        let account = stage(&report.result, "call");
        assert!(account.discarded <= 5, "{}", report.result.account);
        most = most.max(account.discarded);
        assert!(out.take().is_empty());
    }
    assert_eq!(most, 5);
}

fn breaker(while_open: WhileOpen) -> CircuitBreakerPolicy {
    CircuitBreakerPolicy {
        error_threshold: 0.5,
        latency_threshold: MS,
        slow_call_threshold: 0.5,
        window_size: 100 * MS,
        minimum_throughput: 4,
        cooldown_period: 10 * MS,
        half_open_probes: 2,
        while_open,
    }
}

/// A service that is down between two calls, and how often it was called.
fn service(from: u64, to: u64) -> (Arc<AtomicU64>, impl FnMut(&u64) -> Result<u64, String> + Clone + Send) {
    let calls = Arc::new(AtomicU64::new(0));
    let there = Arc::clone(&calls);
    let call = move |x: &u64| {
        let n = there.fetch_add(1, Ordering::Relaxed);
        if (from..to).contains(&n) { Err(format!("call {n} failed")) } else { Ok(*x) }
    };
    (calls, call)
}

/// C16 as far as it shows outside: while the breaker is open the stage is not called; nothing is lost when items wait.
#[test]
fn while_a_breaker_is_open_input_waits_and_the_stage_is_probed_until_it_is_well() {
    for seed in 0..30 {
        for while_open in [WhileOpen::Wait, WhileOpen::PauseSources] {
            let p = PipelineBuilder::new("breaker");
            // 4 failures open it; two rounds of 2 probes fail, the third is well.
            let (calls, call) = service(0, 8);
            let out = p
                .generate("numbers", 300, |i| i)
                .try_map("call", call)
                .on_error(ErrorPolicy::retry(10, Backoff::new(MS, MS)))
                .circuit_breaker(breaker(while_open))
                .input_cut()
                .collect("out");
            let logger = Arc::new(MemoryLogger::default());
            let environment = Environment { logger: logger.clone(), ..Environment::default() };
            let report = Simulation::new(seed).run_in(p.build().unwrap(), &environment).unwrap();
            verified(&report.result);
            assert!(report.result.success, "{}", report.result.outcome);
            assert_eq!(out.take(), (0..300).collect::<Vec<u64>>(), "order is kept, nothing is lost");
            assert_eq!(calls.load(Ordering::Relaxed), 308);
            let account = stage(&report.result, "call");
            let turns = (account.breaker_opened, account.breaker_half_opened, account.breaker_closed);
            assert!(turns.0 >= 2 && turns.0 == turns.1 && turns.2 == 1, "{turns:?}");
            assert!(logger.contains(LogLevel::Warn, "stage call/0: circuit breaker closed -> open: of "));
            assert!(logger.contains(LogLevel::Info, "circuit breaker half-open -> closed"));
            let state = &report.result.final_states[&"call".parse().unwrap()];
            assert_eq!(state.breaker, Some(BreakerState::Closed));
            assert!(report.result.duration >= 20 * MS, "it waited for every cooldown");
        }
    }
}

#[test]
fn an_open_breaker_turns_items_away_to_the_dead_letters_without_a_call() {
    let p = PipelineBuilder::new("breaker");
    let (calls, call) = service(0, 4);
    let (out, dead) = p
        .generate("numbers", 500, |i| i)
        .try_map("call", call)
        .on_error(ErrorPolicy::Ignore)
        .circuit_breaker(CircuitBreakerPolicy {
            cooldown_period: Duration::from_micros(50),
            ..breaker(WhileOpen::DeadLetter)
        })
        .dead_letters();
    let (out, dead) = (out.collect("out"), dead.collect("dead"));
    // Small budgets, so that time passes between items.
    let report = Simulation::new(5).budgets(1..3).run(p.build().unwrap()).unwrap();
    verified(&report.result);
    let (out, dead, account) = (out.take(), dead.take(), stage(&report.result, "call"));
    assert!(dead.iter().all(|l| l.kind == FailureKind::BreakerOpen && l.attempts == 0 && l.item.is_some()));
    assert_eq!((account.ignored, account.refused), (4, dead.len() as u64));
    assert!(!dead.is_empty() && !out.is_empty(), "{}", report.result.account);
    assert_eq!(calls.load(Ordering::Relaxed), 4 + out.len() as u64, "an open breaker lets no call through");
    assert_eq!(account.breaker_closed, 1);
}

#[test]
fn slow_calls_open_a_breaker_and_the_simulated_clock_tells_them() {
    let simulation = Simulation::new(6);
    let clock = simulation.clock();
    let p = PipelineBuilder::new("slow");
    let mut calls = 0;
    let out = p
        .generate("numbers", 50, |i| i)
        .try_map("call", move |x: &u64| {
            calls += 1;
            if calls <= 4 {
                clock.advance(2 * MS);
            }
            Ok::<_, String>(*x)
        })
        .circuit_breaker(breaker(WhileOpen::Wait))
        .collect("out");
    let report = simulation.run(p.build().unwrap()).unwrap();
    verified(&report.result);
    assert_eq!(out.take(), (0..50).collect::<Vec<u64>>());
    let account = stage(&report.result, "call");
    assert_eq!((account.slow_calls, account.breaker_opened, account.breaker_closed), (4, 1, 1));
    assert!(
        report.result.duration >= 18 * MS,
        "four slow calls and a cooldown: {:?}",
        report.result.duration
    );
}

#[test]
fn a_breaker_that_pauses_sources_keeps_them_from_producing() {
    let produced = |while_open| {
        let p = PipelineBuilder::new("pause");
        let made = Arc::new(AtomicU64::new(0));
        let there = Arc::clone(&made);
        p.generate("numbers", 100_000, move |i| {
            there.fetch_add(1, Ordering::Relaxed);
            i
        })
        .map("between", |x| x)
        .input_buffer(BufferPolicy { capacity: 65_536, ..BufferPolicy::default() })
        .try_map("call", |_: &u64| Err::<u64, _>("down"))
        .on_error(ErrorPolicy::Ignore)
        .circuit_breaker(CircuitBreakerPolicy {
            cooldown_period: Duration::from_secs(3_600),
            ..breaker(while_open)
        })
        .for_each("out", drop);
        let report = Simulation::new(2).budgets(1..65).stop_at(3_000).run(p.build().unwrap()).unwrap();
        verified(&report.result);
        made.load(Ordering::Relaxed)
    };
    let (waiting, pausing) = (produced(WhileOpen::Wait), produced(WhileOpen::PauseSources));
    assert!(pausing < 5_000 && waiting > 20_000, "{pausing} with the sources paused, {waiting} else");
}

#[test]
fn a_breaker_that_is_open_does_not_hold_up_the_end_when_nothing_waits() {
    let p = PipelineBuilder::new("end");
    let (_, call) = service(0, 4);
    p.generate("numbers", 4, |i| i)
        .try_map("call", call)
        .on_error(ErrorPolicy::Ignore)
        .circuit_breaker(CircuitBreakerPolicy {
            cooldown_period: Duration::from_secs(3_600),
            ..breaker(WhileOpen::Wait)
        })
        .for_each("out", drop);
    let report = simulate(1, p.build().unwrap());
    assert!(report.result.success && report.result.duration < Duration::from_secs(1));
    assert_eq!(stage(&report.result, "call").breaker_opened, 1);
}

#[test]
fn sources_go_on_once_the_stage_whose_breaker_paused_them_has_no_more_input() {
    let policy = CircuitBreakerPolicy {
        minimum_throughput: 1,
        cooldown_period: Duration::from_secs(3_600),
        ..breaker(WhileOpen::PauseSources)
    };
    for kind in ["try_map", "keyed", "transform", "sink"] {
        for seed in 0..20 {
            let p = PipelineBuilder::new("retired");
            let failing = p.items("one", [0u64]);
            let refuse = |_: &u64| Err::<u64, _>("down");
            match kind {
                "try_map" => {
                    let call = failing.try_map("call", refuse).on_error(ErrorPolicy::Ignore);
                    call.circuit_breaker(policy).for_each("end", drop);
                }
                "keyed" => {
                    let call = failing.key_by(|x| *x).try_map("call", refuse).on_error(ErrorPolicy::Ignore);
                    call.circuit_breaker(policy).for_each("end", drop);
                }
                "transform" => {
                    let call = failing.transform("call", |_: &StageSite| Ok(Refuser { gives_back: false }));
                    call.on_error(ErrorPolicy::Ignore).circuit_breaker(policy).for_each("end", drop);
                }
                _ => {
                    let call = failing.sink("call", |_: &StageSite| Ok(Picky(Arc::default())));
                    call.on_error(ErrorPolicy::Ignore);
                    call.circuit_breaker(policy);
                }
            }
            let out = p.generate("numbers", 5_000, |i| i).collect("out");
            // With room for more than its one item the first source ends with it.
            let partitions = 1 + seed as usize % 2;
            let simulation = Simulation::new(seed).partitions(partitions).budgets(2..65);
            let report = simulation.run(p.build().unwrap());
            let report = report.unwrap_or_else(|error| panic!("{kind}, seed {seed}: {error}"));
            verified(&report.result);
            assert_eq!(out.take().len(), 5_000, "{kind}, seed {seed}");
            let call = stage(&report.result, "call");
            assert_eq!((call.ignored, call.breaker_opened), (1, 1), "{kind}, seed {seed}");
            // A partition that the simulator starves lets time pass meanwhile.
            let in_time = partitions > 1 || report.result.duration < Duration::from_secs(3_600);
            assert!(in_time, "{kind}, seed {seed}: a source waited for the cooldown");
        }
    }
}

#[test]
fn what_waits_for_its_next_attempt_is_sent_away_when_it_is_due_and_not_when_the_breaker_closes() {
    let p = PipelineBuilder::new("away");
    let (out, dead) = p
        .generate("numbers", 50, |i| i)
        .try_map("call", |_: &u64| Err::<u64, _>("down"))
        .on_error(retry(100))
        .circuit_breaker(CircuitBreakerPolicy {
            cooldown_period: Duration::from_secs(3_600),
            window_size: Duration::from_secs(60),
            ..breaker(WhileOpen::DeadLetter)
        })
        .dead_letters();
    let (_, dead) = (out.collect("out"), dead.collect("dead"));
    let report = Simulation::new(1).partitions(1).run(p.build().unwrap()).unwrap();
    verified(&report.result);
    // Four attempts at the first open the breaker.
    let attempts: Vec<u32> = dead.take().iter().map(|letter| letter.attempts).collect();
    assert_eq!((attempts.len(), attempts[0], attempts[1..].iter().sum::<u32>()), (50, 4, 0));
    assert!(report.result.duration < Duration::from_secs(60), "{:?}", report.result.duration);
}

/// Refuses the first offer, and has no room for some time then.
struct FullAfterRefusal {
    offers: u64,
    asked: u64,
}

impl Sink for FullAfterRefusal {
    type Item = u64;
    fn accept(&mut self, item: u64) -> Result<(), Rejected<u64>> {
        self.offers += 1;
        if self.offers == 1 {
            return Err(Rejected { item, error: StageError::msg("not yet") });
        }
        assert!(self.asked == 0 || self.asked > 20, "an offer without room");
        Ok(())
    }
    fn room(&mut self) -> usize {
        self.asked += u64::from(self.offers > 0);
        if self.offers == 0 || self.asked > 20 { 100 } else { 0 }
    }
}

#[test]
fn a_sink_without_room_is_not_tried_again_so_that_no_attempt_is_lost_on_it() {
    let p = PipelineBuilder::new("full");
    let sink = p
        .generate("numbers", 50, |i| i)
        .sink("sink", |_: &StageSite| Ok(FullAfterRefusal { offers: 0, asked: 0 }));
    sink.on_error(retry(1));
    let report = simulate(1, p.build().unwrap());
    let account = stage(&report.result, "sink");
    assert_eq!((account.delivered, account.retries, account.errors), (50, 1, 1));
}

#[test]
fn breakers_work_on_real_cores() {
    for driver in real_drivers() {
        let p = PipelineBuilder::new("real");
        let (_, call) = service(0, 10);
        let policy = CircuitBreakerPolicy {
            latency_threshold: Duration::from_secs(60),
            ..breaker(WhileOpen::PauseSources)
        };
        let out = p
            .generate("numbers", 2_000, |i| i)
            .try_map("call", call)
            .on_error(ErrorPolicy::retry(20, Backoff::new(MS, MS)))
            .circuit_breaker(policy)
            .collect("out");
        let options = ExecutionOptions { driver, virtual_cores: Some(2), ..ExecutionOptions::default() };
        let result = Engine::new(options).run(p.build().unwrap()).unwrap();
        verified(&result);
        assert!(result.success);
        assert_eq!(out.take(), (0..2_000).collect::<Vec<u64>>());
        assert!(stage(&result, "call").breaker_opened >= 1);
    }
}
