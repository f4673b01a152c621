//! `--metrics` and SIGQUIT: what a run shows of itself, on the process.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use corelane_tools::exit::Exit;
use support::{code, corelane, recording, refused, text};

/// The value of the series that starts so.
fn value(exposition: &str, start: &str) -> u64 {
    let line = exposition.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no {start} in {exposition}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_run_ends_with_its_measurements_in_a_file_or_on_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 30);
    let (input, out) = (input.to_str().unwrap(), dir.path().join("out"));
    let file = dir.path().join("metrics.prom");
    fs::write(&file, "old").unwrap();
    let options = ["-q", input, "-o", out.to_str().unwrap(), "--metrics"];
    let to_file: Vec<&str> = options.iter().copied().chain([file.to_str().unwrap()]).collect();
    assert_eq!(code(&corelane(&to_file).output().unwrap()), 0);
    let to_stdout: Vec<&str> = options.iter().copied().chain(["-"]).collect();
    let stdout = corelane(&to_stdout).output().unwrap();
    assert_eq!(code(&stdout), 0, "{}", text(&stdout.stderr));
    for exposition in [fs::read_to_string(&file).unwrap(), text(&stdout.stdout)] {
        assert_eq!(value(&exposition, "corelane_pipeline_accepted_total"), 30);
        let spans = "corelane_stage_received_total{pipeline=\"trace-assembly\",stage=\"spans\"";
        assert_eq!(value(&exposition, spans), 30);
        assert!(exposition.contains("state=\"finished\"} 1\n"));
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left beside the file: {names:?}");
}

#[test]
fn measurements_that_cannot_be_written_are_refused_before_the_output_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let (input, out) = (input.to_str().unwrap(), dir.path().join("out"));
    fs::write(&out, "old").unwrap();
    let out_name = out.to_str().unwrap();
    let nowhere = dir.path().join("no/such/file");
    let message = refused(&[input, "-o", out_name, "--metrics", nowhere.to_str().unwrap()], Exit::Output);
    assert!(message.contains("no/such/file"), "{message}");
    let message = refused(&[input, "-o", out_name, "--metrics", out_name], Exit::Usage);
    assert!(message.contains("--metrics and --output"), "{message}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "old");
    let message = refused(&[input, "-o", out_name, "--metrics", "/dev/full"], Exit::Output);
    assert!(message.contains("/dev/full"), "{message}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "another process is waited for")]
fn sigquit_prints_the_state_of_every_stage_and_the_run_goes_on_fault_107() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("metrics.prom");
    let options = ["-", "--quiet", "--metrics", metrics.to_str().unwrap(), "--metrics-interval", "10ms"];
    let mut command = corelane(&options);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = fs::read(recording(dir.path(), 5)).unwrap();
    std::io::Write::write_all(&mut stdin, &bytes).unwrap();
    // Once measurements have been written during the run, the signals are being watched.
    let running = (0..6_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::read_to_string(&metrics).is_ok_and(|text| text.contains("corelane_pipeline_accepted_total"))
    });
    assert!(running, "no measurements during the run");
    let status = Command::new("kill").args(["-s", "QUIT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    assert_eq!(first, "pipeline trace-assembly is running\n");
    drop(stdin);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    for stage in ["read/0", "decode/0", "traces/0", "write/0"] {
        assert!(rest.contains(stage), "{stage}: {rest}");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
}
