//! The stateless operator that can fail: its item is kept until the call has succeeded.

use super::letters::{Letters, Posts};
use super::lot::Lot;
use super::trial::{Attempt, Trial};
use super::{Chain, Operator, Rejected, StageError, StageSite, StepCx, catch};
use crate::model::Signal;
use crate::observe::StageAccount;

/// One item in, one out or an error; the item is kept until its call succeeds, so that it can be retried or handed on
/// as a dead letter.
pub struct TryMap<F, T> {
    f: F,
    trial: Trial<T>,
    lot: Lot<T>,
}

impl<F, T> TryMap<F, T> {
    /// Maps with `f`, which borrows the item.
    pub fn new(f: F, site: &StageSite) -> Self {
        let trial = Trial::new(site);
        Self { f, lot: Lot::new(&trial), trial }
    }
}

/// One attempt; the item comes back with the error.
#[inline(always)]
pub(crate) fn attempt<T, U>(f: &mut impl FnMut(&T) -> Result<U, StageError>, item: T) -> Attempt<U, T> {
    let mut kept = Some(item);
    let outcome = catch(|| {
        let done = kept.as_ref().map(&mut *f);
        if matches!(done, Some(Ok(_))) {
            kept = None; // here, where it is caught if that panics
        }
        done
    });
    let error = match outcome {
        Ok(Some(Ok(u))) => return Attempt::Done(u),
        Ok(Some(Err(error))) | Err(error) => error,
        Ok(None) => StageError::msg("internal error: an attempt without an item"),
    };
    match kept {
        Some(item) => Attempt::Refused(Rejected { item, error }),
        None => Attempt::Gone(error),
    }
}

/// Offers each item. A free function, as those of `stage::ops`.
#[inline(always)]
fn trying<T: 'static, U>(
    f: &mut impl FnMut(&T) -> Result<U, StageError>,
    trial: &mut Trial<T>,
    lot: &mut Lot<T>,
    cx: &StepCx,
) -> impl FnMut(T) -> Option<U> {
    move |item| lot.offer(item, trial, cx, |item| attempt(f, item))
}

/// Tries again what is due, as long as there is room for what may come of it. True if anything was tried.
#[inline]
pub(crate) fn retry_all<U, D: Chain<U>>(
    down: &mut D,
    cx: &StepCx,
    mut retry: impl FnMut() -> Option<Option<U>>,
) -> bool {
    let mut moved = false;
    while down.room() > 0
        && let Some(outcome) = retry()
    {
        moved = true;
        down.run(outcome.into_iter(), cx);
    }
    moved
}

impl<T: 'static, U: 'static, F: FnMut(&T) -> Result<U, StageError> + 'static> Operator<T> for TryMap<F, T> {
    type Out = U;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<U>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, trial, lot } = self;
        down.run(items.filter_map(trying(f, trial, lot, cx)), cx);
    }

    #[inline]
    fn room<D: Chain<U>>(&mut self, down: &mut D) -> usize {
        if self.lot.is_empty() { self.lot.room(down.room(), &self.trial) } else { 0 }
    }

    #[inline]
    fn takes_signal<D: Chain<U>>(&mut self, down: &mut D) -> bool {
        self.lot.is_empty() && down.takes_signal()
    }

    fn signal<D: Chain<U>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if signal == Signal::End {
            self.trial.retire();
        }
        down.signal(signal, cx);
    }

    fn tick<D: Chain<U>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Self { f, trial, lot } = self;
        trial.tick(cx);
        retry_all(down, cx, || lot.retry(trial, cx, |item| attempt(f, item)))
    }

    fn next_deadline(&self) -> Option<i64> {
        self.lot.deadline(&self.trial)
    }

    fn account(&self, account: &mut StageAccount) {
        account.passed = self.lot.account(&self.trial, account);
        account.emitted = account.passed;
    }

    fn last_error(&mut self) -> Option<String> {
        self.trial.take_last_error()
    }

    fn close(&mut self, discard: bool) -> Result<(), StageError> {
        if discard {
            self.lot.discard();
        }
        Ok(())
    }
}

impl<F, T> Posts<T> for TryMap<F, T> {
    fn letters(&mut self) -> &mut Letters<T> {
        self.trial.letters()
    }
}
