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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::otlp::testing::{frame, proto_span, request};
    use crate::trace::SampleThreshold;

    fn span(trace: u128, id: u64, parent: u64, start: u64, end: u64) -> Span {
        decode(&frame(&request("s", vec![proto_span(trace, id, parent, start, end)])))
            .unwrap()
            .spans
            .remove(0)
    }

    fn pass(span: &Span, repeat: Repeat, repetition: u32) -> Span {
        let mut span = span.clone();
        repeat.apply(&mut span, repetition);
        span
    }

    #[test]
    fn the_first_pass_is_the_input_unchanged() {
        let span = span(1, 2, 3, 4, 5);
        assert_eq!(pass(&span, Repeat { extent_ns: 100 }, 0), span);
    }

    #[test]
    fn ids_of_many_passes_never_meet_and_sampling_and_parents_stay() {
        let repeat = Repeat { extent_ns: 100 };
        let share = SampleThreshold::new(0.3).unwrap();
        let (mut traces, mut ids) = (HashSet::new(), HashSet::new());
        for trace in 1..=20_u128 {
            let trace = trace << 50; // spread over the bytes that decide sampling
            let parent = span(trace, 7, 0, 10, 20);
            let child = span(trace, 8, 7, 10, 20);
            for repetition in 0..500 {
                let (parent, child) = (pass(&parent, repeat, repetition), pass(&child, repeat, repetition));
                assert_eq!(child.trace_id, parent.trace_id);
                assert_eq!(child.parent, Some(parent.span_id));
                assert_eq!(share.includes(&child.trace_id), share.includes(&trace.to_be_bytes()));
                assert!(traces.insert(child.trace_id));
                ids.insert(child.span_id);
            }
        }
        assert_eq!(ids.len(), 500);
    }

    #[test]
    fn no_valid_id_becomes_the_invalid_zero_or_meets_another() {
        let repeat = Repeat { extent_ns: 1 };
        for repetition in 1..100 {
            let mask = mask(repetition);
            let unlucky = span(u128::from(mask) << 64, mask, 0, 1, 2);
            let after = pass(&unlucky, repeat, repetition);
            assert_eq!((after.trace_id, after.span_id), (unlucky.trace_id, unlucky.span_id));
            let neighbour = pass(&span((u128::from(mask) << 64) + 1, mask ^ 1, 0, 1, 2), repeat, repetition);
            assert_eq!((neighbour.trace_id, neighbour.span_id), (1_u128.to_be_bytes(), 1_u64.to_be_bytes()));
        }
    }

    #[test]
    fn passes_follow_each_other_in_time_without_overlap() {
        let frames = [
            frame(&request("s", vec![proto_span(1, 2, 0, 1_000, 1_500)])),
            frame(&request("s", vec![proto_span(1, 3, 2, 1_100, 1_700), proto_span(1, 4, 2, 1_200, 1_100)])),
        ];
        let repeat = Repeat::measure(frames.into_iter().map(Ok)).unwrap();
        assert_eq!(repeat.extent_ns, 701);
        let (first, last) = (span(1, 2, 0, 1_000, 1_500), span(1, 3, 2, 1_100, 1_700));
        for repetition in 0..10 {
            assert!(pass(&first, repeat, repetition + 1).start_ns > pass(&last, repeat, repetition).end_ns);
        }
        assert_eq!(pass(&last, Repeat { extent_ns: u64::MAX }, 3).end_ns, u64::MAX);
    }
}
