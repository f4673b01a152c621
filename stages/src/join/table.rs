//! A stream and a table that changes: each item with the row of its key that was valid at its time.

use std::collections::VecDeque;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, TimerId, TimerWheel};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::logic::{JoinLogic, Side};
use crate::keys::Keys;
use crate::tally::Tally;

/// What a key has: rows and items, each in the order of time.
struct Entry<L, R> {
    rows: VecDeque<(i64, R)>,
    items: VecDeque<(i64, L)>,
    timer: Option<TimerId>,
}

/// The latest row of each key at every time that may still be asked for, and the items that wait until no row before
/// their time can come.
pub(super) struct AsOf<J: JoinLogic> {
    user: J,
    keys: Keys<J::Key, Entry<J::Left, J::Right>>,
    wheel: TimerWheel,
    /// Items of this key are being given out.
    leaving: Option<usize>,
    tally: Tally,
}

impl<J: JoinLogic> AsOf<J> {
    pub(super) fn new(user: J) -> Self {
        let (keys, wheel) = (Keys::new(), TimerWheel::new());
        Self { user, keys, wheel, leaving: None, tally: Tally::default() }
    }

    fn take(&mut self, item: Side<J::Left, J::Right>, watermark: i64) {
        let at = self.user.time(&item);
        let key = self.user.key(&item);
        let of =
            self.keys.place(key, |_| Entry { rows: VecDeque::new(), items: VecDeque::new(), timer: None });
        self.tally.absorbed += 1;
        self.tally.late += u64::from(at < watermark);
        let Entry { rows, items, .. } = &mut self.keys[of];
        match item {
            Side::Right(row) => {
                let place = rows.partition_point(|(time, _)| *time <= at);
                rows.insert(place, (at, row));
                self.prune(of, watermark);
            }
            Side::Left(item) => {
                let place = items.partition_point(|(time, _)| *time <= at);
                items.insert(place, (at, item));
                self.arm(of);
            }
        }
    }

    /// Forgets rows that no item can ask for any more: all before the last that was valid at the watermark.
    fn prune(&mut self, of: usize, watermark: i64) {
        let Entry { rows, items, .. } = &mut self.keys[of];
        let asked = items.front().map_or(watermark, |(time, _)| watermark.min(*time));
        let valid = rows.partition_point(|(time, _)| *time <= asked);
        self.tally.complete += rows.drain(..valid.saturating_sub(1)).count() as u64;
    }

    fn arm(&mut self, of: usize) {
        let Entry { items, timer, .. } = &mut self.keys[of];
        let Some((time, _)) = items.front() else { return };
        // Rows of that very time may come until the watermark is past it.
        let due = time.saturating_add(1);
        if let Some(id) = *timer {
            if self.wheel.deadline(id).is_some_and(|earlier| earlier <= due) {
                return;
            }
            self.wheel.cancel(id);
        }
        *timer = Some(self.wheel.schedule(due, of as u64));
    }

    /// Gives out the items of a key whose time has come. True if that is done.
    fn leave(
        &mut self,
        of: usize,
        watermark: i64,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool {
        loop {
            if allowance.is_spent(out.len()) {
                return false;
            }
            let Self { user, keys, .. } = self;
            let Entry { rows, items, .. } = &mut keys[of];
            let Some((time, item)) = pop_due(items, watermark) else {
                self.prune(of, watermark);
                self.arm(of);
                return true;
            };
            let valid = rows.partition_point(|(row, _)| *row <= time);
            let row = valid.checked_sub(1).and_then(|at| rows.get(at)).map(|(_, row)| row);
            let result = user.result(Some(&item), row);
            match result {
                Some(result) => {
                    out.push(result);
                    self.tally.results += 1;
                    self.tally.complete += 1;
                }
                None => {
                    self.tally.absorbed -= 1;
                    self.tally.filtered += 1;
                }
            }
            allowance.work();
        }
    }

    fn forget(&mut self) {
        (self.keys, self.wheel, self.leaving) = (Keys::new(), TimerWheel::new(), None);
    }
}

/// Takes the first if the watermark is past its time, or at the end of all time.
fn pop_due<T>(items: &mut VecDeque<(i64, T)>, watermark: i64) -> Option<(i64, T)> {
    let due = items.front().is_some_and(|(time, _)| *time < watermark || watermark == i64::MAX);
    if due { items.pop_front() } else { None }
}

impl<J: JoinLogic> Stateful<Side<J::Left, J::Right>> for AsOf<J> {
    type Out = J::Out;

    fn add<I: Iterator<Item = Side<J::Left, J::Right>>>(
        &mut self,
        items: &mut I,
        time: CheckTime,
        _out: &mut Pending<J::Out>,
    ) {
        items.for_each(|item| self.take(item, time.event.as_nanos()));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        self.leaving.is_some() || self.wheel.next_deadline().is_some_and(|at| at <= time.event.as_nanos())
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool {
        let watermark = if which == Release::All { i64::MAX } else { time.event.as_nanos() };
        while !allowance.is_spent(out.len()) {
            let next = match self.leaving.take() {
                Some(of) => of,
                None => match self.wheel.pop(watermark, &mut allowance.work) {
                    Some((_, of)) => {
                        self.keys[of as usize].timer = None;
                        of as usize
                    }
                    None if allowance.work == 0 => return false,
                    None => {
                        if which == Release::All {
                            self.tally.complete = self.tally.absorbed;
                            self.forget();
                        }
                        return true;
                    }
                },
            };
            if !self.leave(next, watermark, allowance, out) {
                self.leaving = Some(next);
            }
        }
        false
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.keys.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        self.forget();
    }
}
