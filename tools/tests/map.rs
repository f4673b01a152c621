//! `corelane map`, on trees of made-up machines.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

#[path = "../../runtime/tests/fake_machine/mod.rs"]
mod fake_machine;
mod support;

use std::fs;

use corelane::topology::CoreMap;
use corelane_tools::exit::Exit;
use fake_machine::FakeMachine;
use support::{code, subcommand, text};

const JOB: &str = "trace-assembly";

/// What `corelane map` with these words prints, which must be all it says.
fn map(words: &[&str]) -> String {
    let output = subcommand("map", words).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()), "{words:?}");
    text(&output.stdout)
}

fn refused(words: &[&str], exit: Exit) -> String {
    let output = subcommand("map", words).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(exit.code()), "{words:?}: {message}");
    assert!(output.stdout.is_empty() && !message.contains("panicked"), "{message}");
    message
}

#[test]
fn a_plan_is_a_map_with_its_reasons_that_check_accepts_on_every_machine() {
    for (name, machine) in FakeMachine::gallery() {
        let root = ["--root", machine.root().to_str().unwrap()];
        let said = map(&[&["plan", JOB], &root[..]].concat());
        let line = said.lines().next().unwrap().strip_prefix("map: ").unwrap();
        assert!(said.contains("\nwhy:\n  "), "{name}: {said}");
        let toml = map(&[&["plan", JOB, "--only", "toml"], &root[..]].concat());
        assert_eq!(CoreMap::from_toml(&toml).unwrap(), line.parse().unwrap(), "{name}");
        let checked = map(&[&["check", JOB, line], &root[..]].concat());
        assert!(checked.starts_with("ok: 10 stages on "), "{name}: {checked}");
    }
}

#[test]
fn a_plan_keeps_to_what_it_was_asked() {
    let machine = FakeMachine::chiplets();
    let root = ["--root", machine.root().to_str().unwrap(), "--only", "line"];
    let line = |words: &[&str]| map(&[&["plan", JOB], words, &root[..]].concat());
    assert_eq!(line(&["--cores", "1"]), "*=1\n");
    let cache = line(&["--within", "l3"]);
    let cores = cache.trim_end().rsplit("*=").next().unwrap();
    assert!(cores.parse::<corelane::topology::CpuList>().unwrap().iter().all(|core| core < 4), "{cache}");
    let dir = tempfile::tempdir().unwrap();
    let links = dir.path().join("links.json");
    fs::write(&links, r#"{"cpus": "3,9", "one-way-ns": [[0, 9], [9, 0]], "items-per-s": [[0, 1], [1, 0]]}"#)
        .unwrap();
    let near = line(&["--cores", "2", "--links", links.to_str().unwrap()]);
    assert!(near.ends_with("*=3,9\n"), "{near}");
    fs::write(&links, r#"{"cpus": "0-1", "one-way-ns": [], "items-per-s": []}"#).unwrap();
    let said = refused(&["plan", JOB, "--links", links.to_str().unwrap()], Exit::Config);
    assert!(said.contains("links.json: one-way-ns is not a table of 2 rows of 2 numbers"), "{said}");
}

#[test]
fn check_refuses_nonsense_with_the_line_named_and_all_of_it_at_once() {
    let machine = FakeMachine::desktop();
    let root = ["--root", machine.root().to_str().unwrap()];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("map.toml");
    let check = |content: &str| {
        fs::write(&file, content).unwrap();
        let said = refused(&[&["check", JOB, file.to_str().unwrap()], &root[..]].concat(), Exit::Placement);
        said.replace(&format!("{}: ", file.display()), "").replace("corelane: ", "")
    };
    assert_eq!(
        check("[stages]\nread = \"0-\"\nwrite = \"x\"\n[cores]\n0 = \"fast\"\n"),
        "read (line 2, column 9): cores \"0-\": a range needs a number on both sides, like 0-3\n\
         write (line 3, column 10): cores \"x\": not a decimal number (no sign, space or prefix is allowed)\n\
         @0 (line 5, column 6): \"fast\" is not an idle policy; there are spin, yield, park and adaptive\n"
    );
    let said = check("[stages]\ntrace = \"0\"\n\"*\" = \"7\"\nread = \"node:3\"\n[cores]\n9 = \"park\"\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "line 2, column 1: core map: there is no stage trace; did you mean traces?");
    assert!(lines[1].starts_with("line 4, column 1: core map: read: no core of node 3"), "{said}");
    assert!(lines[2].starts_with("line 3, column 1: core map: *: core 7 does not exist"), "{said}");
    assert!(lines[3].starts_with("line 6, column 1: core map: @9: core 9 does not exist"), "{said}");
    assert_eq!(lines.len(), 4, "{said}");
    let said = check("[stages]\n\"*\" = \"0\"\n[rings]\n\"read->decodes\" = 9\n");
    assert_eq!(
        said,
        "line 4, column 1: core map: there is no edge read->decodes; did you mean read->decode?\n"
    );
    let said = refused(&[&["check", JOB, "*=0;trace=1"], &root[..]].concat(), Exit::Placement);
    assert!(said.contains("the core map: line 1, column 5: core map: there is no stage trace"), "{said}");
}

#[test]
fn explain_tells_who_runs_where_and_what_crosses() {
    let machine = FakeMachine::two_sockets();
    let root = ["--root", machine.root().to_str().unwrap()];
    let line = "read=0;decode=0,4;*=1;@1=park;read->decode=100;spans->traces=8";
    let said = map(&[&["explain", JOB, line], &root[..]].concat());
    for part in [
        "CORE  CPU  NODE  CACHE  IDLE      STAGES\n0     0    0     0      adaptive  read decode\n1     1    0     0      park      spans traces keep",
        "\n4     4    1     1      adaptive  decode\n",
        "read -> decode         in turns       2      128   1 on one core, 1 between nodes (distance 21)",
        "spans -> traces        fused: a call",
        "keep/errors -> errors",
        "note: core 0: read (one instance each) and instances of decode take turns\n",
        "note: spans->traces=8 has no effect: the stages are fused, there is no ring\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn diff_lists_entries_that_differ() {
    assert_eq!(
        map(&["diff", "a=0;*=1;@0=spin;a->b=4", "a=0-1;*=1;@0,2=spin;@*=park"]),
        "+ @*=park\n+ @2=spin\n- a=0\n+ a=0-1\n- a->b=4\n"
    );
    assert_eq!(map(&["diff", "a=0;b=1", "b=1;a=0"]), "the same\n");
}

#[test]
fn draw_has_a_lane_for_each_core_and_a_box_for_each_stage_in_it() {
    let machine = FakeMachine::two_sockets();
    let root = ["--root", machine.root().to_str().unwrap()];
    let svg = map(&[&["draw", JOB, "decode=0,4;*=1"], &root[..]].concat());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    for (part, times) in [
        ("\ncore ", 3),
        ("CPU 4, node 1, cache 1", 2),
        ("<title>decode</title>", 2),
        ("<title>write</title>", 1),
    ] {
        assert!(svg.matches(part).count() >= times, "{part}: {svg}");
    }
    assert!(svg.contains("#c22"), "a ring crosses nodes");
}

#[test]
fn a_pipeline_is_a_job_or_a_file_with_a_graph() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["toml", "json"] {
        let printed = subcommand("run", &[JOB, "--graph", format]).output().unwrap();
        let file = dir.path().join("graph");
        fs::write(&file, &printed.stdout).unwrap();
        assert!(map(&["check", file.to_str().unwrap(), "*=0"]).starts_with("ok: 10 stages"), "{format}");
    }
    assert!(
        refused(&["check", "/nonexistent", "*=0"], Exit::Config).contains("/nonexistent: neither a pipeline")
    );
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let said = refused(&["check", circle.to_str().unwrap(), "*=0"], Exit::Config);
    assert!(said.contains("circle: cannot read"), "it is there, and cannot be read: {said}");
    let file = dir.path().join("bad");
    fs::write(&file, "[[nodes]]\nid = \"a\"\nkind = \"source\"\n").unwrap();
    let said = refused(&["plan", file.to_str().unwrap()], Exit::Config);
    assert!(said.contains("bad: ") && said.contains("stage \"a\""), "{said}");
}

#[test]
fn keyed_is_the_pipeline_also_where_a_directory_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keyed")).unwrap();
    let output = subcommand("map", &["check", "keyed", "*=0"]).current_dir(dir.path()).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
}
