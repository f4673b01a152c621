//! The open keys of one accumulator instance: state, deadlines, results and the count of every item.

mod cold;
mod moves;

use std::collections::VecDeque;

use super::table::{KeyedTable, hash_key};
use super::wheel::{TimerId, TimerWheel};
use super::{Accumulator, CheckTime, FlushReason, StateOf};
use crate::model::{AccumulatorState, Completeness, Now, ProgressWeights, Timestamp};
use crate::observe::StageAccount;
use crate::policy::{AccumulatorPolicy, TimeDomain};
use crate::stage::Pending;
use cold::{Cold, Due};
use moves::Moves;

pub use cold::MemoryExhausted;
pub(super) use cold::usable;

/// A key with state.
struct Open<S> {
    of: S,
    /// Items absorbed, for the account: the user may change the sizes in the state.
    items: u64,
    /// On the clock of the policy; the greatest time while there is none.
    deadline: i64,
    /// What the user said that the state takes, where memory is limited.
    bytes: u64,
    /// An item came since the last look for cold keys.
    touched: bool,
    /// It could not be written to disk as it is.
    pinned: bool,
}

impl<S> Open<S> {
    fn new(of: S) -> Self {
        Self { of, items: 0, deadline: i64::MAX, bytes: 0, touched: true, pinned: false }
    }
}

/// What the policy asks, ready to compare with.
struct Limits {
    max_items: u64,
    max_bytes: u64,
    /// The shorter of the two limits of time, which both count from the first item, and its name.
    lifetime: Option<(i64, FlushReason)>,
    clock: TimeDomain,
    partial_flush: bool,
}

impl Limits {
    fn new(policy: &AccumulatorPolicy) -> Self {
        let nanos = |limit: std::time::Duration| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        let ttl = policy.completeness_ttl.map(|limit| (nanos(limit), FlushReason::Ttl));
        let latency = policy.max_latency.map(|limit| (nanos(limit), FlushReason::MaxLatency));
        Self {
            max_items: policy.max_items.unwrap_or(u64::MAX),
            max_bytes: policy.max_bytes.unwrap_or(u64::MAX),
            lifetime: ttl.into_iter().chain(latency).min_by_key(|(nanos, _)| *nanos),
            clock: policy.clock,
            partial_flush: policy.partial_flush,
        }
    }

    fn reached<K, S>(&self, of: &AccumulatorState<K, S>, items: u64) -> Option<FlushReason> {
        if items >= self.max_items {
            Some(FlushReason::MaxItems)
        } else if of.size_bytes >= self.max_bytes {
            Some(FlushReason::MaxBytes)
        } else {
            None
        }
    }
}

/// Which keys are to be let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Those whose deadline has come.
    Due,
    /// All.
    All,
}

/// How far letting go of keys has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// There is none left to let go of.
    All,
    /// There are more: room or budget is used up.
    Some,
    /// The next one is on its way from disk.
    Waiting,
}

/// What became of a key.
enum Ending {
    Complete,
    Partial,
    Expired,
}

pub(super) struct Keys<In, A: Accumulator<In>> {
    user: A,
    weights: ProgressWeights,
    limits: Limits,
    /// Each place has at most one timer, which is due no later than the key in it: it stays when the key goes and serves
    /// the next one, so that keys which complete in time cost the wheel nothing.
    table: KeyedTable<Open<StateOf<In, A>>, Option<TimerId>>,
    wheel: TimerWheel,
    /// Keys whose timer has fired, in the order of their deadlines.
    due: VecDeque<Due>,
    watermark: Timestamp,
    results: Pending<A::Out>,
    /// Bytes of memory it may take, where there is a limit.
    limit: Option<usize>,
    /// What the users' states take, by their own account, while there is a limit.
    held: u64,
    /// What the last items added to that, at most.
    growth: u64,
    /// No item follows: what comes back from disk stays until it is let go of.
    ending: bool,
    /// Keys on disk and what waits for them, where keys may go there.
    cold: Option<Box<Cold<In>>>,
    /// Where shards move between the stage's instances.
    moves: Option<Moves<In, A>>,
    /// Items whose handling has begun; one more than was absorbed while that lasts.
    begun: u64,
    tally: StageAccount,
}

impl<In: 'static, A: Accumulator<In>> Keys<In, A> {
    pub(super) fn new(user: A, policy: &AccumulatorPolicy, weights: ProgressWeights) -> Self {
        Self {
            user,
            weights,
            limits: Limits::new(policy),
            table: KeyedTable::new(),
            wheel: TimerWheel::new(),
            due: VecDeque::new(),
            watermark: Timestamp::MIN,
            results: Pending::new(),
            limit: None,
            held: 0,
            growth: 0,
            ending: false,
            cold: None,
            moves: None,
            begun: 0,
            tally: StageAccount::default(),
        }
    }

    pub(super) fn user(&mut self) -> &mut A {
        &mut self.user
    }

    pub(super) fn set_weights(&mut self, weights: ProgressWeights) {
        self.weights = weights;
    }

    pub(super) fn results(&mut self) -> &mut Pending<A::Out> {
        &mut self.results
    }

    pub(super) fn clock(&self) -> TimeDomain {
        self.limits.clock
    }

    /// Moves event time forward.
    pub(super) fn advance(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(watermark);
    }

    /// Adds one item. User code; after a panic nothing of this may be used but the account and [`clear`](Self::clear).
    pub(super) fn add(&mut self, item: In, now: Now) {
        self.begun += 1;
        let key = self.user.key(&item);
        let hash = hash_key(&key);
        self.count(hash);
        if self.cold.is_some() && self.must_wait(hash, &key) {
            self.begun -= 1;
            self.park(hash, item, now);
        } else {
            self.absorb(item, key, hash, now);
        }
    }

    fn absorb(&mut self, item: In, key: A::Key, hash: u64, now: Now) {
        let time = CheckTime { processing: now, event: self.watermark };
        let timestamp = self.user.timestamp(&item, time);
        let cost = self.user.cost(&item);
        let at = self.place_for(key, hash, &item, time);
        let open = self.table.value(at);
        self.user.update(&mut open.of, item);
        open.of.count(timestamp, cost);
        open.items += 1;
        self.tally.absorbed += 1;
        self.tally.items_open += 1;
        if self.limits.clock == TimeDomain::Event {
            self.tally.late += u64::from(timestamp < self.watermark);
        }
        let score = self.user.progress(&open.of, &self.weights);
        open.of.completeness_score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
        if self.limit.is_some() {
            self.weigh(at);
        }
        let open = self.table.value(at);
        match self.user.check(&mut open.of, time) {
            Completeness::Incomplete => {
                if let Some(reason) = self.limits.reached(&open.of, open.items) {
                    self.force(at, reason);
                } else {
                    self.set_deadline(at, timestamp, now);
                }
            }
            closed => self.close_as(at, closed),
        }
    }

    /// The place of an open key that takes another item.
    fn place_for(&mut self, key: A::Key, hash: u64, item: &In, time: CheckTime) -> u32 {
        if let Some(at) = self.table.find(hash, |open| open.of.key == key) {
            // Its time may be up although its timer has not had its turn yet.
            let deadline = self.table.value(at).deadline;
            if self.limits.clock == TimeDomain::Event || deadline > time.processing.monotonic {
                return at;
            }
            self.let_go(at, self.time_limit(), time);
        }
        let state = self.user.init(&key, item);
        let of = AccumulatorState::new(key, state);
        self.table.insert(hash, Open::new(of))
    }

    fn time_limit(&self) -> FlushReason {
        self.limits.lifetime.map_or(FlushReason::Ttl, |(_, reason)| reason)
    }

    /// Deadlines count from the first item: by arrival, or by event time. An item that happened before those that came
    /// before it brings the deadline forward, so that the order of arrival does not matter.
    #[inline]
    fn set_deadline(&mut self, at: u32, timestamp: Timestamp, now: Now) {
        let Some((lifetime, _)) = self.limits.lifetime else { return };
        let start = match self.limits.clock {
            TimeDomain::Processing => now.monotonic,
            TimeDomain::Event => timestamp.as_nanos(),
        };
        let deadline = start.saturating_add(lifetime);
        let open = self.table.value(at);
        if deadline < open.deadline {
            open.deadline = deadline;
            self.arm(at, deadline);
        }
    }

    fn arm(&mut self, at: u32, deadline: i64) {
        let timer = self.table.per_place(at);
        if let Some(id) = *timer {
            if self.wheel.deadline(id).is_some_and(|earlier| earlier <= deadline) {
                return;
            }
            self.wheel.cancel(id);
        }
        *timer = Some(self.wheel.schedule(deadline, at.into()));
    }

    /// The time on the clock of the policy.
    fn clock_at(&self, now: Now) -> i64 {
        match self.limits.clock {
            TimeDomain::Processing => now.monotonic,
            TimeDomain::Event => self.watermark.as_nanos(),
        }
    }

    /// The earliest time at which a key may be due.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        let empty = self.table.is_empty() && self.cold.as_ref().is_none_or(|cold| cold.store.is_empty());
        if empty { None } else { self.wheel.next_deadline() }
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        !self.due.is_empty() || self.next_deadline().is_some_and(|deadline| deadline <= self.clock_at(now))
    }

    /// Lets go of keys until there are `room` results or `budget` is used up. User code, as [`add`](Self::add).
    pub(super) fn release(&mut self, which: Release, now: Now, room: usize, budget: &mut usize) -> Released {
        let time = CheckTime { processing: now, event: self.watermark };
        while self.results.len() < room && *budget > 0 {
            let released = match which {
                Release::Due => self.release_due(time, budget),
                Release::All => self.release_first(time, budget),
            };
            match released {
                Released::Some => {}
                Released::All if *budget == 0 => return Released::Some,
                other => return other,
            }
        }
        Released::Some
    }

    fn release_first(&mut self, time: CheckTime, budget: &mut usize) -> Released {
        self.ending = true;
        let more = self.cold.is_some() && self.fetch_ahead();
        let Some(at) = self.table.first() else {
            if more {
                return Released::Waiting;
            }
            // Nothing follows: what memory there is can go.
            self.clear();
            return Released::All;
        };
        *budget -= 1;
        self.let_go(at, FlushReason::End, time);
        Released::Some
    }

    fn release_due(&mut self, time: CheckTime, budget: &mut usize) -> Released {
        self.collect_due(time.processing, budget);
        match self.due.front() {
            None => return Released::All,
            Some(Due::Here { at, fired }) => {
                let (at, fired) = (*at, *fired);
                if self.table.get_mut(at).is_some_and(|open| open.deadline == fired) {
                    self.let_go(at, self.time_limit(), time);
                }
            }
            Some(Due::Away { id, fired }) => {
                if self.cold.as_mut().is_some_and(|cold| cold.store.deadline(*id) == Some(*fired)) {
                    return Released::Waiting;
                }
            }
        }
        self.due.pop_front();
        Released::Some
    }

    /// Takes the next keys whose time is up from the wheel, and asks for those that are on disk: several at a time, so
    /// that their reads overlap, and in the order of their deadlines.
    fn collect_due(&mut self, now: Now, budget: &mut usize) {
        let clock = self.clock_at(now);
        let ahead = self.cold.as_ref().map_or(1, |cold| cold.look_ahead());
        while self.due.len() < ahead
            && let Some((fired, token)) = self.wheel.pop(clock, budget)
        {
            match Due::of(token, fired) {
                Due::Here { at, .. } => {
                    *self.table.per_place(at) = None;
                    match self.table.get_mut(at).map(|open| open.deadline) {
                        Some(deadline) if deadline == fired => self.due.push_back(Due::Here { at, fired }),
                        // The timer of a key that was here before: set again, so that keys go in the order of their
                        // deadlines.
                        Some(deadline) => self.arm(at, deadline),
                        None => {}
                    }
                }
                Due::Away { id, .. } => self.due_away(id, fired),
            }
        }
    }

    /// Closes a key whose time is up: as what it has become if it is complete after all, or by force.
    fn let_go(&mut self, at: u32, reason: FlushReason, time: CheckTime) {
        match self.user.check(&mut self.table.value(at).of, time) {
            Completeness::Incomplete => self.force(at, reason),
            closed => self.close_as(at, closed),
        }
    }

    fn force(&mut self, at: u32, reason: FlushReason) {
        let of = &mut self.table.value(at).of;
        let result = if self.limits.partial_flush { self.user.flush_forced(of, reason) } else { None };
        let ending = match (&result, reason) {
            (None, _) | (_, FlushReason::Ttl) => Ending::Expired,
            _ => Ending::Partial,
        };
        self.close(at, ending, result);
    }

    fn close_as(&mut self, at: u32, closed: Completeness<A::Out>) {
        match closed {
            Completeness::Complete(result) => self.close(at, Ending::Complete, Some(result)),
            Completeness::Expired(result) => self.close(at, Ending::Expired, result),
            Completeness::Incomplete => {}
        }
    }

    fn close(&mut self, at: u32, ending: Ending, result: Option<A::Out>) {
        let Some(open) = self.table.remove(at) else { return };
        self.held -= open.bytes;
        let tally = &mut self.tally;
        tally.items_open -= open.items;
        let with_result = u64::from(result.is_some());
        match ending {
            Ending::Complete => {
                tally.items_complete += open.items;
                tally.results_complete += 1;
            }
            Ending::Partial => {
                tally.items_partial += open.items;
                tally.results_partial += 1;
            }
            Ending::Expired => {
                tally.expired += 1;
                tally.results_expired += with_result;
                tally.items_partial += open.items * with_result;
                tally.items_expired += open.items * (1 - with_result);
            }
        }
        if let Some(result) = result {
            self.results.push(result);
        }
    }

    /// Fills in which results have been handed on and which have not.
    pub(super) fn account_results(&self, account: &mut StageAccount) {
        self.results.account(account);
    }

    /// What has been counted. An item whose handling began and did not end has failed.
    pub(super) fn tally(&self) -> StageAccount {
        self.publish_load();
        let failed = self.begun - self.tally.absorbed - self.tally.discarded;
        let mut tally = StageAccount { keys: self.table.len() as u64, failed, ..self.tally };
        if self.limit.is_some() {
            tally.state_bytes = self.memory() as u64;
        }
        if let Some(cold) = &self.cold {
            cold.account(&mut tally);
        }
        tally
    }

    /// Drops all state in memory; items in open keys count as discarded, also those of keys on disk.
    pub(super) fn clear(&mut self) {
        let open = std::mem::take(&mut self.tally.items_open) + std::mem::take(&mut self.tally.items_spilled);
        self.tally.absorbed -= open;
        self.tally.discarded += open;
        self.wheel = TimerWheel::new();
        self.due.clear();
        self.held = 0;
        self.table.clear();
    }

    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize, usize) {
        (self.table.len(), self.table.places(), self.wheel.len())
    }
}
