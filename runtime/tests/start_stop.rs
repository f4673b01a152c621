//! Pipelines can be started, stopped, drained, cancelled and forgotten at any moment, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::watchdog::{PATIENCE, real_drivers, watched};
use corelane::driver::DriverChoice;
use corelane::engine::{CancellationToken, Engine, ExecutionOptions, Running};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::observe::{Outcome, PipelineResult};
use corelane::partition::MergePolicy;
use corelane::policy::{BufferPolicy, DropPolicy, Parallelism};

const CYCLES: u64 = 200;

/// One test at a time: they count the threads of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Partitions started so far in this process.
static STARTED: AtomicUsize = AtomicUsize::new(0);

fn start(engine: &Engine, pipeline: Pipeline) -> Running {
    let running = engine.start(pipeline).unwrap();
    STARTED.fetch_add(running.placement().partitions.len(), Ordering::Relaxed);
    running
}

/// Counts what reaches the sink. As long as a stage of the pipeline lives, so does a clone.
type Witness = Arc<AtomicU64>;

/// A pipeline with a bit of everything; endless unless `items` says otherwise.
fn pipeline(rng: &mut fastrand::Rng, items: u64) -> (Pipeline, Witness) {
    let witness = Witness::default();
    let (in_map, in_sink) = (Arc::clone(&witness), Arc::clone(&witness));
    let capacity = [1, 2, 64, 4_096][rng.usize(..4)];
    let buffer = BufferPolicy::new(capacity, DropPolicy::Block);
    let p = PipelineBuilder::new("start-stop");
    let work = move |x: u64| {
        let _alive = &in_map;
        x ^ 1
    };
    let [small, large] = p
        .generate("numbers", items, |i| i)
        .map("work", work)
        .parallel([Parallelism::Sequential, Parallelism::CpuBound][rng.usize(..2)])
        .input_buffer(buffer)
        .split("parity", ["even", "odd"], |x| x % 2 == 0);
    let folded = large.key_by(|x| x % 50).fold("count", || 0u64, |n, _| *n += 1).map("value", |(_, n)| n);
    p.merge("join", MergePolicy::Fair, [small.into_input(), folded.into_input()]).for_each(
        "out",
        move |_| {
            in_sink.fetch_add(1, Ordering::Relaxed);
        },
    );
    (p.build().unwrap(), witness)
}

fn engine(driver: DriverChoice, cores: u32, cancellation: &CancellationToken) -> Engine {
    let cancellation = cancellation.clone();
    let virtual_cores = Some(cores);
    Engine::new(ExecutionOptions { driver, virtual_cores, cancellation, ..ExecutionOptions::default() })
}

/// C19: the account closes, and no code of the user is left that could still run.
fn judged(result: &PipelineResult, witness: &Witness, outcomes: &[Outcome], what: &str) {
    assert!(outcomes.contains(&result.outcome), "{what}: {}", result.outcome);
    result.account.verify().unwrap_or_else(|broken| panic!("{what}: {broken:?}\n{}", result.account));
    assert!(result.account.totals().closes(), "{what}");
    assert_eq!(Arc::strong_count(witness), 1, "{what}: stages outlive the pipeline");
    assert_eq!(witness.load(Ordering::Relaxed), result.account.totals().delivered, "{what}");
}

/// Waits until `running` has ended, at most a moment: a way to stop at a random one.
fn a_moment(rng: &mut fastrand::Rng, running: &Running) {
    running.wait_timeout(Duration::from_micros([0, 10, 300, 3_000][rng.usize(..4)]));
}

fn cycle(driver: DriverChoice, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let what = format!("cycle {seed} on {driver:?}");
    let cancellation = CancellationToken::new();
    let engine = engine(driver, rng.u32(1..5), &cancellation);
    let (stopped, drained) = ([Outcome::Stopped], [Outcome::Drained]);
    let (endless, witness) = pipeline(&mut rng, u64::MAX);
    match seed % 6 {
        // Before anything ran.
        0 => {
            let running = start(&engine, endless);
            running.stop();
            judged(&running.join(), &witness, &stopped, &what);
        }
        1 => {
            let running = start(&engine, endless);
            a_moment(&mut rng, &running);
            running.stop();
            running.stop();
            judged(&running.join(), &witness, &stopped, &what);
        }
        2 => {
            let mut running = start(&engine, endless);
            a_moment(&mut rng, &running);
            assert!(running.drain(PATIENCE), "{what}: {}", running.account());
            assert!(running.drain(PATIENCE), "{what}: a second drain");
            let result = running.join();
            judged(&result, &witness, &drained, &what);
            assert_eq!(
                (result.account.totals().discarded, result.account.totals().in_flight),
                (0, 0),
                "{what}"
            );
        }
        // A drain that may come too late, and a stop from another hand.
        3 => {
            let mut running = start(&engine, endless);
            a_moment(&mut rng, &running);
            running.begin_drain();
            cancellation.cancel();
            running.drain(Duration::ZERO);
            let result = running.join();
            assert_eq!(result.success, result.outcome == Outcome::Drained, "{what}");
            let outcome = [result.outcome.clone()];
            assert!(
                !matches!(outcome[0], Outcome::Failed { .. } | Outcome::Completed),
                "{what}: {}",
                outcome[0]
            );
            judged(&result, &witness, &outcome, &what);
        }
        // Forgotten, then cancelled.
        4 => {
            let running = start(&engine, endless);
            a_moment(&mut rng, &running);
            drop(running);
            cancellation.cancel();
            while Arc::strong_count(&witness) > 1 {
                std::thread::yield_now();
            }
        }
        // Many at once, one of which ends by itself.
        _ => {
            let mut all = vec![(start(&engine, endless), witness)];
            for _ in 0..4 {
                let (endless, witness) = pipeline(&mut rng, u64::MAX);
                all.push((start(&engine, endless), witness));
            }
            // Few items: on a ring of one slot, each of them waits for the turns of all the endless ones.
            let (finite, finite_witness) = pipeline(&mut rng, 20);
            let result = start(&engine, finite).join();
            judged(&result, &finite_witness, &[Outcome::Completed], &what);
            all.iter().for_each(|(running, _)| running.stop());
            for (running, witness) in all {
                judged(&running.join(), &witness, &stopped, &what);
            }
        }
    }
}

/// Threads of pipelines that are alive.
fn pipeline_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("corelane-")).count()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn cycles(driver: DriverChoice) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    watched("the first cycle", move || cycle(driver, 1));
    watched("the end of the threads of the first cycle", no_threads_are_left);
    let (files, started) = (open_files(), STARTED.load(Ordering::Relaxed));
    for seed in 0..CYCLES {
        watched(&format!("cycle {seed} on {driver:?}"), move || cycle(driver, seed));
    }
    watched("the end of all threads", no_threads_are_left);
    // Glommio 0.9 leaves one eventfd open for each executor that has run, also of one that did nothing.
    let leaked = match driver {
        DriverChoice::Glommio => STARTED.load(Ordering::Relaxed) - started,
        _ => 0,
    };
    let (now, most) = (open_files(), files + leaked);
    assert!(now <= most, "{now} files are open after {CYCLES} cycles, expected {most} at most");
}

/// Threads end a moment after their pipeline has.
fn no_threads_are_left() {
    while pipeline_threads() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn two_hundred_cycles_on_threads_end_every_time_and_leave_nothing_behind() {
    cycles(DriverChoice::Thread);
}

#[test]
fn two_hundred_cycles_on_glommio_end_every_time_and_leave_nothing_behind() {
    if real_drivers().contains(&DriverChoice::Glommio) {
        cycles(DriverChoice::Glommio);
    }
}

#[test]
fn a_check_says_what_a_start_would_and_starts_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let built = || pipeline(&mut fastrand::Rng::with_seed(7), 10);
    let with = |options: ExecutionOptions| {
        let engine = Engine::new(ExecutionOptions { driver: DriverChoice::Thread, ..options });
        let ((checked, witness), (started, run)) = (built(), built());
        let said = engine.check(&checked);
        assert_eq!(witness.load(Ordering::Relaxed), 0, "nothing ran");
        match engine.start(started) {
            Ok(running) => {
                STARTED.fetch_add(running.placement().partitions.len(), Ordering::Relaxed);
                assert_eq!(said.as_ref().unwrap(), running.placement());
                judged(&running.join(), &run, &[Outcome::Completed], "checked");
                None
            }
            Err(error) => {
                assert_eq!(said.unwrap_err().to_string(), error.to_string());
                Some(error.to_string())
            }
        }
    };
    let small = ExecutionOptions { memory_budget: Some(1_000), ..ExecutionOptions::default() };
    assert!(with(small).unwrap().contains("the memory budget is 1000 bytes"));
    let far = ExecutionOptions { core_map: "work=4711".parse().unwrap(), ..ExecutionOptions::default() };
    assert!(with(far).unwrap().contains("4711"));
    assert_eq!(with(ExecutionOptions::default()), None);
}
