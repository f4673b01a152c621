//! `corelane run nexmark-q5`: its answer, its table, how it ends, and what it refuses.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use corelane::driver::Simulation;
use corelane::flow::PipelineBuilder;
use corelane_bench::nexmark::q5::{self, Row, hottest};
use corelane_bench::nexmark::{Feed, Pace, Settings, live_bids};
use corelane_tools::exit::Exit;
use support::{code, fails, signal, subcommand, text};

fn nexmark_q5(options: &[&str]) -> Command {
    let mut command = subcommand("run", &["nexmark-q5"]);
    command.args(options);
    command
}

/// Half a minute.
const SETTINGS: Settings = Settings { events: 30_000, per_second: 1_000, group: 1, texts: false };
const HALF_A_MINUTE: [&str; 4] = ["--events", "30000", "--per-second", "1000"];

fn reference(settings: Settings) -> Vec<Row> {
    let mut rows = q5::reference(Feed::generate(settings).events);
    rows.sort_unstable();
    rows
}

/// NEXMark begins at midnight, and windows up to ten seconds before.
fn time(nanos: i64) -> String {
    let second = nanos / 1_000_000_000 - 1_436_918_400;
    match second {
        0.. => format!("2015-07-15T00:{:02}:{:02}Z", second / 60, second % 60),
        _ => format!("2015-07-14T23:59:{}Z", 60 + second),
    }
}

fn expected_lines() -> String {
    let line = |Row { window, auction, bids }: Row| {
        let [from, to] = [window.start, window.end].map(|at| time(at.as_nanos()));
        format!("{{\"from\":\"{from}\",\"to\":\"{to}\",\"auction\":{auction},\"bids\":{bids}}}\n")
    };
    reference(SETTINGS).into_iter().map(line).collect()
}

#[test]
fn the_answer_is_that_of_the_reference_byte_for_byte_on_every_driver_and_core_map() {
    let expected = expected_lines();
    assert!(expected.lines().count() > 15, "{expected}");
    let maps: &[&str] = match std::thread::available_parallelism().unwrap().get() {
        1 => &["*=0"],
        _ => &["*=0", "*=0-1", "events=0;hottest=1;*=0-1"],
    };
    for driver in ["thread", "auto"] {
        for map in maps {
            let options = [&HALF_A_MINUTE[..], &["--driver", driver, "--cores", map, "-q"]].concat();
            let output = nexmark_q5(&options).output().unwrap();
            assert_eq!((code(&output), text(&output.stderr)), (0, String::new()), "{options:?}");
            assert_eq!(text(&output.stdout), expected, "{options:?}");
        }
    }
}

#[test]
fn bids_that_are_made_while_it_runs_are_those_of_the_feed_also_out_of_order() {
    for (seed, group) in [(1, 1), (2, 13), (3, 64)] {
        let settings = Settings { group, ..SETTINGS };
        let p = PipelineBuilder::new("nexmark-q5");
        let rows = hottest(live_bids(&p, settings, Pace::Free)).collect("out");
        let simulation = Simulation::new(seed).partitions(3);
        let result = simulation.run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        assert_eq!(result.account.stages.values().map(|stage| stage.late).sum::<u64>(), 0);
        let mut rows = rows.take();
        rows.sort_unstable();
        assert!(rows == reference(settings), "groups of {group}");
    }
}

#[test]
fn live_events_are_made_when_they_happen_and_not_before() {
    // Five seconds, on a clock that is not the wall's.
    let settings = Settings { events: 500, per_second: 100, ..SETTINGS };
    let p = PipelineBuilder::new("live");
    live_bids(&p, settings, Pace::AsTheyHappen).for_each("out", drop);
    let simulation = Simulation::new(5).partitions(2).each_step(|step| {
        let made = step.monitor.inspect("events").unwrap().processed_count;
        let happened = step.now.monotonic as u64 / 10_000_000 + 1;
        // The two instances may each have begun later, not earlier.
        assert!(made <= happened, "{made} events at {:?}", step.now);
    });
    let result = simulation.run(p.build().unwrap()).unwrap().result;
    result.account.verify().unwrap();
    assert_eq!(result.processed_count, 500);
    assert!(result.duration >= Duration::from_millis(4_990), "{:?}", result.duration);
}

#[test]
fn it_ends_with_the_account_and_the_table_is_shown_when_it_is_asked_for() {
    let run = |more: &[&str]| {
        let output = nexmark_q5(&[&HALF_A_MINUTE[..], more].concat()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let head = "auction  bids in 10 s  until";
    for silent in [&[][..], &["--no-progress"], &["--progress", "never"]] {
        let (lines, summary) = run(silent);
        assert_eq!(lines, expected_lines());
        assert!(summary.starts_with("completed after") && summary.contains("account closes"), "{summary}");
        assert!(summary.contains("made    30000 events, 27600 bids"), "{summary}");
        assert!(!summary.contains(head), "{summary}");
    }
    // Standard output is no terminal: the lines go there all the same.
    let (lines, shown) = run(&["--progress", "always"]);
    assert_eq!(lines, expected_lines());
    let (table, summary) = shown.rsplit_once("completed after").unwrap();
    assert!(summary.contains("account closes"), "{summary}");
    let (_, table) = table.rsplit_once(head).unwrap();
    let last = reference(SETTINGS).pop().unwrap();
    let first_line = table.lines().nth(1).unwrap();
    let words: Vec<&str> = first_line.split_whitespace().collect();
    let (auction, bids) = (last.auction.to_string(), last.bids.to_string());
    assert_eq!(words[..3], [&auction, &bids, &time(last.window.end.as_nanos())], "{table}");

    let (_, summary) = run(&["--summary", "json"]);
    let summary: serde_json::Value = serde_json::from_str(summary.lines().last().unwrap()).unwrap();
    assert_eq!(summary["rows"], expected_lines().lines().count());
    assert_eq!(
        (&summary["events"], &summary["output_bytes"]),
        (&30_000.into(), &expected_lines().len().into())
    );
    assert_eq!(summary["account_closes"], true);
}

#[test]
fn on_a_terminal_the_table_stands_for_the_lines() {
    let mut command = nexmark_q5(&HALF_A_MINUTE);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return println!("left out: script: {error}"),
    };
    let shown = text(&output.stdout);
    assert_eq!(code(&output), 0, "{shown}");
    assert!(shown.contains("auction  bids in 10 s  until") && shown.contains("account closes"), "{shown}");
    assert!(!shown.contains("{\"from\""), "{shown}");
}

#[test]
fn a_signal_lets_what_was_made_flow_out() {
    let endless = ["--events", "1000000000000", "--driver", "thread", "--drain-deadline", "60s"];
    let mut child = nexmark_q5(&endless).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    lines.read_line(&mut answer).unwrap();
    signal(&child, "INT");
    lines.read_to_string(&mut answer).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Stopped.code()), "{message}");
    assert!(message.contains("drained by a signal before the end of the input"), "{message}");
    assert!(message.contains("account closes"), "{message}");
    let windows: Vec<&str> = answer.lines().map(|line| line.split("\"auction\"").next().unwrap()).collect();
    assert!(windows.is_sorted() && answer.ends_with("}\n"), "lines are whole and in order");
}

#[test]
fn what_is_wrong_with_its_options_is_said_with_its_own_exit_code() {
    let refused = |options: &[&str], exit| fails(nexmark_q5(options), exit);
    assert!(refused(&["--events", "0"], Exit::Usage).contains("--events <N>"));
    assert!(refused(&["--events", "many"], Exit::Usage).contains("'many' for '--events <N>'"));
    assert!(refused(&["--per-second", "0"], Exit::Usage).contains("--per-second <N>"));
    assert!(refused(&["file"], Exit::Usage).contains("unexpected argument 'file'"));
    assert!(refused(&["--no-progress", "--progress", "always"], Exit::Usage).contains("cannot be used with"));
    assert!(refused(&["--cores", "hotest=0"], Exit::Placement).contains("did you mean hottest?"));
    assert!(refused(&["--cores", "events=4711"], Exit::Placement).contains("core 4711 does not exist"));
    assert!(refused(&["--metrics", "-"], Exit::Usage).contains("the same file"));
    let few = [&HALF_A_MINUTE[..], &["--output", "/dev/full"]].concat();
    assert!(refused(&few, Exit::Output).contains("/dev/full: no space left"));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = nexmark_q5(&HALF_A_MINUTE).stdout(writer).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (i32::from(Exit::OutputClosed.code()), String::new()));
}

#[test]
fn its_graph_is_printed_and_a_configuration_may_change_and_is_checked_against_its_stages() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q5.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "[stages.hottest]\nparallelism = { fixed = 3 }\n[core-map.stages]\n\"*\" = \"0\"\n")
        .unwrap();
    let output = nexmark_q5(&["--graph", "json", "--config", path]).output().unwrap();
    let graph = corelane::graph::PipelineGraph::from_json(&text(&output.stdout)).unwrap();
    let stages: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(stages.first(), Some(&"events"));
    assert_eq!(stages[stages.len() - 4..], ["in-order", "show", "line", "write"]);
    let hottest = graph.nodes.iter().find(|node| node.id == "hottest").unwrap();
    assert_eq!(hottest.parallelism, corelane::policy::Parallelism::Fixed(3));

    let options = [&HALF_A_MINUTE[..], &["--config", path, "-q"]].concat();
    let output = nexmark_q5(&options).output().unwrap();
    assert_eq!((code(&output), text(&output.stdout)), (0, expected_lines()), "{}", text(&output.stderr));

    let checked = subcommand("check", &["--job", "nexmark-q5", path]).output().unwrap();
    assert!(text(&checked.stdout).contains("pipeline: nexmark-q5"), "{}", text(&checked.stderr));
    fs::write(&file, "[stages.decode]\nparallelism = { fixed = 3 }\n").unwrap();
    let message = fails(subcommand("check", &["--job", "nexmark-q5", path]), Exit::Config);
    assert!(message.contains("decode"), "{message}");
}
