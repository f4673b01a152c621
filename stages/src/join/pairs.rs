//! Items of two sides that wait for partners.

use std::collections::VecDeque;
use std::hash::Hash;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, TimerId, TimerWheel};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::logic::{JoinLogic, Side, give, part};
use super::rule::{From, Rule};
use crate::keys::Keys;
use crate::tally::Tally;

/// An item that waits.
struct Waiting<T> {
    item: T,
    time: i64,
    expires: i64,
    matched: bool,
}

/// What a key has waiting, each side in the order of time: then what expires first stands first.
struct Waitings<L, R> {
    left: VecDeque<Waiting<L>>,
    right: VecDeque<Waiting<R>>,
    /// Due no later than the first to expire.
    timer: Option<TimerId>,
}

/// Joins two sides: an item is paired with those of its key that wait on the other side, and waits itself as long as a
/// partner may come. Costs a look-up, a search by time, and the pairs.
pub struct Pairs<J: JoinLogic> {
    user: J,
    rule: Rule,
    keys: Keys<J::Key, Waitings<J::Left, J::Right>>,
    wheel: TimerWheel,
    /// What has expired of this key is being let go of.
    leaving: Option<usize>,
    tally: Tally,
}

/// Gives those of the other side that lie from `from` to `to`, with whether there was one before it; whether there was one.
fn pair<T>(
    others: &mut VecDeque<Waiting<T>>,
    (from, to): (i64, i64),
    now: Option<i64>,
    mut give: impl FnMut(&Waiting<T>, bool),
) -> bool {
    let first = others.partition_point(|other| other.time < from);
    let mut any = false;
    for other in others.range_mut(first..).take_while(|other| other.time <= to) {
        // Its time may be up although its timer has not had its turn yet.
        if now.is_none_or(|now| other.expires > now) {
            give(other, any);
            (any, other.matched) = (true, true);
        }
    }
    any
}

fn wait<T>(queue: &mut VecDeque<Waiting<T>>, waiting: Waiting<T>) {
    let at = queue.partition_point(|other| other.time <= waiting.time);
    queue.insert(at, waiting);
}

impl<J: JoinLogic> Pairs<J> {
    pub(super) fn new(user: J, rule: Rule) -> Self {
        Self {
            user,
            rule,
            keys: Keys::new(),
            wheel: TimerWheel::new(),
            leaving: None,
            tally: Tally::default(),
        }
    }

    fn clock(&self, time: CheckTime) -> i64 {
        if self.rule.in_event_time() { time.event.as_nanos() } else { time.processing.monotonic }
    }

    fn take(&mut self, item: Side<J::Left, J::Right>, time: CheckTime, out: &mut Pending<J::Out>) {
        let side = if matches!(item, Side::Left(_)) { From::Left } else { From::Right };
        let now = self.clock(time);
        // Without event time, an item's time is that of its coming.
        let at = if self.rule.in_event_time() { self.user.time(&item) } else { now };
        if !self.rule.fits(at) {
            self.tally.filtered += 1;
            return;
        }
        let place = self.rule.place(side, at, now);
        if self.rule.in_event_time() && at < now && place.expires <= now {
            self.tally.late(false);
            return;
        }
        let key = self.user.key(&item);
        let of =
            self.keys.place(key, |_| Waitings { left: VecDeque::new(), right: VecDeque::new(), timer: None });
        let Self { user, rule, keys, tally, .. } = self;
        let Waitings { left, right, .. } = &mut keys[of];
        let (reach, expires) = ((place.from, place.to), place.expires);
        let until = (!rule.in_event_time()).then_some(now);
        let mut give_all = |l: &J::Left, r: &J::Right, other: i64| {
            let times = if J::once() { 1 } else { rule.pairs(at, other) };
            for _ in 0..times {
                give(user, (Some(l), Some(r)), tally, out);
            }
        };
        let stays = expires > now;
        match item {
            Side::Left(item) => {
                let matched = pair(right, reach, until, |other, had_result| {
                    if !(J::once() && had_result) {
                        give_all(&item, &other.item, other.time);
                    }
                });
                if stays {
                    wait(left, Waiting { item, time: at, expires, matched });
                } else {
                    part(user, (Some(&item), None), matched, tally, out);
                }
            }
            Side::Right(item) => {
                let matched = pair(left, reach, until, |other, _| {
                    if !(J::once() && other.matched) {
                        give_all(&other.item, &item, other.time);
                    }
                });
                if stays {
                    wait(right, Waiting { item, time: at, expires, matched });
                } else {
                    part(user, (None, Some(&item)), matched, tally, out);
                }
            }
        }
        tally.absorbed += 1;
        self.arm(of);
    }

    /// Sees that the key is looked at when its next item expires, or forgets it if it has none.
    fn arm(&mut self, of: usize) {
        let Waitings { left, right, timer } = &mut self.keys[of];
        let firsts = [left.front().map(|first| first.expires), right.front().map(|first| first.expires)];
        let due = firsts.into_iter().flatten().min();
        match (due, *timer) {
            (Some(due), Some(id)) if self.wheel.deadline(id).is_some_and(|earlier| earlier <= due) => {}
            (Some(due), before) => {
                if let Some(id) = before {
                    self.wheel.cancel(id);
                }
                *timer = Some(self.wheel.schedule(due, of as u64));
            }
            (None, before) => {
                if let Some(id) = before {
                    self.wheel.cancel(id);
                }
                self.keys.remove(of);
                if self.keys.len() == 0 {
                    self.wheel = TimerWheel::new();
                }
            }
        }
    }

    /// Lets go of what has expired of a key by `now`. True if that is done.
    fn leave(&mut self, of: usize, now: i64, allowance: &mut Allowance, out: &mut Pending<J::Out>) -> bool {
        loop {
            if allowance.is_spent(out.len()) {
                return false;
            }
            let Self { user, keys, tally, .. } = self;
            let Waitings { left, right, .. } = &mut keys[of];
            if left.front().is_some_and(|first| first.expires <= now) {
                let Some(Waiting { item, matched, .. }) = left.pop_front() else { return true };
                part(user, (Some(&item), None), matched, tally, out);
            } else if right.front().is_some_and(|first| first.expires <= now) {
                let Some(Waiting { item, matched, .. }) = right.pop_front() else { return true };
                part(user, (None, Some(&item)), matched, tally, out);
            } else {
                self.arm(of);
                return true;
            }
            allowance.work();
        }
    }

    /// Keys, and keys there is memory for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.keys.len(), self.keys.capacity())
    }
}

impl<J: JoinLogic> Stateful<Side<J::Left, J::Right>> for Pairs<J>
where
    J::Key: Hash,
{
    type Out = J::Out;

    fn add<I: Iterator<Item = Side<J::Left, J::Right>>>(
        &mut self,
        items: &mut I,
        time: CheckTime,
        out: &mut Pending<J::Out>,
    ) {
        items.for_each(|item| self.take(item, time, out));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        self.wheel.next_deadline().is_some_and(|at| at <= self.clock(time))
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool {
        let now = if which == Release::All { i64::MAX } else { self.clock(time) };
        while !allowance.is_spent(out.len()) {
            let next = match self.leaving.take() {
                Some(of) => of,
                None => match self.wheel.pop(now, &mut allowance.work) {
                    Some((_, of)) => {
                        self.keys[of as usize].timer = None;
                        of as usize
                    }
                    None => return allowance.work > 0,
                },
            };
            if !self.leave(next, now, allowance, out) {
                self.leaving = Some(next);
            }
        }
        false
    }

    fn next_deadline(&self) -> Option<i64> {
        if self.rule.in_event_time() { None } else { self.wheel.next_deadline() }
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.keys.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        (self.keys, self.wheel, self.leaving) = (Keys::new(), TimerWheel::new(), None);
    }
}
