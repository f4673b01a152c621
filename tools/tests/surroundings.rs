//! What the process is given by those who start it: limits, file systems, its number (faults 115, 116, 118, 119). Faults 113 and 114 stand in
//! `cli.rs`, 117 in `machine.rs`.
//!
//! What a machine does not permit (name spaces, root) is said and left out.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use corelane_tools::exit::Exit;
use support::{as_nobody, code, corelane, recording, text, through};

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
