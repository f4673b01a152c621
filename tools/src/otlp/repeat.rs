//! `--repeat N`: the same input again, as if it were more load of the same kind.
//!
//! In pass `r` (from 0; pass 0 is the input unchanged)
//!
//! * the first 8 bytes of every trace id and every span id are changed by XOR with a constant of the pass. XOR is
//!   one-to-one, so ids that differ stay different, and parents still name their spans; constants of different
//!   passes differ in about half their bits, so ids of different passes meet only if the input holds two
//!   ids that differ by exactly that pattern. The last 7 bytes of a trace id, which decide sampling,
//!   stay: every pass keeps the same share of traces.
//! * every time moves by `r` times the extent of the input (last end minus first start, plus one nanosecond), so a
//!   pass begins after everything before it has ended, and event time moves on as in one longer recording.
//!
//! The extent must be known before pass 1 begins, on whichever core decodes it, so it is measured in a pass of its
//! own before the run.

use super::decode::{DecodeError, decode};
use super::error::InputError;
use super::framing::Frame;
use crate::trace::Span;

/// How spans change from pass to pass. Plain data: give every decoder a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repeat {
    /// Nanoseconds from one pass to the next.
    pub extent_ns: u64,
}

/// Why the extent of the input could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RepeatError {
    /// The input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A request cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Repeat {
    /// Reads and decodes all requests once, to learn how long the recording is.
    ///
    /// # Errors
    ///
    /// The first request that cannot be read or decoded.
    pub fn measure(
        requests: impl IntoIterator<Item = Result<Frame, InputError>>,
    ) -> Result<Self, RepeatError> {
        let mut first_start = u64::MAX;
        let mut last_end = 0;
        for frame in requests {
            for span in decode(&frame?)?.spans {
                first_start = first_start.min(span.start_ns).min(span.end_ns);
                last_end = last_end.max(span.end_ns).max(span.start_ns);
            }
        }
        Ok(Repeat { extent_ns: last_end.saturating_sub(first_start).saturating_add(1) })
    }

    /// Turns a span of the input into the span of pass `repetition`.
    ///
    /// Times stop at `u64::MAX`.
    pub fn apply(&self, span: &mut Span, repetition: u32) {
        if repetition == 0 {
            return;
        }
        let mask = mask(repetition);
        let trace = u128::from_be_bytes(span.trace_id);
        let renamed = trace ^ (u128::from(mask) << 64);
        span.trace_id = if renamed == 0 { trace } else { renamed }.to_be_bytes();
        span.span_id = rename(span.span_id, mask);
        span.parent = span.parent.map(|parent| rename(parent, mask));
        let shift = self.extent_ns.saturating_mul(u64::from(repetition));
        span.start_ns = span.start_ns.saturating_add(shift);
        span.end_ns = span.end_ns.saturating_add(shift);
    }
}

/// One-to-one on the valid ids: the id that XOR would turn into the invalid zero keeps its value, which no other id
/// is turned into, because only zero would be.
fn rename(id: [u8; 8], mask: u64) -> [u8; 8] {
    match u64::from_be_bytes(id) ^ mask {
        0 => id,
        renamed => renamed.to_be_bytes(),
    }
}

/// SplitMix64's finaliser: one-to-one, so the constants of two passes always differ.
fn mask(repetition: u32) -> u64 {
    let mut mixed = u64::from(repetition).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
