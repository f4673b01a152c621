//! The loops of a fold beside the one over few keys: functions of their own, so that that one has the registers for itself.

use std::hash::Hash;

use hashbrown::HashTable;

use super::fold_table::FoldTable;
use super::hash_key;

/// Items whose keys are looked up together in a large table: about as many misses as a core has under way at a time.
pub(super) const AHEAD: usize = 64;

/// Items that are looked up together.
pub(super) type Ahead<K, In> = Vec<Waiting<K, In>>;

/// An item that is looked up together with others.
pub(super) struct Waiting<K, In> {
    hash: u64,
    /// The entry that it is likely to go to.
    entry: u32,
    key: K,
    item: In,
}

/// Counts in registers and, also when user code panics, into memory at the end.
pub(super) struct Tally<'a> {
    pub(super) taken: u64,
    /// Of those, the ones that are not folded yet.
    pub(super) behind: u64,
    /// Taken and folded.
    pub(super) into: &'a mut (u64, u64),
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.into.0 += self.taken;
        self.into.1 += self.taken.saturating_sub(self.behind);
    }
}

/// Out of the way of the keys that are there.
#[cold]
#[inline(never)]
fn insert<K: Hash, A>(
    table: &mut HashTable<(K, A)>,
    hash: u64,
    key: K,
    init: &mut impl FnMut() -> A,
    fold: impl FnOnce(&mut A),
) {
    let mut value = init();
    fold(&mut value);
    table.insert_unique(hash, (key, value), |(key, _)| hash_key(key));
}

/// As [`insert`], into the table for many keys.
#[cold]
#[inline(never)]
fn insert_large<K: Hash + Eq, A>(
    table: &mut FoldTable<K, A>,
    hash: u64,
    key: K,
    init: &mut impl FnMut() -> A,
    fold: impl FnOnce(&mut A),
) {
    let mut value = init();
    fold(&mut value);
    table.insert(hash, key, value, |key| hash_key(key));
}

/// Moves all keys to the table for many.
#[cold]
#[inline(never)]
pub(super) fn outgrow<K: Hash + Eq, A>(table: &mut HashTable<(K, A)>, large: &mut FoldTable<K, A>) {
    *large = FoldTable::with_room_for(2 * table.len());
    for (key, value) in std::mem::take(table) {
        large.insert(hash_key(&key), key, value, |key| hash_key(key));
    }
}

/// Folds into the table for few keys, and tells `count` of each item's hash.
#[inline(never)]
pub(super) fn fold_few<In, K: Hash + Eq, A>(
    items: &mut impl Iterator<Item = In>,
    counts: &mut (u64, u64),
    table: &mut HashTable<(K, A)>,
    key: &mut impl FnMut(&In) -> K,
    init: &mut impl FnMut() -> A,
    fold: &mut impl FnMut(&mut A, In),
    mut count: impl FnMut(u64),
) {
    // The one in hand is behind.
    let mut tally = Tally { taken: 0, behind: 1, into: counts };
    // A loop in which the table does not grow, so that where it is stays in registers.
    while let Some((hash, k, item)) = items.find_map(|item| {
        tally.taken += 1;
        let k = key(&item);
        let hash = hash_key(&k);
        count(hash);
        match table.find_mut(hash, |(other, _)| *other == k) {
            Some((_, value)) => fold(value, item),
            None => return Some((hash, k, item)),
        }
        None
    }) {
        insert(table, hash, k, init, |value| fold(value, item));
    }
    tally.behind = 0;
}

/// Folds into the keys that are there; stops at the first item whose key is not.
#[cold]
#[inline(never)]
pub(super) fn fold_tight<In, K: Hash + Eq, A>(
    items: &mut impl Iterator<Item = In>,
    tally: &mut Tally<'_>,
    (table, large): (&mut HashTable<(K, A)>, &mut FoldTable<K, A>),
    key: &mut impl FnMut(&In) -> K,
    fold: &mut impl FnMut(&mut A, In),
    mut count: impl FnMut(u64),
) -> Option<()> {
    tally.behind = 1;
    let stopped = items.find_map(|item| {
        tally.taken += 1;
        let k = key(&item);
        let hash = hash_key(&k);
        match (table.find_mut(hash, |(other, _)| *other == k), large.find_mut(hash, &k)) {
            (Some((_, value)), _) | (_, Some(value)) => fold(value, item),
            _ => return Some(()),
        }
        count(hash);
        None
    });
    tally.behind = u64::from(stopped.is_some());
    stopped
}

/// Folds into the table for many keys: where many items' keys are is looked at before the first of these items is folded, each place of
/// memory having been asked for before.
#[inline(never)]
pub(super) fn fold_many<In, K: Hash + Eq, A>(
    items: &mut impl Iterator<Item = In>,
    tally: &mut Tally<'_>,
    (large, ahead): (&mut FoldTable<K, A>, &mut Ahead<K, In>),
    key: &mut impl FnMut(&In) -> K,
    init: &mut impl FnMut() -> A,
    fold: &mut impl FnMut(&mut A, In),
    mut count: impl FnMut(u64),
) {
    loop {
        items.take(AHEAD).for_each(|item| {
            tally.taken += 1;
            tally.behind += 1;
            let key = key(&item);
            let hash = hash_key(&key);
            large.prefetch_index(hash);
            count(hash);
            ahead.push(Waiting { hash, entry: 0, key, item });
        });
        if ahead.is_empty() {
            return;
        }
        ahead.iter_mut().for_each(|waiting| waiting.entry = large.prefetch_entry(waiting.hash));
        ahead.drain(..).for_each(|Waiting { hash, entry, key, item }| {
            if let Some(value) = large.entry(entry, &key) {
                fold(value, item);
            } else if let Some(value) = large.find_mut(hash, &key) {
                // Another key has the same bits of hash, or one of these items has brought this one.
                fold(value, item);
            } else {
                insert_large(large, hash, key, init, |value| fold(value, item));
            }
            tally.behind -= 1;
        });
    }
}
