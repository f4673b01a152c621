//! The lean keyed fold: one value per key, until the end of the input.

use std::hash::Hash;

use hashbrown::HashTable;
use hashbrown::hash_table::IntoIter;

use super::hash_key;
use crate::model::Signal;
use crate::observe::StageAccount;
use crate::stage::{Chain, Gate, Operator, StageError, StageSite, StepCx, catch};

/// Results given out in one step.
const BATCH: usize = 1024;

/// What has become of the items folded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// They are in open keys.
    Folding,
    /// They are in results.
    Ended,
    /// They were thrown away.
    Stopped,
}

/// Folds the items of each key into one value; the end of the input gives out every key with its value.
///
/// Has no limits: its memory is that of all keys. Costs one look-up per item. Results come in the order of the table,
/// which is the same whenever the items come in the same order; at most 1 024 of them per step, and before the end is
/// passed on.
///
/// A panic in user code ends the pipeline, whatever the error policy: the values may be damaged and are not used again.
pub struct FoldByKeyOp<K, A, F, I, G> {
    table: HashTable<(K, A)>,
    key: F,
    init: I,
    fold: G,
    gate: Gate,
    /// Items whose handling has begun; one more than was folded after a panic.
    begun: u64,
    folded: u64,
    discarded: u64,
    suspect: bool,
    phase: Phase,
    /// Present from the end of the input until the last result has gone.
    ending: Option<IntoIter<(K, A)>>,
    results: u64,
    given: u64,
    close_error: Option<StageError>,
}

impl<K, A, F, I, G> FoldByKeyOp<K, A, F, I, G> {
    /// Folds with `fold` into what `init` makes for the first item of a key.
    pub fn new(key: F, init: I, fold: G, site: &StageSite) -> Self {
        Self {
            table: HashTable::new(),
            key,
            init,
            fold,
            gate: Gate::new(site),
            begun: 0,
            folded: 0,
            discarded: 0,
            suspect: false,
            phase: Phase::Folding,
            ending: None,
            results: 0,
            given: 0,
            close_error: None,
        }
    }
}

impl<K, A, F, I, G> FoldByKeyOp<K, A, F, I, G>
where
    K: Hash + Eq,
{
    /// Gives out results as far as a step goes and there is room, and then the end.
    fn give_out<D: Chain<(K, A)>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Some(results) = &mut self.ending else { return false };
        let mut budget = BATCH;
        while results.len() > 0 && budget > 0 {
            let n = down.room().min(budget).min(results.len());
            if n == 0 {
                break;
            }
            budget -= n;
            self.given += n as u64;
            down.run(results.by_ref().take(n), cx);
        }
        if results.len() > 0 || down.room() == 0 {
            return budget < BATCH;
        }
        self.ending = None;
        down.signal(Signal::End, cx);
        true
    }
}

impl<In, K, A, F, I, G> Operator<In> for FoldByKeyOp<K, A, F, I, G>
where
    In: 'static,
    K: Hash + Eq + 'static,
    A: 'static,
    F: FnMut(&In) -> K + 'static,
    I: FnMut() -> A + 'static,
    G: FnMut(&mut A, In) + 'static,
{
    type Out = (K, A);

    #[inline]
    fn run<J, D>(&mut self, mut items: J, _down: &mut D, cx: &StepCx)
    where
        J: Iterator<Item = In>,
        D: Chain<(K, A)>,
    {
        let Self { table, key, init, fold, begun, folded, .. } = self;
        let mut each = |item: In| {
            *begun += 1;
            let k = key(&item);
            let hash = hash_key(&k);
            if let Some((_, value)) = table.find_mut(hash, |(other, _)| *other == k) {
                fold(value, item);
            } else {
                let mut value = init();
                fold(&mut value, item);
                table.insert_unique(hash, (k, value), |(k, _)| hash_key(k));
            }
            *folded += 1;
        };
        if !self.suspect
            && let Err(error) = catch(|| items.by_ref().for_each(&mut each))
        {
            self.suspect = true;
            self.gate.fail(error, cx);
        }
        if self.suspect {
            self.discarded += items.count() as u64;
        }
    }

    #[inline]
    fn room<D: Chain<(K, A)>>(&mut self, down: &mut D) -> usize {
        if self.suspect || self.ending.is_some() { 0 } else { down.room() }
    }

    fn signal<D: Chain<(K, A)>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if self.suspect {
            return;
        }
        if signal == Signal::End {
            self.phase = Phase::Ended;
            self.results = self.table.len() as u64;
            self.ending = Some(std::mem::take(&mut self.table).into_iter());
            self.give_out(down, cx);
        } else {
            down.signal(signal, cx);
        }
    }

    fn tick<D: Chain<(K, A)>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        !self.suspect && self.give_out(down, cx)
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.failed += self.begun - self.folded;
        account.discarded = self.discarded;
        account.emitted = self.given;
        account.keys = self.table.len() as u64;
        account.unsent = self.results - self.given;
        match self.phase {
            Phase::Folding => (account.absorbed, account.items_open) = (self.folded, self.folded),
            Phase::Ended => {
                (account.absorbed, account.items_complete) = (self.folded, self.folded);
                account.results_complete = self.results;
            }
            Phase::Stopped => account.discarded += self.folded,
        }
    }

    fn last_error(&mut self) -> Option<String> {
        let closing = self.close_error.take().map(|error| error.to_string());
        closing.or_else(|| self.gate.take_last_error())
    }

    fn close(&mut self, _discard: bool) {
        if self.phase == Phase::Folding {
            self.phase = Phase::Stopped;
        }
        let Self { table, ending, .. } = self;
        // Values are dropped here: user code.
        if let Err(error) = catch(|| (table.clear(), ending.take())) {
            self.close_error = Some(error);
        }
    }
}
