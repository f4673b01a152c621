//! The open keys of one accumulator instance: state, deadlines, results and the count of every item.

use super::table::{KeyedTable, hash_key};
use super::wheel::{TimerId, TimerWheel};
use super::{Accumulator, CheckTime, FlushReason, StateOf};
use crate::model::{AccumulatorState, Completeness, Now, ProgressWeights, Timestamp};
use crate::observe::StageAccount;
use crate::policy::{AccumulatorPolicy, TimeDomain};
use crate::stage::Pending;

/// A key with state.
struct Open<S> {
    of: S,
    /// Items absorbed, for the account: the user may change the sizes in the state.
    items: u64,
    /// On the clock of the policy; the greatest time while there is none.
    deadline: i64,
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
    watermark: Timestamp,
    results: Pending<A::Out>,
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
            watermark: Timestamp::MIN,
            results: Pending::new(),
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
        let time = CheckTime { processing: now, event: self.watermark };
        let key = self.user.key(&item);
        let hash = hash_key(&key);
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
        self.table.insert(hash, Open { of, items: 0, deadline: i64::MAX })
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
        if self.table.is_empty() { None } else { self.wheel.next_deadline() }
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        self.next_deadline().is_some_and(|deadline| deadline <= self.clock_at(now))
    }

    /// Lets go of keys until there are `room` results or `budget` is used up; true if none is left to let go of. User
    /// code, as [`add`](Self::add).
    pub(super) fn release(&mut self, which: Release, now: Now, room: usize, budget: &mut usize) -> bool {
        let time = CheckTime { processing: now, event: self.watermark };
        while self.results.len() < room && *budget > 0 {
            let found = match which {
                Release::Due => self.release_due(time, budget),
                Release::All => self.release_first(time, budget),
            };
            if !found {
                return *budget > 0;
            }
        }
        false
    }

    fn release_first(&mut self, time: CheckTime, budget: &mut usize) -> bool {
        let Some(at) = self.table.first() else {
            // Nothing follows: what memory there is can go.
            self.clear();
            return false;
        };
        *budget -= 1;
        self.let_go(at, FlushReason::End, time);
        true
    }

    fn release_due(&mut self, time: CheckTime, budget: &mut usize) -> bool {
        let Some((fired, place)) = self.wheel.pop(self.clock_at(time.processing), budget) else {
            return false;
        };
        let at = place as u32;
        *self.table.per_place(at) = None;
        match self.table.get_mut(at).map(|open| open.deadline) {
            Some(deadline) if deadline == fired => self.let_go(at, self.time_limit(), time),
            // The timer of a key that was here before: set again, so that keys go in the order of their deadlines.
            Some(deadline) => self.arm(at, deadline),
            None => {}
        }
        true
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
        let failed = self.begun - self.tally.absorbed - self.tally.discarded;
        StageAccount { keys: self.table.len() as u64, failed, ..self.tally }
    }

    /// Drops all state; items in open keys count as discarded.
    pub(super) fn clear(&mut self) {
        let open = std::mem::take(&mut self.tally.items_open);
        self.tally.absorbed -= open;
        self.tally.discarded += open;
        self.wheel = TimerWheel::new();
        self.table.clear();
    }

    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize, usize) {
        (self.table.len(), self.table.places(), self.wheel.len())
    }
}
