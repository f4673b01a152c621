//! The behaviours of the W3C trace-context test suite (`test/test.py` of w3c/trace-context), at spec level 2 and strict
//! level 2, under the suite's own names. The suite sends requests to a service and looks at the headers of the calls
//! that the service makes; here the service is `call` below: take the context in, start a span under it, pass that on.
//!
//! Nothing of the suite is left out: its `AdvancedTest` cases (several calls of one request) are several spans under one
//! context. Where it allows two answers (duplicated keys), the test says which is ours.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use corelane::model::{TraceContext, TraceState};
use corelane::observe::{MemoryTracer, Tracer};

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// The contexts of the calls that a service makes while it serves a request with `headers`.
fn calls(headers: &[(&str, &str)], count: usize) -> Vec<TraceContext> {
    let tracer = MemoryTracer::default();
    let parent = TraceContext::from_headers(headers.iter().copied());
    let call = |_| {
        let span = tracer.start_span("call", parent.as_ref());
        let sent: Vec<(&str, String)> = span.to_headers().collect();
        TraceContext::from_headers(sent.iter().map(|(name, value)| (*name, value.as_str())))
            .expect("what is sent is valid")
    };
    (0..count).map(call).collect()
}

fn call(headers: &[(&str, &str)]) -> TraceContext {
    calls(headers, 1).remove(0)
}

/// Whether the trace of a request with these headers goes on.
fn goes_on(headers: &[(&str, &str)]) -> bool {
    let sent = call(headers);
    assert!(sent.is_valid() && sent.span_id.to_string() != SPAN);
    sent.trace_id.to_string() == TRACE
}

fn parent(text: &str) -> bool {
    goes_on(&[("traceparent", text)])
}

/// The state that goes on from a request with a valid parent and these headers.
fn state(headers: &[(&str, &str)]) -> TraceState {
    let good = format!("00-{TRACE}-{SPAN}-00");
    let headers: Vec<_> =
        [("traceparent", good.as_str())].into_iter().chain(headers.iter().copied()).collect();
    let sent = call(&headers);
    assert_eq!(sent.trace_id.to_string(), TRACE, "the state never spoils the parent");
    sent.state().clone()
}

fn states(values: &[&str]) -> TraceState {
    state(&values.iter().map(|value| ("tracestate", *value)).collect::<Vec<_>>())
}

fn good() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

#[test]
fn test_both_traceparent_and_tracestate_missing() {
    assert!(!goes_on(&[]));
}

#[test]
fn test_traceparent_included_tracestate_missing() {
    assert!(parent(&good()));
}

#[test]
fn test_traceparent_duplicated() {
    let other = good().replace("9012-", "9011-");
    assert!(!goes_on(&[("traceparent", &good()), ("traceparent", &other)]));
    assert!(!goes_on(&[("traceparent", &other), ("traceparent", &good())]));
}

#[test]
fn test_traceparent_header_name() {
    assert!(!goes_on(&[("trace-parent", &good())]));
    assert!(!goes_on(&[("trace.parent", &good())]));
}

#[test]
fn test_traceparent_header_name_valid_casing() {
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert!(goes_on(&[(name, &good())]), "{name}");
    }
}

/// The suite's cases of one `traceparent`: its name, what is sent, and whether the trace goes on.
const PARENTS: &[(&str, &str, bool)] = &[
    ("test_traceparent_version_0x00", "00-{t}-{s}-01.", false),
    ("test_traceparent_version_0x00", "00-{t}-{s}-01-what-the-future-will-be-like", false),
    ("test_traceparent_version_0xcc", "cc-{t}-{s}-01", true),
    ("test_traceparent_version_0xcc", "cc-{t}-{s}-01-what-the-future-will-be-like", true),
    ("test_traceparent_version_0xcc", "cc-{t}-{s}-01.what-the-future-will-be-like", false),
    ("test_traceparent_version_0xff", "ff-{t}-{s}-01", false),
    ("test_traceparent_version_illegal_characters", ".0-{t}-{s}-01", false),
    ("test_traceparent_version_illegal_characters", "0.-{t}-{s}-01", false),
    ("test_traceparent_version_too_long", "000-{t}-{s}-01", false),
    ("test_traceparent_version_too_long", "0000-{t}-{s}-01", false),
    ("test_traceparent_version_too_short", "0-{t}-{s}-01", false),
    ("test_traceparent_trace_id_all_zero", "00-00000000000000000000000000000000-{s}-01", false),
    ("test_traceparent_trace_id_illegal_characters", "00-.2345678901234567890123456789012-{s}-01", false),
    ("test_traceparent_trace_id_illegal_characters", "00-1234567890123456789012345678901.-{s}-01", false),
    ("test_traceparent_trace_id_too_long", "00-{t}3-{s}-01", false),
    ("test_traceparent_trace_id_too_short", "00-1234567890123456789012345678901-{s}-01", false),
    ("test_traceparent_parent_id_all_zero", "00-{t}-0000000000000000-01", false),
    ("test_traceparent_parent_id_illegal_characters", "00-{t}-.234567890123456-01", false),
    ("test_traceparent_parent_id_illegal_characters", "00-{t}-123456789012345.-01", false),
    ("test_traceparent_parent_id_too_long", "00-{t}-{s}7-01", false),
    ("test_traceparent_parent_id_too_short", "00-{t}-123456789012345-01", false),
    ("test_traceparent_trace_flags_illegal_characters", "00-{t}-{s}-.0", false),
    ("test_traceparent_trace_flags_illegal_characters", "00-{t}-{s}-0.", false),
    ("test_traceparent_trace_flags_too_long", "00-{t}-{s}-001", false),
    ("test_traceparent_trace_flags_too_short", "00-{t}-{s}-1", false),
    ("test_traceparent_ows_handling", " 00-{t}-{s}-01", true),
    ("test_traceparent_ows_handling", "\t00-{t}-{s}-01", true),
    ("test_traceparent_ows_handling", "00-{t}-{s}-01 ", true),
    ("test_traceparent_ows_handling", "00-{t}-{s}-01\t", true),
    ("test_traceparent_ows_handling", "\t 00-{t}-{s}-01 \t", true),
];

#[test]
fn each_traceparent_of_the_suite_goes_on_or_starts_a_new_trace_as_the_suite_says() {
    for (name, text, expected) in PARENTS {
        let text = text.replace("{t}", TRACE).replace("{s}", SPAN);
        assert_eq!(parent(&text), *expected, "{name}: {text:?}");
    }
}

#[test]
fn test_tracestate_included_traceparent_missing() {
    assert!(call(&[("tracestate", "foo=1")]).state().is_empty());
    assert!(call(&[("tracestate", "foo=1,bar=2")]).state().is_empty());
}

#[test]
fn test_tracestate_header_name() {
    assert!(state(&[("trace-state", "foo=1")]).is_empty());
    assert!(state(&[("trace.state", "foo=1")]).is_empty());
}

#[test]
fn test_tracestate_header_name_valid_casing() {
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        assert_eq!(state(&[(name, "foo=1")]).get("foo"), Some("1"), "{name}");
    }
}

/// The suite's cases of `tracestate` headers: its name, what is sent, and what goes on; nothing stands for discarded.
const STATES: &[(&str, &[&str], &str)] = &[
    ("test_tracestate_included_traceparent_included", &["foo=1,bar=2"], "foo=1,bar=2"),
    ("test_tracestate_empty_header", &[""], ""),
    ("test_tracestate_empty_header", &["foo=1", ""], "foo=1"),
    ("test_tracestate_empty_header", &["", "foo=1"], "foo=1"),
    (
        "test_tracestate_multiple_headers_different_keys",
        &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
        "foo=1,bar=2,rojo=1,congo=2,baz=3",
    ),
    ("test_tracestate_duplicated_keys", &["foo=1,foo=1"], "foo=1"),
    ("test_tracestate_duplicated_keys", &["foo=1,foo=2"], "foo=1"),
    ("test_tracestate_duplicated_keys", &["foo=1", "foo=1"], "foo=1"),
    ("test_tracestate_duplicated_keys", &["foo=1", "foo=2"], "foo=1"),
    ("test_tracestate_ows_handling", &["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
    ("test_tracestate_ows_handling", &["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
    ("test_tracestate_ows_handling", &[" foo=1"], "foo=1"),
    ("test_tracestate_ows_handling", &["\tfoo=1"], "foo=1"),
    ("test_tracestate_ows_handling", &["foo=1 "], "foo=1"),
    ("test_tracestate_ows_handling", &["foo=1\t"], "foo=1"),
    ("test_tracestate_ows_handling", &["\t foo=1 \t"], "foo=1"),
    ("test_tracestate_key_illegal_characters", &["foo =1"], ""),
    ("test_tracestate_key_illegal_characters", &["FOO=1"], ""),
    ("test_tracestate_key_illegal_characters", &["foo.bar=1"], ""),
    ("test_tracestate_key_illegal_vendor_format", &["foo@=1,bar=2"], "foo@=1,bar=2"),
    ("test_tracestate_key_illegal_vendor_format", &["@foo=1,bar=2"], ""),
    ("test_tracestate_key_illegal_vendor_format", &["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
    ("test_tracestate_key_illegal_vendor_format", &["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
    ("test_tracestate_value_illegal_characters", &["foo=bar=baz"], ""),
    ("test_tracestate_value_illegal_characters", &["foo=,bar=3"], ""),
];

#[test]
fn each_tracestate_of_the_suite_goes_on_or_is_discarded_as_the_suite_says() {
    for (name, sent, expected) in STATES {
        assert_eq!(states(sent).to_string(), *expected, "{name}: {sent:?}");
    }
}

#[test]
fn test_tracestate_all_allowed_characters() {
    let chars = |from: u8, to: u8| (from..=to).map(char::from).collect::<String>();
    let key = chars(b'a', b'z') + "0123456789_-*/";
    let value = chars(0x20, 0x2b) + &chars(0x2d, 0x3c) + &chars(0x3e, 0x7e);
    for key in [key.clone(), key + "@a-z0-9_-*/"] {
        assert_eq!(states(&[&format!("{key}={value}")]).get(&key), Some(value.as_str()));
    }
}

#[test]
fn test_tracestate_member_count_limit() {
    let members = |numbers: std::ops::RangeInclusive<u32>| {
        numbers.map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
    };
    let (first, second, third) = (members(1..=10), members(11..=20), members(21..=30));
    let fits = states(&[&first, &second, &third, &members(31..=32)]);
    assert_eq!((fits.len(), fits.get("bar01")), (32, Some("01")));
    assert!(states(&[&first, &second, &third, &members(31..=33)]).is_empty());
}

#[test]
fn test_tracestate_key_length_limit() {
    let keys = ["z".repeat(256), "t".repeat(241) + "@" + &"v".repeat(14), "t".repeat(242) + "@v"];
    for key in keys.into_iter().chain(["t@".to_owned() + &"v".repeat(15)]) {
        let state = states(&["foo=1", &format!("{key}=1")]);
        assert_eq!((state.get("foo"), state.get(&key)), (Some("1"), Some("1")), "{key}");
    }
    assert!(states(&["foo=1", &format!("{}=1", "z".repeat(257))]).is_empty());
}

#[test]
fn test_multiple_requests() {
    let spans = |sent: &[TraceContext]| {
        sent.iter().map(|call| call.span_id).collect::<std::collections::BTreeSet<_>>().len()
    };
    let zero = format!("00-{}-{SPAN}-01", "0".repeat(32));
    for (headers, goes_on) in [
        (&[("traceparent", &*good())][..], true), // test_multiple_requests_with_valid_traceparent
        (&[], false),                             // test_multiple_requests_without_traceparent
        (&[("traceparent", &*zero)], false),      // test_multiple_requests_with_illegal_traceparent
    ] {
        let sent = calls(headers, 3);
        assert_eq!(spans(&sent), 3);
        assert!(sent.iter().all(|call| (call.trace_id.to_string() == TRACE) == goes_on));
    }
}

#[test]
fn test_propagates_random_flag() {
    let sent = call(&[("traceparent", &format!("00-{TRACE}-{SPAN}-02"))]);
    assert_eq!((sent.trace_id.to_string().as_str(), sent.flags & 2), (TRACE, 2));
}
