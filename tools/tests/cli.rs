//! Core maps, drivers, limits of the machine and signals, on the process itself (must show 9, faults 39 to 44).
//!
//! What a machine does not have (a second core, `taskset`, root) is said and left out.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use corelane_tools::exit::Exit;
use support::{as_nobody, code, corelane, recording, refused, signal, text, through, where_calls_fail};

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[test]
fn a_core_map_that_is_wrong_is_named_and_leaves_the_old_output_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (recording(dir.path(), 3), dir.path().join("out"));
    fs::write(&output, "old").unwrap();
    let (input, out) = (input.to_str().unwrap(), output.to_str().unwrap());
    let with = |map: &str| refused(&[input, "-o", out, "--cores", map], Exit::Placement);
    assert!(with("trace=0").contains("did you mean traces?"));
    assert!(with("traces=4711").contains("core 4711 does not exist: this process may use"));
    assert!(with("traces=").contains("--cores"));
    assert!(with("traces=99999999999999999999").contains("--cores"), "fault 42");
    assert!(with("=;").contains("--cores"));
    assert_eq!(fs::read_to_string(&output).unwrap(), "old");
}

#[test]
fn a_core_outside_the_allowed_set_is_named_with_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let options = [input.to_str().unwrap(), "--cores", "traces=0-1"];
    let Some(output) = through(&["taskset", "-c", "0"], &options) else { return };
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Placement.code()), "{message}");
    assert!(message.contains("traces: core 1 does not exist: this process may use one core"), "{message}");

    let options = [input.to_str().unwrap(), "--cores", "traces=0", "--sample", "1", "--summary", "json"];
    let output = through(&["taskset", "-c", "0"], &options).unwrap();
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 3));
}

#[test]
fn a_core_map_file_works_with_byte_order_mark_and_crlf_and_its_faults_are_told_apart_faults_40_41() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let map = dir.path().join("map.toml");
    let (input, path) = (input.to_str().unwrap(), map.to_str().unwrap());
    let options = [input, "--sample", "1", "--core-map", path, "--summary", "json"];
    fs::write(&map, "\u{feff}[stages]\r\n\"*\" = \"0\"\r\n[cores]\r\n0 = \"park\"\r\n").unwrap();
    let output = corelane(&options).output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 3), "{}", text(&output.stderr));
    let summary: serde_json::Value =
        serde_json::from_str(text(&output.stderr).lines().last().unwrap()).unwrap();
    assert_eq!(summary["cores"].as_array().unwrap().len(), 1);

    let deep = format!("[stages]\nread = {}", "[".repeat(100_000));
    for content in [
        "[stages]\nread = \"0\"\nread = \"1\"\n",
        "[stage]\nread = \"0\"\n",
        "[stages]\nread = 0.5\n",
        "=",
        &deep,
    ] {
        fs::write(&map, content).unwrap();
        let message = refused(&options, Exit::Placement);
        assert!(message.contains("map.toml: "), "{message}");
    }
    fs::write(&map, b"\xff\xfe\x00").unwrap();
    assert!(refused(&options, Exit::Config).contains("map.toml: is not UTF-8 text"));
    fs::remove_file(&map).unwrap();
    assert!(refused(&options, Exit::Config).contains("map.toml: cannot read"));
    symlink(&map, &map).unwrap();
    assert!(refused(&options, Exit::Config).contains("map.toml: cannot read"), "fault 41");
    let directory = [input, "--core-map", dir.path().to_str().unwrap()];
    assert!(refused(&directory, Exit::Config).contains("is not a regular file"));
    assert!(refused(&[input, "--core-map", "*=0"], Exit::Placement).contains("goes with --cores"));
}

#[test]
fn a_malformed_environment_is_refused_and_does_not_keep_help_from_being_shown_faults_43_44() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let output = corelane(&[input.to_str().unwrap()]).env("CORELANE_CORES", "==").output().unwrap();
    assert_eq!(code(&output), i32::from(Exit::Placement.code()), "{}", text(&output.stderr));
    let output = corelane(&["--help"])
        .env("CORELANE_CORES", "==")
        .env("CORELANE_CORE_MAP", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("--drain-deadline"));
}

#[test]
fn idle_policies_only_change_how_cores_wait() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 30);
    let map = if cores() > 1 { "*=0-1" } else { "*=0" };
    for idle in ["spin", "yield", "park", "adaptive"] {
        let options = [input.to_str().unwrap(), "--sample", "1", "--idle", idle, "--cores", map, "-q"];
        let output = corelane(&options).output().unwrap();
        assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 30), "{idle}");
    }
}

/// Runs `command` where `io_uring_setup` fails with `errno`; `None`, and a word about it, where that cannot be arranged.
fn where_io_uring_fails(errno: i32, command: &mut Command) -> Option<Output> {
    where_calls_fail(&[libc::SYS_io_uring_setup], errno, command)
}

#[test]
fn where_io_uring_is_forbidden_or_missing_auto_falls_back_and_says_so_and_glommio_is_an_error_fault_113() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none"];
    // Container runtimes forbid it; an old kernel does not know it.
    for errno in [libc::EPERM, libc::ENOSYS] {
        let Some(output) = where_io_uring_fails(errno, &mut corelane(&options)) else { return };
        let message = text(&output.stderr);
        assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 3), "{message}");
        let said = "corelane: using the thread driver: io_uring cannot be used";
        assert!(message.starts_with(said), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");

        let mut glommio = corelane(&[&options[..], &["--driver", "glommio"]].concat());
        let output = where_io_uring_fails(errno, &mut glommio).unwrap();
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(Exit::Environment.code()), "{message}");
        assert!(message.contains("the glommio driver cannot run here: io_uring cannot be used"), "{message}");
    }
}

#[test]
fn with_little_locked_memory_and_no_privileges_auto_falls_back_and_glommio_is_an_error_fault_114() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let input = recording(dir.path(), 3);
    // Where nobody may read the build directory.
    let binary = dir.path().join("corelane");
    fs::copy(env!("CARGO_BIN_EXE_corelane"), &binary).unwrap();
    let run = |driver: &str| {
        let limit = ["prlimit", "--memlock=65536:65536"];
        let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none", "--driver", driver];
        as_nobody(&limit, &binary, &options)
    };
    let Some(output) = run("auto") else { return };
    let message = text(&output.stderr);
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 3), "{message}");
    assert!(message.starts_with("corelane: using the thread driver: "), "{message}");
    assert!(message.contains("64 KiB") && message.contains("512 KiB"), "{message}");
    let output = run("glommio").unwrap();
    assert_eq!(code(&output), i32::from(Exit::Environment.code()));
    assert!(text(&output.stderr).contains("the glommio driver cannot run here: "));
}

#[test]
fn configuration_that_is_no_file_or_may_not_be_read_is_refused_at_once_fault_40() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (input, map) = (recording(dir.path(), 3), dir.path().join("map.toml"));
    let options = [input.to_str().unwrap(), "--core-map", map.to_str().unwrap()];
    // Opening a FIFO would wait for a writer.
    assert!(Command::new("mkfifo").arg(&map).status().unwrap().success());
    assert!(refused(&options, Exit::Config).contains("map.toml: is not a regular file"));

    fs::remove_file(&map).unwrap();
    fs::write(&map, "[stages]\n").unwrap();
    fs::set_permissions(&map, fs::Permissions::from_mode(0o000)).unwrap();
    let binary = dir.path().join("corelane");
    fs::copy(env!("CARGO_BIN_EXE_corelane"), &binary).unwrap();
    let Some(output) = as_nobody(&["env"], &binary, &options) else { return };
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Config.code()), "{message}");
    assert!(message.contains("map.toml: cannot read: Permission denied"), "{message}");
}

const STAGES: [&str; 10] =
    ["read", "decode", "spans", "traces", "keep", "errors", "slow", "rest", "join", "write"];

#[test]
fn the_graph_is_printed_in_every_format_without_any_input() {
    let print = |format: &str| {
        let output = corelane(&["--graph", format]).output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (0, String::new()), "{format}");
        text(&output.stdout)
    };
    for format in ["text", "dot", "mermaid", "svg", "toml", "json"] {
        let printed = print(format);
        for stage in STAGES {
            assert!(printed.contains(stage), "{stage} in {format}:\n{printed}");
        }
    }
    assert!(print("dot").starts_with("digraph") && print("svg").contains("</svg>"));
    let back = corelane::graph::PipelineGraph::from_toml(&print("toml")).unwrap();
    assert_eq!(back, corelane::graph::PipelineGraph::from_json(&print("json")).unwrap());
    assert_eq!(back.nodes.len(), STAGES.len());
}

#[test]
fn a_closed_standard_output_is_the_null_device() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let script = "exec \"$0\" \"$@\" >&-";
    let options = [input.to_str().unwrap(), "--sample", "1", "--summary", "none", "--driver", "thread"];
    let Some(output) = through(&["sh", "-c", script], &options) else { return };
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
}

/// A run that reads what it is sent and goes on until it is told to end.
fn endless(options: &[&str]) -> Child {
    let mut command = corelane(&["-", "--sample", "1", "--driver", "thread"]);
    command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn first_line(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"trace_id\""), "{line}");
    lines
}

#[test]
fn the_first_signal_lets_everything_flow_out_and_the_exit_code_says_that_input_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(recording(dir.path(), 50)).unwrap();
    for name in ["INT", "TERM"] {
        let mut child = endless(&["--drain-deadline", "60s"]);
        // Open, so that there could be more.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes).unwrap();
        let mut lines = first_line(&mut child);
        let mut rest = String::new();
        // All that was sent has been written, or a signal could come before it was read.
        (1..50).for_each(|_| assert!(lines.read_line(&mut rest).unwrap() > 0));
        signal(&child, name);
        lines.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(Exit::Stopped.code()), "{message}");
        assert!(message.contains("drained by a signal before the end of the input"), "{message}");
        assert!(message.contains("50 requests, 50 spans") && message.contains("account closes"), "{message}");
    }
}

/// A run whose output nobody takes: it cannot drain.
fn stuck(dir: &Path, options: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let input = recording(dir, 5_000);
    let mut command = corelane(&[input.to_str().unwrap(), "--sample", "1", "--driver", "thread"]);
    command.args(["--repeat", "1000", "--summary", "none"]).args(options);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = first_line(&mut child);
    (child, lines)
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (child, _unread) = stuck(dir.path(), &["--drain-deadline", "50ms"]);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Stopped.code()), "{message}");
    assert!(message.contains("the drain deadline has passed"), "{message}");
}

#[test]
fn the_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _unread) = stuck(dir.path(), &["--drain-deadline", "1000000s"]);
    signal(&child, "INT");
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut message = String::new();
    errors.read_line(&mut message).unwrap();
    assert!(message.contains("interrupt again to stop at once"), "{message}");
    signal(&child, "INT");
    errors.read_to_string(&mut message).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(i32::from(Exit::Stopped.code())), "{message}");
}

#[test]
fn progress_is_shown_when_it_is_asked_for_and_leaves_a_clean_line() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(recording(dir.path(), 50)).unwrap();
    let mut child = endless(&["--progress", "always", "--summary", "none"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes).unwrap();
    let _lines = first_line(&mut child);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut shown = Vec::new();
    // The input goes on until a line has come.
    errors.read_until(b'K', &mut shown).unwrap();
    assert!(text(&shown).contains("spans/s"), "{shown:?}");
    drop(stdin);
    errors.read_to_end(&mut shown).unwrap();
    assert!(text(&shown).ends_with("\r\x1b[K"), "{shown:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
