//! Sliding aggregation by two stacks of panes for each key: for any aggregate.

use std::collections::VecDeque;

use corelane::keyed::hash_key;
use hashbrown::HashTable;

use super::logic::Logic;
use super::panes::walk_entries;

/// Queues that are kept for keys to come.
const SPARE: usize = 1024;

/// The panes of one key as two stacks in one queue: of those before `split` each holds itself and all up to the split; of
/// those behind it each holds itself, and `back` all of them together. So the whole is two accumulators, and a pane that
/// leaves takes nothing with it: each is merged at most twice in its life, however many windows it lies in.
struct Panes<K, A> {
    key: K,
    panes: VecDeque<(i64, A)>,
    split: usize,
    back: Option<A>,
}

/// Keys with the panes they have something in.
pub(super) struct Stacks<K, A> {
    keys: HashTable<Panes<K, A>>,
    spare: Vec<VecDeque<(i64, A)>>,
}

impl<K: std::hash::Hash + Eq + Clone, A> Stacks<K, A> {
    pub(super) fn new() -> Self {
        Self { keys: HashTable::new(), spare: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.keys.allocation_size() + self.spare.iter().map(VecDeque::capacity).sum::<usize>()
    }

    fn entry(&mut self, hash: u64, key: K) -> &mut Panes<K, A> {
        let Self { keys, spare } = self;
        let entry = keys.entry(hash, |panes| panes.key == key, |panes| hash_key(&panes.key));
        let new = || Panes { panes: spare.pop().unwrap_or_default(), key: key.clone(), split: 0, back: None };
        entry.or_insert_with(new).into_mut()
    }

    /// Adds what `key` gathered in the pane that starts at `start`, which lies behind all of this key so far.
    pub(super) fn push<In, U: Logic<In, Key = K, Acc = A>>(&mut self, user: &U, key: K, start: i64, acc: A) {
        let panes = self.entry(hash_key(&key), key);
        user.merge(panes.back.get_or_insert_with(|| user.init()), &acc);
        panes.panes.push_back((start, acc));
    }

    /// Adds an item to a pane that was pushed already, or would have been if it had had anything for this key.
    pub(super) fn add<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        key: K,
        start: i64,
        item: &In,
    ) {
        let Panes { panes, split, back, .. } = self.entry(hash_key(&key), key);
        let at = panes.partition_point(|(pane, _)| *pane < start);
        let there = panes.get(at).is_some_and(|(pane, _)| *pane == start);
        if at >= *split {
            user.add(back.get_or_insert_with(|| user.init()), item);
            if !there {
                panes.insert(at, (start, user.init()));
            }
            user.add(&mut panes[at].1, item);
            return;
        }
        if !there {
            // It holds itself and all behind it.
            let mut acc = user.init();
            user.merge(&mut acc, &panes[at].1);
            panes.insert(at, (start, acc));
            *split += 1;
        }
        panes.range_mut(..=at).for_each(|(_, acc)| user.add(acc, item));
    }

    /// Gives the value of each key, then lets go of panes that start before `until`, and of keys without any. Goes on at
    /// `at`, 0 at first, for at most `left` keys, which it counts down; true if it has been through all of them. Nothing may be added in
    /// between.
    pub(super) fn fire<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        until: i64,
        at: &mut usize,
        left: &mut usize,
        mut give: impl FnMut(K, U::Value),
    ) -> bool {
        let Self { keys, spare } = self;
        let done = walk_entries(keys, at, left, |mut entry| {
            let panes = entry.get_mut();
            give(panes.key.clone(), panes.value(user));
            panes.evict(user, until);
            if panes.panes.is_empty() {
                let (gone, _) = entry.remove();
                if spare.len() < SPARE {
                    spare.push(gone.panes);
                }
            }
        });
        if done {
            self.shrink();
        }
        done
    }

    /// Gives memory back that is far more than needed.
    fn shrink(&mut self) {
        if self.keys.is_empty() {
            *self = Self::new();
        } else if self.keys.capacity() > 64 + 8 * self.keys.len() {
            self.keys.shrink_to(2 * self.keys.len(), |panes| hash_key(&panes.key));
            self.spare.truncate(self.keys.len());
        }
    }
}

impl<K, A> Panes<K, A> {
    fn value<In, U: Logic<In, Acc = A>>(&self, user: &U) -> U::Value {
        let front = if self.split > 0 { self.panes.front().map(|(_, acc)| acc) } else { None };
        match (front, &self.back) {
            (Some(front), Some(back)) => {
                let mut whole = user.init();
                user.merge(&mut whole, front);
                user.merge(&mut whole, back);
                user.finish(whole)
            }
            (Some(one), None) | (None, Some(one)) => user.result(one),
            (None, None) => user.result(&user.init()),
        }
    }

    fn evict<In, U: Logic<In, Acc = A>>(&mut self, user: &U, until: i64) {
        while self.panes.front().is_some_and(|(start, _)| *start < until) {
            if self.split == 0 {
                self.flip(user);
            }
            self.panes.pop_front();
            self.split -= 1;
        }
    }

    /// Makes all panes front ones.
    fn flip<In, U: Logic<In, Acc = A>>(&mut self, user: &U) {
        let panes = self.panes.make_contiguous();
        for i in (1..panes.len()).rev() {
            let (before, from) = panes.split_at_mut(i);
            user.merge(&mut before[i - 1].1, &from[0].1);
        }
        self.split = panes.len();
        self.back = None;
    }
}
