//! Dead letters through a file and back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use corelane::engine::Engine;
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::{AttributeValue, Envelope, SpanId, Timestamp, TraceContext, TraceId};
use corelane::observe::{Outcome, PipelineResult};
use corelane::policy::ErrorPolicy;
use corelane::stage::FailureKind;
use corelane_stages::dead_letters::{Content, FileSink, Letter, Payload, read};

fn run(pipeline: Pipeline) -> PipelineResult {
    let result = Engine::default().run(pipeline).unwrap();
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    result
}

/// A pipeline whose stage refuses every multiple of three.
fn threes(count: u64, path: &Path) -> Pipeline {
    let p = PipelineBuilder::new("threes");
    let (rest, dead) = p
        .generate("numbers", count, |i| i)
        .try_map("no-threes", |x| if x % 3 == 0 { Err(format!("{x} is a three")) } else { Ok(*x) })
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    rest.for_each("out", drop);
    dead.sink("letters", FileSink::appending(path, |x: &u64| Content::json(x)));
    p.build().unwrap()
}

fn letters(path: &Path) -> Vec<Letter> {
    read(path).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_letter_is_in_the_file_once_in_order_and_another_run_appends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    for runs in 1..=2 {
        let result = run(threes(30_000, &path));
        assert!(result.success, "{}", result.outcome);
        let all = letters(&path);
        assert_eq!(all.len(), runs * 10_000);
        let numbers: Vec<u64> = all[all.len() - 10_000..]
            .iter()
            .map(|l| l.record.content.payload.as_ref().unwrap().json().unwrap())
            .collect();
        assert_eq!(numbers, (0..30_000).step_by(3).collect::<Vec<u64>>());
        let record = &all[1].record;
        assert_eq!((record.pipeline.as_str(), record.stage.as_str()), ("threes", "no-threes"));
        assert_eq!(
            (record.kind, record.attempts, record.error.as_str()),
            (FailureKind::Error, 1, "3 is a three")
        );
        assert_eq!((all[1].line, record.version), (2, 1));
    }
}

/// Fault 86: 100 000 headers, and a trace context.
#[test]
fn fault_86_an_envelope_keeps_its_headers_attributes_and_trace_however_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    let mut envelope = Envelope::at(vec![0u8, 255, 10], Timestamp(-7), 9)
        .with_attribute("tries", 2)
        .with_trace(TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), 1));
    envelope.extras_mut().headers = (0..100_000).map(|i| (format!("name-{i:06}"), "value")).collect();
    let p = PipelineBuilder::new("envelopes");
    let (out, dead) = p
        .items("one", [envelope.clone()])
        .try_map("refuse", |_| Err::<(), _>("\"no\"\n"))
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    out.for_each("out", drop);
    let encode =
        |e: &Envelope<Vec<u8>>| Ok::<_, String>(Content::envelope(e, Payload::Base64(e.payload.clone())));
    dead.sink("letters", FileSink::appending(&path, encode));
    assert!(run(p.build().unwrap()).success);
    let [letter] = &letters(&path)[..] else { panic!("one letter") };
    let content = &letter.record.content;
    assert_eq!(content.payload, Some(Payload::Base64(vec![0, 255, 10])));
    assert_eq!((&content.headers, content.headers.len()), (envelope.headers(), 100_000));
    assert_eq!(content.attributes.get("tries").and_then(AttributeValue::as_int), Some(2));
    assert_eq!(
        (content.trace.as_ref(), content.timestamp, content.seq_id),
        (envelope.trace(), Some(Timestamp(-7)), Some(9))
    );
    assert_eq!(letter.record.error, "\"no\"\n", "what looks like the end of a line is escaped");
}

#[test]
fn a_line_that_a_crash_cut_off_is_reported_alone_and_what_is_appended_behind_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    run(threes(10, &path));
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..120 {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        run(threes(1, &path));
        let all: Vec<_> = read(&path).unwrap().collect();
        let good = all.iter().filter(|letter| letter.is_ok()).count();
        assert_eq!((good, all.len()), if cut == 1 { (5, 5) } else { (4, 5) }, "cut by {cut}");
        assert!(all[4].is_ok());
    }
}

/// Fault 85: what takes the dead letters fails itself.
#[test]
fn fault_85_a_full_disk_fails_the_pipeline_and_says_which_file() {
    let result = run(threes(1_000, Path::new("/dev/full")));
    match result.outcome {
        Outcome::Failed { stage, error } => {
            assert_eq!(stage.unwrap().as_str(), "letters");
            assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");
        }
        other => panic!("{other}"),
    }
    let folder = tempfile::tempdir().unwrap();
    let result = run(threes(10, &folder.path().join("missing/dead.ndjson")));
    assert!(
        matches!(&result.outcome, Outcome::Failed { error, .. } if error.contains("missing/dead.ndjson"))
    );
}

/// Fault 85: an item that cannot be written goes by the policy of the sink, and never round in a circle.
#[test]
fn fault_85_letters_that_cannot_be_written_become_letters_of_the_sink_and_those_are_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    let p = PipelineBuilder::new("unwritable");
    let (rest, dead) = p
        .generate("numbers", 10, |i| i)
        .try_map("refuse", |_| Err::<(), _>("no"))
        .on_error(ErrorPolicy::DeadLetter)
        .dead_letters();
    rest.for_each("out", drop);
    let odd = |x: &u64| {
        if x % 2 == 1 { Content::json(x).map_err(|e| e.to_string()) } else { Err(format!("{x} is even")) }
    };
    let sink = dead.sink("letters", FileSink::appending(&path, odd));
    sink.on_error(ErrorPolicy::DeadLetter);
    let last = sink.dead_letters().collect("last");
    let result = run(p.build().unwrap());
    assert!(result.success, "{}", result.outcome);
    let written: Vec<u64> =
        letters(&path).iter().map(|l| l.record.content.payload.as_ref().unwrap().json().unwrap()).collect();
    assert_eq!(written, [1, 3, 5, 7, 9]);
    let last = last.take();
    assert_eq!(
        last.iter().map(|l| l.item.as_ref().unwrap().item).collect::<Vec<_>>(),
        [0, 2, 4, 6, 8].map(Some)
    );
    assert!(last.iter().all(|l| l.stage.as_str() == "letters" && l.error.ends_with("is even")));
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    run(threes(1, &path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
