//! The operator that can fail, behind a key: only the items of a failed item's key wait for it.

use std::collections::VecDeque;
use std::hash::Hash;

use super::lot::KeyedLot;
use crate::model::Signal;
use crate::observe::StageAccount;
use crate::policy::{DEFAULT_MAX_PARKED, ErrorPolicy};
use crate::stage::{
    Chain, Letters, Operator, Posts, StageError, StageSite, StepCx, Trial, attempt, hold, retry_all,
};

/// One item in, one out or an error. An item that is to be tried again parks its key: items of other keys go on, items of
/// the same key wait behind it, so that the order of each key is kept.
///
/// Watermarks wait while anything does; what comes after a barrier or the end waits as well. The key function is called only
/// while something waits. One that panics there is a failure of its item; one that gives an item different keys loses
/// nothing but the order.
pub struct TryMapByKey<K, T, G, F> {
    key: G,
    f: F,
    trial: Trial<T>,
    lot: KeyedLot<K, T>,
    held: VecDeque<Signal>,
}

impl<K: Hash + Eq, T, G, F> TryMapByKey<K, T, G, F> {
    /// Maps with `f`, which borrows the item; `key` says what must stay in order.
    pub fn new(key: G, f: F, site: &StageSite) -> Self {
        let trial = Trial::new(site);
        let parked = match site.error_policy {
            ErrorPolicy::Retry { max_parked, .. } => max_parked,
            _ => DEFAULT_MAX_PARKED,
        };
        let lot = KeyedLot::new(usize::try_from(parked).unwrap_or(usize::MAX), &trial);
        Self { key, f, trial, lot, held: VecDeque::new() }
    }

    /// Passes on the signals that waited for the lot to be empty. True if there were any.
    fn pass_on<D: Chain<U>, U>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = false;
        while self.lot.is_empty()
            && down.takes_signal()
            && let Some(signal) = self.held.pop_front()
        {
            if signal == Signal::End {
                self.trial.retire();
            }
            down.signal(signal, cx);
            moved = true;
        }
        moved
    }
}

/// Offers each item. A free function, as those of `stage::ops`.
#[inline(always)]
fn trying<K: Hash + Eq, T: 'static, U>(
    key: &mut impl FnMut(&T) -> K,
    f: &mut impl FnMut(&T) -> Result<U, StageError>,
    trial: &mut Trial<T>,
    lot: &mut KeyedLot<K, T>,
    cx: &StepCx,
) -> impl FnMut(T) -> Option<U> {
    move |item| lot.offer(item, trial, cx, &mut *key, |item| attempt(f, item))
}

impl<K, T, U, G, F> Operator<T> for TryMapByKey<K, T, G, F>
where
    K: Hash + Eq + 'static,
    T: 'static,
    U: 'static,
    G: FnMut(&T) -> K + 'static,
    F: FnMut(&T) -> Result<U, StageError> + 'static,
{
    type Out = U;

    #[inline]
    fn run<I: Iterator<Item = T>, D: Chain<U>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { key, f, trial, lot, .. } = self;
        down.run(items.filter_map(trying(key, f, trial, lot, cx)), cx);
    }

    #[inline]
    fn room<D: Chain<U>>(&mut self, down: &mut D) -> usize {
        // Behind a late watermark items may go on; behind anything else they may not.
        match self.held.back() {
            None | Some(Signal::Watermark(_) | Signal::Idle) => self.lot.room(down.room(), &self.trial),
            Some(_) => 0,
        }
    }

    #[inline]
    fn takes_signal<D: Chain<U>>(&mut self, _down: &mut D) -> bool {
        // It is held here as long as it must wait; what is held stays little.
        matches!(self.held.back(), None | Some(Signal::Watermark(_) | Signal::Idle))
    }

    fn signal<D: Chain<U>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        hold(&mut self.held, signal);
        self.pass_on(down, cx);
    }

    fn tick<D: Chain<U>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Self { f, trial, lot, .. } = self;
        trial.tick(cx);
        let moved = retry_all(down, cx, || lot.retry(trial, cx, |item| attempt(f, item)));
        self.pass_on(down, cx) | moved
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

impl<K, T, G, F> Posts<T> for TryMapByKey<K, T, G, F> {
    fn letters(&mut self) -> &mut Letters<T> {
        self.trial.letters()
    }

    fn is_settled(&self) -> bool {
        self.held.is_empty()
    }
}
