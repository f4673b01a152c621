//! Transforms with state and timers.

use bumpalo::Bump;

use super::gate::catch;
use super::letters::{Letters, Posts};
use super::lot::Lot;
use super::pending::Pending;
use super::trial::{Attempt, Trial};
use super::{Chain, Operator, StageError, StageSite, StepCx, earliest};
use crate::model::{Now, Signal, Timestamp};
use crate::observe::StageAccount;

/// A stage with its own state, timers and any number of outputs per input.
///
/// Built by a factory on its own core, so it need not be `Send`. All calls come from that core, one at a time.
pub trait Transform: 'static {
    /// What it takes.
    type In: 'static;
    /// What it emits.
    type Out: 'static;

    /// Whether anything is emitted other than while the item is processed that it comes from: at a timer, at a watermark,
    /// with a later item, or at the end. An [ordered edge](crate::graph::ChannelOrdering::Ordered) behind several instances of
    /// such a stage is refused, because it could not restore the order.
    const HOLDS_ITEMS: bool = false;

    /// Called once before any item.
    ///
    /// # Errors
    /// An error ends the pipeline before it starts.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// Processes one item.
    ///
    /// # Errors
    /// The stage's error policy decides what becomes of the item. It can be tried again, and is in its dead letter, only if
    /// the error gives it back ([`StageError::handing_back`]).
    fn process(&mut self, item: Self::In, out: &mut Output<'_, Self::Out>) -> Result<(), StageError>;

    /// Called when a timer set through [`Output::set_timer`] is due.
    ///
    /// # Errors
    /// An error fails the pipeline: it belongs to no item.
    fn on_timer(&mut self, _out: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        Ok(())
    }

    /// Called when event time has reached `time`, before the watermark goes on downstream.
    ///
    /// # Errors
    /// An error fails the pipeline.
    fn on_watermark(&mut self, _time: Timestamp, _out: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        Ok(())
    }

    /// Called when the input has ended: emit what is left.
    ///
    /// # Errors
    /// An error fails the pipeline.
    fn finish(&mut self, _out: &mut Output<'_, Self::Out>) -> Result<(), StageError> {
        Ok(())
    }
}

/// What a transform writes to and asks time of.
pub struct Output<'a, T> {
    pending: &'a mut Pending<T>,
    timer: &'a mut Option<i64>,
    now: Now,
    arena: &'a Bump,
}

impl<T> Output<'_, T> {
    /// Emits one item.
    #[inline]
    pub fn emit(&mut self, item: T) {
        self.pending.push(item);
    }

    /// States that no item before `time` follows what was emitted so far.
    pub fn watermark(&mut self, time: Timestamp) {
        self.pending.signal(Signal::Watermark(time));
    }

    /// The time of this step.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Memory for what is needed no longer than this step; see [`StepCx::arena`].
    pub fn arena(&self) -> &Bump {
        self.arena
    }

    /// Asks for [`Transform::on_timer`] at monotonic time `at` (nanoseconds). One timer per stage: a later call replaces
    /// an earlier one.
    pub fn set_timer(&mut self, at: i64) {
        *self.timer = Some(at);
    }
}

/// The operator that runs a [`Transform`].
///
/// What the transform emits beyond the room downstream waits here, and no more input is taken until it has gone: the
/// memory it needs is bounded by what one batch of input expands to.
pub struct TransformOp<X: Transform> {
    user: X,
    trial: Trial<X::In>,
    lot: Lot<X::In>,
    pending: Pending<X::Out>,
    timer: Option<i64>,
}

impl<X: Transform> TransformOp<X> {
    /// Runs `user`.
    pub fn new(user: X, site: &StageSite) -> Self {
        let trial = Trial::new(site);
        Self { user, lot: Lot::new(&trial), trial, pending: Pending::new(), timer: None }
    }

    /// Calls user code that belongs to no item.
    fn call(
        &mut self,
        cx: &StepCx,
        f: impl FnOnce(&mut X, &mut Output<'_, X::Out>) -> Result<(), StageError>,
    ) {
        let Self { user, trial, pending, timer, .. } = self;
        let mut out = Output { pending, timer, now: cx.now(), arena: cx.arena() };
        if let Ok(Err(error)) | Err(error) = catch(|| f(user, &mut out)) {
            trial.gate().fail(error, cx);
        }
    }
}

/// One attempt; the item comes back if the error gives it back.
#[inline(always)]
fn attempt<X: Transform>(user: &mut X, item: X::In, mut out: Output<'_, X::Out>) -> Attempt<(), X::In> {
    match catch(|| user.process(item, &mut out)) {
        Ok(Ok(())) => Attempt::Done(()),
        Ok(Err(error)) => match error.take_item() {
            Ok(rejected) => Attempt::Refused(rejected),
            Err(error) => Attempt::Gone(error),
        },
        Err(panic) => Attempt::Gone(panic),
    }
}

impl<X: Transform> Operator<X::In> for TransformOp<X> {
    type Out = X::Out;

    fn run<I: Iterator<Item = X::In>, D: Chain<X::Out>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { user, trial, lot, pending, timer } = self;
        items.for_each(|item| {
            let out = Output { pending: &mut *pending, timer: &mut *timer, now: cx.now(), arena: cx.arena() };
            lot.offer(item, trial, cx, |item| attempt(user, item, out));
        });
        self.pending.settle(down, cx);
    }

    #[inline]
    fn room<D: Chain<X::Out>>(&mut self, down: &mut D) -> usize {
        let Self { pending, lot, trial, .. } = self;
        if pending.is_empty() && lot.is_empty() { lot.room(down.room(), trial) } else { 0 }
    }

    #[inline]
    fn takes_signal<D: Chain<X::Out>>(&mut self, down: &mut D) -> bool {
        self.pending.is_empty() && self.lot.is_empty() && down.takes_signal()
    }

    fn signal<D: Chain<X::Out>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        match signal {
            Signal::Watermark(time) => self.call(cx, |user, out| user.on_watermark(time, out)),
            Signal::End => {
                self.timer = None;
                self.trial.retire();
                self.call(cx, |user, out| user.finish(out));
            }
            Signal::Idle | Signal::Barrier(_) | Signal::Turn => {}
        }
        self.pending.signal(signal);
        self.pending.settle(down, cx);
    }

    fn tick<D: Chain<X::Out>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = self.pending.settle(down, cx);
        let Self { user, trial, lot, pending, timer } = self;
        trial.tick(cx);
        while pending.is_empty() && down.room() > 0 {
            let out = Output { pending: &mut *pending, timer: &mut *timer, now: cx.now(), arena: cx.arena() };
            if lot.retry(trial, cx, |item| attempt(user, item, out)).is_none() {
                break;
            }
            pending.settle(down, cx);
            moved = true;
        }
        if self.timer.is_some_and(|at| at <= cx.now().monotonic) && self.pending.is_empty() {
            self.timer = None;
            self.call(cx, X::on_timer);
            self.pending.settle(down, cx);
            moved = true;
        }
        moved
    }

    fn next_deadline(&self) -> Option<i64> {
        earliest(self.timer, self.lot.deadline(&self.trial))
    }

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.user.open(site)
    }

    fn account(&self, account: &mut StageAccount) {
        account.passed = self.lot.account(&self.trial, account);
        self.pending.account(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.trial.take_last_error()
    }

    fn close(&mut self, discard: bool) -> Result<(), StageError> {
        self.pending.clear();
        if discard {
            self.lot.discard();
        }
        Ok(())
    }
}

impl<X: Transform> Posts<X::In> for TransformOp<X> {
    fn letters(&mut self) -> &mut Letters<X::In> {
        self.trial.letters()
    }
}
