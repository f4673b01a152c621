//! `corelane tune` as a user starts it. What is found depends on the machine and on who else uses it: only what has to be true anywhere is
//! asked for here. Whether the search finds the best is shown on made-up machines, in `tune/search/tests.rs`.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use corelane::topology::CoreMap;
use corelane_tools::exit::Exit;
use support::{code, corelane, fails, recording, signal, subcommand, text};

/// A small space: one driver, one step budget, rings as they are.
const SMALL: [&str; 5] = ["--driver", "thread", "--step-budget", "1024", "--rings-as-planned"];

fn webshop() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/webshop.otlp.zst").to_str().unwrap().to_owned()
}

fn tune(options: &[&str]) -> std::process::Command {
    let mut command = subcommand("tune", options);
    command.args(SMALL);
    command
}

fn refused(options: &[&str], exit: Exit) -> String {
    fails(subcommand("tune", options), exit)
}

#[test]
fn the_best_map_of_the_main_job_is_one_that_run_takes_and_the_report_has_every_trial() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (map, page, json, input) = (path("best.toml"), path("report.html"), path("report.json"), webshop());
    let objective = ["--min-latency-at", "10k/s", "--percentile", "p50", "--idle", "park,adaptive"];
    let outputs = ["--output", &map, "--report", &page, "--json", &json];
    let mut command = tune(&["trace-assembly", &input, "--quick", "--time", "4s"]);
    let output = command.args(objective).args(outputs).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the lowest p50 of latency at 10.0k/s"));

    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let (candidates, trials) =
        (report["candidates"].as_array().unwrap(), report["trials"].as_array().unwrap());
    assert_eq!(candidates[0]["standing"], "best");
    assert!(trials.iter().all(|trial| trial["candidate"].as_u64().unwrap() < candidates.len() as u64));
    let (low, high) = (&report["interval"]["low"], &report["interval"]["high"]);
    let figure = report["figure"].as_f64().unwrap();
    assert!(low.as_f64().unwrap() <= figure && figure <= high.as_f64().unwrap(), "{report}");
    let written = CoreMap::from_toml(&fs::read_to_string(&map).unwrap()).unwrap();
    assert_eq!(written, candidates[0]["line"].as_str().unwrap().parse().unwrap());

    let page = fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "candidates, course, percentiles");
    assert!(!page.contains("href") && !page.contains("src="), "nothing is fetched");
    let output = corelane(&[&input, "--core-map", &map, "--step-budget", "256", "-q"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn the_highest_rate_of_the_keyed_pipeline_is_found_and_its_map_fits_the_pipeline() {
    let bound = ["--max-rate-at", "p50=50ms", "--quick", "--time", "6s", "--idle", "adaptive", "-q"];
    let output = tune(&["keyed"]).args(bound).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    let toml = text(&output.stdout);
    assert!(toml.starts_with("# keyed: the most items a second with p50 under 50ms"), "{toml}");
    let line = CoreMap::from_toml(&toml).unwrap().to_string();
    let output = subcommand("map", &["check", "keyed", &line]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn maps_of_ones_own_can_be_all_that_is_tried() {
    let maps = ["--map", "*=0;@*=park", "--only-maps", "--exhaustive", "--time", "2s", "-q"];
    let output = tune(&["keyed", "--min-latency-at", "50k/s", "--quick"]).args(maps).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(CoreMap::from_toml(&text(&output.stdout)).unwrap(), "*=0;@*=park".parse().unwrap());
}

#[test]
fn an_interrupted_search_writes_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let map = dir.path().join("best.toml");
    let mut command = tune(&["keyed", "--min-latency-at", "50k/s", "--quick", "--time", "10m"]);
    command.arg("--output").arg(&map).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("in the race"), "{line}");
    signal(&child, "INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9), "{rest}");
    assert!(rest.contains("interrupted") && rest.contains("stopped by a signal"), "{rest}");
    assert!(CoreMap::from_toml(&fs::read_to_string(&map).unwrap()).is_ok());
}

#[test]
fn what_nothing_comes_up_to_is_said_and_no_map_is_written() {
    let never = ["--max-rate-at", "p50=1ns", "--map", "*=0", "--only-maps", "--idle", "park", "--time", "1s"];
    let output = tune(&["keyed", "--quick"]).args(never).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!((code(&output), text(&output.stdout)), (8, String::new()), "{message}");
    assert!(message.contains("nothing that was tried comes up to it"), "{message}");
    assert!(message.contains("the lowest p50 that was seen is "), "{message}");
    let message = refused(&["keyed", "--min-latency-at", "10/s"], Exit::Environment);
    assert!(message.contains("p99 needs 1000 latencies"), "{message}");
}

#[test]
fn wrong_options_and_inputs_are_refused_before_anything_runs_fault_44() {
    let at = ["--min-latency-at", "50k/s"];
    let usage = |options: &[&str]| refused(options, Exit::Usage);
    let message = usage(&["keyed"]);
    assert!(message.contains("--max-rate-at") && message.contains("--min-latency-at"), "{message}");
    assert!(usage(&["nexmark-q5", at[0], at[1]]).contains("trace-assembly"));
    assert!(usage(&["keyed", at[0], "fast"]).contains("like 500k/s"));
    assert!(usage(&["keyed", "--max-rate-at", "p99.9"]).contains("like p99.9=200us"));
    assert!(usage(&["keyed", at[0], at[1], "--max-rate-at", "p99=1ms"]).contains("cannot be used with"));
    assert!(usage(&["keyed", at[0], at[1], "--resolution", "0"]).contains("between 0.1 and 100"));
    assert!(usage(&["keyed", at[0], at[1], "--only-maps"]).contains("--map"));
    assert!(usage(&["trace-assembly", at[0], at[1]]).contains("needs FILE"));
    assert!(usage(&["keyed", "file", at[0], at[1]]).contains("no place here"));
    assert!(usage(&["keyed", at[0], at[1], "--json", "x", "--report", "x"]).contains("files of their own"));
    assert!(refused(&["trace-assembly", "/nonexistent", at[0], at[1]], Exit::Input).contains("no such file"));
    assert!(
        refused(&["keyed", at[0], at[1], "--report", "/nonexistent/x"], Exit::Output).contains("directory")
    );
    let maps = |map: &str| refused(&["keyed", at[0], at[1], "--map", map, "--only-maps"], Exit::Placement);
    assert!(maps("pairs=").contains("pairs"));
    assert!(maps("*=4096").contains("none of the core maps fits"));
    let dir = tempfile::tempdir().unwrap();
    let input = recording(dir.path(), 3);
    let before = fs::read(&input).unwrap();
    let file = input.to_str().unwrap();
    assert!(refused(&["trace-assembly", file, at[0], at[1], "-o", file], Exit::Output).contains("input"));
    assert_eq!(fs::read(&input).unwrap(), before);
}
