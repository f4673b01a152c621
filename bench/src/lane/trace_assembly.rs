//! Traces put together from their spans: replayed on each core in turn, and gathered where their trace lives.

use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::Completeness;
use corelane::policy::{AccumulatorPolicy, Parallelism};
use corelane::stage::StageSite;

use super::turns::in_turn;
use super::{checksum, everything_on, run};
use crate::case::{Measured, Setup};
use crate::workload::trace_assembly::{Gathered, Span};

/// Checksums of whole traces.
#[derive(Clone)]
struct Traces;

impl Accumulator<Span> for Traces {
    type Key = u64;
    type State = Gathered;
    type Out = u64;

    fn key(&self, span: &Span) -> u64 {
        span.trace
    }

    fn init(&mut self, _: &u64, _: &Span) -> Gathered {
        Gathered::default()
    }

    fn update(&mut self, of: &mut StateOf<Span, Self>, span: Span) {
        of.state.add(span);
    }

    fn check(&mut self, of: &mut StateOf<Span, Self>, _: CheckTime) -> Completeness<u64> {
        if of.state.is_whole() {
            Completeness::Complete(std::mem::take(&mut of.state).finish())
        } else {
            Completeness::Incomplete
        }
    }

    fn flush_forced(&mut self, _: &mut StateOf<Span, Self>, _: FlushReason) -> Option<u64> {
        None
    }
}

/// Assembles `spans` on `cores` cores, one or two.
///
/// # Errors
/// What kept it from running.
pub fn assembled(spans: &'static [Span], cores: usize, setup: &Setup) -> Result<Measured, String> {
    let (result, sums) = run(setup, everything_on(cores), |p| {
        p.source("spans", move |site: &StageSite| {
            Ok(in_turn(spans.len() as u64, site, move |index| spans[index as usize]))
        })
        .parallel(Parallelism::CpuBound)
        .accumulate("traces", AccumulatorPolicy::until_end(), Traces)
        .fold("checksum", 0u64, u64::wrapping_add)
    })?;
    Ok(Measured { items: spans.len() as u64, elapsed: result.duration, checksum: checksum(&sums) })
}
