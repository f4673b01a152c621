//! The stage `traces`: spans gathered by trace id.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Cost, ProgressWeights, Timestamp};
use corelane::stage::{StageError, StageSite};
use hashbrown::HashSet;

use super::items::{ArrivedSpan, Assembled};
use super::tally::{Tallies, Tally};
use crate::trace::{Added, TraceId, TraceState, is_expired};

/// Ids remembered at most, twice; 17 bytes and a load factor each.
const REMEMBERED_IDS: usize = 1 << 20;

/// The ids of emitted traces: all of the last [`REMEMBERED_IDS`], and up to as many again before them. Older ones are
/// forgotten, so that an endless input does not fill the memory; a trace that comes back later than that counts as
/// another.
#[derive(Debug, Clone, Default)]
struct EmittedIds {
    recent: IdSet,
    older: IdSet,
}

type IdSet = HashSet<TraceId, BuildHasherDefault<ahash::AHasher>>;

impl EmittedIds {
    fn contains(&self, id: &TraceId) -> bool {
        self.recent.contains(id) || self.older.contains(id)
    }

    /// True if it was not there.
    fn insert(&mut self, id: TraceId, limit: usize) -> bool {
        if self.recent.len() >= limit {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(id) && !self.older.contains(&id)
    }
}

/// What is kept of a trace.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    trace: TraceState,
    /// When its last span was read.
    at_ns: u64,
    /// See [`ArrivedSpan::decided_at_ns`].
    decided_at_ns: u64,
}

/// Gathers spans until their trace is complete or expires.
///
/// The time to live counts from the earliest end among the spans, and the runtime lets go of a trace when the watermark
/// reaches the end of it. A trace that is late from the start (spans of it came after it had expired) has that point
/// behind it: it is decided here, at its last span in a request. (A duplicate span with an earlier end than the first
/// of its id would shorten the time to live; exporters send the same span again, not another.)
#[derive(Clone)]
pub(super) struct TraceAccumulator {
    ttl_ns: u64,
    tallies: Tallies,
    tally: Arc<Tally>,
    emitted: EmittedIds,
}

impl TraceAccumulator {
    pub(super) fn new(ttl_ns: u64, tallies: Tallies) -> Self {
        TraceAccumulator { ttl_ns, tallies, tally: Arc::default(), emitted: EmittedIds::default() }
    }

    fn emit(&mut self, state: &mut Gathering, complete: bool) -> Option<Assembled> {
        let Gathering { trace, at_ns, .. } = std::mem::take(state);
        let trace = trace.finish(complete)?; // a state is opened by its first span
        let is_new = self.emitted.insert(*trace.trace_id(), REMEMBERED_IDS);
        self.tally.traces.add(u64::from(is_new));
        Some(Assembled { trace, at_ns })
    }
}

impl Accumulator<ArrivedSpan> for TraceAccumulator {
    type Key = TraceId;
    type State = Gathering;
    type Out = Assembled;

    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.tally = self.tallies.instance();
        Ok(())
    }

    fn key(&self, item: &ArrivedSpan) -> TraceId {
        item.span.trace_id
    }

    fn timestamp(&self, item: &ArrivedSpan, _time: CheckTime) -> Timestamp {
        item.time
    }

    fn cost(&self, item: &ArrivedSpan) -> Cost {
        Cost::of_bytes(item.span.size_bytes() as u64)
    }

    fn init(&mut self, key: &TraceId, _first: &ArrivedSpan) -> Gathering {
        self.tally.reopened.add(u64::from(self.emitted.contains(key)));
        Gathering::default()
    }

    fn update(&mut self, of: &mut StateOf<ArrivedSpan, Self>, item: ArrivedSpan) {
        let ArrivedSpan { span, at_ns, decided_at_ns, .. } = item;
        of.state.at_ns = at_ns;
        of.state.decided_at_ns = decided_at_ns;
        let is_duplicate = of.state.trace.add(span) == Added::Duplicate;
        self.tally.duplicates.add(u64::from(is_duplicate));
    }

    fn progress(&self, of: &StateOf<ArrivedSpan, Self>, _weights: &ProgressWeights) -> f64 {
        of.state.trace.completeness()
    }

    fn check(&mut self, of: &mut StateOf<ArrivedSpan, Self>, _time: CheckTime) -> Completeness<Assembled> {
        if of.state.trace.is_complete() {
            return self.emit(&mut of.state, true).map_or(Completeness::Incomplete, Completeness::Complete);
        }
        let first_ts = of.state.trace.first_ts();
        if first_ts.is_some_and(|first_ts| is_expired(first_ts, self.ttl_ns, of.state.decided_at_ns)) {
            return Completeness::Expired(self.emit(&mut of.state, false));
        }
        Completeness::Incomplete
    }

    fn flush_forced(
        &mut self,
        of: &mut StateOf<ArrivedSpan, Self>,
        _reason: FlushReason,
    ) -> Option<Assembled> {
        self.emit(&mut of.state, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_up_to_the_limit_and_the_memory_is_bounded() {
        let mut ids = EmittedIds::default();
        let id = |n: u128| n.to_be_bytes();
        for n in 0..1_000 {
            assert!(ids.insert(id(n), 100));
            assert!(!ids.insert(id(n), 100), "known at once");
            assert!((n.saturating_sub(99)..=n).all(|n| ids.contains(&id(n))), "the last hundred are known");
            assert!(ids.recent.len() <= 100 && ids.older.len() <= 100);
        }
        assert!(!ids.contains(&id(700)) && ids.insert(id(700), 100));
    }
}
