//! Joins by tumbling windows, and without any: what waits leaves with its window, or at the end.

use corelane::keyed::{Allowance, CheckTime, Release, Stateful};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::logic::{JoinLogic, Side};
use super::meeting::Meeting;
use crate::tally::Tally;
use crate::window::panes::{Panes, Store};
use crate::window::span::Frame;

/// The open windows, and the one that took the last item.
struct Open<S> {
    frame: Frame,
    panes: Panes<S>,
    at: usize,
}

impl<S: Store> Open<S> {
    /// Makes the window of `time` the current one. False if it has gone, or there is none; then the item was counted.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, time: i64, watermark: i64, tally: &mut Tally) -> bool {
        if !self.frame.fits(time) {
            tally.filtered += 1;
            return false;
        }
        let (start, end) = self.frame.windows.tile(time);
        if end <= watermark {
            tally.late(false);
            return false;
        }
        self.at = match self.panes.find(start) {
            Some(slot) => slot,
            None => self.panes.open(start, end),
        };
        true
    }
}

/// Joins two sides by tumbling windows: an item is paired with those of its key on the other side that are in its window. Costs a
/// look-up and the pairs. At its end a window goes as a whole: keys have no timers.
pub struct WindowPairs<J: JoinLogic> {
    user: J,
    windows: Open<Meeting<J::Key, J::Left, J::Right>>,
    /// The window that is being let go of.
    leaving: Option<usize>,
    tally: Tally,
}

impl<J: JoinLogic> WindowPairs<J> {
    pub(super) fn new(user: J, frame: Frame) -> Self {
        let windows = Open { frame, panes: Panes::new(), at: usize::MAX };
        Self { user, windows, leaving: None, tally: Tally::default() }
    }

    /// Lets go of a window. True if that is done.
    fn leave(&mut self, slot: usize, allowance: &mut Allowance, out: &mut Pending<J::Out>) -> bool {
        let Self { user, windows: Open { panes, .. }, tally, .. } = self;
        let pane = panes.pane(slot);
        pane.held = pane.items as usize;
        let done = pane.table.leave(user, tally, allowance, out);
        if done {
            panes.close(slot);
        }
        done
    }

    /// The first window if it has ended by `now`.
    fn ended(&self, now: i64) -> Option<usize> {
        self.windows.panes.first().filter(|(_, end)| *end <= now).map(|(slot, _)| slot)
    }

    /// Keys, and bytes there is memory for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.windows.panes.len(), self.windows.panes.bytes())
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
        let watermark = time.event.as_nanos();
        let Self { user, windows, tally, .. } = self;
        for item in items {
            let time = user.time(&item);
            if !windows.panes.covers(windows.at, time) {
                if let Some(pane) = windows.panes.current(windows.at) {
                    pane.table.give_owed(user, tally, out);
                }
                if !windows.turn_to(time, watermark, tally) {
                    continue;
                }
            }
            let pane = windows.panes.pane(windows.at);
            pane.table.meet(user, item, tally, out);
            pane.items += 1;
        }
    }

    fn owes(&self) -> bool {
        self.windows.panes.get(self.windows.at).is_some_and(|pane| pane.table.owes())
    }

    fn flush(&mut self, out: &mut Pending<J::Out>) {
        let Self { user, windows: Open { panes, at, .. }, tally, .. } = self;
        if let Some(pane) = panes.current(*at) {
            pane.table.flush(user, tally, out);
        }
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
        account.keys += self.windows.panes.len() as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        (self.windows.panes, self.leaving) = (Panes::new(), None);
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
        for item in items {
            all.meet(user, item, tally, out);
        }
    }

    fn owes(&self) -> bool {
        self.all.owes()
    }

    fn flush(&mut self, out: &mut Pending<J::Out>) {
        self.all.flush(&mut self.user, &mut self.tally, out);
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
