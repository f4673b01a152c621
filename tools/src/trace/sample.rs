//! Tail sampling: which assembled traces are kept.

use super::assemble::Trace;
use super::span::TraceId;

/// The decision over one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Kept: a span failed.
    Error,
    /// Kept: no span failed and it took long.
    Slow,
    /// Kept: neither, and the trace id falls into the sample.
    Sampled,
    /// Not kept.
    Dropped,
}

impl Verdict {
    /// The word in the output, `None` for what is dropped.
    pub fn as_kept(self) -> Option<&'static str> {
        match self {
            Verdict::Error => Some("error"),
            Verdict::Slow => Some("slow"),
            Verdict::Sampled => Some("sampled"),
            Verdict::Dropped => None,
        }
    }
}

/// OpenTelemetry's consistent probability threshold: a trace is in the sample when the last 7 bytes of its id, as
/// a big-endian number, are at or above `2^56 - round(share * 2^56)` (halves to even). The same id is in or
/// out wherever it is judged, and a smaller share keeps a subset of a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleThreshold(u64);

impl SampleThreshold {
    /// Every trace.
    pub const ALL: Self = Self(0);

    /// The threshold for keeping `share` of the traces; `None` unless 0 <= share <= 1.
    pub fn new(share: f64) -> Option<Self> {
        const RANGE: f64 = (1_u64 << 56) as f64;
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        Some(SampleThreshold((1 << 56) - (share * RANGE).round_ties_even() as u64))
    }

    /// Whether the id falls into the sample.
    pub fn includes(self, trace_id: &TraceId) -> bool {
        let mut last = [0; 8];
        last[1..].copy_from_slice(&trace_id[9..]);
        u64::from_be_bytes(last) >= self.0
    }
}

/// What is kept: every trace with an error, every slow one, and a share of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingRules {
    /// A trace that took at least this long is slow; nanoseconds.
    pub slow_ns: u64,
    /// The share of the other traces.
    pub sample: SampleThreshold,
}

impl SamplingRules {
    /// Decides over one trace. O(spans).
    pub fn judge(&self, trace: &Trace) -> Verdict {
        if trace.error_spans() > 0 {
            Verdict::Error
        } else if trace.duration_ns() >= i128::from(self.slow_ns) {
            Verdict::Slow
        } else if self.sample.includes(trace.trace_id()) {
            Verdict::Sampled
        } else {
            Verdict::Dropped
        }
    }
}
