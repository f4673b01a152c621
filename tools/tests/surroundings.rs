//! What the process is given by those who start it: limits, file systems, its number (faults 115, 116, 118, 119), control groups, and a filter in
//! front of the system calls for memory. Faults 113 and 114 stand in `cli.rs`, 117 in `machine.rs`.
//!
//! What a machine does not permit (name spaces, control groups, root) is said and left out.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use corelane::topology::Machine;
use corelane_tools::exit::Exit;
use support::{as_nobody, code, corelane, recording, subcommand, text, through, where_calls_fail};

const TRACES: u64 = 20;

/// Everything came out, and nothing was said but what may have been done without.
fn all_came_out(output: &Output) {
    let message = text(&output.stderr);
    assert_eq!((code(output), text(&output.stdout).lines().count()), (0, TRACES as usize), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn with_few_open_files_a_run_does_all_of_it_or_says_what_it_lacks_fault_115() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    for (files, driver) in [(32, "auto"), (32, "glommio"), (32, "thread"), (12, "glommio"), (12, "thread")] {
        let limit = format!("--nofile={files}:{files}");
        let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none", "--driver", driver];
        let Some(output) = through(&["prlimit", &limit], &options) else { return };
        let message = text(&output.stderr);
        if code(&output) == 0 {
            all_came_out(&output);
            continue;
        }
        let of_files =
            ["open files", "cannot be used", "os error 24"].iter().any(|words| message.contains(words));
        assert!(of_files && !message.contains("panicked"), "{files} {driver}: {message}");
        let causes = [Exit::Input, Exit::Environment, Exit::Pipeline].map(|exit| i32::from(exit.code()));
        assert!(causes.contains(&code(&output)), "{files} {driver}: {message}");
    }
}

#[test]
fn without_a_thread_more_a_run_is_refused_in_clear_words_fault_116() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let input = recording(dir.path(), TRACES);
    // Where nobody may read the build directory.
    let binary = dir.path().join("corelane");
    fs::copy(env!("CARGO_BIN_EXE_corelane"), &binary).unwrap();
    let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none", "--driver", "thread"];
    let mut refusals = 0;
    // Among them one that lets some of the threads start and not the others.
    for threads in 1..=12 {
        let limit = format!("--nproc={threads}:{threads}");
        let Some(output) = as_nobody(&["prlimit", &limit], &binary, &options) else { return };
        let message = text(&output.stderr);
        if code(&output) == 0 {
            all_came_out(&output);
            continue;
        }
        refusals += 1;
        assert_eq!(code(&output), i32::from(Exit::Environment.code()), "{threads}: {message}");
        assert!(message.contains("cannot start") && !message.contains("panicked"), "{threads}: {message}");
    }
    assert!(refusals > 0, "one thread is never enough");
}

/// Runs in a mount name space of its own after `script`; `None`, and a word about it, where that is not permitted.
fn after(script: &str, options: &[&str]) -> Option<Output> {
    let permitted =
        Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !permitted {
        println!("left out: needs unshare and root");
        return None;
    }
    let script = format!("{script} && exec \"$0\" \"$@\"");
    through(&["unshare", "-m", "sh", "-c", &script], options)
}

#[test]
fn on_a_read_only_root_without_proc_and_sys_a_run_does_all_of_it_fault_118() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    for hidden in ["/proc", "/sys", "/proc /sys"] {
        let hide: Vec<String> = hidden.split(' ').map(|path| format!("mount -t tmpfs none {path}")).collect();
        let script = format!("{} && mount -o remount,ro,bind /", hide.join(" && "));
        for driver in ["auto", "thread"] {
            let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none", "--driver", driver];
            let Some(output) = after(&script, &options) else { return };
            all_came_out(&output);
        }
    }
}

#[test]
fn as_process_1_a_run_ends_by_itself_and_a_signal_drains_it_fault_119() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none"];
    let Some(output) = through(&["unshare", "--pid", "--fork"], &options) else { return };
    if text(&output.stderr).contains("unshare") {
        println!("left out: needs root");
        return;
    }
    all_came_out(&output);

    let endless = corelane(&["-", "--sample", "1", "--summary", "none", "--driver", "thread"]);
    let mut outer = Command::new("unshare")
        .args(["--pid", "--fork"])
        .arg(endless.get_program())
        .args(endless.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = outer.stdin.take().unwrap();
    stdin.write_all(&fs::read(&input).unwrap()).unwrap();
    stdin.flush().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let inner = wait_for(|| {
        let inner = fs::read_to_string(Path::new(&children)).ok()?.trim().to_owned();
        let ready = fs::read_to_string(format!("/proc/{inner}/status")).ok()?;
        // It catches SIGTERM, bit 14 of the mask, once it runs.
        let caught = ready.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        (u64::from_str_radix(&caught, 16).ok()? >> 14 & 1 == 1).then_some(inner)
    });
    assert!(Command::new("kill").args(["-s", "TERM", &inner]).status().unwrap().success());
    let output = outer.wait_with_output().unwrap();
    drop(stdin);
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Stopped.code()), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

/// Asks again until there is an answer; the test's own deadline bounds it.
fn wait_for<T>(ask: impl Fn() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("no answer for 20 seconds");
}

/// A control group of this test's own, which goes when it is dropped.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl Group {
    /// With these files written, for version 1 (in the hierarchy of `controller`) or 2; `None`, and a word about it, where no group can be
    /// made.
    fn new(controller: &str, one: &[(&str, &str)], two: &[(&str, &str)]) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, settings) = match root.join(controller) {
            parent if parent.is_dir() => (parent, one),
            _ => (root.to_owned(), two),
        };
        let group = Self(parent.join(format!("corelane-test-{}-{controller}", std::process::id())));
        let made = fs::create_dir(&group.0).and_then(|()| {
            settings.iter().try_for_each(|(file, value)| fs::write(group.0.join(file), value))
        });
        match made {
            Ok(()) => Some(group),
            Err(error) => {
                println!("left out: no control group can be made: {error}");
                None
            }
        }
    }

    /// Runs the command with these words in it.
    fn run(&self, words: &[&str]) -> Output {
        // The shell enters the group before it becomes the command.
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        let binary = env!("CARGO_BIN_EXE_corelane");
        Command::new("sh").args(["-c", &enter, binary]).args(words).stdin(Stdio::null()).output().unwrap()
    }
}

#[test]
fn in_a_real_cpuset_the_cores_of_the_set_are_those_there_are() {
    let machine = Machine::read(Path::new("/"), &corelane::driver::current_affinity().unwrap()).unwrap();
    let (allowed, nodes) = (machine.allowed(), &machine.nodes);
    let last = allowed.get(allowed.len() - 1).unwrap().to_string();
    let mems = nodes[nodes.len() - 1].id.to_string();
    let settings = [("cpuset.mems", mems.as_str()), ("cpuset.cpus", last.as_str())];
    let Some(group) = Group::new("cpuset", &settings, &settings[1..]) else { return };
    let output = group.run(&["topology", "--json"]);
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&seen["allowed"], &seen["cpuset"]), (&last.clone().into(), &last.clone().into()), "{seen}");

    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    let run = ["run", "trace-assembly", input.to_str().unwrap(), "--sample", "1", "--summary", "json"];
    let output = group.run(&run);
    let summary: serde_json::Value =
        serde_json::from_str(text(&output.stderr).lines().last().unwrap()).unwrap();
    assert_eq!(summary["cores"], serde_json::json!([last.parse::<u32>().unwrap()]), "{summary}");
    let refused = group.run(&[&run[..], &["--cores", "*=1"]].concat());
    let message = text(&refused.stderr);
    assert_eq!(code(&refused), i32::from(Exit::Placement.code()), "{message}");
    assert!(message.contains(&format!("this process may use one core: core 0 is CPU {last}")), "{message}");
}

#[test]
fn under_a_real_cpu_quota_adaptive_cores_do_not_spin_and_it_is_said_why() {
    let one = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")];
    let Some(group) = Group::new("cpu", &one, &[("cpu.max", "50000 100000")]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    let output = group.run(&["run", "trace-assembly", input.to_str().unwrap(), "--cores", "*=0"]);
    let message = text(&output.stderr);
    assert_eq!(code(&output), 0, "{message}");
    assert!(
        message.contains("idle    yields, parks; no spinning, because a CPU quota of 0.5 is set;"),
        "{message}"
    );
    let doctor = text(&group.run(&["doctor"]).stdout);
    assert!(doctor.contains("CPU quota       note    0.5 CPUs: once they are used up"), "{doctor}");
    let plan = text(&group.run(&["map", "plan", "trace-assembly", "--only", "line"]).stdout);
    assert_eq!(plan, "*=0;@*=park\n");
}

#[test]
fn where_the_system_calls_for_memory_are_forbidden_a_run_goes_on_unless_it_must_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    let calls = [libc::SYS_mbind, libc::SYS_move_pages, libc::SYS_set_mempolicy];
    // As container runtimes do without the capability, and as a kernel without NUMA does.
    for errno in [libc::EPERM, libc::ENOSYS] {
        let run = |map: &str| {
            let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "json", "--cores", map];
            where_calls_fail(&calls, errno, &mut corelane(&options))
        };
        let Some(output) = run("*=0") else { return };
        all_came_out(&output);
        let output = run("*=0;@memory=strict").unwrap();
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(Exit::Environment.code()), "{message}");
        let said = "the core map says @memory=strict, but the system does not let this process place memory";
        assert!(message.contains(said) && !message.contains("panicked"), "{message}");
    }
}

#[test]
fn memory_that_must_lie_near_its_cores_is_shown_there_in_the_summary() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), TRACES);
    let map = "*=0;read->decode=4096;@memory=strict";
    let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "json", "--cores", map];
    let output = corelane(&options).output().unwrap();
    let message = text(&output.stderr);
    if code(&output) == i32::from(Exit::Environment.code()) && message.contains("place memory") {
        return println!("left out: {message}");
    }
    all_came_out(&output);
    let summary: serde_json::Value = serde_json::from_str(message.lines().last().unwrap()).unwrap();
    let memory = &summary["memory"];
    assert_eq!(memory["binding"], "bound to the nodes of its cores (strict)", "{memory}");
    assert_eq!(
        (&memory["misplaced_pages"], memory["pages"].as_object().unwrap().len()),
        (&0.into(), 1),
        "{memory}"
    );
    let doctor = text(&subcommand("doctor", &[]).output().unwrap().stdout);
    assert!(doctor.contains("memory nodes    "), "{doctor}");
}
