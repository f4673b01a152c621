//! The main job gives the same lines wherever and however it runs, and they are the right ones (must show 1).
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use corelane::pool::MemoryPool;
use corelane_tools::otlp::{InputPath, Repeat, RequestReader};
use corelane_tools::trace::{AssemblyCounts, AssemblyRules, SampleThreshold, SamplingRules, run_reference};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

const SECOND: u64 = 1_000_000_000;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces").join(name)
}

fn corelane(input: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["run", "trace-assembly", "--summary", "json"]).arg(input).args(options);
    for variable in
        ["CORELANE_CORES", "CORELANE_CORE_MAP", "CORELANE_CONFIG", "CORELANE_DRIVER", "CORELANE_IDLE"]
    {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// The lines of a run, sorted, and the counts of its summary.
fn run(input: &Path, options: &[&str]) -> (Vec<String>, serde_json::Value) {
    let output = corelane(input, options);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{options:?}: {errors}");
    let summary: serde_json::Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
    assert_eq!(summary["account_closes"], true, "{summary}");
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().split_inclusive('\n').map(str::to_owned).collect();
    lines.sort();
    (lines, summary["counts"].clone())
}

/// What the single-threaded reference makes of it.
fn reference(input: &Path, rules: AssemblyRules) -> (Vec<String>, AssemblyCounts) {
    let requests = RequestReader::open(vec![InputPath::File(input.to_path_buf())], 1).unwrap();
    let requests = requests.read_into(&MemoryPool::default()).unwrap();
    let mut lines = Vec::new();
    let deliver = |line: &[u8]| -> Result<(), ()> {
        lines.push(String::from_utf8(line.to_vec()).unwrap());
        Ok(())
    };
    let counts = run_reference(requests, rules, Repeat::default(), deliver, |_| ()).unwrap();
    lines.sort();
    (lines, counts)
}

fn default_rules() -> AssemblyRules {
    let sample = SampleThreshold::new(0.1).unwrap();
    AssemblyRules {
        sampling: SamplingRules { slow_ns: 250_000_000, sample },
        ttl_ns: 30 * SECOND,
        lag_ns: 5 * SECOND,
    }
}

/// A core map on all cores of this machine, one of them, and one that cuts the pipeline between stages.
fn core_maps() -> Vec<&'static str> {
    match std::thread::available_parallelism().unwrap().get() {
        1 => vec!["*=0"],
        _ => vec!["*=0", "*=0-1", "decode=1;traces=0-1;*=0", "read=1;spans=0;traces=1;*=0-1"],
    }
}

/// Drivers that can run here. Where io_uring is not allowed there is only one.
fn drivers() -> Vec<&'static str> {
    let probe = corelane(&recorded("tiny.otlp"), &["--driver", "glommio"]);
    match probe.status.code() {
        Some(0) => vec!["thread", "glommio"],
        Some(8) => {
            println!("glommio not tested: {}", String::from_utf8_lossy(&probe.stderr));
            vec!["thread"]
        }
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&probe.stderr)),
    }
}

#[test]
fn lines_and_counts_are_the_same_on_every_core_map_and_driver_and_those_of_the_reference() {
    for name in ["tiny.otlp", "tiny.otlp.json", "webshop.otlp.zst"] {
        let (lines, counts) = reference(&recorded(name), default_rules());
        let counts = serde_json::to_value(counts).unwrap();
        for driver in drivers() {
            for cores in core_maps() {
                let (found, found_counts) = run(&recorded(name), &["--driver", driver, "--cores", cores]);
                assert_eq!(found_counts, counts, "{name} {driver} {cores}");
                assert!(found == lines, "{name} {driver} {cores}: {} lines", found.len());
            }
        }
    }
}

/// Runs the independent script, or says why not.
fn check_py(input: &Path, output: &Path) -> Option<Output> {
    let script = recorded("check.py");
    let python = Command::new("python3").arg(script).arg(input).arg("--compare").arg(output).output();
    match python {
        Ok(found) if String::from_utf8_lossy(&found.stderr).contains("zstd input needs") => {
            println!("not compared with check.py: this Python reads no zstd");
            None
        }
        Ok(found) => Some(found),
        Err(error) => {
            println!("not compared with check.py: python3: {error}");
            None
        }
    }
}

#[test]
fn the_independent_script_computes_the_same_lines() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.ndjson");
    for name in ["tiny.otlp", "webshop.otlp.zst"] {
        run(&recorded(name), &["--output", output.to_str().unwrap()]);
        if let Some(script) = check_py(&recorded(name), &output) {
            assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stdout));
        }
        // The script must be able to find a difference.
        let lines = fs::read_to_string(&output).unwrap();
        fs::write(&output, lines.replacen("\"complete\":true", "\"complete\":false", 1)).unwrap();
        if let Some(script) = check_py(&recorded(name), &output) {
            assert_eq!(script.status.code(), Some(1));
        }
    }
}

/// A request of spans (trace, id, parent or 0, end).
fn request(spans: &[(u64, u64, u64, u64)]) -> Vec<u8> {
    let span = |&(trace, id, parent, end): &(u64, u64, u64, u64)| Span {
        trace_id: u128::from(trace).to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: format!("n{id}"),
        start_time_unix_nano: end - end.min(3),
        end_time_unix_nano: end,
        status: Some(Status { code: i32::from(id % 5 == 0) * 2, ..Status::default() }),
        ..Span::default()
    };
    let spans = spans.iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    [u32::try_from(request.len()).unwrap().to_be_bytes().as_slice(), &request].concat()
}

/// Spans of random trees, some lost, some sent twice, each arriving up to 80 ns after its end, in requests.
fn random_recording(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut arrivals = Vec::new();
    let mut id = 0;
    for trace in 1..=150 {
        let (start, root) = (random.u64(1..600), id + 1);
        for _ in 0..random.u64(1..6) {
            id += 1;
            let parent = if id == root { 0 } else { random.u64(root..id) };
            let span = (trace, id, parent, start + random.u64(0..60));
            let copies = [0, 0, 1, 1, 1, 1, 1, 1, 1, 2][random.usize(0..10)];
            arrivals.extend((0..copies).map(|_| (span.3 + random.u64(0..80), span)));
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);
    let spans: Vec<_> = arrivals.into_iter().map(|(_, span)| span).collect();
    let mut rest = &spans[..];
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (next, after) = rest.split_at(random.usize(1..6).min(rest.len()));
        bytes.extend(request(next));
        rest = after;
    }
    bytes
}

/// Small numbers make every case meet every other: late spans, late whole traces, spans exactly at the deadline, equal
/// watermarks, children before parents, duplicates.
#[test]
fn random_orders_of_late_spans_duplicates_and_lost_parents_give_the_lines_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("random.otlp");
    let cores = *core_maps().last().unwrap();
    for seed in 0..12 {
        fs::write(&path, random_recording(&mut fastrand::Rng::with_seed(seed))).unwrap();
        let rules = AssemblyRules { ttl_ns: 40, lag_ns: 9, ..default_rules() };
        let (lines, counts) = reference(&path, rules);
        let (found, found_counts) = run(&path, &["--ttl", "40ns", "--lag", "9ns", "--cores", cores]);
        assert_eq!(found_counts, serde_json::to_value(counts).unwrap(), "seed {seed}");
        assert!(found == lines, "seed {seed}");
        assert!(
            counts.complete * counts.partial_by_ttl * counts.reopened * counts.duplicates > 0,
            "{counts:?}"
        );
    }
}

#[test]
fn repeated_input_keeps_its_counts_on_every_core() {
    let (once, _) = run(&recorded("tiny.otlp"), &[]);
    for cores in core_maps() {
        let (many, counts) = run(&recorded("tiny.otlp"), &["--repeat", "7", "--cores", cores]);
        assert_eq!(many.len(), once.len() * 7, "{cores}");
        assert_eq!((counts["requests"].as_u64(), counts["spans"].as_u64()), (Some(63), Some(651)), "{cores}");
    }
}
