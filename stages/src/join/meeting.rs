//! Items that wait for partners and leave all at once.

use std::hash::Hash;

use corelane::keyed::{Allowance, hash_key};
use corelane::stage::Pending;
use hashbrown::HashTable;

use super::logic::{JoinLogic, Side, part};
use crate::tally::Tally;
use crate::window::panes::{Entry, Store, insert};

/// No item.
const NONE: usize = usize::MAX;

/// An item that waits.
struct Held<T> {
    item: T,
    /// The next one of its key; the first one, for the last.
    next: usize,
    matched: bool,
}

/// The last item of a key on each side.
struct Lasts<K> {
    key: K,
    left: usize,
    right: usize,
}

impl<K: Hash + Eq> Entry for Lasts<K> {
    type Key = K;
    #[inline(always)]
    fn key(&self) -> &K {
        &self.key
    }
}

/// Items of two sides, each in the order in which they came, those of a key in a ring.
pub(super) struct Meeting<K, L, R> {
    keys: HashTable<Lasts<K>>,
    left: Vec<Held<L>>,
    right: Vec<Held<R>>,
}

impl<K, L, R> Default for Meeting<K, L, R> {
    fn default() -> Self {
        Self { keys: HashTable::new(), left: Vec::new(), right: Vec::new() }
    }
}

impl<K, L, R> Store for Meeting<K, L, R> {
    fn len(&self) -> usize {
        self.keys.len()
    }
    fn capacity(&self) -> usize {
        self.keys.capacity().max(self.left.capacity()).max(self.right.capacity())
    }
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let items =
            self.left.capacity() * size_of::<Held<L>>() + self.right.capacity() * size_of::<Held<R>>();
        self.keys.allocation_size() + items
    }
}

/// Gives all items of a key; whether there is any.
#[inline(always)]
fn pair<T>(held: &mut [Held<T>], last: usize, mut give: impl FnMut(&T)) -> bool {
    let mut at = match held.get(last) {
        Some(last) => last.next,
        None => return false,
    };
    loop {
        let other = &mut held[at];
        other.matched = true;
        give(&other.item);
        if at == last {
            return true;
        }
        at = other.next;
    }
}

/// Adds an item to those of its key.
#[inline(always)]
fn hold<T>(held: &mut Vec<Held<T>>, last: &mut usize, item: T, matched: bool) {
    let at = held.len();
    let next = held.get_mut(*last).map_or(at, |last| std::mem::replace(&mut last.next, at));
    *last = at;
    held.push(Held { item, next, matched });
}

impl<K: Hash + Eq, L, R> Meeting<K, L, R> {
    /// Pairs an item with those of its key on the other side, then adds it.
    #[inline(always)]
    pub(super) fn meet<J>(
        &mut self,
        user: &mut J,
        item: Side<L, R>,
        tally: &mut Tally,
        out: &mut Pending<J::Out>,
    ) where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        let Self { keys, left, right } = self;
        let key = user.key(&item);
        let hash = hash_key(&key);
        let mut give = |l: &L, r: &R| {
            if let Some(result) = user.result(Some(l), Some(r)) {
                tally.results += 1;
                out.push(result);
            }
        };
        let mut new = (NONE, NONE);
        let known = keys.find_mut(hash, |lasts| lasts.key == key);
        let is_new = known.is_none();
        let (of_left, of_right) = match known {
            Some(Lasts { left, right, .. }) => (left, right),
            None => (&mut new.0, &mut new.1),
        };
        match item {
            Side::Left(item) => {
                let matched = pair(right, *of_right, |other| give(&item, other));
                hold(left, of_left, item, matched);
            }
            Side::Right(item) => {
                let matched = pair(left, *of_left, |other| give(other, &item));
                hold(right, of_right, item, matched);
            }
        }
        if is_new {
            insert(keys, hash, Lasts { key, left: new.0, right: new.1 });
        }
        tally.absorbed += 1;
    }

    /// Lets go of the items, from the last to the first. True if all have gone.
    pub(super) fn leave<J>(
        &mut self,
        user: &mut J,
        tally: &mut Tally,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        let Self { keys, left, right } = self;
        while !allowance.is_spent(out.len()) {
            if let Some(Held { item, matched, .. }) = left.pop() {
                part(user, (Some(&item), None), matched, tally, out);
            } else if let Some(Held { item, matched, .. }) = right.pop() {
                part(user, (None, Some(&item)), matched, tally, out);
            } else {
                keys.clear();
                return true;
            }
            allowance.work();
        }
        false
    }
}
