//! When the rows of a query were complete.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use corelane::model::{Timed, Timestamp};
use corelane::stage::{Output, StageError, Transform};

use super::{Feed, checksum};
use crate::workload::latency::{Clock, Schedule};

/// Moments of event time up to which rows are to be complete, and the clock that says when they are.
#[derive(Clone, Debug)]
pub struct Moments {
    clock: Clock,
    times: Arc<[Timestamp]>,
    /// When the first event at or after each moment is due: no event before it says that time has come so far.
    due_ns: Arc<[u64]>,
}

impl Moments {
    /// Every whole multiple of `every` that event time passes in `feed`, whose events are in order and due by `schedule` on `clock`.
    ///
    /// # Panics
    /// If `every` is zero.
    pub fn new(feed: Feed, every: Duration, schedule: Schedule, clock: Clock) -> Self {
        let every = every.as_nanos() as i64;
        let before = |event: &super::Event| event.timestamp().as_nanos().div_euclid(every);
        let mut past = feed.events.first().map_or(0, before);
        let (mut times, mut due_ns) = (Vec::new(), Vec::new());
        for (index, event) in feed.events.iter().enumerate() {
            while past < before(event) {
                past += 1;
                times.push(Timestamp(past * every));
                due_ns.push(schedule.intended_ns(index as u64));
            }
        }
        Self { clock, times: times.into(), due_ns: due_ns.into() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether event time passes none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// For each moment, the nanoseconds from when the event was due that says it has come, until every core had all rows up to it.
    pub fn delays(&self, cores: &[Completion]) -> impl Iterator<Item = u64> {
        self.due_ns.iter().enumerate().map(|(moment, due)| {
            let complete = cores.iter().filter_map(|core| core.at_ns.get(moment)).max();
            complete.map_or(u64::MAX, |at| at.saturating_sub(*due))
        })
    }
}

/// What one core saw of a query's rows.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Of its rows.
    pub checksum: u64,
    /// When each moment had come at the end of the query.
    at_ns: Vec<u64>,
}

/// Stands behind a query on each core, and notes when watermarks come.
pub struct Completing<R> {
    moments: Moments,
    seen: Completion,
    rows: PhantomData<fn(R)>,
}

impl<R> Completing<R> {
    /// Notes `moments`.
    pub fn new(moments: Moments) -> Self {
        let seen = Completion { checksum: 0, at_ns: Vec::with_capacity(moments.len()) };
        Self { moments, seen, rows: PhantomData }
    }

    /// Event time has come to `time`: nothing before it follows.
    fn reach(&mut self, time: Timestamp) {
        let next = self.seen.at_ns.len();
        let passed = self.moments.times[next..].iter().take_while(|moment| **moment <= time).count();
        if passed > 0 {
            self.seen.at_ns.resize(next + passed, self.moments.clock.ns());
        }
    }
}

impl<R: Hash + 'static> Transform for Completing<R> {
    type In = R;
    type Out = Completion;

    const HOLDS_ITEMS: bool = true;

    fn process(&mut self, row: R, _: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        self.seen.checksum = self.seen.checksum.wrapping_add(checksum(&row));
        Ok(())
    }

    fn on_watermark(&mut self, time: Timestamp, _: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        self.reach(time);
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        self.reach(Timestamp::MAX);
        out.emit(self.seen.clone());
        Ok(())
    }
}
