//! What the tests of the command share.
#![allow(dead_code, clippy::unwrap_used)] // not every test uses all of it

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use corelane_tools::exit::Exit;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The command with nothing of the environment in it.
pub(crate) fn corelane(options: &[&str]) -> Command {
    let mut command = subcommand("run", &["trace-assembly"]);
    command.args(options);
    command
}

/// Another subcommand with nothing of the environment in it.
pub(crate) fn subcommand(name: &str, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg(name).args(options).stdin(Stdio::null());
    for variable in
        ["CORELANE_CORES", "CORELANE_CORE_MAP", "CORELANE_CONFIG", "CORELANE_DRIVER", "CORELANE_IDLE"]
    {
        command.env_remove(variable);
    }
    command
}

/// Starts `corelane` through another program, such as `taskset`; `None`, and a word about it, if there is no such program.
pub(crate) fn through(program: &[&str], options: &[&str]) -> Option<Output> {
    let binary = corelane(options);
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(binary.get_program()).args(binary.get_args());
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("left out: {}: {error}", program[0]);
            None
        }
    }
}

/// Runs `command` where these system calls fail with `errno`. A filter stays with the thread that installs it and passes on to its
/// children: that thread is one of its own. `None`, and a word about it, where filters are not allowed.
pub(crate) fn where_calls_fail(calls: &[i64], errno: i32, command: &mut Command) -> Option<Output> {
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter: BpfProgram =
        SeccompFilter::new(rules, allow, refuse, architecture).unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let run = || match seccompiler::apply_filter(&filter) {
            Ok(()) => Some(command.output().unwrap()),
            Err(error) => {
                println!("left out: seccomp cannot be used here: {error}");
                None
            }
        };
        scope.spawn(run).join().unwrap()
    })
}

/// Runs the copy `binary` as a user without privileges, in the surroundings that the program `within` makes; `None`, and
/// a word about it, where we may not become that user.
pub(crate) fn as_nobody(within: &[&str], binary: &Path, options: &[&str]) -> Option<Output> {
    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--"];
    let become_nobody = |program: &Path| {
        let mut command = Command::new(within[0]);
        command.args(&within[1..]).args(nobody).arg(program).stdin(Stdio::null());
        command
    };
    if !become_nobody(Path::new("true")).status().is_ok_and(|status| status.success()) {
        println!("left out: needs {}, setpriv and root", within[0]);
        return None;
    }
    Some(become_nobody(binary).args(["run", "trace-assembly"]).args(options).output().unwrap())
}

/// Sends a signal, such as `INT`.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Bytes that must be text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A length-prefixed file of `traces` traces of one span each.
pub(crate) fn recording(dir: &Path, traces: u64) -> PathBuf {
    let mut bytes = Vec::new();
    for id in 1..=traces {
        let span = Span {
            trace_id: u128::from(id).to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            name: format!("request {id}"),
            start_time_unix_nano: id,
            end_time_unix_nano: id + 10,
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        bytes.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&request);
    }
    let path = dir.join("recording.otlp");
    fs::write(&path, bytes).unwrap();
    path
}

/// Runs with options that must fail and returns the message.
pub(crate) fn refused(options: &[&str], exit: Exit) -> String {
    fails(corelane(options), exit)
}

/// Runs a command that must fail and returns the message.
pub(crate) fn fails(mut command: Command, exit: Exit) -> String {
    let output = command.output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(exit.code()), "{command:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}
