//! The chain: three stages and a fold, fused on one core, every stage with its counters.

use corelane::model::{Envelope, Timestamp};

use super::run;
use crate::case::{Measured, Setup};
use crate::workload::chain::{fold_bits, keep, scramble};

/// Over bare items.
///
/// # Errors
/// As every system of corelane: what kept it from running.
pub fn bare(items: u64, setup: &Setup) -> Result<Measured, String> {
    let (result, sum) = run(setup, "*={0}", |p| {
        p.generate("items", items, |i| i)
            .map("scramble", scramble)
            .filter("keep", |x| keep(*x))
            .map("fold-bits", fold_bits)
            .fold("sum", 0u64, u64::wrapping_add)
    })?;
    Ok(Measured {
        items,
        elapsed: result.duration,
        checksum: sum.take().into_iter().fold(0, u64::wrapping_add),
    })
}

/// Over corelane's envelopes, built at the source and read at the end.
///
/// # Errors
/// As [`bare`].
pub fn envelope(items: u64, setup: &Setup) -> Result<Measured, String> {
    let (result, sum) = run(setup, "*={0}", |p| {
        p.generate("items", items, |i| Envelope::at(i, Timestamp((i as i64).wrapping_mul(1_000)), i))
            .map("scramble", |e| e.map(scramble))
            .filter("keep", |e| keep(e.payload))
            .map("fold-bits", |e| e.map(fold_bits))
            .fold("sum", 0u64, |sum, e| sum.wrapping_add(contribution(&e)))
    })?;
    Ok(Measured {
        items,
        elapsed: result.duration,
        checksum: sum.take().into_iter().fold(0, u64::wrapping_add),
    })
}

/// As the hand-written program's: every field takes part, so none may be lost on the way.
#[inline]
fn contribution(e: &Envelope<u64>) -> u64 {
    let headers = e.headers().len() as u64;
    e.payload.wrapping_add(e.timestamp.0 as u64).wrapping_add(e.seq_id).wrapping_add(headers)
}
