//! Joins by tumbling windows, and without any: what waits leaves with its window, or at the end.

use corelane::keyed::{Allowance, CheckTime, Release, Stateful};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::logic::{JoinLogic, Side};
use super::meeting::Meeting;
use crate::tally::Tally;
use crate::window::panes::{Panes, Store};
use crate::window::span::Frame;

/// Joins two sides by tumbling windows: an item is paired with those of its key on the other side that are in its window. Costs a
/// look-up and the pairs. At its end a window goes as a whole: keys have no timers.
pub struct WindowPairs<J: JoinLogic> {
    user: J,
    frame: Frame,
    windows: Panes<Meeting<J::Key, J::Left, J::Right>>,
    /// The window that took the last item.
    at: usize,
    /// The window that is being let go of.
    leaving: Option<usize>,
    tally: Tally,
}

impl<J: JoinLogic> WindowPairs<J> {
    pub(super) fn new(user: J, frame: Frame) -> Self {
        Self { user, frame, windows: Panes::new(), at: usize::MAX, leaving: None, tally: Tally::default() }
    }

    #[inline(always)]
    fn take(&mut self, item: Side<J::Left, J::Right>, watermark: i64, out: &mut Pending<J::Out>) {
        let time = self.user.time(&item);
        if !self.windows.covers(self.at, time) && !self.turn_to(time, watermark) {
            return;
        }
        let Self { user, windows, tally, .. } = self;
        let pane = windows.pane(self.at);
        pane.table.meet(user, item, tally, out);
        pane.items += 1;
    }

    /// Makes the window of `time` the current one; false if that has gone, or there is none, and the item was counted.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, time: i64, watermark: i64) -> bool {
        if !self.frame.fits(time) {
            self.tally.filtered += 1;
            return false;
        }
        let (start, end) = self.frame.windows.tile(time);
        if end <= watermark {
            self.tally.late(false);
            return false;
        }
        self.at = match self.windows.find(start) {
            Some(slot) => slot,
            None => self.windows.open(start, end),
        };
        true
    }

    /// Lets go of a window. True if that is done.
    fn leave(&mut self, slot: usize, allowance: &mut Allowance, out: &mut Pending<J::Out>) -> bool {
        let Self { user, windows, tally, .. } = self;
        let pane = windows.pane(slot);
        pane.held = pane.items as usize;
        let done = pane.table.leave(user, tally, allowance, out);
        if done {
            windows.close(slot);
        }
        done
    }

    /// The first window if it has ended by `now`.
    fn ended(&self, now: i64) -> Option<usize> {
        self.windows.first().filter(|(_, end)| *end <= now).map(|(slot, _)| slot)
    }

    /// Keys, and bytes there is memory for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.windows.len(), self.windows.bytes())
    }
}

impl<J: JoinLogic> Stateful<Side<J::Left, J::Right>> for WindowPairs<J> {
    type Out = J::Out;

    fn add<I: Iterator<Item = Side<J::Left, J::Right>>>(
        &mut self,
        items: &mut I,
        time: CheckTime,
        out: &mut Pending<J::Out>,
    ) {
        items.for_each(|item| self.take(item, time.event.as_nanos(), out));
    }

    fn is_due(&self, time: CheckTime) -> bool {
        self.leaving.is_some() || self.ended(time.event.as_nanos()).is_some()
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool {
        let now = if which == Release::All { i64::MAX } else { time.event.as_nanos() };
        while let Some(slot) = self.leaving.take().or_else(|| self.ended(now)) {
            if !self.leave(slot, allowance, out) {
                self.leaving = Some(slot);
                return false;
            }
            // The window itself.
            allowance.work();
        }
        true
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.windows.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        (self.windows, self.leaving) = (Panes::new(), None);
    }
}

/// Joins two sides of which everything is kept to the end of the input.
pub struct KeptPairs<J: JoinLogic> {
    user: J,
    all: Meeting<J::Key, J::Left, J::Right>,
    tally: Tally,
}

impl<J: JoinLogic> KeptPairs<J> {
    pub(super) fn new(user: J) -> Self {
        Self { user, all: Meeting::default(), tally: Tally::default() }
    }
}

impl<J: JoinLogic> Stateful<Side<J::Left, J::Right>> for KeptPairs<J> {
    type Out = J::Out;

    fn add<I: Iterator<Item = Side<J::Left, J::Right>>>(
        &mut self,
        items: &mut I,
        _time: CheckTime,
        out: &mut Pending<J::Out>,
    ) {
        let Self { user, all, tally } = self;
        items.for_each(|item| all.meet(user, item, tally, out));
    }

    fn is_due(&self, _time: CheckTime) -> bool {
        false
    }

    fn release(
        &mut self,
        which: Release,
        _time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool {
        let done = which == Release::Due || self.all.leave(&mut self.user, &mut self.tally, allowance, out);
        if done && which == Release::All {
            self.all = Meeting::default();
        }
        done
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += self.all.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        self.all = Meeting::default();
    }
}
