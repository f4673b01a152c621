//! Events and rows of others: a small sample of our own making, in the same form.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::Command;

use corelane_bench::nexmark::published::{PublishedError, compare};

fn sample() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/published"))
}

/// The sample, with one file changed.
fn changed(file: &str, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(sample()).unwrap() {
        let (from, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name())
        };
        let text = fs::read_to_string(from).unwrap();
        fs::write(directory.path().join(&name), if name == file { change(text) } else { text }).unwrap();
    }
    directory
}

#[test]
fn queries_give_the_rows_of_the_sample_on_any_number_of_instances() {
    for instances in [1, 2, 8] {
        let all = compare(sample(), instances).unwrap();
        let queries: Vec<_> = all.iter().map(|comparison| comparison.query).collect();
        assert_eq!(queries, ["q1", "q3", "q4", "q5", "q7", "q8", "q9", "q21"]);
        for comparison in all {
            assert!(comparison.agrees() && comparison.same > 0, "{instances} instances: {comparison:?}");
        }
    }
}

#[test]
fn a_row_that_differs_is_shown_on_both_sides() {
    let directory = changed("q3.slt.part", |text| text.replace("reno", "boise"));
    let all = compare(directory.path(), 1).unwrap();
    let q3 = all.iter().find(|comparison| comparison.query == "q3").unwrap();
    assert_eq!(q3.only_here, ["ann reno or 2001"]);
    assert_eq!(q3.only_there, ["ann boise or 2001"]);
    assert_eq!(all.iter().filter(|comparison| !comparison.agrees()).count(), 1);
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let error =
        compare(changed("insert_bid.slt.part", |text| text.replace("300", "dear")).path(), 1).unwrap_err();
    assert!(
        matches!(&error, PublishedError::Malformed { .. }) && error.to_string().contains("price"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = compare(empty.path(), 1).unwrap_err();
    assert!(error.to_string().contains("insert_person.slt.part"), "{error}");
    assert!(matches!(compare(&empty.path().join("no"), 1), Err(PublishedError::Unreadable { .. })));
}

#[test]
fn the_command_says_which_queries_differ_by_its_exit_code_too() {
    let run = |directory: &Path| {
        Command::new(env!("CARGO_BIN_EXE_corelane-bench"))
            .arg("nexmark-check")
            .arg("--dir")
            .arg(directory)
            .output()
            .unwrap()
    };
    let right = run(sample());
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    assert!(String::from_utf8_lossy(&right.stdout).contains("q5 on 8: 9 rows as published"));
    let wrong = run(changed("q8.slt.part", |text| text.replace("1001", "1009")).path());
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("not as published: q8"));
}
