//! Output that waits for room.

use std::collections::VecDeque;

use super::{Chain, StepCx};
use crate::model::Signal;
use crate::observe::StageAccount;

/// Output that has been made and not yet handed on, with the signals that stand in it.
pub(crate) struct Pending<T> {
    items: VecDeque<T>,
    /// Signals, each with the number of emitted items before it.
    signals: VecDeque<(u64, Signal)>,
    handed_on: u64,
    /// Items dropped by `clear`.
    discarded: u64,
}

impl<T> Pending<T> {
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new(), signals: VecDeque::new(), handed_on: 0, discarded: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        self.items.push_back(item);
    }

    #[inline]
    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
    }

    /// Items that wait.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Fills in what has been handed on, and what has not and will not be.
    pub(crate) fn account(&self, account: &mut StageAccount) {
        account.emitted = self.handed_on;
        account.unsent = self.items.len() as u64 + self.discarded;
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self) {
        self.discarded += self.items.len() as u64;
        self.items.clear();
        self.signals.clear();
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.signals.is_empty()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.signals.push_back((self.handed_on + self.items.len() as u64, signal));
    }

    /// Hands on as much as there is room for. True if anything moved.
    #[inline]
    pub(crate) fn settle<D: Chain<T>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = false;
        while !self.is_empty() {
            let room = down.room();
            if room == 0 {
                break;
            }
            moved = true;
            let before_signal = match self.signals.front() {
                Some((at, _)) => usize::try_from(at - self.handed_on).unwrap_or(usize::MAX),
                None => self.items.len(),
            };
            if before_signal > 0 {
                let n = before_signal.min(room);
                self.handed_on += n as u64;
                down.run(self.items.drain(..n), cx);
            } else if let Some((_, signal)) = self.signals.pop_front() {
                down.signal(signal, cx);
            }
        }
        moved
    }
}
