//! The end of a chain that has several outputs.

use crate::model::{Signal, StageId};
use crate::observe::StageAccount;
use crate::stage::{Chain, DynChain, Gate, StageError, StageSite, StepCx};

/// What a branch does with an item. A type for each way, so that the user's function is part of the loop over a batch.
pub trait Branching<T>: 'static {
    /// Puts an item into the buffers of those outputs that it goes to.
    fn put(&mut self, item: T, outputs: &mut [Output<T>], gate: &mut Gate, cx: &StepCx);
}

/// To the one output whose index the function gives; an index out of range goes to the last output.
pub struct Route<F>(pub F);

impl<T, F: FnMut(&T) -> usize + 'static> Branching<T> for Route<F> {
    #[inline(always)]
    fn put(&mut self, item: T, outputs: &mut [Output<T>], gate: &mut Gate, cx: &StepCx) {
        if let Some(index) = gate.call(cx, || (self.0)(&item)) {
            let last = outputs.len() - 1;
            outputs[index.min(last)].buffer.push(item);
        }
    }
}

/// A copy to every output.
pub struct Broadcast<T>(pub fn(&T) -> T);

impl<T: 'static> Branching<T> for Broadcast<T> {
    #[inline(always)]
    fn put(&mut self, item: T, outputs: &mut [Output<T>], gate: &mut Gate, cx: &StepCx) {
        // All copies first: a clone that panics must not leave some outputs with the item and some without.
        let Some((last, others)) = outputs.split_last_mut() else { return };
        let copied = gate.call(cx, || others.iter_mut().for_each(|o| o.buffer.push((self.0)(&item))));
        match copied {
            Some(()) => last.buffer.push(item),
            None => {
                let whole = last.buffer.len();
                others.iter_mut().for_each(|o| o.buffer.truncate(whole));
            }
        }
    }
}

/// The end of a chain that has several outputs.
///
/// Items are sorted into a buffer per output and handed on by one virtual call per output and batch. A branch takes no
/// more than its fullest output has room for, so one blocked output holds the others: use a dropping policy on an edge
/// that must not.
pub struct BranchEnd<T, H> {
    how: H,
    outputs: Vec<Output<T>>,
    gate: Gate,
    site: StageSite,
}

/// One output of a branch.
pub struct Output<T> {
    chain: Box<dyn DynChain<T>>,
    /// Items of the present batch.
    buffer: Vec<T>,
    /// Items given since the start.
    given: u64,
}

impl<T, H> BranchEnd<T, H> {
    /// Sorts items by `how` into `outputs`.
    pub fn new(how: H, outputs: Vec<Box<dyn DynChain<T>>>, site: StageSite) -> Self {
        let output = |chain| Output { chain, buffer: Vec::new(), given: 0 };
        let outputs = outputs.into_iter().map(output).collect();
        Self { how, outputs, gate: Gate::new(&site), site }
    }
}

impl<T: 'static, H: Branching<T>> Chain<T> for BranchEnd<T, H> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        let Self { how, outputs, gate, .. } = self;
        items.for_each(|item| how.put(item, outputs, gate, cx));
        for output in outputs.iter_mut().filter(|o| !o.buffer.is_empty()) {
            output.given += output.buffer.len() as u64;
            output.chain.run_batch(&mut output.buffer, cx);
        }
    }

    fn room(&mut self) -> usize {
        self.outputs.iter_mut().map(|o| o.chain.room()).min().unwrap_or(0)
    }

    fn takes_signal(&mut self) -> bool {
        self.outputs.iter_mut().all(|o| o.chain.takes_signal())
    }

    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        self.site.heard(signal);
        // A restored order does not survive a branch: no single consumer sees every turn's items.
        if signal != Signal::Turn {
            self.outputs.iter_mut().for_each(|o| o.chain.signal(signal, cx));
        }
    }

    fn tick(&mut self, cx: &StepCx) -> bool {
        self.outputs.iter_mut().fold(false, |moved, o| o.chain.tick(cx) | moved)
    }

    fn flush(&mut self, cx: &StepCx) {
        self.outputs.iter_mut().for_each(|o| o.chain.flush(cx));
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        self.outputs.iter().filter_map(|o| o.chain.next_deadline(now)).min()
    }

    fn is_finished(&self) -> bool {
        self.outputs.iter().all(|o| o.chain.is_finished())
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|_| Ok(()))?;
        self.outputs.iter_mut().try_for_each(|o| o.chain.open())
    }

    fn report(&mut self, received: u64) {
        let mut account = StageAccount { received, ..StageAccount::default() };
        self.gate.account(&mut account);
        account.passed = received - self.gate.lost();
        account.emitted = self.outputs.iter().map(|o| o.given).sum();
        self.site.publish(&account, self.gate.take_last_error(), Chain::is_finished(self));
        self.outputs.iter_mut().for_each(|o| o.chain.report(o.given));
    }

    fn close(&mut self, discard: bool) {
        self.site.closed(discard);
        self.outputs.iter_mut().for_each(|o| o.chain.close(discard));
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.site.release(self.how, failures);
        self.outputs.into_iter().for_each(|o| o.chain.release(failures));
    }
}
