//! An assembled trace as a line of JSON.

use std::fmt;

use bumpalo::Bump;
use bumpalo::collections::Vec as ScratchVec;
use serde::Serialize;
use serde::ser::Serializer;

use super::assemble::Trace;
use super::sample::Verdict;
use super::span::{Span, SpanId};

/// The keys stand in the output in the order of these fields.
#[derive(Serialize)]
struct Line<'a> {
    trace_id: Hex<'a>,
    complete: bool,
    kept: &'static str,
    root: &'a str,
    start_unix_nano: Decimal,
    duration_ns: i128,
    error_spans: usize,
    services: &'a [&'a str],
    #[serde(serialize_with = "spans")]
    spans: &'a [Span],
}

#[derive(Serialize)]
struct SpanLine<'a> {
    span_id: Hex<'a>,
    parent_span_id: Hex<'a>,
    service: &'a str,
    name: &'a str,
    kind: i32,
    start_unix_nano: Decimal,
    end_unix_nano: Decimal,
    status: i32,
}

fn spans<S: Serializer>(spans: &[Span], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(spans.iter().map(|span| SpanLine {
        span_id: Hex(&span.span_id),
        parent_span_id: Hex(span.parent.as_ref().map_or(&[], SpanId::as_slice)),
        service: &span.service,
        name: &span.name,
        kind: span.kind,
        start_unix_nano: Decimal(span.start_ns),
        end_unix_nano: Decimal(span.end_ns),
        status: span.status,
    }))
}

/// Bytes as lower-case hex digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A 64-bit number as a string: JSON readers that use doubles would change it.
struct Decimal(u64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The trace as compact JSON with a newline at the end, in memory of `scratch`; keys in a fixed order, 64-bit times as strings.
/// `None` for [`Verdict::Dropped`].
pub fn render_line<'s>(trace: &Trace, verdict: Verdict, scratch: &'s Bump) -> Option<&'s [u8]> {
    let kept = verdict.as_kept()?;
    let names = trace.spans().iter().map(|span| &*span.service);
    let mut services = ScratchVec::from_iter_in(names, scratch);
    services.sort_unstable();
    services.dedup();
    let content = Line {
        trace_id: Hex(trace.trace_id()),
        complete: trace.is_complete(),
        kept,
        root: trace.root_name(),
        start_unix_nano: Decimal(trace.start_ns()),
        duration_ns: trace.duration_ns(),
        error_spans: trace.error_spans(),
        services: &services,
        spans: trace.spans(),
    };
    let mut line = ScratchVec::new_in(scratch);
    let written = serde_json::to_writer(&mut line, &content);
    debug_assert!(written.is_ok(), "strings and numbers into memory cannot fail: {written:?}");
    written.ok()?; // never half a line
    line.push(b'\n');
    Some(line.into_bump_slice())
}
