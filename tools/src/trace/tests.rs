//! The rules of assembly, each on the smallest case that shows it, and against a direct restatement.

use std::collections::BTreeMap;
use std::sync::Arc;

use bumpalo::Bump;
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn rules() -> AssemblyRules {
    let sample = SampleThreshold::new(1.0).unwrap();
    AssemblyRules {
        sampling: SamplingRules { slow_ns: 250_000_000, sample },
        ttl_ns: 30 * SECOND,
        lag_ns: 5 * SECOND,
    }
}

/// A span; parent 0 stands for none.
fn span(trace: u128, id: u64, parent: u64, start_ns: u64, end_ns: u64) -> Span {
    Span {
        trace_id: trace.to_be_bytes(),
        span_id: id.to_be_bytes(),
        parent: (parent != 0).then(|| parent.to_be_bytes()),
        service: Arc::from("svc"),
        name: format!("n{id}").into(),
        kind: 1,
        start_ns,
        end_ns,
        status: 0,
    }
}

fn trace_of(spans: impl IntoIterator<Item = Span>) -> Trace {
    let mut state = TraceState::default();
    for span in spans {
        state.add(span);
    }
    let complete = state.is_complete();
    state.finish(complete).unwrap()
}

/// Runs requests through the reference and returns counts and sorted lines.
fn run(rules: AssemblyRules, requests: Vec<Vec<Span>>) -> (AssemblyCounts, Vec<String>) {
    let mut lines = Vec::new();
    let mut keep = |line: &[u8]| -> Result<(), ()> {
        lines.push(String::from_utf8(line.to_vec()).unwrap());
        Ok(())
    };
    let mut assembly = ReferenceAssembly::new(rules);
    for spans in requests {
        assembly.request(spans, 0, &mut keep).unwrap();
    }
    let counts = assembly.finish(&mut keep).unwrap();
    lines.sort();
    (counts, lines)
}

#[test]
fn a_trace_is_complete_when_a_root_and_every_parent_are_there_in_any_order() {
    let mut state = TraceState::default();
    assert!(!state.is_complete() && state.is_empty());
    assert_eq!(state.add(span(1, 3, 2, 0, 1)), Added::Added);
    assert_eq!((state.is_complete(), state.completeness()), (false, 1.0 / 3.0));
    state.add(span(1, 1, 0, 0, 1));
    assert!(!state.is_complete());
    state.add(span(1, 2, 1, 0, 1));
    assert_eq!((state.is_complete(), state.completeness(), state.len()), (true, 1.0, 3));
}

#[test]
fn a_span_that_is_its_own_parent_knows_its_parent_but_is_no_root() {
    let mut state = TraceState::default();
    state.add(span(1, 2, 2, 0, 1));
    assert!(!state.is_complete());
    state.add(span(1, 1, 0, 0, 1));
    assert!(state.is_complete());
}

#[test]
fn a_duplicate_changes_nothing_but_moves_the_watermark() {
    let mut state = TraceState::default();
    state.add(span(1, 2, 9, 5, 7));
    let before = state.clone();
    assert_eq!(state.add(span(1, 2, 0, 1, 2)), Added::Duplicate);
    assert_eq!((state.len(), state.first_ts(), state.is_complete()), (1, before.first_ts(), false));
    assert_eq!(state.size_bytes(), before.size_bytes());

    let late = 100 * SECOND;
    let (counts, _) = run(rules(), vec![vec![span(1, 2, 9, 5, 7), span(1, 2, 9, 5, late)]]);
    assert_eq!((counts.duplicates, counts.partial_by_ttl, counts.partial_at_end), (1, 1, 0));
}

#[test]
fn a_state_expires_at_its_first_end_plus_ttl_and_not_a_nanosecond_before() {
    let with_end = |end| {
        let requests = vec![vec![span(1, 2, 9, 0, 10), span(1, 3, 9, 0, 4)], vec![span(2, 1, 0, 0, end)]];
        run(rules(), requests).0.partial_by_ttl
    };
    let deadline = 4 + 30 * SECOND + 5 * SECOND;
    assert_eq!((with_end(deadline - 1), with_end(deadline)), (0, 1));
    assert!(!is_expired(u64::MAX, 1, u64::MAX));
}

#[test]
fn expiry_waits_for_the_end_of_the_request() {
    let far = 1_000 * SECOND;
    let root_later = vec![vec![span(1, 2, 1, 0, 1), span(2, 9, 0, far, far), span(1, 1, 0, 0, 1)]];
    assert_eq!(run(rules(), root_later).0.complete, 2);
}

#[test]
fn the_watermark_starts_at_zero_and_never_moves_back() {
    let mut watermark = Watermark::new(5);
    watermark.observe(3);
    assert_eq!(watermark.advance(), 0);
    watermark.observe(20);
    watermark.observe(10);
    assert_eq!(watermark.advance(), 15);
    assert_eq!(watermark.advance(), 15);
}

#[test]
fn a_span_after_its_trace_was_emitted_opens_it_again() {
    let (counts, lines) = run(rules(), vec![vec![span(1, 1, 0, 0, 1)], vec![span(1, 2, 1, 0, 1)]]);
    assert_eq!((counts.traces, counts.complete, counts.partial_at_end, counts.reopened), (1, 1, 1, 1));
    assert!(lines[0].contains(r#""complete":false"#) && lines[1].contains(r#""complete":true"#));
}

#[test]
fn errors_go_before_slowness_before_the_sample() {
    let sampling = |share| SamplingRules { slow_ns: 100, sample: SampleThreshold::new(share).unwrap() };
    let failed = trace_of([Span { status: STATUS_ERROR, ..span(1, 1, 0, 0, 500) }]);
    let slow = trace_of([span(1, 1, 0, 0, 10), span(1, 2, 1, 50, 100)]);
    let quick = trace_of([span(1, 1, 0, 0, 99)]);
    assert_eq!(sampling(1.0).judge(&failed), Verdict::Error);
    assert_eq!(sampling(1.0).judge(&slow), Verdict::Slow);
    assert_eq!(sampling(1.0).judge(&quick), Verdict::Sampled);
    assert_eq!(sampling(0.0).judge(&quick), Verdict::Dropped);
    assert_eq!(render_line(&quick, Verdict::Dropped, &Bump::new()), None);
}

#[test]
fn the_sample_looks_at_the_last_seven_bytes_only() {
    let includes = |share, id: u128| SampleThreshold::new(share).unwrap().includes(&id.to_be_bytes());
    let half = 1_u128 << 55;
    assert!(includes(0.5, half) && !includes(0.5, half - 1));
    assert!(!includes(0.5, !0 << 56), "bytes before the last seven do not count");
    assert!(includes(1.0, 0) && !includes(0.0, (1 << 56) - 1));
    assert!(includes(2_f64.powi(-56), (1 << 56) - 1), "the smallest share there is");
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(SampleThreshold::new(share), None);
    }
}

#[test]
fn a_line_is_compact_json_with_keys_in_order_and_spans_by_start_and_id() {
    let root =
        Span { name: "say \"hi\"\n\u{1}é".into(), status: 2, ..span(0xab, 7, 0, u64::MAX - 9, u64::MAX) };
    let early = Span { service: Arc::from("é"), name: "".into(), ..span(0xab, 9, 7, u64::MAX - 10, 3) };
    let tied = span(0xab, 1, 7, u64::MAX - 9, 4);
    let scratch = Bump::new();
    let line = render_line(&trace_of([root, early, tied]), Verdict::Error, &scratch).unwrap();
    let expected = concat!(
        r#"{"trace_id":"000000000000000000000000000000ab","complete":true,"kept":"error","#,
        r#""root":"say \"hi\"\n\u0001é","start_unix_nano":"18446744073709551605","duration_ns":10,"#,
        r#""error_spans":1,"services":["svc","é"],"spans":["#,
        r#"{"span_id":"0000000000000009","parent_span_id":"0000000000000007","service":"é","name":"","kind":1,"#,
        r#""start_unix_nano":"18446744073709551605","end_unix_nano":"3","status":0},"#,
        r#"{"span_id":"0000000000000001","parent_span_id":"0000000000000007","service":"svc","name":"n1","kind":1,"#,
        r#""start_unix_nano":"18446744073709551606","end_unix_nano":"4","status":0},"#,
        r#"{"span_id":"0000000000000007","parent_span_id":"","service":"svc","name":"say \"hi\"\n\u0001é","kind":1,"#,
        r#""start_unix_nano":"18446744073709551606","end_unix_nano":"18446744073709551615","status":2}]}"#,
        "\n"
    );
    assert_eq!(std::str::from_utf8(line).unwrap(), expected);
}

#[test]
fn a_trace_that_ends_before_it_starts_has_a_negative_duration() {
    let backwards = trace_of([span(1, 1, 9, u64::MAX, 0)]);
    assert_eq!(backwards.duration_ns(), -i128::from(u64::MAX));
    assert_eq!((backwards.root_name(), backwards.is_complete()), ("", false));
}

/// The rules once more, stated over plain lists with every question asked afresh.
fn dumbest(rules: AssemblyRules, requests: &[Vec<Span>]) -> Vec<(u128, bool, Vec<u64>)> {
    let number = |id: &SpanId| u64::from_be_bytes(*id);
    let mut open: BTreeMap<u128, Vec<Span>> = BTreeMap::new();
    let mut emitted = Vec::new();
    let mut emit = |id: u128, complete: bool, spans: Vec<Span>| {
        let mut ids: Vec<(u64, u64)> =
            spans.iter().map(|span| (span.start_ns, number(&span.span_id))).collect();
        ids.sort_unstable();
        emitted.push((id, complete, ids.into_iter().map(|(_, id)| id).collect()));
    };
    let (mut max_end, mut watermark) = (0_i128, 0_i128);
    for request in requests {
        for span in request {
            let id = u128::from_be_bytes(span.trace_id);
            max_end = max_end.max(span.end_ns.into());
            let spans = open.entry(id).or_default();
            if spans.iter().any(|known| known.span_id == span.span_id) {
                continue;
            }
            spans.push(span.clone());
            let rooted = spans.iter().any(|span| span.parent.is_none());
            let known = |parent| spans.iter().any(|span| span.span_id == parent);
            if rooted && spans.iter().filter_map(|span| span.parent).all(known) {
                emit(id, true, open.remove(&id).unwrap());
            }
        }
        watermark = watermark.max(max_end - i128::from(rules.lag_ns));
        let expired = |spans: &[Span]| {
            let first = spans.iter().map(|span| i128::from(span.end_ns)).min().unwrap();
            first + i128::from(rules.ttl_ns) <= watermark
        };
        let due: Vec<u128> = open.iter().filter(|(_, spans)| expired(spans)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| emit(id, false, open.remove(&id).unwrap()));
    }
    open.into_iter().for_each(|(id, spans)| emit(id, false, spans));
    emitted.sort();
    emitted
}

fn any_span() -> impl Strategy<Value = Span> {
    (1..4_u128, 1..6_u64, 0..6_u64, 0..60_u64, 0..60_u64)
        .prop_map(|(trace, id, parent, start, end)| span(trace, id, parent, start * SECOND, end * SECOND))
}

proptest! {
    #[test]
    fn the_reference_emits_what_the_rules_say(
        requests in prop::collection::vec(prop::collection::vec(any_span(), 0..8), 0..8)
    ) {
        let expected = dumbest(rules(), &requests);
        let spans: usize = requests.iter().map(Vec::len).sum();
        let (counts, lines) = run(rules(), requests);
        let mut found: Vec<(u128, bool, Vec<u64>)> = lines.iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let hex = |value: &serde_json::Value| u128::from_str_radix(value.as_str().unwrap(), 16).unwrap();
            let ids = line["spans"].as_array().unwrap().iter().map(|span| hex(&span["span_id"]) as u64);
            (hex(&line["trace_id"]), line["complete"].as_bool().unwrap(), ids.collect())
        }).collect();
        found.sort();
        prop_assert_eq!(&found, &expected);
        let emitted = counts.complete + counts.partial_by_ttl + counts.partial_at_end;
        prop_assert_eq!(emitted, counts.output_lines);
        prop_assert_eq!(emitted, counts.traces + counts.reopened);
        let held: usize = found.iter().map(|(_, _, ids)| ids.len()).sum();
        prop_assert_eq!(spans, held + counts.duplicates as usize);
    }
}
