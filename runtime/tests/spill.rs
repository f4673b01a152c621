//! Keyed state that outgrows its memory goes to real files, comes back, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;
mod spill_kit;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use common::watchdog::{PATIENCE, real_drivers, watched};
use corelane::disk::FileName;
use corelane::driver::{DiskFaults, DriverChoice, LaunchError, SimDisks, Simulation, SpillDirError};
use corelane::engine::{Engine, ExecutionOptions, StartError};
use corelane::flow::PipelineBuilder;
use corelane::model::StageId;
use corelane::observe::{MemoryHolder, Outcome};
use corelane::policy::{AccumulatorPolicy, MemoryPoolOptions, SpillOptions};
use corelane::pool::MemoryPool;
use spill_kit::{ENDLESS, Sessions, collected, expected, files, pipeline, session_pipeline};

const BUDGET: u64 = 2 << 20;

fn options(driver: DriverChoice) -> ExecutionOptions {
    ExecutionOptions { driver, memory_budget: Some(BUDGET), virtual_cores: Some(2), ..Default::default() }
}

#[test]
fn state_of_twenty_times_the_budget_comes_out_right_on_every_driver_and_no_file_is_left() {
    for driver in real_drivers() {
        watched(&format!("spill on {driver:?}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let (keys, parts) = (9_000, 3);
            let (p, out) = pipeline(keys, parts, AccumulatorPolicy::until_end().spilling(), dir.path());
            let result = Engine::new(options(driver)).run(p).unwrap();
            assert!(result.success, "{:?}", result.outcome);
            result.account.verify().unwrap();
            let stage = result.account.stages.values().find(|stage| stage.spills > 0).unwrap();
            assert!(stage.restores > 0 && stage.items_lost == 0 && stage.spill_errors == 0);
            assert!(keys * parts * Sessions::PART as u64 > 20 * BUDGET);
            assert_eq!(collected(&out), expected(keys, parts));
            assert_eq!(files(dir.path()), Vec::<String>::new());
        });
    }
}

#[test]
fn a_stop_in_the_middle_leaves_no_file_and_counts_what_was_on_disk() {
    for driver in real_drivers() {
        watched(&format!("stop a spill on {driver:?}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let (p, _) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), dir.path());
            let running = Engine::new(options(driver)).start(p).unwrap();
            let monitor = running.monitor();
            while monitor.account().stages.values().all(|stage| stage.keys_spilled < 2_000) {
                assert!(!running.is_finished(), "{:?}", running.join().outcome);
                std::thread::yield_now();
            }
            let memory = monitor.memory();
            assert!(memory.total() <= BUDGET + BUDGET / 5 && memory.budget == Some(BUDGET), "{memory}");
            assert!(memory.holders.iter().any(|(holder, _)| matches!(holder, MemoryHolder::State(_))));
            assert!(memory.holders.iter().any(|(holder, _)| matches!(holder, MemoryHolder::Rings { .. })));
            assert!(!files(dir.path()).is_empty());
            running.stop();
            let result = running.join();
            assert_eq!(result.outcome, Outcome::Stopped);
            result.account.verify().unwrap();
            assert!(result.account.totals().discarded >= 2_000);
            assert_eq!(files(dir.path()), Vec::<String>::new());
            // The directory is free, also while the monitor is still there.
            let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
            assert!(Engine::new(options(driver)).run(p).unwrap().success);
            drop(monitor);
        });
    }
}

#[test]
fn files_are_private_and_named_by_hashes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (p, _) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), dir.path());
    let running = Engine::new(options(real_drivers()[0])).start(p).unwrap();
    while files(dir.path()).is_empty() {
        assert!(!running.is_finished());
        std::thread::yield_now();
    }
    for name in files(dir.path()) {
        assert!(FileName::parse(&name).is_some(), "{name}");
        if let Ok(meta) = std::fs::metadata(dir.path().join(name)) {
            assert_eq!(meta.mode() & 0o777, 0o600);
        }
    }
    running.stop();
    running.join();
}

fn refused(dir: &std::path::Path) -> StartError {
    let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir);
    Engine::new(options(real_drivers()[0])).run(p).unwrap_err()
}

#[test]
fn fault_45_a_second_pipeline_on_the_same_directory_is_refused_with_the_owner_s_pid() {
    let dir = tempfile::tempdir().unwrap();
    let (p, _) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), dir.path());
    let running = Engine::new(options(real_drivers()[0])).start(p).unwrap();
    let error = refused(dir.path());
    let me = std::process::id();
    assert!(
        matches!(error, StartError::Spill(SpillDirError::InUse { pid: Some(pid), .. }) if pid == me),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("in use by process {me}")));
    running.stop();
    running.join();
    let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
    assert!(Engine::new(options(real_drivers()[0])).run(p).unwrap().success);
}

#[test]
fn fault_54_directories_that_others_may_write_to_or_that_are_none_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(refused(&open), StartError::Spill(SpillDirError::Open { mode: 0o777, .. })));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    for path in [&file, &link] {
        let error = refused(path);
        assert!(matches!(error, StartError::Spill(SpillDirError::Io { .. })), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn fault_54_a_directory_that_is_deleted_under_a_run_makes_it_wait_and_not_lose() {
    for driver in real_drivers() {
        watched(&format!("deleted directory on {driver:?}"), move || {
            let home = tempfile::tempdir().unwrap();
            let dir = home.path().join("spill");
            let (p, _) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), &dir);
            std::fs::create_dir(&dir).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
            let running = Engine::new(options(driver)).start(p).unwrap();
            std::fs::remove_dir_all(&dir).unwrap_or_default();
            let _ = std::fs::remove_dir_all(&dir);
            let errors = || running.account().stages.values().map(|stage| stage.spill_errors).sum::<u64>();
            while errors() == 0 {
                assert!(!running.is_finished());
                std::thread::yield_now();
            }
            running.stop();
            let result = running.join();
            result.account.verify().unwrap();
            assert!(result.account.stages.values().all(|stage| stage.items_lost == 0));
        });
    }
}

#[test]
fn fault_57_what_stands_at_a_file_s_name_is_neither_followed_nor_deleted_by_a_later_start() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let planted = dir.path().join(FileName(7).to_string());
    symlink(&victim, &planted).unwrap();
    let foreign = dir.path().join(FileName(8).to_string());
    std::fs::write(&foreign, [1; 200]).unwrap();
    let empty = dir.path().join(FileName(9).to_string());
    std::fs::write(&empty, "").unwrap();
    let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
    assert!(Engine::new(options(real_drivers()[0])).run(p).unwrap().success);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(planted.is_symlink() && foreign.exists());
    assert!(!empty.exists(), "a file that a run made and died before it wrote to it");
}

#[test]
fn a_budget_that_the_rings_alone_use_up_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
    let options =
        ExecutionOptions { memory_budget: Some(100_000), virtual_cores: Some(2), ..Default::default() };
    let error = Engine::new(options).run(p).unwrap_err();
    assert!(matches!(error, StartError::Launch(LaunchError::Memory(_))), "{error}");
    assert!(error.to_string().contains("the rings alone take"), "{error}");
}

#[test]
fn a_pool_whose_limit_does_not_fit_the_budget_is_refused_with_every_part_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |limit_bytes: u64| {
        let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
        let memory_pool = MemoryPool::new(MemoryPoolOptions { limit_bytes, ..Default::default() });
        Engine::new(ExecutionOptions { memory_pool, ..options(DriverChoice::Thread) }).run(p)
    };
    let error = run(BUDGET).unwrap_err();
    let StartError::Launch(LaunchError::Memory(small)) = &error else { panic!("{error}") };
    assert_eq!((small.budget, small.pool), (BUDGET, BUDGET));
    assert!(small.rings > 0 && small.instances == 2 && small.needed > BUDGET, "{small}");
    for part in [small.rings, small.pool, small.least, small.needed] {
        assert!(error.to_string().contains(&part.to_string()), "{error} does not name {part}");
    }
    // What would do does.
    let fits = BUDGET - (small.needed - BUDGET);
    run(fits).unwrap().account.verify().unwrap();
    assert!(run(fits + 1).is_err());
}

#[test]
fn a_fold_counts_against_the_budget_and_fails_by_name_where_its_keys_do_not_fit() {
    for driver in real_drivers() {
        watched(&format!("a fold within a budget on {driver:?}"), move || {
            let run = |keys: u64| {
                let p = PipelineBuilder::new("bounded");
                let out = p
                    .generate("numbers", 2 * keys, move |i| i % keys)
                    .key_by(|key| *key)
                    .fold("count", || 0_u64, |count, _| *count += 1)
                    .collect("out");
                let running = Engine::new(options(driver)).start(p.build().unwrap()).unwrap();
                let monitor = running.monitor();
                let mut most = 0;
                while !running.wait_timeout(std::time::Duration::from_millis(1)) {
                    let memory = monitor.memory();
                    assert!(memory.total() <= BUDGET, "{memory}");
                    most = most.max(memory.of(&MemoryHolder::State(StageId::new("count").unwrap())));
                }
                (running.join(), out.take(), most)
            };
            let (result, out, _) = run(10_000);
            assert_eq!(result.outcome, Outcome::Completed);
            result.account.verify().unwrap();
            assert!(out.len() == 10_000 && out.iter().all(|(_, count)| *count == 2));

            let (result, out, most) = run(3_000_000);
            result.account.verify().unwrap();
            match &result.outcome {
                Outcome::Failed { stage: Some(stage), error } => {
                    assert!(stage.as_str() == "count" && error.contains("bytes of memory"), "{error}");
                }
                other => panic!("{other}"),
            }
            assert!(out.is_empty() && most <= BUDGET);
        });
    }
}

#[test]
fn fault_21_an_accumulator_that_cannot_write_its_state_may_not_be_allowed_to_spill() {
    let dir = tempfile::tempdir().unwrap();
    let build = |spills: bool, dir: Option<&std::path::Path>| {
        let sessions = Sessions { spills };
        session_pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir, sessions).map(drop)
    };
    let error = build(false, Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains("cannot write its state to disk") && error.contains("sessions"), "{error}");
    let error = build(true, None).unwrap_err().to_string();
    assert!(error.contains("there is no spill directory"), "{error}");
    assert!(build(true, Some(dir.path())).is_ok());
}

#[test]
fn a_drain_brings_back_what_is_on_disk() {
    for driver in real_drivers() {
        watched(&format!("drain a spill on {driver:?}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let (p, out) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), dir.path());
            let mut running = Engine::new(options(driver)).start(p).unwrap();
            while running.account().stages.values().all(|stage| stage.keys_spilled < 2_000) {
                std::thread::yield_now();
            }
            assert!(running.drain(PATIENCE));
            let result = running.join();
            result.account.verify().unwrap();
            let sessions = collected(&out);
            let parts: u64 = sessions.iter().map(|(_, parts, _)| parts.len() as u64).sum();
            assert_eq!((parts, sessions.len()), (result.account.totals().accepted, 3_000));
            for (session, parts, sum) in sessions {
                assert_eq!((parts.len() as u64, sum), spill_kit::whole(session, &parts));
            }
            assert_eq!(result.account.totals().discarded, 0);
        });
    }
}

#[test]
fn the_same_seed_spills_the_same_and_any_seed_gives_the_same_results() {
    let run = |seed: u64, faults: DiskFaults| {
        let policy = AccumulatorPolicy::until_end().spilling();
        let (p, out) = pipeline(700, 3, policy, std::path::Path::new("/nowhere"));
        let disks = SimDisks::new(seed, faults);
        let report = Simulation::new(seed).memory_budget(700_000).disks(disks.clone()).run(p).unwrap();
        assert!(report.result.success, "SIM_SEED={seed} {:?}", report.result.outcome);
        report.result.account.verify().unwrap_or_else(|laws| panic!("SIM_SEED={seed} {laws:?}"));
        assert_eq!(disks.files(), 0, "SIM_SEED={seed}: a file is left");
        let spills: u64 = report.result.account.stages.values().map(|stage| stage.spills).sum();
        (report.trace_hash, spills, collected(&out))
    };
    let mut spilled = 0;
    for seed in 0..40 {
        let (hash, spills, out) = run(seed, DiskFaults::harmless(seed));
        assert!(out == expected(700, 3), "SIM_SEED={seed}");
        spilled += u64::from(spills > 0);
        if seed % 8 == 0 {
            let again = run(seed, DiskFaults::harmless(seed));
            assert!((hash, spills) == (again.0, again.1), "SIM_SEED={seed} is not one run");
        }
    }
    assert!(spilled > 30, "only {spilled} of 40 seeds spilled");
}

#[test]
fn a_quota_is_kept_by_all_instances_together() {
    let policy = AccumulatorPolicy::until_end().spilling();
    let dir = std::path::Path::new("/nowhere");
    let (p, out) = spill_kit::pipeline_to(700, 4, policy, SpillOptions::new(dir).max_bytes(8 << 20));
    let disks = SimDisks::new(1, DiskFaults::NONE);
    let report = Simulation::new(1).memory_budget(700_000).disks(disks.clone()).run(p).unwrap();
    assert!(report.result.success, "{:?}", report.result.outcome);
    assert_eq!(collected(&out), expected(700, 4));
    assert!(disks.most_bytes() > 1 << 20 && disks.most_bytes() <= 8 << 20, "{}", disks.most_bytes());
    // Far too little: the pipeline says so by name.
    let (p, _) = spill_kit::pipeline_to(
        700,
        4,
        AccumulatorPolicy::until_end().spilling(),
        SpillOptions::new(dir).max_bytes(200_000),
    );
    let report = Simulation::new(1).memory_budget(700_000).run(p).unwrap();
    assert!(
        matches!(&report.result.outcome, Outcome::Failed { error, .. } if error.contains("quota")),
        "{:?}",
        report.result.outcome
    );
    report.result.account.verify().unwrap();
}
