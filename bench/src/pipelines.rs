//! Pipelines that are measured in [`lane`](crate::lane) and whose instructions `instructions` counts: the same ones, so that a count is of
//! what is measured.

use corelane::flow::{Collected, PipelineBuilder, Segment, Stream};
use corelane::model::{Envelope, Timestamp};
use corelane::policy::{BufferPolicy, Parallelism};

/// The multiplier of the chain's first operator.
pub const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The chain's first operator.
#[inline]
pub fn scramble(item: u64) -> u64 {
    item.wrapping_mul(MULTIPLIER)
}

/// The second operator.
#[inline]
pub fn keep(item: u64) -> bool {
    item & 3 != 0
}

/// The third operator.
#[inline]
pub fn fold_bits(item: u64) -> u64 {
    item ^ (item >> 7)
}

/// The chain over `items` bare items: three stages and a sum for each instance. With a `ring` there is one behind the first stage.
pub fn bare_chain(p: &PipelineBuilder, items: u64, ring: Option<BufferPolicy>) -> Collected<u64> {
    let scrambled = p.generate("items", items, |i| i).map("scramble", scramble);
    cut(scrambled.filter("keep", |item| keep(*item)), ring).map("fold-bits", fold_bits).fold(
        "sum",
        0u64,
        u64::wrapping_add,
    )
}

/// The chain over corelane's envelopes, built at the source and read at the end; otherwise as [`bare_chain`].
pub fn envelope_chain(p: &PipelineBuilder, items: u64, ring: Option<BufferPolicy>) -> Collected<u64> {
    let scrambled = p
        .generate("items", items, |i| Envelope::at(i, Timestamp((i as i64).wrapping_mul(1_000)), i))
        .map("scramble", |envelope| envelope.map(scramble));
    cut(scrambled.filter("keep", |envelope| keep(envelope.payload)), ring)
        .map("fold-bits", |envelope| envelope.map(fold_bits))
        .fold("sum", 0u64, |sum, envelope| sum.wrapping_add(contribution(&envelope)))
}

/// Puts a ring before the last stage of `stream`, if there is to be one.
fn cut<S: Segment>(stream: Stream<S>, ring: Option<BufferPolicy>) -> Stream<S> {
    match ring {
        Some(ring) => stream.input_buffer(ring),
        None => stream,
    }
}

/// Every field takes part, so none may be lost on the way.
#[inline]
fn contribution(envelope: &Envelope<u64>) -> u64 {
    let headers = envelope.headers().len() as u64;
    let rest = (envelope.timestamp.0 as u64).wrapping_add(envelope.seq_id).wrapping_add(headers);
    envelope.payload.wrapping_add(rest)
}

/// Sum and count of each key of the pairs that `pair` makes of the numbers below `pairs`, on every core that the core map gives it.
pub fn sums_by_key<F>(
    p: &PipelineBuilder,
    pairs: u64,
    pair: F,
) -> Stream<impl Segment<Item = (u64, (u64, u64))> + use<F>>
where
    F: FnMut(u64) -> (u64, u64) + Clone + Send + 'static,
{
    p.generate("pairs", pairs, pair).parallel(Parallelism::CpuBound).key_by(|pair| pair.0).fold(
        "sum-and-count",
        || (0u64, 0u64),
        |(sum, count), (_, value)| {
            *sum = sum.wrapping_add(value);
            *count += 1;
        },
    )
}
