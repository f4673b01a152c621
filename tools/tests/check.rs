//! `corelane check`, and `corelane run --config` (faults 40 to 44 for configuration files).
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use corelane_tools::exit::Exit;
use support::{code, corelane, recording, refused, text};

const GOOD: &str = r#"
[policies.buffer-policies]
small = { capacity = 16 }
[policies.error-policies]
lenient = "ignore"

[core-map.stages]
"*" = "0"

[memory]
budget-bytes = 400_000_000
pool = { limit-bytes = 300_000_000, checked = true }

[stages.decode]
parallelism = { fixed = 2 }
buffer = { ref = "small" }
error-policy = { ref = "lenient" }
[stages.join.inputs.errors]
buffer = { capacity = 256 }
"#;

fn check(files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("check").args(files).stdin(Stdio::null()).output().unwrap()
}

/// Writes `content` to a file of that name.
fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// What is said about one file that is wrong, line by line, without the number of problems.
fn problems(path: &Path, exit: Exit) -> Vec<String> {
    let output = check(&[path]);
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(exit.code()), "{message}");
    assert!(output.stdout.is_empty() && !message.contains("panicked"), "{message}");
    let mut lines = message.lines();
    let count = lines.next().unwrap();
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(count.starts_with(&format!("corelane: {} problem", lines.len())), "{message}");
    lines
}

#[test]
fn a_good_configuration_is_summed_up_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.toml", GOOD);
    let output = check(&[&good]);
    let summary = text(&output.stdout);
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    for line in [
        "good.toml: ok",
        "policies: 1 of errors, 1 of buffers",
        "core map: *=0",
        "memory:   at most 400000000 bytes; pool of at most 300000000 bytes, checked",
        "stages:   decode (parallelism, buffer, error-policy); join (inputs)",
        "pipeline: trace-assembly, 10 stages and 11 edges on 1 core",
    ] {
        assert!(summary.contains(line), "{line}\n{summary}");
    }
    let input = recording(dir.path(), 20);
    let options = ["--config", good.to_str().unwrap(), "--sample", "1", "--summary", "json"];
    let output = corelane(&[&[input.to_str().unwrap()], &options[..]].concat()).output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 20), "{}", text(&output.stderr));
    let summary: serde_json::Value =
        serde_json::from_str(text(&output.stderr).lines().last().unwrap()).unwrap();
    assert_eq!(summary["cores"].as_array().unwrap().len(), 1, "the core map of the configuration counts");
}

#[test]
fn a_budget_without_room_for_what_runs_is_a_configuration_error_and_a_pool_without_room_for_a_request_ends_with_8()
 {
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 20);
    let config = file(dir.path(), "small.toml", "[memory]\npool = { limit-bytes = 100 }\n");
    let run = |options: &[&str]| {
        let output = corelane(&[&[input.to_str().unwrap()], options].concat()).output().unwrap();
        (code(&output), text(&output.stderr))
    };
    let (exit, message) = run(&["--config", config.to_str().unwrap()]);
    assert!(exit == 8 && message.contains("no memory for the request"), "{exit} {message}");
    let (exit, message) = run(&["--config", config.to_str().unwrap(), "--pool-limit", "100000000"]);
    assert_eq!(exit, 0, "the command line goes before the configuration: {message}");
    let (exit, message) = run(&["--memory-budget", "1000"]);
    assert!(exit == 5 && message.contains("the memory budget is 1000 bytes"), "{exit} {message}");
    assert_eq!(run(&["--memory-budget", "0"]).0, 2);
}

#[test]
fn a_budget_that_the_rings_alone_take_is_found_without_a_run_and_before_the_output_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let small = file(dir.path(), "small.toml", "[memory]\nbudget-bytes = 100_000\n");
    let said = problems(&small, Exit::Config);
    let [line] = &said[..] else { panic!("{said:?}") };
    assert!(line.starts_with("the memory budget is 100000 bytes; the rings alone take"), "{line}");
    assert!(line.contains("the memory pool is to have 25000"), "as the job would ask for: {line}");

    let (input, output) = (recording(dir.path(), 3), file(dir.path(), "out.ndjson", "old"));
    let options = [input.to_str().unwrap(), "-o", output.to_str().unwrap(), "--memory-budget", "100000"];
    assert!(refused(&options, Exit::Config).contains(line.as_str()));
    assert_eq!(fs::read_to_string(&output).unwrap(), "old");
}

#[test]
fn the_command_line_goes_before_the_core_map_of_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "far.toml", "[core-map.stages]\n\"*\" = \"4711\"\n");
    let input = recording(dir.path(), 3);
    let options = [input.to_str().unwrap(), "--config", config.to_str().unwrap()];
    assert!(refused(&options, Exit::Placement).contains("core 4711 does not exist"));
    let near = [&options[..], &["--cores", "*=0", "-q"]].concat();
    assert_eq!(code(&corelane(&near).output().unwrap()), 0);
}

#[test]
fn what_a_configuration_changes_shows_in_the_graph() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.toml", GOOD);
    let output = corelane(&["--graph", "toml", "--config", good.to_str().unwrap()]).output().unwrap();
    let graph = corelane::graph::PipelineGraph::from_toml(&text(&output.stdout)).unwrap();
    let decode = graph.nodes.iter().find(|node| node.id == "decode").unwrap();
    assert_eq!(decode.parallelism, corelane::policy::Parallelism::Fixed(2));
}

#[test]
fn every_problem_of_texts_graph_and_core_map_is_reported_at_once_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(
        dir.path(),
        "bad.toml",
        "[policies.buffer-policies]\nempty = { capacity = 0 }\n[stages.decod]\nparallelism = \"sequential\"\n\
         [stages.join]\nbuffer = { ref = \"emtpy\" }\n[stages.write]\nbuffer = { ref = \"empty\" }\n\
         [core-map.stages]\ntrace = \"0\"\nread = \"9-\"\n[stages.traces]\nerror-policy = \"pray\"\n",
    );
    let lines = problems(&bad, Exit::Config);
    let expected = [
        ("bad.toml:2:22: policies.buffer-policies.empty.capacity: is 0", ""),
        ("bad.toml:11:9: read: cores \"9-\"", ""),
        ("bad.toml:13:16: stages.traces.error-policy", "pray"),
        ("bad.toml:3:9: stages.decod: ", "did you mean decode?"),
        ("bad.toml:6:1: stages.join.buffer: ", "did you mean empty?"),
        ("core map: there is no stage trace; did you mean traces?", ""),
    ];
    for (start, words) in expected {
        let found = lines.iter().filter(|line| line.contains(start) && line.contains(words)).count();
        assert_eq!(found, 1, "{start} {words}: {lines:#?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    let input = recording(dir.path(), 3);
    let message = refused(&[input.to_str().unwrap(), "--config", bad.to_str().unwrap()], Exit::Config);
    assert!(message.contains("bad.toml:2:22: "), "run refuses it too: {message}");
}

#[test]
fn a_core_map_alone_that_is_wrong_has_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let syntax = file(dir.path(), "a.toml", "[core-map.stages]\nread = \"3-1\"\n");
    assert!(problems(&syntax, Exit::Placement)[0].contains("a.toml:2:9: read: cores \"3-1\""));
    let machine = file(dir.path(), "b.toml", "[core-map.stages]\nread = \"4711\"\n");
    assert!(problems(&machine, Exit::Placement)[0].contains("read: core 4711 does not exist"));
}

#[test]
fn several_files_are_one_configuration_and_what_is_given_twice_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.toml", GOOD);
    let more = file(dir.path(), "more.toml", "[stages.write]\nbuffer = { ref = \"small\" }\n");
    assert_eq!(code(&check(&[&good, &more])), 0);
    assert_eq!(code(&check(&[&more])), i32::from(Exit::Config.code()), "small is in the other file");
    let again =
        file(dir.path(), "again.toml", "[stages.decode]\nbuffer = { capacity = 1 }\n[core-map.stages]\n");
    let output = check(&[&good, &again]);
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Config.code()), "{message}");
    assert!(message.contains("again.toml:2:1: stages.decode.buffer: is given already at "), "{message}");
    assert!(message.contains("again.toml:3:2: core-map: is given already at "), "{message}");
}

#[test]
fn every_way_a_file_can_be_no_configuration_is_told_apart_faults_40_41_42() {
    let dir = tempfile::tempdir().unwrap();
    let one = |name: &str, content: &[u8]| {
        let lines = problems(&file(dir.path(), name, content), Exit::Config);
        assert!(lines[0].contains(name), "{lines:?}");
        lines[0].clone()
    };
    assert!(one("binary.toml", b"\xff\xfe\x00").contains("is not UTF-8 text"));
    assert!(one("twice.toml", b"[stages.read]\n[stages.read]\n").contains("twice.toml:2:"));
    assert!(
        one("type.toml", b"stages = 7\n").contains("type.toml:1:10: stages: expected a table, found integer")
    );
    assert!(
        one("overflow.toml", b"[stages.read]\nbuffer = { capacity = 99999999999999999999 }").contains(":2:")
    );
    let deep = format!("[stages.read]\nbuffer = {}", "[".repeat(100_000));
    assert!(one("deep.toml", deep.as_bytes()).contains("deep.toml:2:"));
    let nan = "[stages.read.circuit-breaker]\nerror-threshold = nan\nlatency-threshold = \"1s\"\n\
               window-size = \"1s\"\nminimum-throughput = 1\ncooldown-period = \"1s\"\n";
    assert!(
        one("nan.toml", nan.as_bytes())
            .contains("nan.toml:2:19: stages.read.circuit-breaker.error-threshold")
    );
    assert!(one("large.toml", &nan.replace("nan", "1e999").into_bytes()).contains("large.toml:2:"));

    let crlf = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(code(&check(&[&file(dir.path(), "crlf.toml", crlf)])), 0);
    let (missing, around) = (dir.path().join("missing.toml"), dir.path().join("loop.toml"));
    assert!(problems(&missing, Exit::Config)[0].contains("missing.toml: cannot read"));
    symlink(&around, &around).unwrap();
    assert!(problems(&around, Exit::Config)[0].contains("loop.toml: cannot read"));
    assert!(problems(dir.path(), Exit::Config)[0].contains("is not a regular file"));
    let sparse = fs::File::create(dir.path().join("huge.toml")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    assert!(problems(&dir.path().join("huge.toml"), Exit::Config)[0].contains("is longer than"));
}

#[test]
fn misuse_and_environment_of_configuration_files_are_told_apart_faults_43_44() {
    let mut bare = Command::new(env!("CARGO_BIN_EXE_corelane"));
    assert_eq!(code(&bare.arg("check").output().unwrap()), i32::from(Exit::Usage.code()));
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let run = |config: &Path| {
        corelane(&[input.to_str().unwrap(), "-q"]).env("CORELANE_CONFIG", config).output().unwrap()
    };
    assert_eq!(code(&run(Path::new("/nonexistent"))), i32::from(Exit::Config.code()));
    assert_eq!(code(&run(&file(dir.path(), "good.toml", GOOD))), 0);
    let help = corelane(&["--help"]).env("CORELANE_CONFIG", "/nonexistent").output().unwrap();
    assert_eq!(code(&help), 0);

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.arg("check").arg(dir.path().join("good.toml")).stdout(full).output().unwrap();
    assert_eq!(code(&output), i32::from(Exit::Output.code()));
}
