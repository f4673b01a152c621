//! Output that waits for room.

use std::collections::VecDeque;

use super::{Chain, StepCx};
use crate::model::Signal;
use crate::observe::StageAccount;

/// Output that has been made and not yet handed on, with the signals that stand in it.
///
/// For operators that may make more than there is room for, or must pass a signal on behind what they make: as long as
/// anything waits here, such an operator answers `room() == 0`.
pub struct Pending<T> {
    items: VecDeque<T>,
    /// Signals, each with the number of emitted items before it.
    signals: VecDeque<(u64, Signal)>,
    handed_on: u64,
    /// Items dropped by `clear`.
    discarded: u64,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Pending<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { items: VecDeque::new(), signals: VecDeque::new(), handed_on: 0, discarded: 0 }
    }

    /// Adds an item at the end.
    #[inline]
    pub fn push(&mut self, item: T) {
        self.items.push_back(item);
    }

    /// Adds items at the end.
    #[inline]
    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Items handed on, and items that have not been and, once cleared, will not be.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.handed_on, self.items.len() as u64 + self.discarded)
    }

    /// Fills in `emitted` and `unsent`: what has been handed on, and what has not and will not be.
    pub fn account(&self, account: &mut StageAccount) {
        (account.emitted, account.unsent) = self.counts();
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        self.discarded += self.items.len() as u64;
        self.items.clear();
        self.signals.clear();
    }

    /// Whether neither an item nor a signal waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.signals.is_empty()
    }

    /// Adds a signal behind everything added so far.
    pub fn signal(&mut self, signal: Signal) {
        self.signals.push_back((self.handed_on + self.items.len() as u64, signal));
    }

    /// Hands on as much as there is room for. True if anything moved.
    #[inline]
    pub fn settle<D: Chain<T>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = false;
        while !self.is_empty() {
            let before_signal = match self.signals.front() {
                Some((at, _)) => usize::try_from(at - self.handed_on).unwrap_or(usize::MAX),
                None => self.items.len(),
            };
            if before_signal > 0 {
                let n = before_signal.min(down.room());
                if n == 0 {
                    break;
                }
                moved = true;
                self.handed_on += n as u64;
                down.run(self.items.drain(..n), cx);
            } else {
                if !down.takes_signal() {
                    break;
                }
                moved = true;
                if let Some((_, signal)) = self.signals.pop_front() {
                    down.signal(signal, cx);
                }
            }
        }
        moved
    }
}
