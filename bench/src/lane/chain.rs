//! The chain: three stages and a fold, fused on one core, every stage with its counters.

use corelane::flow::{Collected, PipelineBuilder};
use corelane::policy::{BufferPolicy, DropPolicy};

use super::{checksum, run};
use crate::case::{Measured, Setup};
use crate::pipelines::{bare_chain, envelope_chain};
use crate::workload::chain::hand::SLOTS;

/// All on the first core.
const ONE_CORE: &str = "*={0}";
/// The source and the first operator on the first core, the rest on the second.
const SPLIT: &str = "items={0};scramble={0};*={1}";

/// Over bare items, on one core.
///
/// # Errors
/// As every system of corelane: what kept it from running.
pub fn bare(items: u64, setup: &Setup) -> Result<Measured, String> {
    summed(items, ONE_CORE, setup, bare_chain)
}

/// Over corelane's envelopes, built at the source and read at the end, on one core.
///
/// # Errors
/// As [`bare`].
pub fn envelope(items: u64, setup: &Setup) -> Result<Measured, String> {
    summed(items, ONE_CORE, setup, envelope_chain)
}

/// As [`bare`], with a ring to another core behind the first operator, as large as the hand's.
///
/// # Errors
/// As [`bare`].
pub fn split(items: u64, setup: &Setup) -> Result<Measured, String> {
    summed(items, SPLIT, setup, bare_chain)
}

/// As [`envelope`], with a ring to another core behind the first operator.
///
/// # Errors
/// As [`bare`].
pub fn split_envelope(items: u64, setup: &Setup) -> Result<Measured, String> {
    summed(items, SPLIT, setup, envelope_chain)
}

fn summed(
    items: u64,
    map: &str,
    setup: &Setup,
    chain: fn(&PipelineBuilder, u64, Option<BufferPolicy>) -> Collected<u64>,
) -> Result<Measured, String> {
    let ring = (map == SPLIT).then(|| BufferPolicy::new(SLOTS as u64, DropPolicy::Block));
    let (result, sum) = run(setup, map, |p| chain(p, items, ring))?;
    Ok(Measured { items, elapsed: result.duration, checksum: checksum(&sum) })
}
