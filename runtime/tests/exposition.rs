//! The measurements of a run in the Prometheus text format, as `promtool check metrics` wants it.

#![cfg(feature = "prometheus")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use corelane::driver::DriverChoice;
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::PipelineBuilder;
use corelane::model::{Envelope, Timestamp};
use corelane::observe::{Account, EdgeAccount, Metrics, MetricsRegistry, StageAccount, Totals, prometheus};

/// A run in which something is counted in most places; its exposition, and its account.
fn exposition() -> (String, Account) {
    let p = PipelineBuilder::new("shop").with_metadata("owner", "na\"me\nof \u{e9}quipe \\ 1");
    let [even, odd] = p.generate("in", 50_000, |n| Envelope::at(n, Timestamp(n as i64), n)).split(
        "parity",
        ["even", "odd"],
        |e| e.payload % 2 == 0,
    );
    even.key_by(|e| e.payload % 10).fold("count", || 0u64, |n, _| *n += 1).for_each("counts", drop);
    odd.aged().for_each("out", drop);
    let registry = Arc::new(MetricsRegistry::new());
    registry.record_counter("orders.placed", &[("shop", "B\u{fc}cher \"&\" mehr\n")], 3);
    registry.record_gauge("queue_total", &[], 0.5);
    registry.record_histogram("size.bytes", &[("kind", "\\")], 1_024.0);
    let options = ExecutionOptions {
        driver: DriverChoice::Thread,
        virtual_cores: Some(2),
        metrics: registry.clone(),
        ..ExecutionOptions::default()
    };
    let running = Engine::new(options).start(p.build().unwrap()).unwrap();
    let monitor = running.monitor();
    let result = running.join();
    result.account.verify().unwrap();
    let mut snapshot = monitor.metrics();
    assert_eq!(snapshot.merge(registry.snapshot()), 0);
    (prometheus::text(&snapshot), result.account)
}

/// A series, and its value, as text.
type Series = (String, BTreeMap<String, String>, String);

/// Reads the format strictly: every line is a comment of a known kind or a series, nothing else.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Series>) {
    let (mut kinds, mut series) = (BTreeMap::new(), Vec::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else if let Some(comment) = line.strip_prefix("# HELP ") {
            let (name, help) = comment.split_once(' ').unwrap();
            assert!(!help.is_empty() && !kinds.contains_key(name), "{line}");
        } else {
            series.push(parse_series(line));
        }
    }
    (kinds, series)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn parse_series(line: &str) -> Series {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().unwrap_or_else(|| panic!("open quote: {line}")) {
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("escaped {c}: {line}"),
                    },
                    (at, '"') => break at + 1,
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "label twice: {line}");
            match after[end..].strip_prefix(',') {
                Some(more) => inside = more,
                None => {
                    rest = after[end..].strip_prefix('}').unwrap_or_else(|| panic!("not closed: {line}"));
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
    (name.to_owned(), labels, value.to_owned())
}

#[test]
fn the_exposition_has_one_type_per_family_and_no_series_twice() {
    let (text, _) = exposition();
    let (kinds, series) = parse(&text);
    let mut seen = BTreeSet::new();
    for (name, labels, _) in &series {
        assert!(seen.insert((name, labels)), "{name} {labels:?} twice");
        let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|suffix| {
            name.strip_suffix(suffix).is_some_and(|base| kinds.get(base).is_some_and(|k| k == "histogram"))
        });
        assert!(of_histogram || kinds.contains_key(name), "{name} has no type");
        assert_eq!(name.ends_with("_total"), kinds.get(name).is_some_and(|k| k == "counter"), "{name}");
    }
    assert!(series.len() > 300, "{}", series.len());
}

#[test]
fn every_counter_of_the_account_is_in_the_exposition_with_its_number_c4() {
    let (text, account) = exposition();
    let (_, series) = parse(&text);
    let sum = |name: &str, is_gauge: bool, labels: &[(&str, &str)]| -> u64 {
        let name = if is_gauge { name.to_owned() } else { format!("{name}_total") };
        let is = |own: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        let found: Vec<_> = series.iter().filter(|(n, own, _)| *n == name && is(own)).collect();
        assert!(!found.is_empty(), "no {name} {labels:?}");
        found.iter().map(|(_, _, value)| value.parse::<u64>().unwrap()).sum()
    };
    for (stage, counts) in &account.stages {
        for (name, count) in counts.fields() {
            let found = sum(
                &format!("corelane_stage_{name}"),
                StageAccount::is_gauge(name),
                &[("stage", stage.as_str()), ("pipeline", "shop")],
            );
            assert_eq!(found, count, "{stage}: {name}");
        }
    }
    for edge in &account.edges {
        for (name, count) in edge.fields() {
            let labels = [("from", edge.from.as_str()), ("to", edge.to.as_str())];
            let found = sum(&format!("corelane_edge_{name}"), EdgeAccount::is_gauge(name), &labels);
            assert_eq!(found, count, "{} -> {}: {name}", edge.from, edge.to);
        }
    }
    for (name, count) in account.totals().fields() {
        assert_eq!(sum(&format!("corelane_pipeline_{name}"), Totals::is_gauge(name), &[]), count, "{name}");
    }
}

#[test]
fn quotes_line_breaks_and_letters_of_all_kinds_come_through_fault_104() {
    let (text, _) = exposition();
    let (_, series) = parse(&text);
    let label = |name: &str, label: &str| {
        series.iter().find(|(n, ..)| n == name).and_then(|(_, labels, _)| labels.get(label)).cloned()
    };
    assert_eq!(label("corelane_pipeline_metadata", "value").as_deref(), Some("na\"me\nof \u{e9}quipe \\ 1"));
    assert_eq!(label("orders_placed_total", "shop").as_deref(), Some("B\u{fc}cher \"&\" mehr\n"));
    assert_eq!(label("size_bytes_count", "kind").as_deref(), Some("\\"));
    assert!(label("corelane_stage_latency_seconds_count", "stage").is_some_and(|stage| stage == "out"));
}

#[test]
fn promtool_accepts_the_exposition() {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        println!(
            "skipped: promtool (package prometheus) is not installed; the strict reader above stands in"
        );
        return;
    };
    let (text, _) = exposition();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let output =
        format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{output}");
}
