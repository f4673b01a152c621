//! The chain: three stages and a fold, fused on one core, every stage with its counters.

use corelane::model::{Envelope, Timestamp};

use super::{checksum, run};
use crate::case::{Measured, Setup};
use crate::workload::chain::{fold_bits, keep, scramble};

/// All on the first core.
const ONE_CORE: &str = "*={0}";
/// The source and the first operator on the first core, the rest on the second.
const SPLIT: &str = "items={0};scramble={0};*={1}";

/// Over bare items, on one core.
///
/// # Errors
/// As every system of corelane: what kept it from running.
pub fn bare(items: u64, setup: &Setup) -> Result<Measured, String> {
    bare_on(items, ONE_CORE, setup)
}

/// Over corelane's envelopes, built at the source and read at the end, on one core.
///
/// # Errors
/// As [`bare`].
pub fn envelope(items: u64, setup: &Setup) -> Result<Measured, String> {
    envelope_on(items, ONE_CORE, setup)
}

/// As [`bare`], with a ring to another core behind the first operator.
///
/// # Errors
/// As [`bare`].
pub fn split(items: u64, setup: &Setup) -> Result<Measured, String> {
    bare_on(items, SPLIT, setup)
}

/// As [`envelope`], with a ring to another core behind the first operator.
///
/// # Errors
/// As [`bare`].
pub fn split_envelope(items: u64, setup: &Setup) -> Result<Measured, String> {
    envelope_on(items, SPLIT, setup)
}

fn bare_on(items: u64, map: &str, setup: &Setup) -> Result<Measured, String> {
    let (result, sum) = run(setup, map, |p| {
        p.generate("items", items, |i| i)
            .map("scramble", scramble)
            .filter("keep", |x| keep(*x))
            .map("fold-bits", fold_bits)
            .fold("sum", 0u64, u64::wrapping_add)
    })?;
    Ok(Measured { items, elapsed: result.duration, checksum: checksum(&sum) })
}

fn envelope_on(items: u64, map: &str, setup: &Setup) -> Result<Measured, String> {
    let (result, sum) = run(setup, map, |p| {
        p.generate("items", items, |i| Envelope::at(i, Timestamp((i as i64).wrapping_mul(1_000)), i))
            .map("scramble", |e| e.map(scramble))
            .filter("keep", |e| keep(e.payload))
            .map("fold-bits", |e| e.map(fold_bits))
            .fold("sum", 0u64, |sum, e| sum.wrapping_add(contribution(&e)))
    })?;
    Ok(Measured { items, elapsed: result.duration, checksum: checksum(&sum) })
}

/// As the hand-written program's: every field takes part, so none may be lost on the way.
#[inline]
fn contribution(e: &Envelope<u64>) -> u64 {
    let headers = e.headers().len() as u64;
    e.payload.wrapping_add(e.timestamp.0 as u64).wrapping_add(e.seq_id).wrapping_add(headers)
}
