//! The part of a span that assembly needs.

use std::sync::Arc;

/// The W3C trace id, never all zero.
pub type TraceId = [u8; 16];
/// The W3C span id, never all zero.
pub type SpanId = [u8; 8];

/// The status code of a span that failed (`STATUS_CODE_ERROR`).
pub const STATUS_ERROR: i32 = 2;

/// One span, with what assembly needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span that caused it, `None` for a root.
    pub parent: Option<SpanId>,
    /// The resource's `service.name`, empty when it has none; shared by the spans of one resource.
    pub service: Arc<str>,
    /// What it did.
    pub name: Box<str>,
    /// The span kind as sent, 0 to 5 in today's protocol.
    pub kind: i32,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// End, nanoseconds since the Unix epoch; not always after the start.
    pub end_ns: u64,
    /// The status code as sent; [`STATUS_ERROR`] is a failure.
    pub status: i32,
}

impl Span {
    /// Heap bytes and own size: what an accumulator counts against its limit. The shared service name is not
    /// counted.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }
}
