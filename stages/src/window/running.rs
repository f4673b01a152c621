//! Sliding aggregation by taking out again what leaves: for aggregates that can.

use std::collections::VecDeque;
use std::hash::Hash;

use corelane::keyed::hash_key;
use hashbrown::HashTable;

use super::logic::Logic;
use super::panes::{Entry, insert, walk};

/// What a key has in the window.
struct Whole<K, A> {
    key: K,
    acc: A,
    /// Panes that have something of it.
    panes: usize,
}

impl<K: Hash + Eq, A> Entry for Whole<K, A> {
    type Key = K;
    #[inline(always)]
    fn key(&self) -> &K {
        &self.key
    }
}

/// Keys with all they have in the panes of the window, and the panes, to take them out again. A pane costs two look-ups a key in its
/// life, and a window goes through its keys as they lie in memory.
pub(super) struct Running<K, A> {
    keys: HashTable<Whole<K, A>>,
    panes: VecDeque<(i64, HashTable<(K, A)>)>,
}

impl<K: Hash + Eq + Clone, A> Running<K, A> {
    pub(super) fn new() -> Self {
        Self { keys: HashTable::new(), panes: VecDeque::new() }
    }

    /// Keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let panes: usize = self.panes.iter().map(|(_, table)| table.allocation_size()).sum();
        self.keys.allocation_size() + panes + self.panes.capacity() * size_of::<(i64, HashTable<(K, A)>)>()
    }

    /// Adds what `key` gathered in a pane.
    #[inline]
    pub(super) fn merge<In, U: Logic<In, Key = K, Acc = A>>(&mut self, user: &U, key: &K, acc: &A) {
        let hash = hash_key(key);
        if let Some(whole) = self.keys.find_mut(hash, |whole| whole.key == *key) {
            user.merge(&mut whole.acc, acc);
            whole.panes += 1;
            return;
        }
        let mut whole = Whole { key: key.clone(), acc: user.init(), panes: 1 };
        user.merge(&mut whole.acc, acc);
        insert(&mut self.keys, hash, whole);
    }

    /// Keeps a pane of which all has been [merged](Self::merge), and which lies behind all others.
    pub(super) fn keep(&mut self, start: i64, table: HashTable<(K, A)>) {
        self.panes.push_back((start, table));
    }

    /// Adds an item to a pane that is kept, or would have been if it had had anything.
    pub(super) fn add<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        key: K,
        start: i64,
        item: &In,
    ) {
        let mut one = user.init();
        user.add(&mut one, item);
        let hash = hash_key(&key);
        let at = self.panes.partition_point(|(pane, _)| *pane < start);
        if self.panes.get(at).is_none_or(|(pane, _)| *pane != start) {
            self.panes.insert(at, (start, HashTable::new()));
        }
        let table = &mut self.panes[at].1;
        match table.find_mut(hash, |(other, _)| *other == key) {
            Some((_, acc)) => {
                user.merge(acc, &one);
                if let Some(whole) = self.keys.find_mut(hash, |whole| whole.key == key) {
                    user.merge(&mut whole.acc, &one);
                }
            }
            None => {
                self.merge(user, &key, &one);
                insert(&mut self.panes[at].1, hash, (key, one));
            }
        }
    }

    /// Gives the value of each key, then takes out panes that start before `until`, handing their tables, now empty, to `spare` with the
    /// number of keys that each held. Goes on at `at`, 0 at first, for at most `left` keys, which it counts down; true if it has been
    /// through all of them. Nothing may be added in between.
    pub(super) fn fire<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        until: i64,
        at: &mut usize,
        left: &mut usize,
        mut give: impl FnMut(K, U::Value),
        mut spare: impl FnMut(HashTable<(K, A)>, usize),
    ) -> bool {
        // Buckets of the keys first, then those of the pane that leaves.
        let buckets = self.keys.num_buckets();
        if !walk(&self.keys, at, left, |whole| give(whole.key.clone(), user.result(&whole.acc))) {
            return false;
        }
        let Self { keys, panes } = self;
        while let Some((_, pane)) = panes.front_mut().filter(|(start, _)| *start < until) {
            let mut bucket = *at - buckets;
            let done = walk(pane, &mut bucket, left, |(key, acc)| Self::take_out(keys, user, key, acc));
            *at = buckets + bucket;
            if !done {
                return false;
            }
            *at = buckets;
            let held = pane.len();
            pane.clear();
            if let Some((_, table)) = panes.pop_front() {
                spare(table, held);
            }
        }
        self.shrink();
        true
    }

    #[inline]
    fn take_out<In, U: Logic<In, Key = K, Acc = A>>(
        keys: &mut HashTable<Whole<K, A>>,
        user: &U,
        key: &K,
        acc: &A,
    ) {
        let Ok(mut entry) = keys.find_entry(hash_key(key), |whole| whole.key == *key) else { return };
        let whole = entry.get_mut();
        whole.panes -= 1;
        if whole.panes == 0 {
            entry.remove();
        } else {
            user.unmerge(&mut whole.acc, acc);
        }
    }

    /// Gives memory back that is far more than needed.
    fn shrink(&mut self) {
        if self.keys.is_empty() {
            *self = Self::new();
        } else if self.keys.capacity() > 64 + 8 * self.keys.len() {
            self.keys.shrink_to(2 * self.keys.len(), |whole| hash_key(&whole.key));
        }
    }
}
