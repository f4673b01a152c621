//! Session windows: items of a key that follow each other within a gap.

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, TimerId, TimerWheel};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::logic::Logic;
use super::trigger::{Progress, Timing, Trigger};
use super::{Window, Windowed};
use crate::keys::Keys;
use crate::tally::Tally;

/// A session. It ends a gap after its last item.
struct Session<A> {
    start: i64,
    end: i64,
    acc: A,
    items: u64,
    progress: Progress,
    /// It has given its result in time.
    fired: bool,
    /// Due no later than the session: when it comes too early it is set again, so that an item that prolongs a session
    /// costs the wheel nothing.
    timer: Option<TimerId>,
}

/// Sessions of all keys. An item costs a look-up; one that closes the gap between two sessions merges them.
pub struct SessionWindows<In, U: Logic<In>> {
    user: U,
    gap: i64,
    trigger: Trigger,
    sessions: Keys<U::Key, Session<U::Acc>>,
    wheel: TimerWheel,
    early_at: Option<i64>,
    /// Where early results go on.
    early_from: Option<usize>,
    tally: Tally,
}

impl<In: 'static, U: Logic<In>> SessionWindows<In, U> {
    pub(super) fn new(user: U, gap: i64, trigger: Trigger) -> Self {
        Self {
            user,
            gap,
            trigger,
            sessions: Keys::new(),
            wheel: TimerWheel::new(),
            early_at: None,
            early_from: None,
            tally: Tally::default(),
        }
    }

    fn take(&mut self, item: In, time: CheckTime, out: &mut Pending<U::Out>) {
        let at = self.user.time(&item);
        if !(i64::MIN + 2 * self.gap..=i64::MAX - 2 * self.gap).contains(&at) {
            self.tally.filtered += 1;
            return;
        }
        let (end, watermark) = (at + self.gap, time.event.as_nanos());
        let key = self.user.key(&item);
        let of = match self.meets(&key, at, end) {
            [Some(one), other] => {
                if let Some(other) = other {
                    self.merge(one, other);
                }
                one
            }
            _ if end.saturating_add(self.trigger.lateness()) <= watermark => {
                let late = self.user.late(item);
                self.tally.late(late.is_some());
                out.extend(late);
                return;
            }
            _ => self.open(key, at, end),
        };
        self.put(of, item, (at, end), watermark, out);
        if let (None, Some(period)) = (self.early_at, self.trigger.period()) {
            self.early_at = Some(time.processing.monotonic.saturating_add(period));
        }
    }

    /// The sessions of `key` that the span from `start` to `end` meets: at most two, as each is at least as long.
    fn meets(&self, key: &U::Key, start: i64, end: i64) -> [Option<usize>; 2] {
        let mut found = self.sessions.of(key).filter(|&at| {
            let session = &self.sessions[at];
            session.start < end && start < session.end
        });
        [found.next(), found.next()]
    }

    fn open(&mut self, key: U::Key, start: i64, end: i64) -> usize {
        let (acc, progress) = (self.user.init(), Progress::default());
        self.sessions.insert(key, Session { start, end, acc, items: 0, progress, fired: false, timer: None })
    }

    fn merge(&mut self, into: usize, from: usize) {
        let from = self.remove(from);
        let into = &mut self.sessions[into];
        self.user.merge(&mut into.acc, &from.acc);
        into.start = into.start.min(from.start);
        into.end = into.end.max(from.end);
        into.items += from.items;
        into.fired &= from.fired;
        into.progress.fresh = into.progress.fresh.saturating_add(from.progress.fresh);
        into.progress.fired = into.progress.fired.max(from.progress.fired);
    }

    fn put(&mut self, of: usize, item: In, (at, end): (i64, i64), watermark: i64, out: &mut Pending<U::Out>) {
        let Self { user, trigger, sessions, tally, .. } = self;
        let Some((key, session)) = sessions.get_mut(of) else { return };
        user.add_owned(&mut session.acc, item);
        session.start = session.start.min(at);
        session.end = session.end.max(end);
        session.items += 1;
        session.progress.fresh = session.progress.fresh.saturating_add(1);
        tally.absorbed += 1;
        // A session that has ended once and was prolonged beyond the watermark ends again.
        session.fired = session.end <= watermark;
        tally.late += u64::from(session.fired);
        let timing = if session.fired { Timing::Late } else { Timing::Early };
        if trigger.wants(timing, &session.progress) {
            tally.early += 1;
            out.push(fire(user, trigger, key, session, timing, false));
        }
        self.arm(of);
    }

    /// When a session has something to do next.
    fn due(&self, of: usize) -> i64 {
        let session = &self.sessions[of];
        if session.fired { session.end.saturating_add(self.trigger.lateness()) } else { session.end }
    }

    fn arm(&mut self, of: usize) {
        let due = self.due(of);
        let timer = self.sessions[of].timer;
        if let Some(id) = timer {
            if self.wheel.deadline(id).is_some_and(|earlier| earlier <= due) {
                return;
            }
            self.wheel.cancel(id);
        }
        self.sessions[of].timer = Some(self.wheel.schedule(due, of as u64));
    }

    fn remove(&mut self, of: usize) -> Session<U::Acc> {
        let (_, session) = self.sessions.remove(of);
        if let Some(timer) = session.timer {
            self.wheel.cancel(timer);
        }
        if self.sessions.len() == 0 {
            self.wheel = TimerWheel::new();
        }
        session
    }

    /// The timer of a session has fired.
    fn ring(&mut self, of: usize, at: i64, out: &mut Pending<U::Out>) {
        self.sessions[of].timer = None;
        if self.due(of) > at {
            return self.arm(of);
        }
        let Self { user, trigger, sessions, tally, .. } = self;
        let Some((key, session)) = sessions.get_mut(of) else { return };
        let stays = !session.fired && trigger.lateness() > 0;
        let timing = if session.fired { Timing::Late } else { Timing::OnTime };
        let wanted = match timing {
            Timing::Late => session.progress.fresh > 0,
            timing => trigger.wants(timing, &session.progress),
        };
        if wanted {
            tally.results += 1;
            out.push(fire(user, trigger, key, session, timing, !stays));
        }
        if stays {
            session.fired = true;
            return self.arm(of);
        }
        let items = self.remove(of).items;
        self.tally.complete += items;
    }

    /// Gives out early results. True if that is done.
    fn early(&mut self, from: usize, allowance: &mut Allowance, out: &mut Pending<U::Out>) -> bool {
        let Self { user, trigger, sessions, tally, early_from, .. } = self;
        for at in from..sessions.end() {
            if allowance.is_spent(out.len()) {
                *early_from = Some(at);
                return false;
            }
            allowance.work();
            if let Some((key, session)) = sessions.get_mut(at)
                && session.progress.fresh > 0
                && !session.fired
            {
                tally.early += 1;
                out.push(fire(user, trigger, key, session, Timing::Early, false));
            }
        }
        *early_from = None;
        true
    }

    /// Sessions, and how many there is memory for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.sessions.len(), self.sessions.capacity())
    }
}

fn fire<In, U: Logic<In>>(
    user: &U,
    trigger: &Trigger,
    key: &U::Key,
    session: &mut Session<U::Acc>,
    timing: Timing,
    last: bool,
) -> U::Out {
    let value = if trigger.discards() {
        user.finish(std::mem::replace(&mut session.acc, user.init()))
    } else {
        user.result(&session.acc)
    };
    let pane = session.progress.pane(timing, last);
    let window = Window::from_nanos(session.start, session.end);
    user.emit(Windowed { key: key.clone(), window, value, pane })
}

impl<In: 'static, U: Logic<In>> Stateful<In> for SessionWindows<In, U> {
    type Out = U::Out;

    fn add<I: Iterator<Item = In>>(&mut self, items: &mut I, time: CheckTime, out: &mut Pending<U::Out>) {
        items.for_each(|item| self.take(item, time, out));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        self.early_at.is_some_and(|at| at <= time.processing.monotonic)
            || self.wheel.next_deadline().is_some_and(|at| at <= time.event.as_nanos())
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<U::Out>,
    ) -> bool {
        let upto = if which == Release::All { i64::MAX } else { time.event.as_nanos() };
        while !allowance.is_spent(out.len()) {
            if let Some((at, of)) = self.wheel.pop(upto, &mut allowance.work) {
                self.ring(of as usize, at, out);
            } else if allowance.work == 0 {
                return false;
            } else if let Some(from) = self.early_from {
                self.early(from, allowance, out);
            } else if self.early_at.is_some_and(|at| at <= time.processing.monotonic) {
                self.early_at = None;
                self.early_from = Some(0);
            } else {
                return true;
            }
        }
        false
    }

    fn next_deadline(&self) -> Option<i64> {
        self.early_at
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.sessions.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        (self.sessions, self.wheel) = (Keys::new(), TimerWheel::new());
    }
}
