//! The dumbest thing that is right, for the tests of the ring.

use std::collections::VecDeque;

use corelane::model::Signal;
use corelane::ring::SIGNAL_CAPACITY;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Entry {
    Item(u64),
    /// An item that was evicted, and that the consumer has not passed over yet.
    Gone,
    Signal(Signal),
}

/// What is published, what is not yet, and the totals.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) capacity: usize,
    /// Items that may be pushed in all, beside those evicted, if the consumer has bounded them.
    pub(crate) granted: Option<u64>,
    pub(crate) evictable: bool,
    /// The first so many are claimed by the consumer.
    pub(crate) owned: usize,
    pub(crate) published: VecDeque<Entry>,
    pub(crate) pending: VecDeque<Entry>,
    pub(crate) pushed: u64,
    pub(crate) popped: u64,
    pub(crate) evicted: u64,
    /// Of those evicted, passed over by the consumer.
    pub(crate) passed: u64,
}

pub(crate) fn items(entries: &VecDeque<Entry>) -> usize {
    entries.iter().filter(|e| matches!(e, Entry::Item(_))).count()
}

pub(crate) fn gone(entries: &VecDeque<Entry>) -> usize {
    entries.iter().filter(|e| **e == Entry::Gone).count()
}

impl Model {
    pub(crate) fn free(&self) -> usize {
        // A slot behind one that the consumer still has is not free.
        let gone = if self.owned > 0 { gone(&self.published) } else { 0 };
        let slots = self.capacity - items(&self.published) - items(&self.pending) - gone;
        let pushed = self.pushed - self.evicted;
        self.granted.map_or(slots, |granted| slots.min(granted.saturating_sub(pushed) as usize))
    }

    pub(crate) fn signal_room(&self) -> usize {
        let signals = |entries: &VecDeque<Entry>| entries.len() - items(entries) - gone(entries);
        SIGNAL_CAPACITY - signals(&self.published) - signals(&self.pending)
    }

    pub(crate) fn push(&mut self, value: u64) {
        self.pending.push_back(Entry::Item(value));
        self.pushed += 1;
    }

    pub(crate) fn evict(&mut self) -> Option<u64> {
        if !self.evictable {
            return None;
        }
        if items(&self.published) == self.owned && items(&self.pending) > 0 {
            self.published.append(&mut self.pending);
        }
        let oldest = self.published.iter_mut().filter(|e| matches!(e, Entry::Item(_))).nth(self.owned)?;
        let Entry::Item(value) = std::mem::replace(oldest, Entry::Gone) else { unreachable!() };
        self.evicted += 1;
        Some(value)
    }

    /// What the consumer does whenever it looks.
    pub(crate) fn settle(&mut self) {
        while self.owned == 0 && self.published.front() == Some(&Entry::Gone) {
            self.published.pop_front();
            self.passed += 1;
        }
    }

    /// The consumer takes `taken` of the `claimed` items that come next.
    pub(crate) fn take(&mut self, claimed: usize, taken: usize) {
        self.published.drain(..taken);
        self.popped += taken as u64;
        if self.evictable {
            self.owned = self.owned.max(claimed) - taken;
        }
    }

    /// The items before the next signal.
    pub(crate) fn readable(&self) -> Vec<u64> {
        self.published
            .iter()
            .map_while(|e| if let Entry::Item(value) = e { Some(*value) } else { None })
            .collect()
    }
}
