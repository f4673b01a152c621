//! What flows between the stages.

use corelane::model::Timestamp;

use crate::otlp::{DecodeError, Decoded, Frame};
use crate::trace::{Span, Trace};

/// From `read` to `decode`.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) frame: Frame,
    /// When it was read, on the clock of the job; nanoseconds.
    pub(super) at_ns: u64,
}

/// From `decode` to `spans`.
#[derive(Debug)]
pub(super) struct Request {
    /// Position among all requests.
    pub(super) index: u64,
    pub(super) at_ns: u64,
    pub(super) content: Result<Decoded, DecodeError>,
}

/// From `spans` to `traces`.
#[derive(Debug)]
pub(super) struct ArrivedSpan {
    pub(super) span: Span,
    pub(super) at_ns: u64,
    /// Its place in event time: its end, but never so early that its time to live was over before its request came.
    /// A late trace must stay open until the end of the request, which may complete it.
    pub(super) time: Timestamp,
    /// On the last span of its trace in a request, the watermark at the end of that request: where it is decided
    /// whether a late trace expires. 0, at which nothing expires, on the others.
    pub(super) decided_at_ns: u64,
}

/// From `traces` to the rendering stages.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) trace: Trace,
    /// When its last span was read.
    pub(super) at_ns: u64,
}
