//! Signals that wait in front of a ring.

use std::collections::VecDeque;

use crate::model::{Signal, Timestamp};

/// Signals with their places among the items that wait with them.
///
/// Those of one place are merged, so that no more memory is held than there are items, however long a consumer takes nothing:
/// of watermarks the latest counts, of turns their number. A watermark is put before the turns of its place: no item stands
/// between them.
#[derive(Debug, Default)]
pub(crate) struct Held {
    groups: VecDeque<Group>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Due when so many items have left the queue of those that wait.
    place: u64,
    watermark: Option<Timestamp>,
    idle: bool,
    turns: u64,
    /// A barrier or the end. Nothing is merged behind it.
    last: Option<Signal>,
}

impl Group {
    fn add(&mut self, signal: Signal) {
        match signal {
            // The later of the two says all that both say, and that the input is not idle.
            Signal::Watermark(time) => {
                self.watermark = self.watermark.max(Some(time));
                self.idle = false;
            }
            Signal::Idle => self.idle = true,
            Signal::Turn => self.turns += 1,
            Signal::Barrier(_) | Signal::End => self.last = Some(signal),
        }
    }

    fn next(&self) -> Option<Signal> {
        let idle = || self.idle.then_some(Signal::Idle);
        let turn = || (self.turns > 0).then_some(Signal::Turn);
        self.watermark.map(Signal::Watermark).or_else(idle).or_else(turn).or(self.last)
    }

    fn remove(&mut self, signal: Signal) {
        match signal {
            Signal::Watermark(_) => self.watermark = None,
            Signal::Idle => self.idle = false,
            Signal::Turn => self.turns -= 1,
            Signal::Barrier(_) | Signal::End => self.last = None,
        }
    }

    /// Items must not overtake it: it says which items were before it, not only that there are no more of some.
    fn is_exact(&self) -> bool {
        self.turns > 0 || self.last.is_some()
    }
}

impl Held {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether what is due, now that `left` items have left, must not be overtaken by the next one.
    pub(crate) fn is_exact(&self, left: u64) -> bool {
        self.groups.front().is_some_and(|group| group.place <= left && group.is_exact())
    }

    /// `signal` waits, until `place` items have left.
    pub(crate) fn push(&mut self, place: u64, signal: Signal) {
        match self.groups.back_mut() {
            Some(group) if group.place == place && group.last.is_none() => group.add(signal),
            _ => {
                let mut group = Group { place, ..Group::default() };
                group.add(signal);
                self.groups.push_back(group);
            }
        }
    }

    /// The next signal, if it is due now that `left` items have left.
    pub(crate) fn due(&self, left: u64) -> Option<Signal> {
        self.groups.front().filter(|group| group.place <= left).and_then(Group::next)
    }

    /// `signal`, the next one, has been sent.
    pub(crate) fn pop(&mut self, signal: Signal) {
        if let Some(group) = self.groups.front_mut() {
            group.remove(signal);
            if group.next().is_none() {
                self.groups.pop_front();
            }
        }
    }

    /// An item has gone past what is due, which is no more than watermarks: who sends is not idle.
    pub(crate) fn overtaken(&mut self) {
        if let Some(group) = self.groups.front_mut() {
            group.idle = false;
            if group.next().is_none() {
                self.groups.pop_front();
            }
        }
    }

    /// Now that `left` items have left, merges what has come to stand at one place.
    pub(crate) fn merge(&mut self, left: u64) {
        while let Some(&first) = self.groups.front()
            && let Some(second) = self.groups.get_mut(1)
            && second.place <= left
            && first.last.is_none()
        {
            second.idle |= first.idle && second.watermark.is_none();
            second.watermark = second.watermark.max(first.watermark);
            second.turns += first.turns;
            self.groups.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.groups.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mark(time: i64) -> Signal {
        Signal::Watermark(Timestamp(time))
    }

    fn taken(held: &mut Held, left: u64) -> Vec<Signal> {
        std::iter::from_fn(|| held.due(left).inspect(|signal| held.pop(*signal))).collect()
    }

    #[test]
    fn signals_of_one_place_are_as_good_as_all_of_them_and_those_of_a_later_one_wait() {
        let mut held = Held::default();
        for signal in [mark(1), Signal::Turn, Signal::Idle, mark(3), mark(2), Signal::Turn] {
            held.push(0, signal);
        }
        held.push(2, Signal::Idle);
        held.push(2, Signal::End);
        assert_eq!(taken(&mut held, 1), [mark(3), Signal::Turn, Signal::Turn]);
        assert!(!held.is_exact(1) && held.is_exact(2));
        assert_eq!(taken(&mut held, 2), [Signal::Idle, Signal::End]);
        assert!(held.is_empty() && !held.is_exact(2));
    }

    #[test]
    fn however_many_wait_they_take_no_more_memory_than_their_places() {
        let mut held = Held::default();
        for left in 0..100_000 {
            held.push(left + 1, mark(left as i64));
            held.push(left + 1, Signal::Turn);
            held.merge(left);
        }
        assert!(held.groups.len() <= 2, "{}", held.groups.len());
        let signals = taken(&mut held, u64::MAX);
        assert_eq!(signals.iter().filter(|signal| **signal == Signal::Turn).count(), 100_000);
        assert_eq!(signals[..2], [mark(99_998), Signal::Turn], "{signals:?}");
    }

    #[test]
    fn nothing_is_merged_across_a_barrier() {
        let mut held = Held::default();
        let signals = [mark(1), Signal::Barrier(1), mark(2), Signal::Barrier(2), Signal::End];
        signals.iter().for_each(|signal| held.push(0, *signal));
        held.merge(0);
        assert_eq!(taken(&mut held, 0), signals);
    }

    #[test]
    fn an_item_that_overtakes_ends_idleness_and_leaves_watermarks() {
        let mut held = Held::default();
        held.push(0, mark(1));
        held.push(0, Signal::Idle);
        assert!(!held.is_exact(0));
        held.overtaken();
        assert_eq!(taken(&mut held, 0), [mark(1)]);
        held.push(0, Signal::Idle);
        held.overtaken();
        assert!(held.is_empty());
    }
}
