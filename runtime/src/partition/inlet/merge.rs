//! In which order items are taken from several inputs.

use std::sync::Arc;

use super::Inlet;
use crate::model::Timestamp;
use crate::stage::{Chain, StepCx};

/// In which order a stage takes from several inputs.
pub enum MergePolicy<T> {
    /// From each in turn, a batch at a time.
    Fair,
    /// From the first input that has something, in the order they were given.
    Priority,
    /// The item with the earliest time first. Waits for an input that has nothing, unless it has ended, is idle, or its
    /// watermark is past the candidate.
    ByTime(Arc<dyn Fn(&T) -> Timestamp + Send + Sync>),
    /// Input 0 until its producer's turn ends, then input 1, and so on: restores the order that
    /// [`Spread::Turns`](crate::partition::Spread::Turns) gave out.
    Turns,
}

impl<T> Clone for MergePolicy<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Fair => Self::Fair,
            Self::Priority => Self::Priority,
            Self::ByTime(f) => Self::ByTime(Arc::clone(f)),
            Self::Turns => Self::Turns,
        }
    }
}

impl<T: Send + 'static> Inlet<T> {
    pub(super) fn pump_fair<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        if self.inputs.len() == 1 {
            return self.take(0, chain, budget, cx);
        }
        let mut moved = 0;
        let inputs = self.inputs.len();
        for _ in 0..inputs {
            if moved >= budget {
                break;
            }
            moved += self.take(self.at, chain, budget - moved, cx);
            self.at = if self.at + 1 == inputs { 0 } else { self.at + 1 };
        }
        moved
    }

    pub(super) fn pump_priority<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        (0..self.inputs.len()).map(|i| self.take(i, chain, budget, cx)).find(|&moved| moved > 0).unwrap_or(0)
    }

    pub(super) fn next_turn(&mut self) {
        let n = self.inputs.len();
        for _ in 0..n {
            self.at = (self.at + 1) % n;
            if !self.valve.has_ended(self.at) {
                return;
            }
        }
    }

    pub(super) fn pump_turns<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        let mut moved = 0;
        while moved < budget {
            let at = self.at;
            let n = self.take(at, chain, budget - moved, cx);
            moved += n;
            if n == 0 {
                break;
            }
        }
        moved
    }

    /// The input whose first item is next in time; `None` while an input that might still have an earlier one is empty.
    fn earliest(&mut self) -> Option<usize> {
        let mut best: Option<(Timestamp, usize)> = None;
        let mut bound = Timestamp::MAX;
        for (i, input) in self.inputs.iter_mut().enumerate() {
            match (input.ring.peek(), &self.policy) {
                (Some(item), policy) => {
                    let time = match policy {
                        MergePolicy::ByTime(f) => f(item),
                        _ => Timestamp::MIN,
                    };
                    if best.is_none_or(|(earliest, _)| time < earliest) {
                        best = Some((time, i));
                    }
                }
                (None, _) if self.valve.has_ended(i) || self.valve.is_idle(i) => {}
                (None, _) => bound = bound.min(self.valve.input(i)),
            }
        }
        best.filter(|(time, _)| *time <= bound).map(|(_, i)| i)
    }

    pub(super) fn pump_by_time<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        let mut moved = 0;
        for i in 0..self.inputs.len() {
            if self.inputs[i].ring.available() == 0 {
                moved += self.take_signals(i, chain, cx);
            }
        }
        let room = chain.room().min(budget);
        while self.due.is_empty()
            && self.batch.len() < room
            && let Some(i) = self.earliest()
            && self.lanes[self.inputs[i].lane].left > 0
        {
            self.batch.extend(self.inputs[i].ring.pop());
            self.lanes[self.inputs[i].lane].took(1);
            self.valve.active(i);
            if self.inputs[i].ring.available() == 0 {
                // A signal may stand right here: it belongs after what is batched so far.
                break;
            }
        }
        moved += self.batch.len();
        if !self.batch.is_empty() {
            chain.run(self.batch.drain(..), cx);
        }
        moved
    }
}
