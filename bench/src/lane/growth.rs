//! Chains of more and more stages.

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{checksum, run};
use crate::case::{Measured, Setup};
use crate::stats::splitmix;
use crate::workload::chain::fold_bits;

/// How many stages there can be between the source and the sum.
pub const STAGES: &[u64] = &[1, 2, 4, 8, 16];

/// Adds one stage, with a ring before it if `cut`.
fn one<S: Segment<Item = u64>>(
    stream: Stream<S>,
    name: &str,
    cut: bool,
) -> Stream<impl Segment<Item = u64> + use<S>> {
    let stream = stream.map(name, fold_bits);
    if cut { stream.input_cut() } else { stream }
}

fn two<S: Segment<Item = u64>>(
    stream: Stream<S>,
    name: &str,
    cut: bool,
) -> Stream<impl Segment<Item = u64> + use<S>> {
    one(one(stream, &format!("{name}0"), cut), &format!("{name}1"), cut)
}

fn four<S: Segment<Item = u64>>(
    stream: Stream<S>,
    name: &str,
    cut: bool,
) -> Stream<impl Segment<Item = u64> + use<S>> {
    two(two(stream, &format!("{name}0"), cut), &format!("{name}1"), cut)
}

fn eight<S: Segment<Item = u64>>(
    stream: Stream<S>,
    name: &str,
    cut: bool,
) -> Stream<impl Segment<Item = u64> + use<S>> {
    four(four(stream, &format!("{name}0"), cut), &format!("{name}1"), cut)
}

/// `items` numbers through `stages` stages on the first core, one of [`STAGES`], and summed.
///
/// # Errors
/// What kept it from running.
pub fn stages(items: u64, stages: u64, cut: bool, setup: &Setup) -> Result<Measured, String> {
    let (result, sum) = run(setup, "*={0}", |p: &PipelineBuilder| {
        // Not a sequence: the compiler would sum it up without a loop.
        let items = p.generate("items", items, splitmix);
        match stages {
            1 => one(items, "s", cut).fold("sum", 0u64, u64::wrapping_add),
            2 => two(items, "s", cut).fold("sum", 0, u64::wrapping_add),
            4 => four(items, "s", cut).fold("sum", 0, u64::wrapping_add),
            8 => eight(items, "s", cut).fold("sum", 0, u64::wrapping_add),
            _ => eight(eight(items, "s0", cut), "s1", cut).fold("sum", 0, u64::wrapping_add),
        }
    })?;
    Ok(Measured { items, elapsed: result.duration, checksum: checksum(&sum) })
}

/// The right sum.
pub fn expected(items: u64, stages: u64) -> u64 {
    let through = |item| (0..stages).fold(splitmix(item), |item, _| fold_bits(item));
    (0..items).map(through).fold(0, u64::wrapping_add)
}
