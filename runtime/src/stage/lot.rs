//! Items that wait for another attempt, in order.

use std::collections::VecDeque;

use super::StepCx;
use super::trial::{Admission, Attempt, Trial, Tried};
use crate::observe::StageAccount;

/// Items that wait: the first for its next attempt or for the breaker, the rest behind it.
///
/// Nothing overtakes the first: while anything waits the stage answers `room() == 0`, so the lot never holds more than the
/// batch in which the failure happened.
pub(super) struct Lot<T> {
    waiting: VecDeque<T>,
    /// Attempts already made at the first item; 0 for one that only queued behind another.
    tried: u32,
    due: i64,
    /// Whether an item needs a second look before it is tried: something waits, or there is a breaker.
    detour: bool,
    discarded: u64,
}

impl<T> Lot<T> {
    pub(super) fn new(trial: &Trial<T>) -> Self {
        Self { waiting: VecDeque::new(), tried: 0, due: 0, detour: trial.is_guarded(), discarded: 0 }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Of `room` items, how many are to be taken now.
    #[inline]
    pub(super) fn room(&self, room: usize, trial: &Trial<T>) -> usize {
        if self.waiting.is_empty() { trial.room(room, 0) } else { 0 }
    }

    pub(super) fn deadline(&self, trial: &Trial<T>) -> Option<i64> {
        trial.deadline((!self.is_empty()).then_some(self.due))
    }

    /// Tries `item` unless something waits before it; parks it if it is to be tried again.
    #[inline(always)]
    pub(super) fn offer<U>(
        &mut self,
        item: T,
        trial: &mut Trial<T>,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        if self.detour {
            return self.offer_slowly(item, trial, cx, attempt);
        }
        match attempt(item) {
            Attempt::Done(u) => Some(u),
            failed => {
                if let Tried::Again(item, due) = trial.judge(failed, 0, cx) {
                    self.park(item, 1, due);
                }
                None
            }
        }
    }

    #[inline(never)]
    fn offer_slowly<U>(
        &mut self,
        item: T,
        trial: &mut Trial<T>,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        if !self.is_empty() && !cfg!(feature = "bug_retry_overtakes") {
            self.waiting.push_back(item);
            return None;
        }
        self.make(item, 0, trial, cx, attempt)
    }

    /// Tries the first waiting item again if it is due. The outer `None` says that there was nothing to try.
    pub(super) fn retry<U>(
        &mut self,
        trial: &mut Trial<T>,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<Option<U>> {
        if self.due > cx.now().monotonic || matches!(trial.admit(), Admission::Wait) {
            return None;
        }
        let item = self.waiting.pop_front()?;
        let tried = std::mem::take(&mut self.tried);
        let outcome = self.make(item, tried, trial, cx, attempt);
        self.detour = trial.is_guarded() || !self.waiting.is_empty();
        Some(outcome)
    }

    /// Makes an attempt at the first item, if the breaker lets it.
    fn make<U>(
        &mut self,
        item: T,
        tried: u32,
        trial: &mut Trial<T>,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        match trial.admit() {
            Admission::Call => match trial.attempt(item, tried, cx, attempt) {
                Tried::Done(u) => return Some(u),
                Tried::Again(item, due) => self.park(item, tried + 1, due),
                Tried::Lost => {}
            },
            Admission::Wait => self.park(item, tried, cx.now().monotonic),
            Admission::TurnAway => trial.turn_away(item, tried, cx),
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn park(&mut self, item: T, tried: u32, due: i64) {
        self.waiting.push_front(item);
        (self.tried, self.due, self.detour) = (tried, due, true);
    }

    /// See [`Trial::account`].
    pub(super) fn account(&self, trial: &Trial<T>, account: &mut StageAccount) -> u64 {
        trial.account(self.waiting.len(), self.discarded, account)
    }

    /// Drops everything that waits.
    pub(super) fn discard(&mut self) {
        self.discarded += self.waiting.len() as u64;
        self.waiting.clear();
    }
}
