//! Sinks: where items leave the graph.

use super::chain::Reporting;
use super::gate::catch;
use super::letters::{Letters, Posts};
use super::lot::Lot;
use super::trial::{Attempt, Trial};
use super::{Chain, Gate, Rejected, StageError, StageSite, StepCx};
use crate::model::{Signal, StageId};
use crate::observe::StageAccount;

/// Takes items out of the graph.
///
/// Built by a factory on its own core, so it need not be `Send`. All calls come from that core, one at a time.
pub trait Sink: 'static {
    /// What it takes.
    type Item: 'static;

    /// Called once before any item.
    ///
    /// # Errors
    /// An error ends the pipeline before it starts.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// Takes one item.
    ///
    /// # Errors
    /// Hands the item back with the reason; the stage's error policy decides what becomes of it.
    fn accept(&mut self, item: Self::Item) -> Result<(), Rejected<Self::Item>>;

    /// Items it can take now. A sink that waits for the outside answers 0 and is asked again on the next step.
    #[inline]
    fn room(&mut self) -> usize {
        usize::MAX
    }

    /// Called at the end of every step that gave it items: hand on what is buffered, without blocking.
    ///
    /// # Errors
    /// An error fails the pipeline: it belongs to no single item.
    fn flush(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Called when the input has ended; returns true once everything has left. Called again until it does.
    ///
    /// # Errors
    /// An error fails the pipeline.
    fn finish(&mut self) -> Result<bool, StageError> {
        Ok(true)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    Asked,
    Done,
}

/// The end of a chain: a sink with its gate and its retries.
pub struct SinkEnd<S: Sink> {
    sink: S,
    trial: Trial<S::Item>,
    lot: Lot<S::Item>,
    site: StageSite,
    dirty: bool,
    ending: Ending,
    /// Thrown when it was asked for its room, outside of any step that could fail.
    thrown: Option<StageError>,
}

impl<S: Sink> SinkEnd<S> {
    /// Ends a chain with `sink`.
    pub fn new(sink: S, site: StageSite) -> Self {
        let trial = Trial::new(&site);
        Self { sink, lot: Lot::new(&trial), trial, site, dirty: false, ending: Ending::Open, thrown: None }
    }

    /// What the sink takes now. One that panics takes nothing, and the next step fails.
    #[inline]
    fn sink_room(&mut self) -> usize {
        catch(|| self.sink.room()).unwrap_or_else(|panic| {
            self.thrown = Some(panic);
            0
        })
    }
}

#[inline(always)]
fn attempt<S: Sink>(sink: &mut S, item: S::Item) -> Attempt<(), S::Item> {
    match catch(|| sink.accept(item)) {
        Ok(Ok(())) => Attempt::Done(()),
        Ok(Err(rejected)) => Attempt::Refused(rejected),
        Err(panic) => Attempt::Gone(panic),
    }
}

impl<S: Sink> Chain<S::Item> for SinkEnd<S> {
    #[inline(always)]
    fn run<I: Iterator<Item = S::Item>>(&mut self, items: I, cx: &StepCx) {
        let Self { sink, trial, lot, .. } = self;
        items.for_each(|item| {
            lot.offer(item, trial, cx, |item| attempt(sink, item));
        });
        self.dirty = true;
    }

    #[inline]
    fn room(&mut self) -> usize {
        if self.lot.is_empty() && self.ending == Ending::Open {
            let room = self.sink_room();
            self.lot.room(room, &self.trial)
        } else {
            0
        }
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        self.site.heard(signal);
        if signal == Signal::End {
            self.ending = Ending::Asked;
        }
    }

    fn tick(&mut self, cx: &StepCx) -> bool {
        self.trial.tick(cx);
        let mut moved = false;
        // A sink that has no room now would refuse, and that would count as an attempt.
        while !self.lot.is_empty() && self.sink_room() > 0 {
            let Self { sink, trial, lot, .. } = self;
            if lot.retry(trial, cx, |item| attempt(sink, item)).is_none() {
                break;
            }
            moved = true;
            self.dirty = true;
        }
        let Self { sink, trial, lot, .. } = self;
        if let Some(panic) = self.thrown.take() {
            trial.gate().fail(panic, cx);
        }
        if self.ending == Ending::Asked && lot.is_empty() {
            trial.retire();
            match catch(|| sink.finish()) {
                Ok(Ok(true)) => {
                    self.ending = Ending::Done;
                    moved = true;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) | Err(error) => trial.gate().fail(error, cx),
            }
        }
        moved
    }

    #[inline]
    fn flush(&mut self, cx: &StepCx) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let sink = &mut self.sink;
        if let Ok(Err(error)) | Err(error) = catch(|| sink.flush()) {
            self.trial.gate().fail(error, cx);
        }
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        self.lot.deadline(&self.trial).filter(|due| *due > now)
    }

    fn is_finished(&self) -> bool {
        self.ending == Ending::Done
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|site| self.sink.open(site))
    }

    fn report(&mut self, received: u64) {
        self.report_with(received, 0, 0);
    }

    fn close(&mut self, discard: bool) {
        if discard {
            self.lot.discard();
        }
        self.site.closed(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.site.release(self.sink, failures);
    }
}

impl<S: Sink> Reporting<S::Item> for SinkEnd<S> {
    fn report_with(&mut self, received: u64, sent: u64, unsent: u64) {
        let mut account = StageAccount { received, emitted: sent, unsent, ..StageAccount::default() };
        account.delivered = self.lot.account(&self.trial, &mut account);
        self.site.publish(&account, self.trial.take_last_error(), self.ending == Ending::Done);
    }
}

impl<S: Sink> Posts<S::Item> for SinkEnd<S> {
    fn letters(&mut self) -> &mut Letters<S::Item> {
        self.trial.letters()
    }
}

/// A sink from a closure that cannot fail.
pub struct ForEach<T, F> {
    f: F,
    items: std::marker::PhantomData<fn(T)>,
}

impl<T, F> ForEach<T, F> {
    /// Calls `f` for each item.
    pub fn new(f: F) -> Self {
        Self { f, items: std::marker::PhantomData }
    }
}

impl<T: 'static, F: FnMut(T) + 'static> Sink for ForEach<T, F> {
    type Item = T;

    #[inline(always)]
    fn accept(&mut self, item: T) -> Result<(), Rejected<T>> {
        (self.f)(item);
        Ok(())
    }
}

/// The end of a chain that folds everything into one value per instance.
///
/// The value is handed over when the input has ended or the pipeline stops; a panic in the fold fails the pipeline, and
/// nothing is handed over.
pub struct FoldSink<A, F, R> {
    state: Option<A>,
    f: F,
    hand_over: Option<R>,
    gate: Gate,
    site: StageSite,
    refused: u64,
    ending: Ending,
}

impl<A, F, R: FnOnce(A)> FoldSink<A, F, R> {
    /// Folds from `init` with `f`; the result is given to `hand_over`.
    pub fn new(init: A, f: F, hand_over: R, site: StageSite) -> Self {
        let (gate, hand_over) = (Gate::new(&site), Some(hand_over));
        Self { state: Some(init), f, hand_over, gate, site, refused: 0, ending: Ending::Open }
    }

    fn hand_over(&mut self) {
        if let (Some(state), Some(hand_over)) = (self.state.take(), self.hand_over.take()) {
            hand_over(state);
        }
    }
}

impl<T, A, F, R> Chain<T> for FoldSink<A, F, R>
where
    T: 'static,
    A: 'static,
    F: FnMut(A, T) -> A + 'static,
    R: FnOnce(A) + 'static,
{
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        let Self { state, f, gate, refused, .. } = self;
        let Some(initial) = state.take() else {
            *refused += items.count() as u64;
            return;
        };
        // After a panic there is no state to fold into: the rest of the batch is refused, and the pipeline fails.
        #[expect(
            clippy::manual_try_fold,
            reason = "the rest of the batch must be counted; on the good path it is one loop"
        )]
        let folded = items.fold(Some(initial), |state, item| match state {
            Some(state) => gate.stateful(cx, || f(state, item)),
            None => {
                *refused += 1;
                None
            }
        });
        *state = folded;
    }

    #[inline]
    fn room(&mut self) -> usize {
        if self.ending == Ending::Open { usize::MAX } else { 0 }
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        self.site.heard(signal);
        if signal == Signal::End {
            self.ending = Ending::Done;
            self.hand_over();
        }
    }

    fn tick(&mut self, _cx: &StepCx) -> bool {
        false
    }

    fn flush(&mut self, _cx: &StepCx) {}

    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }

    fn is_finished(&self) -> bool {
        self.ending == Ending::Done
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|_| Ok(()))
    }

    fn report(&mut self, received: u64) {
        let mut account = StageAccount { received, ..StageAccount::default() };
        self.gate.account(&mut account);
        account.discarded = self.refused;
        account.delivered = received - self.gate.lost() - self.refused;
        self.site.publish(&account, self.gate.take_last_error(), self.ending == Ending::Done);
    }

    fn close(&mut self, discard: bool) {
        self.hand_over();
        self.site.closed(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.site.release(self.f, failures);
    }
}
