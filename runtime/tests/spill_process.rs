//! Spilling as a whole process sees it: its memory, its limits, its death, and disks that are full.
//!
//! Each test runs this very program again as a child that executes one pipeline, told by its environment.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;
mod spill_kit;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::watchdog::{real_drivers, watched};
use corelane::disk::FileName;
use corelane::driver::DriverChoice;
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::PipelineBuilder;
use corelane::observe::PipelineResult;
use corelane::policy::{AccumulatorPolicy, SpillOptions};
use spill_kit::{ENDLESS, Part, Sessions, expected, files, pipeline};

const ROLE: &str = "CORELANE_SPILL_CHILD";
const BUDGET: u64 = 16 << 20;

fn options(driver: DriverChoice, budget: u64) -> ExecutionOptions {
    ExecutionOptions { driver, memory_budget: Some(budget), virtual_cores: Some(2), ..Default::default() }
}

/// A number of kilobytes from what the kernel says about this process.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Counts sessions and sums their bytes as they come out, so that nothing of them is kept.
fn summing(
    sessions: u64,
    parts: u64,
    dir: &Path,
    driver: DriverChoice,
    budget: u64,
) -> (PipelineResult, u64, u64) {
    let (count, sum) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counts, sums) = (Arc::clone(&count), Arc::clone(&sum));
    let p = PipelineBuilder::new("spilling").spill_to(SpillOptions::new(dir));
    let part = move |i: u64| Part { session: i % sessions, part: i / sessions };
    p.generate("parts", sessions * parts, part)
        .accumulate("sessions", AccumulatorPolicy::until_end().spilling(), Sessions { spills: true })
        .for_each("out", move |(_, parts, bytes)| {
            assert!(parts.is_sorted());
            counts.fetch_add(parts.len() as u64, Ordering::Relaxed);
            sums.fetch_add(bytes, Ordering::Relaxed);
        });
    let result = Engine::new(options(driver, budget)).run(p.build().unwrap()).unwrap();
    result.account.verify().unwrap();
    (result, count.load(Ordering::Relaxed), sum.load(Ordering::Relaxed))
}

/// What the child does; nothing when it is run as a test.
#[test]
fn a_child_of_the_other_tests_does_as_its_environment_says() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let argument = |name: &str| std::env::var(name).unwrap();
    let dir = std::path::PathBuf::from(argument("DIR"));
    let driver = if argument("DRIVER") == "Glommio" { DriverChoice::Glommio } else { DriverChoice::Thread };
    match role.as_str() {
        "measure" => {
            // What threads, executors and the first pages of everything take, without state to speak of.
            summing(1, 1, &dir, driver, BUDGET);
            let before = status("VmHWM");
            let parts = 20 * BUDGET / Sessions::PART as u64 + 1;
            let (result, count, sum) = summing(parts / 4, 4, &dir, driver, BUDGET);
            let right: u64 = expected(parts / 4, 4).iter().map(|(_, _, sum)| sum).sum();
            assert!(result.success && count == parts / 4 * 4 && sum == right, "{:?}", result.outcome);
            println!("PEAK {}", status("VmHWM") - before);
        }
        "endless" => {
            let (p, _) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), &dir);
            let running = Engine::new(options(driver, 2 << 20)).start(p).unwrap();
            let spilled = |stage: &corelane::observe::StageAccount| stage.keys_spilled > 500;
            while !running.account().stages.values().any(spilled) {
                std::thread::yield_now();
            }
            println!("SPILLING");
            println!("{:?}", running.join().outcome);
        }
        "until-error" => {
            // Few keys that grow: many bytes on disk, and a small index.
            let (p, _) = pipeline(1_000, 1 << 40, AccumulatorPolicy::until_end().spilling(), &dir);
            let running = Engine::new(options(driver, 2 << 20)).start(p).unwrap();
            let failed = |stage: &corelane::observe::StageAccount| stage.spill_errors > 0;
            while !running.account().stages.values().any(failed) {
                assert!(!running.is_finished(), "{:?}", running.join().outcome);
                std::thread::yield_now();
            }
            let errors: Vec<_> =
                running.inspect("sessions").and_then(|state| state.last_error).into_iter().collect();
            running.stop();
            let result = running.join();
            result.account.verify().unwrap();
            assert!(result.account.stages.values().all(|stage| stage.items_lost == 0));
            assert_eq!(files(&dir), Vec::<String>::new());
            println!("ERROR {errors:?}");
        }
        other => panic!("no such role: {other}"),
    }
}

/// This program as a child in `role`; `shell` is said before it, such as a limit.
fn child(role: &str, dir: &Path, driver: DriverChoice, shell: &str) -> Child {
    let me = std::env::current_exe().unwrap();
    let run = "exec \"$0\" --exact a_child_of_the_other_tests_does_as_its_environment_says --nocapture";
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} {run}")]).arg(me);
    command.env(ROLE, role).env("DIR", dir).env("DRIVER", format!("{driver:?}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a child that must succeed; what it said.
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

#[test]
fn with_state_of_twenty_times_the_budget_the_process_stays_within_a_fifth_above_it() {
    for driver in real_drivers() {
        watched(&format!("peak memory on {driver:?}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let out = said(child("measure", dir.path(), driver, ""));
            let peak = out.lines().find_map(|line| line.split("PEAK ").nth(1)).unwrap();
            let peak: u64 = peak.trim().parse().unwrap();
            println!("{driver:?}: peak {peak} bytes of {BUDGET}: {:.2}", peak as f64 / BUDGET as f64);
            assert!(peak <= BUDGET + BUDGET / 5, "{driver:?}: {peak} bytes where {BUDGET} are allowed");
        });
    }
}

#[test]
fn fault_45_after_kill_9_the_directory_is_free_and_only_the_orphans_of_that_pipeline_go() {
    for driver in real_drivers() {
        watched(&format!("kill -9 on {driver:?}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let mut dying = child("endless", dir.path(), driver, "");
            let mut lines = BufReader::new(dying.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("SPILLING")), "it ended before it spilled");
            dying.kill().unwrap();
            dying.wait().unwrap();
            assert!(
                !files(dir.path()).is_empty(),
                "nothing was left: is this test still looking at the right thing?"
            );
            let foreign = FileName(1).to_string();
            std::fs::write(dir.path().join(&foreign), [7; 4096]).unwrap();
            let (p, out) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), dir.path());
            assert!(Engine::new(options(driver, 2 << 20)).run(p).unwrap().success);
            assert_eq!(out.take().len(), 10);
            assert_eq!(files(dir.path()), [foreign]);
        });
    }
}

#[test]
fn faults_55_and_56_limits_of_the_process_keep_keys_in_memory_and_raise_an_alarm() {
    // Signals of the limit on file sizes are ignored: the write then fails.
    let limits =
        [("trap '' XFSZ; ulimit -f 64;", "no space is left"), ("ulimit -n 24;", "too many files are open")];
    for (limit, alarm) in limits {
        watched(limit, move || {
            let dir = tempfile::tempdir().unwrap();
            let out = said(child("until-error", dir.path(), DriverChoice::Thread, limit));
            assert!(out.contains(alarm), "{out}");
        });
    }
}

/// A file system of its own in memory, while it lives.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, and the reason printed, where this process may not mount.
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        let output = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("skipped: cannot mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: cannot mount: {error}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn fault_52_a_run_whose_real_disk_is_full_goes_on_once_there_is_space_and_loses_nothing() {
    for driver in real_drivers() {
        let Some(mount) = Mount::new("size=1m,mode=700") else { return };
        watched(&format!("full disk on {driver:?}"), move || {
            let (p, out) = pipeline(4_000, 2, AccumulatorPolicy::until_end().spilling(), mount.0.path());
            let running = Engine::new(options(driver, 2 << 20)).start(p).unwrap();
            let failed = |stage: &corelane::observe::StageAccount| stage.spill_errors > 2;
            while !running.account().stages.values().any(failed) {
                assert!(!running.is_finished());
                std::thread::yield_now();
            }
            let said = running.inspect("sessions").unwrap().last_error.unwrap();
            assert!(said.contains("no space is left"), "{said}");
            mount.remount("size=200m");
            let result = running.join();
            assert!(result.success, "{:?}", result.outcome);
            result.account.verify().unwrap();
            assert_eq!(spill_kit::collected(&out), expected(4_000, 2));
            assert_eq!(files(mount.0.path()), Vec::<String>::new());
        });
    }
}

#[test]
fn fault_54_a_read_only_directory_is_refused_at_the_start_by_name() {
    let Some(mount) = Mount::new("size=1m,mode=700") else { return };
    mount.remount("ro");
    let (p, _) = pipeline(10, 1, AccumulatorPolicy::until_end().spilling(), mount.0.path());
    let error = Engine::new(options(real_drivers()[0], 2 << 20)).run(p).unwrap_err().to_string();
    assert!(error.contains("cannot lock it") && error.contains("Read-only"), "{error}");
}

#[test]
fn faults_46_and_47_a_file_that_is_cut_or_damaged_under_a_run_fails_it_by_name() {
    for damage in ["cut", "flip"] {
        watched(damage, move || {
            let dir = tempfile::tempdir().unwrap();
            let (p, out) = pipeline(3_000, ENDLESS, AccumulatorPolicy::until_end().spilling(), dir.path());
            let running = Engine::new(options(DriverChoice::Thread, 2 << 20)).start(p).unwrap();
            while running.account().stages.values().all(|stage| stage.keys_spilled < 2_000) {
                assert!(!running.is_finished());
                std::thread::yield_now();
            }
            let damaged = files(dir.path());
            for name in &damaged {
                let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.path().join(name));
                let Ok(mut file) = file else { continue };
                if damage == "cut" {
                    file.set_len(100).unwrap();
                } else {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).unwrap();
                    bytes.iter_mut().skip(200).step_by(500).for_each(|byte| *byte ^= 1);
                    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
                }
            }
            running.begin_drain();
            let result = running.join();
            let outcome = format!("{:?}", result.outcome);
            assert!(outcome.contains("spilled state of a key is lost"), "{damage}: {outcome}");
            result.account.verify().unwrap();
            assert!(result.account.totals().lost > 0);
            drop(out);
            assert_eq!(files(dir.path()), Vec::<String>::new());
        });
    }
}
