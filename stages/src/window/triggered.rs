//! Tumbling and sliding windows with early and late results.

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, hash_key};
use corelane::observe::StageAccount;
use corelane::stage::Pending;
use hashbrown::HashTable;

use super::Windowed;
use super::logic::Logic;
use super::panes::{Entry, Panes, insert, walk_entries};
use super::span::Frame;
use super::trigger::{Progress, Timing, Trigger};
use crate::tally::Tally;

/// What a window has for a key.
struct Held<K, A> {
    key: K,
    acc: A,
    progress: Progress,
}

impl<K: std::hash::Hash + Eq, A> Entry for Held<K, A> {
    type Key = K;
    fn key(&self) -> &K {
        &self.key
    }
}

type Table<In, U> = Panes<HashTable<Held<<U as Logic<In>>::Key, <U as Logic<In>>::Acc>>>;

/// Windows of one frame, each with a table of its own: what has been given out of a window differs from one to the next, so
/// sliding windows cannot share panes here, and an item costs a look-up for each window it lies in.
pub struct TriggeredWindows<In, U: Logic<In>> {
    user: U,
    frame: Frame,
    trigger: Trigger,
    windows: Table<In, U>,
    /// Every window that ends by then has given its result in time.
    on_time: i64,
    /// When early results are due, in processing time; set by the first item after the last ones.
    early_at: Option<i64>,
    doing: Doing,
    tally: Tally,
}

/// What a release was in the middle of; with the bucket to go on from.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    OnTime(usize, usize),
    Expire(usize, usize),
    /// All windows from this start on.
    Early(i64, usize),
}

/// Makes a result of what a window has for a key.
fn fire<In, U: Logic<In>>(
    user: &U,
    trigger: &Trigger,
    window: super::Window,
    held: &mut Held<U::Key, U::Acc>,
    timing: Timing,
    last: bool,
) -> U::Out {
    let value = if trigger.discards() {
        user.finish(std::mem::replace(&mut held.acc, user.init()))
    } else {
        user.result(&held.acc)
    };
    let pane = held.progress.pane(timing, last);
    user.emit(Windowed { key: held.key.clone(), window, value, pane })
}

impl<In: 'static, U: Logic<In>> TriggeredWindows<In, U> {
    pub(super) fn new(user: U, frame: Frame, trigger: Trigger) -> Self {
        Self {
            user,
            frame,
            trigger,
            windows: Panes::new(),
            on_time: i64::MIN,
            early_at: None,
            doing: Doing::Nothing,
            tally: Tally::default(),
        }
    }

    /// The end of a window's life.
    fn expires(&self, end: i64) -> i64 {
        end.saturating_add(self.trigger.lateness())
    }

    fn take(&mut self, item: In, time: CheckTime, out: &mut Pending<U::Out>) {
        let at = self.user.time(&item);
        if !self.frame.fits(at) || self.frame.last_start(at).is_none() {
            self.tally.filtered += 1;
            return;
        }
        let watermark = time.event.as_nanos();
        let key = self.user.key(&item);
        let hash = hash_key(&key);
        let (mut taken, mut late) = (false, true);
        for start in self.frame.starts(at) {
            let end = self.frame.end(start);
            if self.expires(end) <= watermark {
                continue;
            }
            taken = true;
            late &= end <= watermark;
            self.put(start, end, (&key, hash), &item, out);
        }
        if !taken {
            let late = self.user.late(item);
            self.tally.late(late.is_some());
            out.extend(late);
            return;
        }
        self.tally.absorbed += 1;
        self.tally.late += u64::from(late);
        if let (None, Some(period)) = (self.early_at, self.trigger.period()) {
            self.early_at = Some(time.processing.monotonic.saturating_add(period));
        }
    }

    fn put(
        &mut self,
        start: i64,
        end: i64,
        (key, hash): (&U::Key, u64),
        item: &In,
        out: &mut Pending<U::Out>,
    ) {
        let Self { user, trigger, windows, on_time, frame, tally, .. } = self;
        let slot = match windows.find(start) {
            Some(slot) => slot,
            None => windows.open(start, end),
        };
        let pane = windows.pane(slot);
        if pane.table.find(hash, |held| held.key == *key).is_none() {
            let held = Held { key: key.clone(), acc: user.init(), progress: Progress::default() };
            insert(&mut pane.table, hash, held);
        }
        let Some(held) = pane.table.find_mut(hash, |held| held.key == *key) else { return };
        user.add(&mut held.acc, item);
        held.progress.fresh = held.progress.fresh.saturating_add(1);
        // An item belongs to the last of its windows, for the account.
        if frame.last_start(user.time(item)) == Some(start) {
            pane.items += 1;
        }
        let timing = if end <= *on_time { Timing::Late } else { Timing::Early };
        if trigger.wants(timing, &held.progress) {
            tally.early += 1;
            out.push(fire(user, trigger, frame.window(start), held, timing, false));
        }
    }

    /// What is due next in event time by `upto`, in the order of time.
    fn next(&self, upto: i64) -> Doing {
        let expire = self.windows.first().map(|(slot, end)| (self.expires(end), slot));
        let unfired = self.windows.first_from(self.frame.starts_after(self.on_time));
        let on_time = unfired.map(|slot| (self.windows.end(slot), slot));
        let (expire, on_time) = (expire.filter(|(at, _)| *at <= upto), on_time.filter(|(at, _)| *at <= upto));
        match (on_time, expire) {
            (Some((end, slot)), expire) if expire.is_none_or(|(at, _)| end <= at) => Doing::OnTime(slot, 0),
            (_, Some((_, slot))) => Doing::Expire(slot, 0),
            _ => Doing::Nothing,
        }
    }

    /// Gives out what a window has in time. True if that is done.
    fn in_time(
        &mut self,
        slot: usize,
        at: &mut usize,
        allowance: &mut Allowance,
        out: &mut Pending<U::Out>,
    ) -> bool {
        let Self { user, trigger, windows, on_time, frame, tally, .. } = self;
        let pane = windows.pane(slot);
        let (window, last) = (frame.window(pane.start), trigger.lateness() == 0);
        let done = walk_entries(&mut pane.table, at, &mut { allowance.most(out.len()) }, |mut entry| {
            allowance.work();
            let held = entry.get_mut();
            if trigger.wants(Timing::OnTime, &held.progress) {
                tally.results += 1;
                out.push(fire(user, trigger, window, held, Timing::OnTime, last));
            }
        });
        if done {
            *on_time = (*on_time).max(pane.end);
        }
        done
    }

    /// Gives out what late items have changed in a window, and forgets it. True if that is done.
    fn expire(
        &mut self,
        slot: usize,
        at: &mut usize,
        allowance: &mut Allowance,
        out: &mut Pending<U::Out>,
    ) -> bool {
        let most = allowance.most(out.len());
        let Self { user, trigger, windows, frame, tally, .. } = self;
        let pane = windows.pane(slot);
        let (window, items) = (frame.window(pane.start), pane.items);
        let done = windows.drain(slot, at, most, |mut held| {
            allowance.work();
            if held.progress.fresh > 0 {
                tally.results += 1;
                out.push(fire(user, trigger, window, &mut held, Timing::Late, true));
            }
        });
        if done {
            tally.complete += items;
            windows.close(slot);
        }
        done
    }

    /// Gives out early results, window by window. True if that is done.
    fn early(
        &mut self,
        from: &mut i64,
        at: &mut usize,
        allowance: &mut Allowance,
        out: &mut Pending<U::Out>,
    ) -> bool {
        let Self { user, trigger, windows, frame, tally, .. } = self;
        while let Some(slot) = windows.first_from(*from) {
            let pane = windows.pane(slot);
            (*from, *at) = if pane.start == *from { (*from, *at) } else { (pane.start, 0) };
            let window = frame.window(pane.start);
            let done = walk_entries(&mut pane.table, at, &mut { allowance.most(out.len()) }, |mut entry| {
                allowance.work();
                let held = entry.get_mut();
                if held.progress.fresh > 0 {
                    tally.early += 1;
                    out.push(fire(user, trigger, window, held, Timing::Early, false));
                }
            });
            if !done {
                return false;
            }
            allowance.work();
            (*from, *at) = (*from + 1, 0);
        }
        true
    }
}

impl<In: 'static, U: Logic<In>> Stateful<In> for TriggeredWindows<In, U> {
    type Out = U::Out;

    fn add<I: Iterator<Item = In>>(&mut self, items: &mut I, time: CheckTime, out: &mut Pending<U::Out>) {
        // Everything due by now has gone before.
        self.on_time = self.on_time.max(time.event.as_nanos());
        items.for_each(|item| self.take(item, time, out));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        let early = self.early_at.is_some_and(|at| at <= time.processing.monotonic);
        early
            || !matches!(self.doing, Doing::Nothing)
            || !matches!(self.next(time.event.as_nanos()), Doing::Nothing)
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<U::Out>,
    ) -> bool {
        let upto = if which == Release::All { i64::MAX } else { time.event.as_nanos() };
        loop {
            let doing = match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => match self.next(upto) {
                    Doing::Nothing if self.early_at.is_some_and(|at| at <= time.processing.monotonic) => {
                        self.early_at = None;
                        Doing::Early(self.frame.starts_after(self.on_time), 0)
                    }
                    next => next,
                },
                doing => doing,
            };
            match doing {
                Doing::Nothing => return true,
                _ if allowance.is_spent(out.len()) => {
                    self.doing = doing;
                    return false;
                }
                Doing::OnTime(slot, mut at) => {
                    if !self.in_time(slot, &mut at, allowance, out) {
                        self.doing = Doing::OnTime(slot, at);
                    }
                }
                Doing::Expire(slot, mut at) => {
                    if !self.expire(slot, &mut at, allowance, out) {
                        self.doing = Doing::Expire(slot, at);
                    }
                }
                Doing::Early(mut from, mut at) => {
                    if !self.early(&mut from, &mut at, allowance, out) {
                        self.doing = Doing::Early(from, at);
                    }
                }
            }
            allowance.work();
        }
    }

    fn next_deadline(&self) -> Option<i64> {
        self.early_at
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.windows.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        self.windows = Panes::new();
        self.doing = Doing::Nothing;
    }
}
