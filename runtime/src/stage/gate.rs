//! Where a stage's errors and panics are caught, judged by its policy, and counted.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{StageSite, StepCx};
use crate::model::StageId;
use crate::observe::StageAccount;
use crate::policy::{AfterRetries, Backoff, ErrorPolicy};

/// Why a stage could not handle an item.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The user's code returned an error.
    #[error("{0}")]
    User(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The user's code panicked.
    #[error("panic: {0}")]
    Panic(String),
}

impl StageError {
    /// An error from a message.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::User(message.to_string().into())
    }

    /// An error from the payload of a caught panic.
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panic(text.unwrap_or_else(|| "a value that is not text".to_owned()))
    }
}

/// Runs user code; a panic becomes an error. What `f` was changing when it panicked must not be used again.
///
/// Costs nothing on the good path: where the compiler can see that `f` does not panic, the guard disappears.
///
/// # Errors
/// The panic, as [`StageError::Panic`].
#[inline(always)]
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, StageError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let error = StageError::from_panic(&*payload);
        // The payload's own Drop may panic: forgetting it is the only safe thing to do with it.
        std::mem::forget(payload);
        error
    })
}

/// An item that a stage refused, handed back with the reason.
#[derive(Debug)]
pub struct Rejected<T> {
    /// The item, unchanged.
    pub item: T,
    /// Why.
    pub error: StageError,
}

/// What the policy says about one failed attempt.
enum Verdict {
    /// Try again this many nanoseconds from now.
    RetryIn(i64),
    /// The item is gone and counted.
    Lost,
}

/// Catches what a stage throws, applies its [`ErrorPolicy`] and keeps its counters.
///
/// Catching costs nothing on the good path: where the compiler can see that the closure does not panic, the guard
/// disappears.
#[derive(Debug)]
pub struct Gate {
    stage: StageId,
    policy: ErrorPolicy,
    ignored: u64,
    dead_lettered: u64,
    failed: u64,
    errors: u64,
    panics: u64,
    retries: u64,
    last_error: Option<String>,
}

impl Gate {
    /// The gate of the stage at `site`.
    pub fn new(site: &StageSite) -> Self {
        Self {
            stage: site.context.stage_id.clone(),
            policy: site.error_policy,
            ignored: 0,
            dead_lettered: 0,
            failed: 0,
            errors: 0,
            panics: 0,
            retries: 0,
            last_error: None,
        }
    }

    /// Calls `f`; a panic takes the item with it, is judged by the policy and answered with `None`.
    #[inline(always)]
    pub fn call<R>(&mut self, cx: &StepCx, f: impl FnOnce() -> R) -> Option<R> {
        match catch(f) {
            Ok(r) => Some(r),
            Err(error) => {
                self.lose(error, cx);
                None
            }
        }
    }

    /// Calls fallible `f`; an error or a panic takes the item with it and is judged by the policy.
    #[inline(always)]
    pub fn try_call<R>(&mut self, cx: &StepCx, f: impl FnOnce() -> Result<R, StageError>) -> Option<R> {
        match catch(f) {
            Ok(Ok(r)) => Some(r),
            Ok(Err(error)) | Err(error) => {
                self.lose(error, cx);
                None
            }
        }
    }

    /// Calls `f` on state that must not be used again if it panics: then the pipeline fails, whatever the policy.
    #[inline(always)]
    pub fn stateful<R>(&mut self, cx: &StepCx, f: impl FnOnce() -> R) -> Option<R> {
        match catch(f) {
            Ok(r) => Some(r),
            Err(error) => {
                self.note(&error);
                self.failed += 1;
                cx.fail(&self.stage, error);
                None
            }
        }
    }

    /// Ends the pipeline because of `error`, which belongs to no item.
    #[cold]
    pub fn fail(&mut self, error: StageError, cx: &StepCx) {
        self.note(&error);
        cx.fail(&self.stage, error);
    }

    #[cold]
    #[inline(never)]
    fn note(&mut self, error: &StageError) {
        match error {
            StageError::Panic(_) => self.panics += 1,
            StageError::User(_) => self.errors += 1,
        }
        self.last_error = Some(error.to_string());
    }

    /// Counts an item as lost for good, by the policy without its retries.
    #[cold]
    #[inline(never)]
    fn lose(&mut self, error: StageError, cx: &StepCx) {
        self.note(&error);
        match self.policy.last_resort() {
            AfterRetries::DeadLetter => self.dead_lettered += 1,
            AfterRetries::Ignore => self.ignored += 1,
            AfterRetries::Fail => {
                self.failed += 1;
                cx.fail(&self.stage, error);
            }
        }
    }

    /// Judges attempt number `attempt` (the first is 0) of an item that was handed back.
    #[cold]
    #[inline(never)]
    fn judge(&mut self, error: StageError, attempt: u32, cx: &StepCx) -> Verdict {
        if let ErrorPolicy::Retry { max_retries, backoff, .. } = self.policy
            && attempt < max_retries
        {
            self.note(&error);
            self.retries += 1;
            return Verdict::RetryIn(delay_nanos(&backoff, attempt));
        }
        self.lose(error, cx);
        Verdict::Lost
    }

    /// Items lost to errors so far, by any policy.
    #[inline]
    pub fn lost(&self) -> u64 {
        self.ignored + self.dead_lettered + self.failed
    }

    /// Adds the gate's counters to `account`.
    pub fn account(&self, account: &mut StageAccount) {
        account.ignored += self.ignored;
        account.dead_lettered += self.dead_lettered;
        account.failed += self.failed;
        account.errors += self.errors + self.panics;
        account.panics += self.panics;
        account.retries += self.retries;
    }

    /// The last error since the last call.
    pub fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }
}

fn delay_nanos(backoff: &Backoff, attempt: u32) -> i64 {
    i64::try_from(backoff.delay(attempt).as_nanos()).unwrap_or(i64::MAX)
}

/// The outcome of one attempt at one item.
pub(super) enum Attempt<U, T> {
    /// It worked.
    Done(U),
    /// It failed and the item came back.
    Refused(Rejected<T>),
    /// It failed and took the item with it.
    Gone(StageError),
}

/// Items that wait for another attempt, in order: the first is the one being retried, the rest came after it.
///
/// Nothing overtakes the first: while the lot is occupied the stage answers `room() == 0`, so the lot never holds more
/// than the batch in which the failure happened.
#[derive(Debug)]
pub(super) struct Lot<T> {
    waiting: VecDeque<T>,
    /// Attempts already made at the first item; 0 for one that only queued behind another.
    tried: u32,
    due: i64,
}

impl<T> Lot<T> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), tried: 0, due: 0 }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn due(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.due)
    }

    /// Tries `item` unless something waits before it; parks it if the policy says so.
    #[inline(always)]
    pub(super) fn offer<U>(
        &mut self,
        item: T,
        gate: &mut Gate,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        if !self.is_empty() {
            self.waiting.push_back(item);
            return None;
        }
        match attempt(item) {
            Attempt::Done(u) => Some(u),
            Attempt::Refused(rejected) => {
                self.park(rejected, 0, gate, cx);
                None
            }
            Attempt::Gone(error) => {
                gate.lose(error, cx);
                None
            }
        }
    }

    /// Tries the first waiting item again if it is due. The outer `None` says that nothing was due.
    pub(super) fn retry<U>(
        &mut self,
        gate: &mut Gate,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<Option<U>> {
        if self.due > cx.now().monotonic {
            return None;
        }
        let item = self.waiting.pop_front()?;
        let tried = std::mem::take(&mut self.tried);
        Some(match attempt(item) {
            Attempt::Done(u) => Some(u),
            Attempt::Refused(rejected) => {
                self.park(rejected, tried, gate, cx);
                None
            }
            Attempt::Gone(error) => {
                gate.lose(error, cx);
                None
            }
        })
    }

    #[cold]
    #[inline(never)]
    fn park(&mut self, rejected: Rejected<T>, tried: u32, gate: &mut Gate, cx: &StepCx) {
        if let Verdict::RetryIn(nanos) = gate.judge(rejected.error, tried, cx) {
            self.tried = tried + 1;
            self.due = cx.now().monotonic.saturating_add(nanos);
            self.waiting.push_front(rejected.item);
        }
    }

    /// Drops everything that waits; the number of items.
    pub(super) fn clear(&mut self) -> u64 {
        let n = self.waiting.len() as u64;
        self.waiting.clear();
        n
    }
}
