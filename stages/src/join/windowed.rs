//! Joins by tumbling windows: what waits goes with its window.

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, hash_key};
use corelane::observe::StageAccount;
use corelane::stage::Pending;
use hashbrown::HashTable;

use super::logic::{JoinLogic, Side};
use crate::tally::Tally;
use crate::window::panes::{self, Entry, Panes, Store};
use crate::window::span::Frame;

/// No item.
const NONE: usize = usize::MAX;

/// An item in its window.
struct Held<T> {
    item: T,
    /// The next one of its key; the first one, for the last.
    next: usize,
    matched: bool,
}

/// The last item of a key on each side.
struct Lasts<K> {
    key: K,
    left: usize,
    right: usize,
}

impl<K: std::hash::Hash + Eq> Entry for Lasts<K> {
    type Key = K;
    #[inline(always)]
    fn key(&self) -> &K {
        &self.key
    }
}

/// The items of a window, each side in the order in which they came, and each key's in a ring.
struct Meeting<K, L, R> {
    keys: HashTable<Lasts<K>>,
    left: Vec<Held<L>>,
    right: Vec<Held<R>>,
}

impl<K, L, R> Default for Meeting<K, L, R> {
    fn default() -> Self {
        Self { keys: HashTable::new(), left: Vec::new(), right: Vec::new() }
    }
}

impl<K, L, R> Store for Meeting<K, L, R> {
    fn len(&self) -> usize {
        self.keys.len()
    }
    fn capacity(&self) -> usize {
        self.keys.capacity().max(self.left.capacity()).max(self.right.capacity())
    }
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let items =
            self.left.capacity() * size_of::<Held<L>>() + self.right.capacity() * size_of::<Held<R>>();
        self.keys.allocation_size() + items
    }
}

/// Gives all items of a key; whether there is any.
#[inline(always)]
fn pair<T>(held: &mut [Held<T>], last: usize, mut give: impl FnMut(&T)) -> bool {
    let mut at = match held.get(last) {
        Some(last) => last.next,
        None => return false,
    };
    loop {
        let other = &mut held[at];
        other.matched = true;
        give(&other.item);
        if at == last {
            return true;
        }
        at = other.next;
    }
}

/// Adds an item to those of its key.
#[inline(always)]
fn hold<T>(held: &mut Vec<Held<T>>, last: &mut usize, item: T, matched: bool) {
    let at = held.len();
    let next = held.get_mut(*last).map_or(at, |last| std::mem::replace(&mut last.next, at));
    *last = at;
    held.push(Held { item, next, matched });
}

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
        let key = self.user.key(&item);
        let Self { user, windows, tally, .. } = self;
        let pane = windows.pane(self.at);
        let Meeting { keys, left, right } = &mut pane.table;
        let hash = hash_key(&key);
        let mut give = |l: &J::Left, r: &J::Right| {
            if let Some(result) = user.result(Some(l), Some(r)) {
                tally.results += 1;
                out.push(result);
            }
        };
        let mut new = (NONE, NONE);
        let known = keys.find_mut(hash, |lasts| lasts.key == key);
        let is_new = known.is_none();
        let (of_left, of_right) = match known {
            Some(Lasts { left, right, .. }) => (left, right),
            None => (&mut new.0, &mut new.1),
        };
        match item {
            Side::Left(item) => {
                let matched = pair(right, *of_right, |other| give(&item, other));
                hold(left, of_left, item, matched);
            }
            Side::Right(item) => {
                let matched = pair(left, *of_left, |other| give(other, &item));
                hold(right, of_right, item, matched);
            }
        }
        if is_new {
            panes::insert(keys, hash, Lasts { key, left: new.0, right: new.1 });
        }
        pane.items += 1;
        tally.absorbed += 1;
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

    /// Lets go of a window, from its last item to its first. True if that is done.
    fn leave(&mut self, slot: usize, allowance: &mut Allowance, out: &mut Pending<J::Out>) -> bool {
        let Self { user, windows, tally, .. } = self;
        let pane = windows.pane(slot);
        pane.held = pane.items as usize;
        let Meeting { keys, left, right } = &mut pane.table;
        while !allowance.is_spent(out.len()) {
            let (matched, alone) = if let Some(Held { item, matched, .. }) = left.pop() {
                (matched, if matched { None } else { user.result(Some(&item), None) })
            } else if let Some(Held { item, matched, .. }) = right.pop() {
                (matched, if matched { None } else { user.result(None, Some(&item)) })
            } else {
                keys.clear();
                windows.close(slot);
                return true;
            };
            allowance.work();
            tally.leave(matched || alone.is_some());
            tally.results += u64::from(alone.is_some());
            out.extend(alone);
        }
        false
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
