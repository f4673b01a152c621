//! Where a stage's errors and panics are caught, judged by its policy, and counted.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::{FailureKind, StageSite, StepCx};
use crate::model::StageId;
use crate::observe::StageAccount;
use crate::policy::{AfterRetries, ErrorPolicy};

/// Why a stage could not handle an item.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The user's code returned an error.
    #[error("{0}")]
    User(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The user's code panicked.
    #[error("panic: {0}")]
    Panic(String),
    /// The user's code was not called.
    #[error("the circuit breaker is open")]
    BreakerOpen,
}

impl StageError {
    /// An error from a message.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::User(message.to_string().into())
    }

    /// An error that gives the item back, for a [`Transform`](super::Transform): it can then be tried again, or becomes a
    /// dead letter with its item. To be used only before anything was made of the item.
    pub fn handing_back<T: Send + 'static>(
        item: T,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::User(Box::new(HandedBack { item: Mutex::new(Some(item)), error: error.into() }))
    }

    /// The item that the error gives back, if it does.
    pub(super) fn take_item<T: 'static>(self) -> Result<Rejected<T>, Self> {
        let Self::User(user) = self else { return Err(self) };
        let HandedBack { item, error } = *user.downcast::<HandedBack<T>>().map_err(Self::User)?;
        let error = Self::User(error);
        match item.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(item) => Ok(Rejected { item, error }),
            None => Err(error),
        }
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::User(_) => FailureKind::Error,
            Self::Panic(_) => FailureKind::Panic,
            Self::BreakerOpen => FailureKind::BreakerOpen,
        }
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

/// An error and the item it is about. In a mutex only so that it can be shared where errors must be.
struct HandedBack<T> {
    item: Mutex<Option<T>>,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl<T> fmt::Debug for HandedBack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> fmt::Display for HandedBack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<T> std::error::Error for HandedBack<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
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
    /// Draws the jitter of waits. Seeded by who the instance is: a simulated run repeats, and instances differ.
    rng: fastrand::Rng,
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
            rng: fastrand::Rng::with_seed(site.seed()),
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
                cx.span_error(&error);
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

    /// Judges the loss of state, by the policy without its retries. The items in it are counted by the stage, as lost.
    #[cold]
    pub fn lose_state(&mut self, error: StageError, cx: &StepCx) {
        self.note(&error);
        if self.last_resort() == AfterRetries::Fail {
            cx.fail(&self.stage, error);
        }
    }

    /// Runs user code when no step follows: what closes a stage, or drops what it held. A panic is counted and judged by the
    /// policy without its retries.
    ///
    /// # Errors
    /// The panic, if it is to fail the pipeline.
    pub fn close<R>(&mut self, f: impl FnOnce() -> R) -> Result<(), StageError> {
        let Err(error) = catch(f) else { return Ok(()) };
        self.note(&error);
        if self.last_resort() == AfterRetries::Fail { Err(error) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn note(&mut self, error: &StageError) {
        match error {
            StageError::Panic(_) => self.panics += 1,
            StageError::User(_) | StageError::BreakerOpen => self.errors += 1,
        }
        self.last_error = Some(error.to_string());
    }

    /// Counts an item as lost for good, by the policy without its retries.
    #[cold]
    #[inline(never)]
    pub(super) fn lose(&mut self, error: StageError, cx: &StepCx) {
        self.note(&error);
        cx.span_error(&error);
        match self.last_resort() {
            AfterRetries::DeadLetter => self.dead_lettered += 1,
            AfterRetries::Ignore => self.ignored += 1,
            AfterRetries::Fail => {
                self.failed += 1;
                cx.fail(&self.stage, error);
            }
        }
    }

    /// Judges attempt number `attempt` (the first is 0) of an item that was handed back: how long to wait for the next one,
    /// in nanoseconds, or `None` if there is none.
    pub(super) fn retry_in(&mut self, error: &StageError, attempt: u32) -> Option<i64> {
        let ErrorPolicy::Retry { max_retries, backoff, .. } = self.policy else { return None };
        if attempt >= max_retries {
            return None;
        }
        self.note(error);
        self.retries += 1;
        let wait = backoff.jittered(attempt, self.rng.u32(..));
        Some(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX))
    }

    /// What becomes of an item that no attempt is left for.
    pub(super) fn last_resort(&self) -> AfterRetries {
        self.policy.last_resort()
    }

    /// Counts an item that the circuit breaker turned away.
    pub(super) fn turn_away(&mut self) {
        self.dead_lettered += 1;
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
