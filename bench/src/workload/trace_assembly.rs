//! trace-assembly: spans that come in between those of other traces, gathered until their trace is whole.
//!
//! The middle of `corelane run trace-assembly`, without the reading and the writing around it: spans are in memory. A trace's state grows
//! and goes, where that of a key in `keyed` stays.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::keyed::hasher;
use crate::case::{Case, Setup};
use crate::lane;
use crate::pin;
use crate::stats::{below, splitmix};

/// Spans of a full run, or a few more.
const SPANS: u64 = 4_000_000;
/// A trace has as many spans at most; at least one, and each number as often as the next.
const LONGEST: u64 = 15;
/// A span comes as many places later at most than in the order of traces: so many traces are open at the same time, times eight.
const SCATTER: u64 = 32_768;

/// What is known of a call within a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which request.
    pub trace: u64,
    /// Its own number within the trace.
    pub id: u32,
    /// How many spans the trace has, if this is the first call; else 0.
    pub of: u32,
    /// When it began, nanoseconds.
    pub start_ns: u64,
    /// How long it took, nanoseconds.
    pub took_ns: u64,
}

/// Whole traces with at least `spans` spans in all, mixed with one another; the same each time.
pub fn spans(spans: u64) -> Vec<Span> {
    let mut placed: Vec<(u64, Span)> = Vec::with_capacity((spans + LONGEST) as usize);
    let mut trace = 0;
    while (placed.len() as u64) < spans {
        let of = 1 + below(splitmix(trace), LONGEST);
        for id in 0..of {
            let random = splitmix(trace << 8 | id);
            let span = Span {
                trace: splitmix(!trace),
                id: id as u32,
                of: if id == 0 { of as u32 } else { 0 },
                start_ns: trace * 1_000 + (random >> 48),
                took_ns: random & 0xFFFF,
            };
            placed.push((placed.len() as u64 + below(splitmix(random), SCATTER), span));
        }
        trace += 1;
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, span)| span).collect()
}

/// The spans of a trace that have come. The program written by hand keeps the same: what is compared is what gets a span here.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    spans: Vec<Span>,
    of: u32,
}

impl Gathered {
    /// Takes a span of this trace in.
    #[inline]
    pub fn add(&mut self, span: Span) {
        self.of = self.of.max(span.of);
        self.spans.push(span);
    }

    /// Whether all of its spans are here.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.spans.len() == self.of as usize
    }

    /// A checksum of the spans in order of start; those of all traces are added.
    pub fn finish(mut self) -> u64 {
        self.spans.sort_unstable_by_key(|span| (span.start_ns, span.id));
        self.spans.iter().fold(0, |sum, span| {
            splitmix(splitmix(splitmix(sum ^ span.trace) ^ u64::from(span.id)).wrapping_add(span.took_ns))
        })
    }
}

/// The program written by hand, on one core.
pub fn hand(spans: &[Span]) -> u64 {
    let mut open: HashMap<u64, Gathered, ahash::RandomState> = HashMap::with_hasher(hasher());
    let mut sum = 0_u64;
    for span in spans {
        let mut entry = match open.entry(span.trace) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(Gathered::default()),
        };
        entry.get_mut().add(*span);
        if entry.get().is_whole() {
            sum = sum.wrapping_add(entry.remove().finish());
        }
    }
    sum
}

/// The right checksum: all spans by trace, with nothing let go of before the end.
pub fn expected(spans: &[Span]) -> u64 {
    let mut traces: BTreeMap<u64, Gathered> = BTreeMap::new();
    spans.iter().for_each(|span| traces.entry(span.trace).or_default().add(*span));
    let whole = traces.into_values().filter(Gathered::is_whole);
    whole.fold(0, |sum, trace| sum.wrapping_add(trace.finish()))
}

/// The comparisons: corelane on one core and on two beside one loop.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let spans: &'static [Span] = Vec::leak(spans(setup.scaled(SPANS)));
    let right = expected(spans);
    let case = |cores| {
        Case::new("trace-assembly", "spans", cores, right)
            .work(format!("{} k spans, 1 to {LONGEST} of a trace", spans.len() / 1_000))
            .reference("hand")
            .system("hand", move |setup| {
                pin::timed_on_one(spans.len() as u64, setup.cores[0], || hand(spans))
            })
            .try_system("corelane", move |setup| lane::trace_assembly::assembled(spans, cores, setup))
    };
    (1..=setup.cores.len().min(2)).map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Driver;

    #[test]
    fn the_program_by_hand_and_corelane_assemble_what_an_ordered_map_does() {
        let cores = pin::allowed();
        let setup = Setup { cores, driver: Driver::Thread, quick: true, nexmark: Default::default() };
        // The last ones are a part of what is there: a trace that is never whole is in no checksum.
        for (all, taken) in [(1, 1), (60_000, 60_000), (60_000, 40_000)] {
            let spans: &'static [Span] = Vec::leak(spans(all));
            let spans = &spans[..taken];
            let right = expected(spans);
            assert_eq!(hand(spans), right, "{taken} spans");
            for cores in 1..=setup.cores.len().min(2) {
                let run = lane::trace_assembly::assembled(spans, cores, &setup).unwrap();
                assert_eq!((run.items, run.checksum), (taken as u64, right), "{taken} spans on {cores}");
            }
        }
    }

    #[test]
    fn traces_are_mixed_and_whole() {
        let spans = spans(100_000);
        let mut left: BTreeMap<u64, i64> = BTreeMap::new();
        let mut most = 0;
        for span in &spans {
            let entry = left.entry(span.trace).or_default();
            *entry += i64::from(span.of) - 1;
            if *entry == 0 {
                left.remove(&span.trace);
            }
            most = most.max(left.len());
        }
        assert!(left.is_empty(), "{} traces lack spans", left.len());
        assert!(most > 2_000, "{most} traces open at most");
    }

    #[test]
    fn a_span_less_or_another_duration_changes_the_checksum() {
        let all = spans(1_000);
        let right = expected(&all);
        assert_ne!(expected(&all[1..]), right);
        let mut other = all.clone();
        other[500].took_ns += 1;
        assert_ne!(expected(&other), right);
    }
}
