//! The command as a user starts it: exit codes, messages, and output of the process itself.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use corelane_tools::exit::Exit;
use support::{code, corelane, recording, refused, text};

fn sorted(text: impl AsRef<str>) -> Vec<String> {
    let mut lines: Vec<String> = text.as_ref().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_recording_from_a_file_and_from_standard_input_gives_the_same_lines() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 50);
    let target = dir.path().join("out.ndjson");
    let options = [input.to_str().unwrap(), "--sample", "1", "--output", target.to_str().unwrap()];
    let output = corelane(&options).output().unwrap();
    assert_eq!((code(&output), output.stdout.as_slice()), (0, &b""[..]));
    assert!(text(&output.stderr).contains("50 requests, 50 spans"));

    let piped = corelane(&["-", "--sample", "1", "--summary", "json"])
        .stdin(fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert_eq!(code(&piped), 0);
    // Traces leave in the order in which cores complete them.
    assert_eq!(sorted(text(&piped.stdout)), sorted(fs::read_to_string(&target).unwrap()));
    assert_eq!(text(&piped.stdout).lines().count(), 50);
    let summary: serde_json::Value = serde_json::from_slice(&piped.stderr).unwrap();
    assert_eq!(summary["counts"]["output_lines"], 50);
    assert_eq!(summary["output_bytes"], piped.stdout.len());
}

#[test]
fn repeating_gives_every_trace_again_under_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 20);
    let output =
        corelane(&[input.to_str().unwrap(), "--sample", "1", "--repeat", "5", "-q"]).output().unwrap();
    let text = text(&output.stdout);
    let ids: std::collections::HashSet<&str> = text.lines().map(|line| &line[13..45]).collect();
    assert_eq!((code(&output), ids.len(), output.stderr.as_slice()), (0, 100, &b""[..]));
}

#[test]
fn unusable_inputs_end_with_their_own_code_and_the_name_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let missing = dir.path().join("missing.otlp");
    assert!(refused(&[missing.to_str().unwrap()], Exit::Input).contains("missing.otlp: no such file"));
    assert!(refused(&[dir.path().to_str().unwrap()], Exit::Input).contains("is a directory"));
    assert!(refused(&["/dev/null"], Exit::Input).contains("is empty"));
    let bytes = fs::read(&input).unwrap();
    fs::write(&input, &bytes[..bytes.len() - 1]).unwrap();
    let message = refused(&[input.to_str().unwrap(), "--sample", "1"], Exit::Input);
    assert!(message.contains("recording.otlp: ends inside the request at byte"), "{message}");
    fs::write(&input, [&[0, 0, 0, 2, 0x0a, 0x55][..]].concat()).unwrap();
    assert!(refused(&[input.to_str().unwrap()], Exit::Input).contains("request 0 at byte 0"));
}

#[test]
fn what_came_before_the_damage_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let bytes = fs::read(&input).unwrap();
    fs::write(&input, &bytes[..bytes.len() - 1]).unwrap();
    let output = corelane(&[input.to_str().unwrap(), "--sample", "1"]).output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (3, 2));
}

#[test]
fn unusable_outputs_end_with_their_own_code() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let input = input.to_str().unwrap();
    let with = |output: &str, exit| refused(&[input, "--sample", "1", "--output", output], exit);
    assert!(with("/dev/full", Exit::Output).contains("/dev/full: no space left"));
    assert!(with(dir.path().to_str().unwrap(), Exit::Output).contains("is a directory"));
    assert!(with("/nonexistent/out", Exit::Output).contains("its directory does not exist"));
    assert!(with(input, Exit::Output).contains("is also an input"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = corelane(&[input, "--sample", "1"]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 4);
    assert!(text(&output.stderr).contains("standard output: no space left"));
}

#[test]
fn a_missing_input_leaves_the_old_output_alone() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::write(&target, "old").unwrap();
    refused(&["/nonexistent", "-o", target.to_str().unwrap()], Exit::Input);
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
}

#[test]
fn a_closed_pipe_ends_quietly_with_its_own_code_fault_44() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = corelane(&[input.to_str().unwrap(), "--sample", "1"]).stdout(writer).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (10, String::new()));
}

#[test]
fn misuse_of_the_command_line_is_a_usage_error_fault_44() {
    assert!(refused(&[], Exit::Usage).contains("FILE"));
    assert!(refused(&["-", "-"], Exit::Usage).contains("only once"));
    assert!(refused(&["-", "--repeat", "2"], Exit::Usage).contains("--repeat"));
    assert!(refused(&["f", "--sample", "2"], Exit::Usage).contains("between 0 and 1"));
    let output = corelane(&["f"]).env("CORELANE_DRIVER", "bogus").output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("'bogus' for '--driver"), "fault 43");
}

#[test]
fn help_goes_to_standard_output_and_survives_a_bad_one_fault_44() {
    let help = |stdout: Stdio| corelane(&["--help"]).stdout(stdout).output().unwrap();
    let output = help(Stdio::piped());
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("Exit codes: 0 done"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(code(&help(full.into())), 4);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(code(&help(writer.into())), 10);
}

#[test]
fn without_a_terminal_and_a_summary_nothing_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let output = corelane(&[input.to_str().unwrap(), "--summary", "none"]).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
}

#[test]
fn standard_input_that_trickles_in_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(recording(dir.path(), 3)).unwrap();
    let mut child = corelane(&["-", "--sample", "1", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for byte in bytes {
        stdin.write_all(&[byte]).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 3));
}
