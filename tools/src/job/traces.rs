//! The stage `traces`: spans gathered by trace id.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use corelane::model::{Completeness, Timestamp};
use corelane::stage::{Output, StageError, StageSite, Transform};
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

    fn open(&mut self) {
        self.tally = self.tallies.instance();
    }

    fn init(&mut self, key: &TraceId) -> Gathering {
        self.tally.reopened.add(u64::from(self.emitted.contains(key)));
        Gathering::default()
    }

    fn update(&mut self, state: &mut Gathering, item: ArrivedSpan) {
        let ArrivedSpan { span, at_ns, decided_at_ns, .. } = item;
        state.at_ns = at_ns;
        state.decided_at_ns = decided_at_ns;
        let is_duplicate = state.trace.add(span) == Added::Duplicate;
        self.tally.duplicates.add(u64::from(is_duplicate));
    }

    fn check(&mut self, state: &mut Gathering) -> Completeness<Assembled> {
        if state.trace.is_complete() {
            return self.emit(state, true).map_or(Completeness::Incomplete, Completeness::Complete);
        }
        let first_ts = state.trace.first_ts();
        if first_ts.is_some_and(|first_ts| is_expired(first_ts, self.ttl_ns, state.decided_at_ns)) {
            return Completeness::Expired(self.emit(state, false));
        }
        Completeness::Incomplete
    }
}

/// Placeholder until the runtime's accumulators are there.
pub(super) struct Sequential {
    accumulator: TraceAccumulator,
    open: std::collections::HashMap<TraceId, (u64, Gathering)>,
}

impl Sequential {
    pub(super) fn new(accumulator: TraceAccumulator) -> Self {
        Self { accumulator, open: Default::default() }
    }
}

impl Transform for Sequential {
    type In = ArrivedSpan;
    type Out = Assembled;
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        self.accumulator.open();
        Ok(())
    }
    fn process(&mut self, item: ArrivedSpan, out: &mut Output<'_, Assembled>) -> Result<(), StageError> {
        let id = item.span.trace_id;
        let (first, state) =
            self.open.entry(id).or_insert_with(|| (u64::MAX, self.accumulator.init(&id)));
        *first = (*first).min(item.time.0 as u64);
        self.accumulator.update(state, item);
        let result = self.accumulator.check(state);
        if result.closes_key() {
            self.open.remove(&id);
        }
        result.into_result().into_iter().for_each(|out_item| out.emit(out_item));
        Ok(())
    }
    fn on_watermark(&mut self, time: Timestamp, out: &mut Output<'_, Assembled>) -> Result<(), StageError> {
        let ttl = self.accumulator.ttl_ns;
        for (_, (_, mut state)) in self.open.extract_if(|_, (first, _)| is_expired(*first, ttl, time.0 as u64)) {
            self.accumulator.emit(&mut state, false).into_iter().for_each(|o| out.emit(o));
        }
        Ok(())
    }
    fn finish(&mut self, out: &mut Output<'_, Assembled>) -> Result<(), StageError> {
        for (_, (_, mut state)) in self.open.drain() {
            self.accumulator.emit(&mut state, false).into_iter().for_each(|o| out.emit(o));
        }
        Ok(())
    }
}
