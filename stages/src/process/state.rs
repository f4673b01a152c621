//! States of keys, and their timers on two clocks.

use std::time::Duration;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, TimerId, TimerWheel};
use corelane::model::Timestamp;
use corelane::observe::StageAccount;
use corelane::policy::TimeDomain;
use corelane::stage::Pending;

use super::{OnKey, Process, Timer};
use crate::keys::Keys;

/// What a call asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By clock; the outer `None` leaves the timer as it is.
    timers: [Option<Option<i64>>; 2],
    pub(super) forget: bool,
}

impl Asked {
    pub(super) const fn set(&mut self, timer: Timer) {
        match timer {
            Timer::Event(at) => self.timers[0] = Some(Some(at.as_nanos())),
            Timer::Processing(at) => self.timers[1] = Some(Some(at)),
        }
    }

    pub(super) const fn clear(&mut self) {
        self.timers = [Some(None), Some(None)];
    }
}

/// A time to live that counts from the first watermark there will be.
const FIRST: i64 = i64::MIN + 1;

struct Held<S> {
    state: S,
    /// Set by the user, by clock.
    timers: [Option<i64>; 2],
    /// When the key is forgotten, on the clock of its time to live.
    expires: i64,
    /// In the wheels, by clock: due no later than what it stands for.
    set: [Option<TimerId>; 2],
}

pub(super) struct States<P: Process, F> {
    user: P,
    key: F,
    /// The clock of the time to live, and how long that is.
    ttl: Option<(usize, i64)>,
    keys: Keys<P::Key, Held<P::State>>,
    wheels: [TimerWheel; 2],
    /// Where the end of all keys goes on.
    ending: usize,
    passed: u64,
    expired: u64,
}

impl<P, F> States<P, F>
where
    P: Process,
    F: FnMut(&P::In) -> P::Key + 'static,
{
    pub(super) fn new(user: P, key: F, ttl: Option<(TimeDomain, Duration)>) -> Self {
        let ttl = ttl.map(|(clock, ttl)| {
            (usize::from(clock == TimeDomain::Processing), i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX))
        });
        let wheels = [TimerWheel::new(), TimerWheel::new()];
        Self { user, key, ttl, keys: Keys::new(), wheels, ending: 0, passed: 0, expired: 0 }
    }

    fn clocks(time: CheckTime) -> [i64; 2] {
        [time.event.as_nanos(), time.processing.monotonic]
    }

    /// Calls user code on a key, and does what it asked for.
    fn call(
        &mut self,
        of: usize,
        time: CheckTime,
        out: &mut Pending<P::Out>,
        f: impl FnOnce(&mut P, &mut P::State, &mut OnKey<'_, P::Key, P::Out>),
    ) {
        let mut asked = Asked::default();
        let Some((key, held)) = self.keys.get_mut(of) else { return };
        let mut on = OnKey {
            key,
            now: time.processing,
            watermark: time.event,
            out: &mut |item| out.push(item),
            asked: &mut asked,
        };
        f(&mut self.user, &mut held.state, &mut on);
        for (timer, asked) in held.timers.iter_mut().zip(asked.timers) {
            *timer = asked.unwrap_or(*timer);
        }
        if asked.forget { self.forget(of) } else { self.arm(of) }
    }

    fn forget(&mut self, of: usize) {
        let (_, held) = self.keys.remove(of);
        for (wheel, set) in self.wheels.iter_mut().zip(held.set) {
            if let Some(id) = set {
                wheel.cancel(id);
            }
        }
        if self.keys.len() == 0 {
            self.wheels = [TimerWheel::new(), TimerWheel::new()];
        }
    }

    /// When a key is to be looked at, by clock.
    fn due(&self, of: usize, clock: usize) -> Option<i64> {
        let held = &self.keys[of];
        let expires = self.ttl.filter(|(on, _)| *on == clock).map(|_| held.expires);
        held.timers[clock].into_iter().chain(expires).min()
    }

    fn arm(&mut self, of: usize) {
        for clock in 0..2 {
            let Some(due) = self.due(of, clock) else { continue };
            let set = self.keys[of].set[clock];
            if let Some(id) = set {
                if self.wheels[clock].deadline(id).is_some_and(|earlier| earlier <= due) {
                    continue;
                }
                self.wheels[clock].cancel(id);
            }
            self.keys[of].set[clock] = Some(self.wheels[clock].schedule(due, of as u64));
        }
    }

    fn take(&mut self, item: P::In, time: CheckTime, out: &mut Pending<P::Out>) {
        let key = (self.key)(&item);
        let clocks = Self::clocks(time);
        let found = self.keys.of(&key).next();
        // Its time may be up although its timer has not had its turn yet.
        if let (Some(of), Some((clock, _))) = (found, self.ttl)
            && self.keys[of].expires <= clocks[clock]
        {
            self.expired += 1;
            self.forget(of);
        }
        let user = &mut self.user;
        let new = |key: &P::Key| Held {
            state: user.init(key),
            timers: [None; 2],
            expires: i64::MAX,
            set: [None; 2],
        };
        let of = self.keys.place(key, new);
        if let Some((clock, ttl)) = self.ttl {
            let counts = clocks[clock] > i64::MIN;
            self.keys[of].expires = if counts { clocks[clock].saturating_add(ttl) } else { FIRST };
        }
        self.call(of, time, out, |user, state, on| user.process(item, state, on));
        self.passed += 1;
    }

    /// A timer of the wheel has fired.
    fn ring(&mut self, of: usize, clock: usize, time: CheckTime, out: &mut Pending<P::Out>) {
        let now = Self::clocks(time)[clock];
        let held = &mut self.keys[of];
        held.set[clock] = None;
        if let Some(at) = held.timers[clock].filter(|at| *at <= now) {
            held.timers[clock] = None;
            let timer = if clock == 0 { Timer::Event(Timestamp(at)) } else { Timer::Processing(at) };
            return self.call(of, time, out, |user, state, on| user.on_timer(timer, state, on));
        }
        match self.ttl {
            Some((on, ttl)) if on == clock && held.expires == FIRST => held.expires = now.saturating_add(ttl),
            Some((on, _)) if on == clock && held.expires <= now => {
                self.expired += 1;
                return self.forget(of);
            }
            _ => {}
        }
        self.arm(of);
    }

    /// Lets go of all keys. True if that is done.
    fn end(&mut self, time: CheckTime, allowance: &mut Allowance, out: &mut Pending<P::Out>) -> bool {
        while self.ending < self.keys.end() {
            if allowance.is_spent(out.len()) {
                return false;
            }
            let of = self.ending;
            self.ending += 1;
            allowance.work();
            if self.keys.get_mut(of).is_none() {
                continue;
            }
            let (key, held) = self.keys.remove(of);
            let mut on = OnKey {
                key: &key,
                now: time.processing,
                watermark: time.event,
                out: &mut |item| out.push(item),
                asked: &mut Asked::default(),
            };
            self.user.on_end(held.state, &mut on);
        }
        true
    }
}

impl<P, F> Stateful<P::In> for States<P, F>
where
    P: Process,
    F: FnMut(&P::In) -> P::Key + 'static,
{
    type Out = P::Out;

    fn add<I: Iterator<Item = P::In>>(&mut self, items: &mut I, time: CheckTime, out: &mut Pending<P::Out>) {
        items.for_each(|item| self.take(item, time, out));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        let due = |(wheel, now): (&TimerWheel, i64)| wheel.next_deadline().is_some_and(|at| at <= now);
        self.wheels.iter().zip(Self::clocks(time)).any(due)
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<P::Out>,
    ) -> bool {
        if which == Release::All {
            return self.end(time, allowance, out);
        }
        for (clock, now) in Self::clocks(time).into_iter().enumerate() {
            loop {
                if allowance.is_spent(out.len()) {
                    return false;
                }
                let Some((_, of)) = self.wheels[clock].pop(now, &mut allowance.work) else {
                    if allowance.work == 0 {
                        return false;
                    }
                    break;
                };
                self.ring(of as usize, clock, time, out);
            }
        }
        true
    }

    fn next_deadline(&self) -> Option<i64> {
        self.wheels[1].next_deadline()
    }

    fn account(&self, account: &mut StageAccount) {
        account.passed += self.passed;
        account.expired += self.expired;
        account.keys += self.keys.len() as u64;
    }

    fn clear(&mut self) {
        self.keys = Keys::new();
        self.wheels = [TimerWheel::new(), TimerWheel::new()];
    }
}
