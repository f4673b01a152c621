//! A table of keys that does not fit the cache: keys and values in place, found with one miss.

use std::num::NonZeroU32;

use crate::sync::prefetch;

/// Slots of the first table.
const FIRST: usize = 16;

/// A key with its value. The tag is part of the hash: keys are compared, and user code is run, only where tags are equal.
/// It cannot be zero, so that an empty slot costs no byte.
#[derive(Debug)]
struct Full<K, A> {
    tag: NonZeroU32,
    key: K,
    value: A,
}

/// A hash table of keys and values that grows, is looked up, and is taken apart, as a whole or by shards.
///
/// Open addressing with linear probing, at most three quarters full: a look-up reads one cache line for small keys and
/// values, where a table with its tags apart reads two. How many slots it looks at nobody can guess, the branch predictor
/// least of all: a table that is in the cache anyway is better off with tags that are compared many at a time.
#[derive(Debug)]
pub(super) struct FoldTable<K, A> {
    slots: Vec<Option<Full<K, A>>>,
    len: usize,
}

/// Where a key is, or where it would be.
pub(super) enum Found {
    /// In this slot.
    At(usize),
    /// Not there; this slot is free for it.
    Free(usize),
}

/// Bits of the hash that the slot does not depend on, as far as a table has fewer than 2^32 slots.
#[inline(always)]
fn tag(hash: u64) -> NonZeroU32 {
    NonZeroU32::MIN | (hash >> 32) as u32
}

impl<K: Eq, A> FoldTable<K, A> {
    /// A table that does not grow before it holds `keys` keys. Without any it takes no memory.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let mut table = Self { slots: Vec::new(), len: 0 };
        if keys > 0 {
            table.slots = empty(slots_for(keys));
        }
        table
    }

    /// Bytes of a table made with room for `keys` keys, of which there is one at least.
    pub(super) fn bytes_for(keys: usize) -> usize {
        slots_for(keys).saturating_mul(size_of::<Option<Full<K, A>>>())
    }

    /// Bytes of this table, without what keys and values point to.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Full<K, A>>>()
    }

    /// Keys that it holds before it grows.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len() / 4 * 3
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot where a key with this hash is looked for first. Out of bounds in a table without slots.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    /// Has the memory fetched that a look-up of this hash reads.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// Looks for a key. A table without slots has none free: see [`reserve`](Self::reserve).
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<Found> {
        let (mut at, tag) = (self.home(hash), tag(hash));
        loop {
            match self.slots.get(at)? {
                Some(full) if full.tag == tag && full.key == *key => return Some(Found::At(at)),
                Some(_) => at = (at + 1) & (self.slots.len() - 1),
                None => return Some(Found::Free(at)),
            }
        }
    }

    /// The value in slot `at`, which [`find`](Self::find) has just named.
    ///
    /// # Panics
    /// When that slot is empty.
    #[inline(always)]
    pub(super) fn value(&mut self, at: usize) -> &mut A {
        match &mut self.slots[at] {
            Some(full) => &mut full.value,
            None => panic!("internal error: slot {at} holds no value"),
        }
    }

    /// Makes room for one key more. True if slots have moved, and where keys are has to be looked up again.
    ///
    /// If `hash_of` panics, keys are lost, and the table is not to be used again.
    pub(super) fn reserve(&mut self, hash_of: impl Fn(&K) -> u64) -> bool {
        if (self.len + 1).saturating_mul(4) <= self.slots.len().saturating_mul(3) {
            return false;
        }
        let doubled = empty((self.slots.len() * 2).max(FIRST));
        let before = std::mem::replace(&mut self.slots, doubled);
        self.len = 0;
        for full in before.into_iter().flatten() {
            let hash = hash_of(&full.key);
            // All keys differ: the first free slot is the one.
            let mut at = self.home(hash);
            while self.slots[at].is_some() {
                at = (at + 1) & (self.slots.len() - 1);
            }
            self.slots[at] = Some(full);
            self.len += 1;
        }
        true
    }

    /// Fills the slot that [`find`](Self::find) said is free for `key`, with [room](Self::reserve) made before.
    pub(super) fn fill(&mut self, at: usize, hash: u64, key: K, value: A) {
        debug_assert!(self.slots[at].is_none());
        self.slots[at] = Some(Full { tag: tag(hash), key, value });
        self.len += 1;
    }

    /// Takes out what `leaves` says of the `most` slots from `at` on; `leaves` and `hash_of` are given the keys. How far it has come, or `None`
    /// when that was the last slot. Everything has been looked at once if nothing is added or removed in between, except keys that stay.
    ///
    /// If a closure panics, the table is not to be used again.
    pub(super) fn extract(
        &mut self,
        mut at: usize,
        most: usize,
        hash_of: impl Fn(&K) -> u64,
        mut leaves: impl FnMut(u64) -> bool,
        mut out: impl FnMut(u64, (K, A)),
    ) -> Option<usize> {
        let end = at.saturating_add(most).min(self.slots.len());
        while at < end {
            let Some(full) = &self.slots[at] else {
                at += 1;
                continue;
            };
            let hash = hash_of(&full.key);
            if !leaves(hash) {
                at += 1;
            } else if let Some(Full { key, value, .. }) = self.slots[at].take() {
                self.len -= 1;
                out(hash, (key, value));
                // Another key may have come to this slot.
                self.close_gap(at, &hash_of);
            }
        }
        (at < self.slots.len()).then_some(at)
    }

    /// Moves keys that stand behind the empty slot `gap`, and were to be before it, to where they are found.
    fn close_gap(&mut self, mut gap: usize, hash_of: &impl Fn(&K) -> u64) {
        let mask = self.slots.len() - 1;
        let mut at = (gap + 1) & mask;
        while let Some(full) = &self.slots[at] {
            let from_home = at.wrapping_sub(self.home(hash_of(&full.key))) & mask;
            if from_home >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[at].take();
                gap = at;
            }
            at = (at + 1) & mask;
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Entries<K, A> {
        let left = std::mem::take(&mut self.len);
        Entries { slots: std::mem::take(&mut self.slots).into_iter(), left }
    }
}

fn slots_for(keys: usize) -> usize {
    (keys.saturating_mul(4) / 3 + 1).next_power_of_two().max(FIRST)
}

fn empty<K, A>(slots: usize) -> Vec<Option<Full<K, A>>> {
    let mut empty = Vec::new();
    empty.resize_with(slots, || None);
    empty
}

/// The keys and values of a table, in the order of its slots.
#[derive(Debug)]
pub(super) struct Entries<K, A> {
    slots: std::vec::IntoIter<Option<Full<K, A>>>,
    left: usize,
}

impl<K, A> Iterator for Entries<K, A> {
    type Item = (K, A);

    #[inline]
    fn next(&mut self) -> Option<(K, A)> {
        let full = self.slots.by_ref().flatten().next()?;
        self.left -= 1;
        Some((full.key, full.value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, A> ExactSizeIterator for Entries<K, A> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Adds one to the count of `key`.
    fn count(table: &mut FoldTable<u16, u64>, key: u16, hash_of: fn(&u16) -> u64) {
        let hash = hash_of(&key);
        table.prefetch(hash);
        if let Some(Found::At(at)) = table.find(hash, &key) {
            *table.value(at) += 1;
            return;
        }
        table.reserve(hash_of);
        match table.find(hash, &key) {
            Some(Found::Free(at)) => table.fill(at, hash, key, 1),
            _ => panic!("a key that was not there is there after growth"),
        }
    }

    /// From a perfect spread to one slot and one tag for all.
    const HASHES: [fn(&u16) -> u64; 4] =
        [|key| crate::keyed::hash_key(key), |key| u64::from(key % 4) << 60, |key| u64::from(key % 8), |_| 0];

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_holds_however_hashes_collide(
            keys in prop::collection::vec(0u16..200, 0..600),
            expected in prop_oneof![Just(0usize), 1usize..300],
            hash in 0..HASHES.len(),
        ) {
            let mut table = FoldTable::with_room_for(expected);
            let mut model = BTreeMap::new();
            let slots = table.slots.len();
            for key in keys {
                count(&mut table, key, HASHES[hash]);
                *model.entry(key).or_insert(0) += 1;
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.len() * 4 <= table.slots.len() * 3, "too full");
                prop_assert!(table.len() > expected || table.slots.len() == slots, "grown before its time");
            }
            let entries = table.take();
            prop_assert_eq!((entries.len(), table.len()), (model.len(), 0));
            prop_assert_eq!(entries.collect::<BTreeMap<_, _>>(), model);
        }
    }

    proptest! {
        #[test]
        fn what_leaves_is_taken_out_once_and_all_else_is_found_however_hashes_collide(
            keys in prop::collection::vec(0u16..200, 0..300),
            leaving in 0u16..200,
            most in 1usize..50,
            hash in 0..HASHES.len(),
        ) {
            let hash_of = HASHES[hash];
            let mut table = FoldTable::with_room_for(0);
            let mut model = BTreeMap::new();
            for key in keys {
                count(&mut table, key, hash_of);
                *model.entry(key).or_insert(0) += 1;
            }
            // All keys with the hash of one of them.
            let away = hash_of(&leaving);
            let (mut out, mut at) = (BTreeMap::new(), Some(0));
            while let Some(from) = at {
                at = table.extract(from, most, hash_of, |hash| hash == away, |hash, (key, n)| {
                    assert_eq!((hash, out.insert(key, n)), (away, None));
                });
                prop_assert!(at.is_none_or(|at| at > from), "it goes on");
            }
            let (gone, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
                model.into_iter().partition(|(key, _)| hash_of(key) == away);
            prop_assert_eq!(&out, &gone);
            for (key, n) in &left {
                match table.find(hash_of(key), key) {
                    Some(Found::At(at)) => prop_assert_eq!(*table.value(at), *n),
                    _ => prop_assert!(false, "{} is lost", key),
                }
            }
            prop_assert_eq!(table.len(), left.len());
            prop_assert_eq!(table.take().collect::<BTreeMap<_, _>>(), left);
        }
    }

    #[test]
    fn an_empty_slot_costs_no_byte() {
        assert_eq!(size_of::<Option<Full<u64, (u64, u64)>>>(), 32);
        assert_eq!(FoldTable::<u64, u64>::with_room_for(0).slots.capacity(), 0);
    }

    #[test]
    fn every_key_is_dropped_once_taken_out_or_not() {
        let key = std::rc::Rc::new(0);
        let hash_of = |_: &std::rc::Rc<i32>| 7;
        for taken in [0, 1, 2] {
            // Equal keys: `fill` trusts its caller that they differ.
            let mut table = FoldTable::with_room_for(0);
            for _ in 0..20 {
                table.reserve(hash_of);
                let free = (0..table.slots.len()).find(|&at| table.slots[at].is_none()).unwrap();
                table.fill(free, 7, std::rc::Rc::clone(&key), ());
            }
            assert_eq!(std::rc::Rc::strong_count(&key), 21);
            let mut entries = table.take();
            entries.by_ref().take(taken).for_each(drop);
            assert_eq!(entries.len(), 20 - taken);
            drop(entries);
            assert_eq!(std::rc::Rc::strong_count(&key), 1);
        }
    }
}
