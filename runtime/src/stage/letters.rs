//! Dead letters: what failed for good, with the reason, as items of an edge of their own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::chain::Reporting;
use super::pending::Pending;
use super::{BoxedChain, Chain, StageError, StageSite, StepCx, earliest};
use crate::model::{Signal, StageId, Timestamp};

/// Why an item became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The stage returned an error.
    Error,
    /// The stage panicked.
    Panic,
    /// The stage was not called: its circuit breaker was open.
    BreakerOpen,
}

/// An item that its stage could not handle, and all that is known of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter<T> {
    /// The item as it came in. `None` where the stage had taken it over when it failed: a transform or a sink that
    /// panicked, or a transform whose error does not hand the item back ([`StageError::handing_back`]).
    pub item: Option<T>,
    /// The stage.
    pub stage: StageId,
    /// Which of its instances, from 0.
    pub instance: usize,
    /// The partition that instance is on, from 0.
    pub partition: usize,
    /// The error's text.
    pub error: String,
    /// What sort of failure it was.
    pub kind: FailureKind,
    /// Calls made for the item; 0 if the breaker was open.
    pub attempts: u32,
    /// Wall clock time of the step that gave up.
    pub time: Timestamp,
}

impl<T> DeadLetter<T> {
    /// The same letter about something made of its item.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> DeadLetter<U> {
        let Self { item, stage, instance, partition, error, kind, attempts, time } = self;
        DeadLetter { item: item.map(f), stage, instance, partition, error, kind, attempts, time }
    }
}

/// Where a stage instance leaves its dead letters.
pub struct Letters<T> {
    waiting: VecDeque<DeadLetter<T>>,
    /// Whether anything takes them.
    connected: bool,
    stage: StageId,
    instance: usize,
    partition: usize,
}

impl<T> Letters<T> {
    /// Those of the instance at `site`.
    pub(super) fn new(site: &StageSite) -> Self {
        Self {
            waiting: VecDeque::new(),
            connected: site.dead_letters,
            stage: site.context.stage_id.clone(),
            instance: site.context.instance,
            partition: site.context.partition,
        }
    }

    /// Leaves a letter, if anything takes it; else the item comes back.
    #[cold]
    pub(super) fn post(
        &mut self,
        item: Option<T>,
        error: &StageError,
        attempts: u32,
        cx: &StepCx,
    ) -> Option<T> {
        if !self.connected {
            return item;
        }
        self.waiting.push_back(DeadLetter {
            item,
            stage: self.stage.clone(),
            instance: self.instance,
            partition: self.partition,
            error: error.to_string(),
            kind: error.kind(),
            attempts,
            time: cx.now().wall,
        });
        None
    }
}

/// Adds a signal to those that are held back. Of watermarks only the last says anything: items may go before one that is
/// late, and what waits stays little.
pub(crate) fn hold(held: &mut VecDeque<Signal>, signal: Signal) {
    match signal {
        Signal::Watermark(_) => {
            while matches!(held.back(), Some(Signal::Watermark(_) | Signal::Idle)) {
                held.pop_back();
            }
        }
        Signal::Idle if held.back() == Some(&Signal::Idle) => return,
        _ => {}
    }
    held.push_back(signal);
}

/// A stage whose failed items can leave it as dead letters.
pub trait Posts<T> {
    /// Where it leaves them.
    fn letters(&mut self) -> &mut Letters<T>;

    /// Whether no item that came before the last signal can become a letter any more.
    fn is_settled(&self) -> bool {
        true
    }
}

/// A chain whose first stage leaves dead letters, and what takes those.
///
/// A letter that finds no room waits here, and while one does the stage takes no more input: a full or failing sink of
/// dead letters holds back what makes them. Signals go to both outputs, after the letters for the items before them.
pub struct Posting<C, T> {
    chain: C,
    pending: Pending<DeadLetter<T>>,
    /// Signals that the chain itself still holds back.
    held: VecDeque<Signal>,
    down: BoxedChain<DeadLetter<T>>,
}

impl<T: 'static, C: Chain<T> + Posts<T>> Posting<C, T> {
    /// Sends the letters of `chain` to `down`.
    pub fn new(chain: C, down: BoxedChain<DeadLetter<T>>) -> Self {
        Self { chain, pending: Pending::new(), held: VecDeque::new(), down }
    }

    /// Hands on letters and signals as far as there is room. True if anything moved.
    #[inline]
    fn settle(&mut self, cx: &StepCx) -> bool {
        let letters = &mut self.chain.letters().waiting;
        if !letters.is_empty() {
            self.pending.extend(letters.drain(..));
        }
        if !self.held.is_empty() && self.chain.is_settled() {
            self.held.drain(..).for_each(|signal| self.pending.signal(signal));
        }
        self.pending.settle(&mut self.down, cx)
    }
}

impl<T: 'static, C: Chain<T> + Posts<T> + Reporting<T>> Chain<T> for Posting<C, T> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        self.chain.run(items, cx);
        self.settle(cx);
    }

    fn room(&mut self) -> usize {
        if self.pending.is_empty() { self.chain.room().min(self.down.room()) } else { 0 }
    }

    fn takes_signal(&mut self) -> bool {
        self.pending.is_empty() && self.chain.takes_signal()
    }

    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        self.chain.signal(signal, cx);
        hold(&mut self.held, signal);
        self.settle(cx);
    }

    fn tick(&mut self, cx: &StepCx) -> bool {
        let below = self.down.tick(cx);
        // Also while letters wait for room: they may wait for what this moves.
        let own = self.chain.tick(cx);
        self.settle(cx) | below | own
    }

    fn flush(&mut self, cx: &StepCx) {
        self.chain.flush(cx);
        self.down.flush(cx);
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        earliest(self.chain.next_deadline(now), self.down.next_deadline(now))
    }

    fn is_finished(&self) -> bool {
        self.chain.is_finished() && self.down.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.chain.open()?;
        self.down.open()
    }

    fn report(&mut self, received: u64) {
        let (sent, unsent) = self.pending.counts();
        self.chain.report_with(received, sent, unsent);
        self.down.report(sent);
    }

    fn close(&mut self, discard: bool) {
        self.chain.close(discard);
        self.pending.clear();
        self.down.close(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.chain.release(failures);
        self.down.release(failures);
    }
}
