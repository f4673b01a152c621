//! The lean keyed fold: one value per key, until the end of the input.

use std::hash::Hash;

use hashbrown::HashTable;
use hashbrown::hash_table::IntoIter;

use super::fold_bound::{Bound, memory};
use super::fold_loops::{AHEAD, Ahead, Tally, Waiting, fold_few, fold_many, fold_tight, outgrow};
use super::fold_move::{FoldKeys, Moved};
use super::fold_table::{Entries, FoldTable};
use crate::model::Signal;
use crate::observe::StageAccount;
use crate::shard::Mover;
use crate::stage::{Chain, Gate, Operator, StageError, StageSite, StepCx, catch};

/// Keys and values of more bytes than this leave the cache nearest to a core, and move to the table for that.
const CACHE_BYTES: usize = 1 << 20;
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

/// Results that have not gone: those of the small table, then those of the large one.
type Ending<K, A> = (IntoIter<(K, A)>, Entries<K, A>);

/// Folds the items of each key into one value; the end of the input gives out every key with its value.
///
/// Holds every key until the end. Where the instance has a limit of memory, one key more than fits it fails the pipeline with
/// [`MemoryExhausted`](super::MemoryExhausted), before its memory is taken: nothing can go to disk, and nothing would free any. Keys and values count by
/// the size of their types, without what they point to. Costs one look-up per item; while its table is larger than the cache,
/// the memory of many items' keys is fetched at the same time before they are folded, in their order. Results come in the order of the table,
/// which is the same whenever the items come in the same order; at most 1 024 of them per step, and before the end is
/// passed on.
///
/// Where its shards move, the keys of those that do are given to their new owner between two items.
///
/// A panic in user code ends the pipeline, whatever the error policy: the values may be damaged and are not used again.
pub struct FoldByKeyOp<In, K, A, F, I, G> {
    /// While it fits the cache.
    table: HashTable<(K, A)>,
    /// Afterwards; until then without a key.
    large: FoldTable<K, A>,
    /// The items that are looked up together. Empty between batches.
    ahead: Ahead<K, In>,
    key: F,
    init: I,
    fold: G,
    gate: Gate,
    bound: Bound,
    /// Where shards move between the stage's instances.
    mover: Option<Box<Mover<(K, A)>>>,
    moved: Moved,
    folded: u64,
    /// The item during which user code panicked, or for which there was no memory.
    failed: u64,
    discarded: u64,
    suspect: bool,
    phase: Phase,
    /// Present from the end of the input until the last result has gone.
    ending: Option<Ending<K, A>>,
    /// Bytes of their tables.
    ending_bytes: usize,
    results: u64,
    given: u64,
}

impl<In, K: Eq + Send + 'static, A: Send + 'static, F, I, G> FoldByKeyOp<In, K, A, F, I, G> {
    /// Folds with `fold` into what `init` makes for the first item of a key.
    pub fn new(key: F, init: I, fold: G, site: &StageSite) -> Self {
        Self {
            table: HashTable::new(),
            large: FoldTable::with_room_for(0),
            ahead: Vec::with_capacity(AHEAD),
            key,
            init,
            fold,
            gate: Gate::new(site),
            bound: Bound::new(site),
            mover: Mover::new(site.shards.as_ref(), true),
            moved: Moved::default(),
            folded: 0,
            failed: 0,
            discarded: 0,
            suspect: false,
            phase: Phase::Folding,
            ending: None,
            ending_bytes: 0,
            results: 0,
            given: 0,
        }
    }
}

/// Whether a table for few keys is larger than the cache.
#[inline]
fn is_large<K, A>(table: &HashTable<(K, A)>) -> bool {
    table.capacity() * size_of::<(K, A)>() > CACHE_BYTES
}

impl<In, K, A, F, I, G> FoldByKeyOp<In, K, A, F, I, G>
where
    K: Hash + Eq + Send + 'static,
    A: Send + 'static,
{
    /// Bytes of keys and values.
    fn memory(&self) -> usize {
        let ahead = self.ahead.capacity() * size_of::<Waiting<K, In>>();
        memory(&self.table, &self.large) + self.ending_bytes + ahead
    }

    #[inline]
    fn spare(&self) -> usize {
        self.bound.spare(&self.table, &self.large, is_large(&self.table))
    }

    fn keys(&self) -> usize {
        self.table.len() + self.large.len()
    }

    /// Goes on with a move of shards.
    #[cold]
    fn move_on(&mut self, cx: &StepCx) -> bool {
        let Self { table, large, bound, folded, moved, mover, .. } = self;
        let Some(mover) = mover else { return false };
        let mut keys = FoldKeys { table, large, bound, outgrown: is_large, folded, moved };
        let error = match catch(|| mover.step(&mut keys)) {
            Ok(Ok(moved)) => return moved,
            Ok(Err(error)) | Err(error) => error,
        };
        self.suspect = true;
        self.gate.fail(error, cx);
        true
    }

    /// Gives out results as far as a step goes and there is room, and then the end.
    fn give_out<D: Chain<(K, A)>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Some((few, many)) = &mut self.ending else { return false };
        let mut left = few.len() + many.len();
        let mut budget = BATCH;
        while left > 0 && budget > 0 {
            let n = down.room().min(budget).min(left);
            if n == 0 {
                break;
            }
            budget -= n;
            left -= n;
            self.given += n as u64;
            down.run(few.by_ref().chain(many.by_ref()).take(n), cx);
        }
        if left > 0 || down.room() == 0 {
            return budget < BATCH;
        }
        self.ending = None;
        self.ending_bytes = 0;
        down.signal(Signal::End, cx);
        true
    }
}

impl<In, K, A, F, I, G> Operator<In> for FoldByKeyOp<In, K, A, F, I, G>
where
    In: 'static,
    K: Hash + Eq + Send + 'static,
    A: Send + 'static,
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
        let is_tight = self.spare() == 0;
        let Self { table, large, ahead, key, init, fold, bound, mover, .. } = self;
        let mut counts = (0, 0);
        let each = || {
            if !is_tight && large.len() == 0 {
                if !is_large(table) || !bound.may_move(table, large) {
                    match mover {
                        None => fold_few(&mut items, &mut counts, table, key, init, fold, |_| {}),
                        Some(mover) => {
                            let count = |hash| mover.count(hash);
                            fold_few(&mut items, &mut counts, table, key, init, fold, count);
                        }
                    }
                    return None;
                }
                outgrow(table, large);
            }
            let mut tally = Tally { taken: 0, behind: 0, into: &mut counts };
            let count = |hash| mover.iter_mut().for_each(|mover| mover.count(hash));
            if is_tight {
                return fold_tight(&mut items, &mut tally, (table, large), key, fold, count)
                    .map(|()| bound.exhausted(table, large));
            }
            fold_many(&mut items, &mut tally, (large, ahead), key, init, fold, count);
            None
        };
        if !self.suspect {
            let ended = match catch(each) {
                Ok(exhausted) => exhausted.map(|error| StageError::User(Box::new(error))),
                Err(panic) => Some(panic),
            };
            let (taken, folded) = counts;
            self.folded += folded;
            if let Some(error) = ended {
                self.suspect = true;
                self.failed = 1;
                // Taken together with the one that failed, and not folded before it.
                self.discarded += (taken - folded).saturating_sub(1);
                self.gate.fail(error, cx);
            }
        }
        if self.suspect {
            self.discarded += items.count() as u64;
        }
    }

    #[inline]
    fn room<D: Chain<(K, A)>>(&mut self, down: &mut D) -> usize {
        let moves = self.mover.as_ref().is_some_and(|mover| mover.is_moving());
        if self.suspect || moves || self.ending.is_some() { 0 } else { down.room().min(self.spare().max(1)) }
    }

    fn signal<D: Chain<(K, A)>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if self.suspect {
            return;
        }
        if let (Signal::Barrier(version), Some(mover)) = (signal, &mut self.mover)
            && mover.begin(version)
        {
            self.move_on(cx);
            return;
        }
        if signal == Signal::End {
            self.mover.iter_mut().for_each(|mover| mover.end());
            self.phase = Phase::Ended;
            self.results = self.keys() as u64;
            self.ending_bytes = memory(&self.table, &self.large);
            self.ending = Some((std::mem::take(&mut self.table).into_iter(), self.large.take()));
            self.give_out(down, cx);
        } else {
            down.signal(signal, cx);
        }
    }

    fn tick<D: Chain<(K, A)>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        if self.suspect {
            return false;
        }
        if let Some(mover) = &mut self.mover {
            mover.look(cx.now().monotonic);
            if mover.is_moving() {
                return self.move_on(cx);
            }
        }
        self.give_out(down, cx)
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.failed += self.failed;
        account.discarded = self.discarded;
        account.emitted = self.given;
        (account.handed_over, account.taken_over) = (self.moved.handed_over, self.moved.taken_over);
        self.mover.iter().for_each(|mover| mover.publish());
        account.keys = self.keys() as u64;
        account.state_bytes = self.memory() as u64;
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
        self.gate.take_last_error()
    }

    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        if self.phase == Phase::Folding {
            self.phase = Phase::Stopped;
        }
        self.ending_bytes = 0;
        let Self { table, large, ahead, ending, gate, bound, folded, moved, mover, .. } = self;
        // Values are dropped here: user code.
        gate.close(|| {
            if let Some(mover) = mover {
                mover.close(&mut FoldKeys { table, large, bound, outgrown: is_large, folded, moved });
            }
            table.clear();
            drop((large.take(), ending.take()));
            ahead.clear();
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::keyed::testkit::{Bench, Event, site};
    use crate::model::Timestamp;

    type Item = (u16, u64);
    type Sums = (u16, (u64, u64));

    fn sums() -> Bench<Item, impl Operator<Item, Out = Sums>> {
        let fold = |(count, sum): &mut (u64, u64), item: (u16, u64)| {
            assert!(item.1 != u64::MAX, "told to");
            *count += 1;
            *sum += item.1;
        };
        Bench::new(FoldByKeyOp::new(|item: &(u16, u64)| item.0, || (0, 0), fold, &site()))
    }

    proptest! {
        #[test]
        fn every_key_comes_out_once_with_the_fold_of_its_items(
            items in prop::collection::vec((0u16..300, 0u64..1000), 0..2000),
            room in prop_oneof![1usize..50, Just(usize::MAX)],
        ) {
            let mut expected = BTreeMap::<u16, (u64, u64)>::new();
            for (key, value) in &items {
                let of = expected.entry(*key).or_default();
                *of = (of.0 + 1, of.1 + value);
            }
            let mut b = sums();
            b.room = room;
            b.give(items.clone());
            let open = b.account();
            prop_assert_eq!((open.items_open, open.keys), (items.len() as u64, expected.len() as u64));
            b.end();
            let mut out = b.take();
            out.sort_unstable();
            prop_assert_eq!(out, expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(b.down.events.last(), Some(&Event::Signal(Signal::End)));
            let ended = b.account();
            prop_assert_eq!((ended.items_complete, ended.items_open, ended.keys), (items.len() as u64, 0, 0));
        }
    }

    #[test]
    fn results_come_in_bounded_batches_before_the_end_and_no_input_is_taken_meanwhile() {
        let mut b = sums();
        b.room = usize::MAX;
        b.give((0..5_000).map(|key| (key, 1)));
        b.signal(Signal::End);
        let mut before = 0;
        while b.down.items < 5_000 {
            assert!(b.down.items - before <= BATCH);
            assert_eq!(b.account().unsent, 5_000 - b.down.items as u64);
            before = b.down.items;
            assert_eq!(b.op_room(), 0);
            assert!(b.tick());
        }
        b.settle();
        assert_eq!(b.down.events.last(), Some(&Event::Signal(Signal::End)));
    }

    /// Enough keys for a table that is larger than the cache.
    const MANY: u16 = 60_000;

    #[test]
    fn a_table_larger_than_the_cache_folds_the_same() {
        let mut b = sums();
        b.room = usize::MAX;
        let items = (0..3 * u64::from(MANY)).map(|i| ((i * 7919 % u64::from(MANY)) as u16, i));
        // Most keys are new to the table for many.
        items.clone().collect::<Vec<_>>().chunks(1_000).for_each(|chunk| b.give(chunk.to_vec()));
        // In batches that are and are not multiples of what is looked up together.
        for size in [1, AHEAD, AHEAD + 1, 3 * AHEAD - 1] {
            b.give(items.clone().take(size));
        }
        let given = 3 * usize::from(MANY) + 1 + AHEAD + AHEAD + 1 + 3 * AHEAD - 1;
        let open = b.account();
        assert_eq!((open.items_open, open.keys), (given as u64, u64::from(MANY)));
        b.end();
        let mut expected = BTreeMap::<u16, (u64, u64)>::new();
        let again = [1, AHEAD, AHEAD + 1, 3 * AHEAD - 1].map(|size| items.clone().take(size));
        for (key, value) in items.chain(again.into_iter().flatten()) {
            let of = expected.entry(key).or_default();
            *of = (of.0 + 1, of.1 + value);
        }
        assert_eq!(b.take().into_iter().collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn a_panic_in_a_large_table_counts_every_item_once() {
        for at in [0, 1, AHEAD / 2, AHEAD - 1, AHEAD, AHEAD + 5] {
            let mut b = sums();
            b.room = usize::MAX;
            b.give((0..MANY).map(|key| (key, 1)));
            let n = 2 * AHEAD + 3;
            b.give((0..n).map(|i| (i as u16, if i == at { u64::MAX } else { 1 })));
            let a = b.account();
            let absorbed = u64::from(MANY) + at as u64;
            assert_eq!((a.absorbed, a.failed, a.discarded), (absorbed, 1, (n - at - 1) as u64), "{at}");
        }
    }

    fn bounded(memory: u64) -> Bench<Item, impl Operator<Item, Out = Sums>> {
        let resources = crate::stage::Resources { memory: Some(memory), ..Default::default() };
        let site = StageSite { resources, ..site() };
        let fold = |(count, sum): &mut (u64, u64), item: Item| (*count, *sum) = (*count + 1, *sum + item.1);
        let mut b = Bench::new(FoldByKeyOp::new(|item: &Item| item.0, || (0, 0), fold, &site));
        b.room = usize::MAX;
        b
    }

    /// Gives one item for each of `keys`, and then another, as far as there is room; how many were folded.
    fn fill(b: &mut Bench<Item, impl Operator<Item, Out = Sums>>, keys: u16, memory: u64) -> u64 {
        for item in (0..keys).chain(0..keys).map(|key| (key, 1)) {
            if b.op_room() == 0 {
                break;
            }
            b.give([item]);
            let held = b.account().state_bytes;
            assert!(held <= memory, "{held} of {memory} bytes");
        }
        b.account().absorbed
    }

    #[test]
    fn fault_78_a_fold_that_outgrows_its_memory_fails_the_pipeline_and_takes_no_more() {
        // In the small table, in the small one because the large one does not fit, and in the large one.
        for (memory, fits) in [(100_000, false), (1_000_000, false), (8_000_000, true), (20_000_000, true)] {
            let mut b = bounded(memory);
            let folded = fill(&mut b, u16::MAX, memory);
            if fits {
                assert_eq!((folded, &b.failure), (2 * u64::from(u16::MAX), &None));
                continue;
            }
            let keys = b.account().keys;
            assert!(keys * 24 > memory / 8, "{keys} keys in {memory} bytes");
            assert!(b.failure.as_ref().unwrap().contains("bytes of memory"), "{:?}", b.failure);
            let a = b.account();
            assert_eq!((a.absorbed, a.failed, a.discarded, b.op_room()), (keys, 1, 0, 0));
        }
    }

    #[test]
    fn where_no_more_keys_fit_those_that_are_there_are_folded_on() {
        let memory = 100_000;
        let mut full = bounded(memory);
        fill(&mut full, u16::MAX, memory);
        let fit = full.account().keys as u16;
        let mut b = bounded(memory);
        assert_eq!(fill(&mut b, fit, memory), 2 * u64::from(fit));
        assert_eq!(b.failure, None);
        b.end();
        assert!(b.take().iter().all(|(_, (count, _))| *count == 2));
        assert!(b.account().state_bytes < memory / 10, "{}", b.account().state_bytes);
    }

    #[test]
    fn the_same_items_give_the_same_order() {
        let run = || {
            let mut b = sums();
            b.give((0..3_000u64).map(|i| ((i * 7919 % 1009) as u16, i)));
            b.end();
            b.take()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn signals_before_the_end_pass() {
        let mut b = sums();
        b.give([(1, 1)]);
        b.watermark(5);
        assert_eq!(b.down.events, [Event::Signal(Signal::Watermark(Timestamp(5)))]);
    }

    #[test]
    fn a_panic_ends_the_pipeline_and_no_value_comes_out() {
        let mut b = sums();
        b.give([(1, 1), (2, 2), (1, u64::MAX), (3, 3)]);
        assert!(b.failure.as_ref().unwrap().contains("told to"));
        let a = b.account();
        assert_eq!((a.absorbed, a.failed, a.discarded, a.panics), (2, 1, 1, 1));
        assert_eq!((b.op_room(), b.tick()), (0, false));
        b.close();
        assert_eq!((b.account().discarded, b.take().len()), (3, 0));
    }

    #[test]
    fn a_stop_discards_open_items_and_counts_results_that_had_no_room() {
        let mut b = sums();
        b.give([(1, 1), (2, 2)]);
        b.close();
        assert_eq!((b.account().discarded, b.account().absorbed), (2, 0));
        let mut b = sums();
        b.give([(1, 1), (2, 2)]);
        b.room = 1;
        b.signal(Signal::End);
        b.close();
        let a = b.account();
        assert_eq!((a.items_complete, a.unsent, a.emitted), (2, 1, 1));
    }
}
