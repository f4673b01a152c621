//! Bad input and bad stages, by the numbers of the list of faults: what user code and its data can do to a pipeline.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::quiet::{PLANNED, planned_panics};
use common::run::{run, stage, verified};
use common::watchdog::{real_drivers, watched};
use corelane::driver::{Environment, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Cost, Envelope, SpanId, TraceContext, TraceId};
use corelane::observe::Outcome;
use corelane::policy::{
    AccumulatorPolicy, AfterRetries, Backoff, BufferPolicy, ErrorPolicy, MemoryPoolOptions, Parallelism,
};
use corelane::pool::{MemoryPool, RentError};
use corelane::stage::{DeadLetter, FailureKind, Output, Rejected, Sink, StageError, StageSite, Transform};

const MS: Duration = Duration::from_millis(1);

fn retry(max: u32) -> ErrorPolicy {
    ErrorPolicy::retry(max, Backoff::new(MS, 8 * MS).with_jitter(50))
}

/// Case 73: what blocks a core blocks only that, and it is seen.
#[test]
fn fault_73_a_call_that_does_not_return_holds_up_its_own_core_only_and_shows_in_inspect() {
    for driver in real_drivers() {
        watched("a stage that blocks", move || {
            let (blocked, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (is_blocked, may_go) = (Arc::clone(&blocked), Arc::clone(&release));
            let p = PipelineBuilder::new("blocked");
            p.items("one", [0u64]).for_each("stuck", move |_| {
                is_blocked.store(true, Ordering::Release);
                while !may_go.load(Ordering::Acquire) {
                    pause();
                }
            });
            let passed = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&passed);
            p.items("many", 0u64..).for_each("free", move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let options = ExecutionOptions {
                driver,
                virtual_cores: Some(2),
                core_map: "one=0;stuck=0;many=1;free=1".parse().unwrap(),
                ..ExecutionOptions::default()
            };
            let running = Engine::new(options).start(p.build().unwrap()).unwrap();
            let until = |what: &dyn Fn() -> bool| {
                while !what() {
                    assert!(!running.is_finished(), "{}", running.account());
                    pause();
                }
            };
            until(&|| blocked.load(Ordering::Acquire));
            let before = passed.load(Ordering::Relaxed);
            let stuck = |state: &corelane::observe::PipelineState| state.partitions[0];
            let first = running.inspect_all();
            until(&|| passed.load(Ordering::Relaxed) > before + 100_000);
            // Asking does not wait for the core that is stuck, and shows that it is.
            let second = running.inspect_all();
            assert_eq!(stuck(&first).steps, stuck(&second).steps);
            assert!(stuck(&second).silent_for > stuck(&first).silent_for, "{second}");
            assert!(second.to_string().contains("silent for"));
            until(&|| running.inspect_all().partitions[1].steps > second.partitions[1].steps);
            assert_eq!(stuck(&running.inspect_all()).steps, stuck(&first).steps);
            release.store(true, Ordering::Release);
            running.stop();
            verified(&running.join());
        });
    }
}

#[allow(clippy::disallowed_methods, reason = "this is about blocking calls")]
fn pause() {
    std::thread::sleep(MS);
}

/// Which item fails: all, or one in this many.
fn fails(x: u64, every: u64) -> bool {
    x.is_multiple_of(every)
}

struct Failing(u64);

impl Transform for Failing {
    type In = u64;
    type Out = u64;
    fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        if fails(item, self.0) {
            return Err(StageError::handing_back(item, "no"));
        }
        out.emit(item);
        Ok(())
    }
}

impl Sink for Failing {
    type Item = u64;
    fn accept(&mut self, item: u64) -> Result<(), Rejected<u64>> {
        if fails(item, self.0) { Err(Rejected { item, error: StageError::msg("no") }) } else { Ok(()) }
    }
}

/// A pipeline of 60 numbers whose stage `bad` fails on one in `every`; its dead letters are taken.
fn failing(
    kind: &str,
    every: u64,
    policy: ErrorPolicy,
) -> (Pipeline, corelane::flow::Collected<DeadLetter<u64>>) {
    let p = PipelineBuilder::new("failing");
    let numbers = p.generate("numbers", 60, |i| i).boxed();
    let call = move |x: &u64| if fails(*x, every) { Err("no") } else { Ok(*x) };
    let dead = match kind {
        "try_map" => {
            let (rest, dead) = numbers.try_map("bad", call).on_error(policy).dead_letters();
            rest.for_each("end", drop);
            dead
        }
        "keyed" => {
            let (rest, dead) = numbers.key_by(|x| x % 4).try_map("bad", call).on_error(policy).dead_letters();
            rest.for_each("end", drop);
            dead
        }
        "transform" => {
            let (rest, dead) = numbers
                .transform("bad", move |_: &StageSite| Ok(Failing(every)))
                .on_error(policy)
                .dead_letters();
            rest.for_each("end", drop);
            dead
        }
        _ => {
            let sink = numbers.sink("bad", move |_: &StageSite| Ok(Failing(every)));
            sink.on_error(policy);
            sink.dead_letters()
        }
    };
    let dead = dead.collect("dead");
    (p.build().unwrap(), dead)
}

/// Case 75: errors always, and now and then, under every policy.
#[test]
fn fault_75_a_stage_that_fails_always_or_every_nth_time_is_counted_exactly_under_every_policy() {
    for kind in ["try_map", "keyed", "transform", "sink"] {
        for (every, bad) in [(1, 60), (2, 30), (7, 9), (100, 1)] {
            for (policy, attempts) in [
                (ErrorPolicy::Ignore, 1),
                (ErrorPolicy::DeadLetter, 1),
                (retry(3), 4),
                (retry(2).then(AfterRetries::Ignore), 3),
                (ErrorPolicy::Fail, 1),
                (retry(1).then(AfterRetries::Fail), 2),
            ] {
                let what = format!("{kind}, one in {every}, {policy:?}");
                let (pipeline, dead) = failing(kind, every, policy);
                let result = run(None, pipeline);
                let (account, dead) = (stage(&result, "bad"), dead.take());
                if policy.last_resort() == AfterRetries::Fail {
                    assert!(account.failed >= 1 && dead.is_empty(), "{what}\n{}", result.account);
                    match &result.outcome {
                        Outcome::Failed { stage: Some(stage), error } => {
                            assert_eq!((stage.as_str(), error.as_str()), ("bad", "no"), "{what}");
                        }
                        other => panic!("{what}: {other}"),
                    }
                    continue;
                }
                assert!(result.success, "{what}: {}", result.outcome);
                let to_letters = policy.last_resort() == AfterRetries::DeadLetter;
                let lost = (account.dead_lettered, account.ignored);
                assert_eq!(lost, if to_letters { (bad, 0) } else { (0, bad) }, "{what}");
                assert_eq!(
                    (account.passed + account.delivered, account.errors),
                    (60 - bad, bad * attempts),
                    "{what}"
                );
                assert_eq!(account.retries, bad * (attempts - 1), "{what}");
                assert_eq!(dead.len() as u64, lost.0, "{what}");
                assert!(dead.iter().all(|letter| u64::from(letter.attempts) == attempts), "{what}");
            }
        }
    }
}

/// Case 76: a key function that panics, and one that says something else each time.
#[test]
fn fault_76_a_key_function_that_panics_ends_the_pipeline_by_name_and_one_that_wavers_loses_nothing() {
    planned_panics();
    let p = PipelineBuilder::new("keys");
    p.generate("numbers", 1_000, |i| i)
        .key_by(|x| {
            assert!(*x != 700, "{PLANNED} panic");
            *x
        })
        .try_map("keyed", |x| Ok::<_, String>(*x))
        .parallel(Parallelism::Fixed(2))
        .for_each("out", drop);
    let result = run(None, p.build().unwrap());
    match &result.outcome {
        Outcome::Failed { stage: Some(stage), error } => {
            assert!(stage.as_str() == "keyed" && error.contains(PLANNED), "{stage}: {error}");
        }
        other => panic!("an item without a key belongs to no instance: {other}"),
    }

    for (seed, kind) in (0..10).flat_map(|seed| ["try_map", "fold", "accumulate"].map(|kind| (seed, kind))) {
        let p = PipelineBuilder::new("wavering");
        let turn = Arc::new(AtomicU64::new(0));
        let waver = move |x: &u64| (turn.fetch_add(1, Ordering::Relaxed) * 7 + x) % 5;
        let numbers = p.generate("numbers", 2_000, |i| i);
        let seen = match kind {
            "try_map" => {
                let mut calls = 0u64;
                let sometimes = move |x: &u64| {
                    calls += 1;
                    if calls.is_multiple_of(9) { Err("again") } else { Ok(*x) }
                };
                let stage = numbers.key_by(waver).try_map("keyed", sometimes);
                let out = stage.on_error(retry(50)).collect("out");
                (p.build().unwrap(), Box::new(move || out.take().len() as u64) as Box<dyn FnOnce() -> u64>)
            }
            "fold" => {
                let out = numbers.key_by(waver).fold("keyed", || 0u64, |n, _| *n += 1).collect("out");
                let count = move || out.take().iter().map(|(_, n)| n).sum();
                (p.build().unwrap(), Box::new(count) as _)
            }
            _ => {
                let limits = AccumulatorPolicy::until_end().max_items(3);
                let out = numbers.accumulate("keyed", limits, Wavering(waver)).collect("out");
                (p.build().unwrap(), Box::new(move || out.take().iter().sum()) as _)
            }
        };
        let report = Simulation::new(seed).partitions(3).run(seen.0).unwrap();
        verified(&report.result);
        assert!(report.result.success, "{kind}: {}", report.result.outcome);
        assert_eq!((seen.1)(), 2_000, "{kind}, seed {seed}");
    }
}

#[derive(Clone)]
struct Wavering<F>(F);

impl<F: Fn(&u64) -> u64 + 'static> Accumulator<u64> for Wavering<F> {
    type Key = u64;
    type State = ();
    type Out = u64;
    fn key(&self, item: &u64) -> u64 {
        (self.0)(item)
    }
    fn init(&mut self, _: &u64, _: &u64) {}
    fn update(&mut self, _: &mut StateOf<u64, Self>, _: u64) {}
    fn check(&mut self, _: &mut StateOf<u64, Self>, _: CheckTime) -> Completeness<u64> {
        Completeness::Incomplete
    }
    fn flush_forced(&mut self, of: &mut StateOf<u64, Self>, _: FlushReason) -> Option<u64> {
        Some(of.size_items)
    }
}

/// Takes payloads of at most 100 bytes.
struct Small(Arc<Mutex<Vec<usize>>>);

impl Sink for Small {
    type Item = Vec<u8>;
    fn accept(&mut self, item: Vec<u8>) -> Result<(), Rejected<Vec<u8>>> {
        if item.len() > 100 {
            let error = StageError::msg(format!("{} bytes are more than the 100 of a message", item.len()));
            return Err(Rejected { item, error });
        }
        self.0.lock().unwrap().push(item.len());
        Ok(())
    }
}

/// Case 79: a payload that is larger than what follows takes is refused with a reason and becomes a dead letter.
#[test]
fn fault_79_a_payload_larger_than_what_takes_it_is_refused_with_its_size_and_kept_as_a_dead_letter() {
    let p = PipelineBuilder::new("large");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let there = Arc::clone(&taken);
    let sink = p
        .generate("payloads", 20, |i| vec![0u8; 10 * i as usize])
        // An item that alone is more than the edge may hold passes alone.
        .cost_by(|bytes: &Vec<u8>| Cost::of_bytes(bytes.len() as u64))
        .sink("small", move |_: &StageSite| Ok(Small(there)));
    sink.input_buffer(BufferPolicy::default().with_max_bytes(64));
    sink.on_error(ErrorPolicy::DeadLetter);
    let dead = sink.dead_letters().collect("dead");
    assert!(run(None, p.build().unwrap()).success);
    assert_eq!(*taken.lock().unwrap(), (0..=10).map(|i| 10 * i).collect::<Vec<_>>());
    let dead = dead.take();
    assert_eq!(
        dead.iter().map(|l| l.item.as_ref().unwrap().len()).collect::<Vec<_>>(),
        (11..20).map(|i| 10 * i).collect::<Vec<_>>()
    );
    assert_eq!(dead[0].error, "110 bytes are more than the 100 of a message");

    // The memory pool: the refusal names both sizes, and waiting would not help.
    let memory_pool =
        MemoryPool::new(MemoryPoolOptions { limit_bytes: 1 << 20, ..MemoryPoolOptions::default() });
    let p = PipelineBuilder::new("rent");
    let (rented, dead) = p
        .items("sizes", [100usize, 2 << 20, 200])
        .transform("rent", |site: &StageSite| Ok(Rents(site.pool()?)))
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    let (rented, dead) = (rented.collect("rented"), dead.collect("dead"));
    let environment = Environment { memory_pool, ..Environment::default() };
    let report = Simulation::new(1).run_in(p.build().unwrap(), &environment).unwrap();
    verified(&report.result);
    assert_eq!(rented.take(), [100, 200]);
    let dead = dead.take();
    assert_eq!((dead.len(), dead[0].item), (1, Some(2 << 20)));
    assert!(dead[0].error.contains("2097152") && dead[0].error.contains("1048576"), "{}", dead[0].error);
}

struct Rents(corelane::pool::LocalPool);

impl Transform for Rents {
    type In = usize;
    type Out = usize;
    fn process(&mut self, size: usize, out: &mut Output<'_, usize>) -> Result<(), StageError> {
        match self.0.rent(size) {
            Ok(buffer) => out.emit(buffer.len()),
            Err(error @ RentError::TooLarge { .. }) => return Err(StageError::handing_back(size, error)),
            Err(error) => return Err(StageError::msg(error)),
        }
        Ok(())
    }
}

/// Case 80: empty payloads, empty keys, and keys of ten megabytes.
#[test]
fn fault_80_payloads_and_keys_may_be_empty_or_huge() {
    let key = |i: &u64| match i % 3 {
        0 => String::new(),
        1 => "k".repeat(10_000_000),
        _ => "k".to_owned(),
    };
    let p = PipelineBuilder::new("sizes");
    let retried = {
        let mut tries = BTreeMap::<u64, u32>::new();
        move |i: &u64| {
            let tried = tries.entry(*i).or_default();
            *tried += 1;
            if *tried < 3 { Err("again") } else { Ok(*i) }
        }
    };
    let out = p
        .generate("numbers", 12, |i| i)
        .key_by(key)
        .try_map("retried", retried)
        .on_error(retry(2))
        .key_by(key)
        .fold("folded", Vec::new, |all: &mut Vec<u64>, i| all.push(i))
        .map("of-key", |(key, all)| (key.len(), all))
        .collect("out");
    assert!(run(None, p.build().unwrap()).success);
    let mut out = out.take();
    out.sort_unstable();
    let of = |rest: u64| (0..12).filter(|i| i % 3 == rest).collect::<Vec<u64>>();
    assert_eq!(out, [(0, of(0)), (1, of(2)), (10_000_000, of(1))]);

    let p = PipelineBuilder::new("empty");
    let (nothing, dead) = p
        .items("nothing", vec![(); 1_000])
        .map("text", |()| String::new())
        .try_map("refuse", |text| if text.is_empty() { Err("") } else { Ok(()) })
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    let (nothing, dead) = (nothing.collect("out"), dead.collect("dead"));
    assert!(run(None, p.build().unwrap()).success);
    assert!(nothing.take().is_empty());
    assert!(dead.take().iter().all(|letter| letter.item.as_deref() == Some("") && letter.error.is_empty()));
}

/// Case 84: an item that fails whenever it is touched is given up after its attempts, and is no loop of crashes.
#[test]
fn fault_84_a_poison_message_is_given_up_after_its_attempts_and_the_rest_goes_on_on_every_driver() {
    planned_panics();
    let mut drivers = vec![None];
    drivers.extend(real_drivers().into_iter().map(Some));
    for (driver, keyed) in drivers.into_iter().flat_map(|driver| [false, true].map(|keyed| (driver, keyed))) {
        let p = PipelineBuilder::new("poison");
        let numbers = p.generate("numbers", 1_000, |i| i);
        let poison = |x: &u64| match *x {
            77 => panic!("{PLANNED}: poison"),
            x => Ok::<_, String>(x),
        };
        let (good, dead) = if keyed {
            let stage = numbers.key_by(|x| x % 5).try_map("call", poison);
            let (good, dead) = stage.on_error(retry(3)).dead_letters();
            (good.boxed(), dead)
        } else {
            let (good, dead) = numbers.try_map("call", poison).on_error(retry(3)).dead_letters();
            (good.boxed(), dead)
        };
        let (good, dead) = (good.collect("good"), dead.collect("dead"));
        let result = run(driver, p.build().unwrap());
        assert!(result.success, "{}", result.outcome);
        assert_eq!(good.take().len(), 999);
        let [letter] = &dead.take()[..] else { panic!("one letter") };
        assert_eq!((letter.item, letter.attempts, letter.kind), (Some(77), 4, FailureKind::Panic));
        let account = stage(&result, "call");
        assert_eq!((account.panics, account.retries, account.dead_lettered), (4, 3, 1));
    }
}

/// Takes letters only every few times it is asked, or never.
struct Slow {
    asked: u64,
    every: Option<u64>,
    taken: Arc<AtomicU64>,
}

impl Sink for Slow {
    type Item = DeadLetter<u64>;
    fn accept(&mut self, _: DeadLetter<u64>) -> Result<(), Rejected<DeadLetter<u64>>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn room(&mut self) -> usize {
        self.asked += 1;
        usize::from(self.every.is_some_and(|every| self.asked.is_multiple_of(every)))
    }
}

fn with_slow_letters(every: Option<u64>, taken: &Arc<AtomicU64>) -> Pipeline {
    let p = PipelineBuilder::new("slow");
    let (good, dead) = p
        .generate("numbers", 3_000, |i| i)
        .try_map("call", |x: &u64| if x.is_multiple_of(2) { Err("even") } else { Ok(*x) })
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    good.for_each("good", drop);
    let taken = Arc::clone(taken);
    dead.sink("letters", move |_: &StageSite| Ok(Slow { asked: 0, every, taken }));
    if every.is_none() {
        // Without anything that moves, the simulator would say that it is stuck.
        p.items("others", 0u64..).for_each("go-on", drop);
    }
    p.build().unwrap()
}

/// Case 85: a sink of dead letters that is full holds back what makes them; one that fails goes by its own policy.
#[test]
fn fault_85_a_sink_of_dead_letters_that_is_full_or_fails_loses_none_without_a_name() {
    let taken = Arc::new(AtomicU64::new(0));
    let result = run(None, with_slow_letters(Some(3), &taken));
    assert!(result.success && taken.load(Ordering::Relaxed) == 1_500);

    // Never any room: at a stop, what has come in is a batch at most, and every letter is accounted for.
    for seed in 0..20 {
        let report =
            Simulation::new(seed).budgets(1..33).stop_at(3_000).run(with_slow_letters(None, &taken)).unwrap();
        verified(&report.result);
        let call = stage(&report.result, "call");
        assert!(call.received <= 32, "{}", report.result.account);
    }

    for (policy, completes) in
        [(ErrorPolicy::Fail, false), (ErrorPolicy::Ignore, true), (ErrorPolicy::DeadLetter, true)]
    {
        let p = PipelineBuilder::new("failing");
        let (good, dead) = p
            .generate("numbers", 100, |i| i)
            .try_map("call", |_| Err::<u64, _>("no"))
            .on_error(ErrorPolicy::DeadLetter)
            .dead_letters();
        good.for_each("good", drop);
        let letters =
            dead.map("item", |letter| letter.item.unwrap()).sink("letters", |_: &StageSite| Ok(Failing(1)));
        letters.on_error(policy);
        let result = run(None, p.build().unwrap());
        let account = stage(&result, "letters");
        match &result.outcome {
            Outcome::Failed { stage: Some(stage), error } if !completes => {
                assert_eq!((stage.as_str(), error.as_str()), ("letters", "no"));
            }
            Outcome::Completed if completes => {
                assert_eq!(account.ignored + account.dead_lettered, 100, "{}", result.account);
                assert_eq!(stage(&result, "call").dead_lettered, 100, "its own letters do not come back");
            }
            other => panic!("{policy:?}: {other}"),
        }
    }
}

/// Case 86: a hundred thousand headers, and a trace context that is none. `w3c_trace_context` has the table of those.
#[test]
fn fault_86_headers_without_end_and_a_trace_that_is_none_cross_retries_and_dead_letters_unharmed() {
    let mut large = Envelope::new(1u64).with_trace(TraceContext::new(TraceId([7; 16]), SpanId([8; 8]), 1));
    large.extras_mut().headers = (0..100_000).map(|i| (format!("name-{i:06}"), "value")).collect();
    let mut strange = Envelope::new(2u64);
    strange.extras_mut().headers = [("traceparent".to_owned(), "00-nonsense")].into_iter().collect();
    let (expected, headers) = (large.clone(), strange.headers().clone());
    let p = PipelineBuilder::new("headers");
    let (good, dead) = p
        .items("envelopes", [large, strange])
        .traced()
        .map("cross", |envelope| envelope)
        .parallel(Parallelism::Fixed(2))
        .input_cut()
        .try_map("trace", |envelope: &Envelope<u64>| match envelope.trace() {
            Some(trace) if trace.trace_id == TraceId([7; 16]) => {
                Err(format!("{} headers", envelope.headers().len()))
            }
            _ => "00-nonsense".parse::<TraceContext>().map(|_| ()).map_err(|error| error.to_string()),
        })
        .on_error(retry(2))
        .dead_letters();
    let (good, dead) = (good.collect("good"), dead.collect("dead"));
    assert!(run(None, p.build().unwrap()).success);
    assert!(good.take().is_empty());
    let mut dead = dead.take();
    dead.sort_by_key(|letter| letter.item.as_ref().map(|envelope| envelope.payload));
    let items: Vec<_> = dead.iter().map(|letter| letter.item.clone().unwrap()).collect();
    assert_eq!(items[0], expected);
    assert_eq!((items[1].headers(), dead[0].error.as_str()), (&headers, "100000 headers"));
    assert!(dead.iter().all(|letter| letter.attempts == 3) && !dead[1].error.is_empty());
}
