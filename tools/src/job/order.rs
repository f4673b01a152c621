//! The stage `spans`: requests in the order of the input become spans and watermarks.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use corelane::model::Timestamp;
use corelane::stage::{Output, StageError, Transform};
use hashbrown::HashMap;

use super::fault::Fault;
use super::items::{ArrivedSpan, Request};
use super::tally::Tally;
use crate::trace::{Span, TraceId, Watermark};

/// Emits the spans of each request, then the watermark. Behind an ordered edge.
pub(super) struct SpanOrder {
    ttl_ns: u64,
    watermark: Watermark,
    /// The watermark after the last request.
    reached_ns: u64,
    next_index: u64,
    /// Where each trace of a request has its last span in it; kept for its memory.
    last_of: HashMap<TraceId, usize, BuildHasherDefault<ahash::AHasher>>,
    tally: Arc<Tally>,
    fault: Fault,
    /// Requests may be missing: they are dead letters.
    gaps: bool,
    /// A request could not be decoded: the rest is not wanted.
    ended: bool,
}

impl SpanOrder {
    pub(super) fn new(ttl_ns: u64, lag_ns: u64, tally: Arc<Tally>, fault: Fault) -> Self {
        SpanOrder {
            ttl_ns,
            watermark: Watermark::new(lag_ns),
            reached_ns: 0,
            next_index: 0,
            last_of: HashMap::default(),
            tally,
            fault,
            gaps: false,
            ended: false,
        }
    }

    /// Lets requests be missing.
    pub(super) fn with_gaps(self, gaps: bool) -> Self {
        Self { gaps, ..self }
    }

    fn emit(&mut self, spans: Vec<Span>, at_ns: u64, out: &mut Output<'_, ArrivedSpan>) {
        self.last_of.clear();
        for (position, span) in spans.iter().enumerate() {
            self.watermark.observe(span.end_ns);
            self.last_of.insert(span.trace_id, position);
        }
        let before_ns = std::mem::replace(&mut self.reached_ns, self.watermark.advance());
        // A span at this time expires a nanosecond after the watermark before the request.
        let earliest_ns = before_ns.saturating_add(1).saturating_sub(self.ttl_ns);
        for (position, span) in spans.into_iter().enumerate() {
            let is_last = self.last_of.get(&span.trace_id) == Some(&position);
            out.emit(ArrivedSpan {
                at_ns,
                time: timestamp(span.end_ns.max(earliest_ns)),
                decided_at_ns: if is_last { self.reached_ns } else { 0 },
                span,
            });
        }
        if self.reached_ns > before_ns {
            out.watermark(timestamp(self.reached_ns));
        }
    }
}

impl Transform for SpanOrder {
    type In = Request;
    type Out = ArrivedSpan;

    fn process(&mut self, request: Request, out: &mut Output<'_, ArrivedSpan>) -> Result<(), StageError> {
        if self.ended {
            return Ok(());
        }
        let in_order = request.index == self.next_index || self.gaps && request.index > self.next_index;
        if !in_order {
            let expected = self.next_index;
            return Err(StageError::msg(format_args!(
                "request {} came where {expected} was due",
                request.index
            )));
        }
        self.next_index = request.index + 1;
        match request.content {
            Ok(decoded) => {
                self.tally.bad_spans.add(decoded.bad.len() as u64);
                self.emit(decoded.spans, request.at_ns, out);
            }
            Err(error) => {
                self.ended = true;
                self.fault.raise_decode(error);
            }
        }
        Ok(())
    }
}

/// Event time as the runtime counts it; times after the year 2262 are the last moment of it.
fn timestamp(ns: u64) -> Timestamp {
    Timestamp(i64::try_from(ns).unwrap_or(i64::MAX))
}
