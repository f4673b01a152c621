//! One attempt at one item: whether it may be made, what it came to, and what becomes of an item that has no more.

use super::gate::{Gate, catch};
use super::guard::Guard;
use super::letters::Letters;
use super::{Rejected, StageError, StageSite, StepCx, earliest};
use crate::observe::StageAccount;
use crate::policy::AfterRetries;

/// The outcome of one attempt at one item.
pub(crate) enum Attempt<U, T> {
    /// It worked.
    Done(U),
    /// It failed and the item came back.
    Refused(Rejected<T>),
    /// It failed and took the item with it.
    Gone(StageError),
}

/// What becomes of an item after an attempt.
pub(crate) enum Tried<U, T> {
    /// It is through.
    Done(U),
    /// It is to be tried again at this monotonic time.
    Again(T, i64),
    /// It is gone and counted.
    Lost,
}

/// Whether a call may be made.
pub(crate) enum Admission {
    /// It may.
    Call,
    /// Not now. The breaker says when it looks again.
    Wait,
    /// No, and the item does not wait for it.
    TurnAway,
}

/// Makes attempts and judges them: the stage's gate, its circuit breaker and its dead letters.
pub(crate) struct Trial<T> {
    gate: Gate,
    letters: Letters<T>,
    guard: Option<Box<Guard>>,
}

impl<T> Trial<T> {
    pub(crate) fn new(site: &StageSite) -> Self {
        let guard = site.circuit_breaker.as_ref().map(|policy| Box::new(Guard::new(policy, site)));
        Self { gate: Gate::new(site), letters: Letters::new(site), guard }
    }

    /// Whether calls need permission.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    pub(crate) fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    pub(crate) fn letters(&mut self) -> &mut Letters<T> {
        &mut self.letters
    }

    /// Lets time pass. Called once per step.
    #[inline]
    pub(crate) fn tick(&mut self, cx: &StepCx) {
        if let Some(guard) = &mut self.guard {
            guard.tick(cx.now().monotonic);
        }
    }

    /// Of `room` items, how many are to be taken while `waiting` wait: none behind what waits for the breaker, and only one
    /// to wait for it, so that the end of the input need not.
    #[inline]
    pub(crate) fn room(&self, room: usize, waiting: usize) -> usize {
        let Some(guard) = &self.guard else { return room };
        match guard.permits() {
            _ if guard.turns_away() => room,
            0 => room.min(usize::from(waiting == 0)),
            calls => room.min(usize::try_from(calls).unwrap_or(usize::MAX)),
        }
    }

    /// When there is something to do, if what waits is due at `due`.
    pub(crate) fn deadline(&self, due: Option<i64>) -> Option<i64> {
        let Some(guard) = &self.guard else { return due };
        // While the breaker is open what waits, waits for that, or is sent away when it is due; without anything waiting,
        // sources may.
        if guard.turns_away() { earliest(guard.deadline(), due) } else { guard.deadline().or(due) }
    }

    pub(crate) fn admit(&self) -> Admission {
        match &self.guard {
            Some(guard) if guard.permits() == 0 && guard.turns_away() => Admission::TurnAway,
            Some(guard) if guard.permits() == 0 => Admission::Wait,
            _ => Admission::Call,
        }
    }

    /// No item follows, and none waits: sources that the breaker has paused may go on.
    pub(crate) fn retire(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.retire();
        }
    }

    /// Makes an attempt that was admitted. `tried` attempts were made before.
    pub(crate) fn attempt<U>(
        &mut self,
        item: T,
        tried: u32,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Tried<U, T> {
        let outcome = match &mut self.guard {
            None => attempt(item),
            Some(guard) => guard.call(|| attempt(item), |outcome| !matches!(outcome, Attempt::Done(_))),
        };
        match outcome {
            Attempt::Done(u) => Tried::Done(u),
            failed => self.judge(failed, tried, cx),
        }
    }

    /// Judges a failed attempt.
    #[cold]
    #[inline(never)]
    pub(crate) fn judge<U>(&mut self, failed: Attempt<U, T>, tried: u32, cx: &StepCx) -> Tried<U, T> {
        let (item, error) = match failed {
            Attempt::Done(u) => return Tried::Done(u),
            Attempt::Refused(Rejected { item, error }) => match self.gate.retry_in(&error, tried) {
                Some(nanos) => return Tried::Again(item, cx.now().monotonic.saturating_add(nanos)),
                None => (Some(item), error),
            },
            Attempt::Gone(error) => (None, error),
        };
        self.lose(item, error, tried + 1, cx);
        Tried::Lost
    }

    /// Gives an item up.
    pub(crate) fn lose(&mut self, item: Option<T>, error: StageError, attempts: u32, cx: &StepCx) {
        let item = match self.gate.last_resort() {
            AfterRetries::DeadLetter => self.letters.post(item, &error, attempts, cx),
            AfterRetries::Ignore | AfterRetries::Fail => item,
        };
        self.gate.lose(error, cx);
        self.throw_away(item);
    }

    /// Drops what nobody takes. That is user code too.
    fn throw_away(&mut self, item: Option<T>) {
        if let Err(panic) = catch(|| drop(item)) {
            self.gate.note(&panic);
        }
    }

    /// Makes a dead letter of an item that the breaker turned away.
    #[cold]
    #[inline(never)]
    pub(crate) fn turn_away(&mut self, item: T, tried: u32, cx: &StepCx) {
        if let Some(guard) = &mut self.guard {
            guard.refuse();
        }
        let item = self.letters.post(Some(item), &StageError::BreakerOpen, tried, cx);
        self.gate.turn_away();
        self.throw_away(item);
    }

    /// Items lost so far.
    #[inline]
    pub(crate) fn lost(&self) -> u64 {
        self.gate.lost()
    }

    /// Fills in what was counted here, with `waiting` items that wait for another attempt and `discarded` that were thrown
    /// away while they did; the number of items that are through.
    pub(crate) fn account(&self, waiting: usize, discarded: u64, account: &mut StageAccount) -> u64 {
        self.gate.account(account);
        if let Some(guard) = &self.guard {
            guard.account(account);
        }
        account.waiting_retry = waiting as u64;
        account.discarded = discarded;
        account.received - self.lost() - account.waiting_retry - discarded
    }

    pub(crate) fn take_last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }
}
