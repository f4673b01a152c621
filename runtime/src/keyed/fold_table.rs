//! A table of keys with their values: the entries one behind the other, and apart from them an index into which hashes lead.

use crate::sync::prefetch;

/// An index slot that leads nowhere.
const FREE: u32 = u32::MAX;
/// Entries of a table that is made for none and gets one.
const FIRST: usize = 4;
/// The most slots of an index: a slot is a number of 32 bits.
const MOST: usize = 1 << 31;

/// A hash table of keys and values that grows, is looked up, and is taken apart, as a whole or by shards.
///
/// An index slot is a number of 32 bits: of an entry, and in what that leaves bits of its hash. Collisions go to the next slot. How many slots a
/// look-up reads nobody can guess, the branch predictor least of all; so an index for few keys is mostly empty, which costs little as
/// long as it is in the cache, and nearly every look-up ends at its first slot. The bits of the hash are for large tables: entries of other keys are not
/// read, and each would be a miss.
#[derive(Debug)]
pub(super) struct FoldTable<K, A> {
    /// A power of two of them.
    index: Vec<u32>,
    /// Less than half as many.
    entries: Vec<(K, A)>,
}

/// Entries that an index of so many slots serves.
fn capacity_of(slots: usize) -> usize {
    slots / 2
}

/// Slots that an index for so many entries has. One at least, so that every hash has a place to look at.
fn index_for(keys: usize) -> usize {
    keys.saturating_mul(2).checked_next_power_of_two().unwrap_or(usize::MAX)
}

impl<K: Eq, A> FoldTable<K, A> {
    /// A table that does not grow before it holds `keys` keys. Without any it takes next to no memory.
    ///
    /// # Panics
    /// For more keys than there is memory for on any machine.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let slots = index_for(keys);
        assert!(slots <= MOST, "internal error: a table for {keys} keys");
        Self { index: vec![FREE; slots], entries: Vec::with_capacity(keys) }
    }

    /// Bytes of a table made with room for `keys` keys.
    pub(super) fn bytes_for(keys: usize) -> usize {
        Self::bytes_of(index_for(keys), keys)
    }

    /// Bytes of the table, without what keys and values point to.
    pub(super) fn bytes(&self) -> usize {
        Self::bytes_of(self.index.capacity(), self.entries.capacity())
    }

    fn bytes_of(slots: usize, entries: usize) -> usize {
        slots.saturating_mul(size_of::<u32>()).saturating_add(entries.saturating_mul(size_of::<(K, A)>()))
    }

    /// Keys that it holds before it grows.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        capacity_of(self.index.len()).min(self.entries.capacity())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keys that it holds once it has grown, and the bytes that takes meanwhile. `None` if it cannot.
    pub(super) fn growth(&self) -> Option<(usize, usize)> {
        let (slots, keys) = self.grown()?;
        // The entries move, and lie in both places while they do; an index is made when the old one has gone.
        Some((keys, Self::bytes_of(slots, keys.saturating_add(self.entries.capacity()))))
    }

    /// The slots and the entries that it grows to.
    fn grown(&self) -> Option<(usize, usize)> {
        let keys = self.len().saturating_mul(2).max(FIRST);
        let slots = index_for(keys).max(self.index.len());
        (slots <= MOST).then_some((slots, keys))
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.index.len() - 1
    }

    /// The bits of `hash` that stand in an index slot.
    #[inline(always)]
    fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 & !(self.mask() as u32)
    }

    /// Has the memory fetched that says where the entry of this hash is.
    #[inline(always)]
    pub(super) fn prefetch_index(&self, hash: u64) {
        if let Some(slot) = self.index.get(hash as usize & self.mask()) {
            prefetch(slot);
        }
    }

    /// Has the memory of the entry fetched that a key of this hash is likely to have; its number.
    #[inline(always)]
    pub(super) fn prefetch_entry(&self, hash: u64) -> u32 {
        let (mask, tag) = (self.mask(), self.tag(hash));
        let mut at = hash as usize & mask;
        while let Some(&slot) = self.index.get(at)
            && slot != FREE
        {
            if slot & !(mask as u32) == tag {
                let entry = slot & mask as u32;
                if let Some(entry) = self.entries.get(entry as usize) {
                    prefetch(entry);
                }
                return entry;
            }
            at = (at + 1) & mask;
        }
        FREE
    }

    /// The value of `key`, if that is entry `number`.
    #[inline(always)]
    pub(super) fn entry(&mut self, number: u32, key: &K) -> Option<&mut A> {
        self.entries.get_mut(number as usize).filter(|(other, _)| other == key).map(|(_, value)| value)
    }

    /// The number of the entry of `key`.
    #[inline(always)]
    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        loop {
            // Of a free slot, too, this is no entry's number: there are never so many.
            let number = *self.index.get(at)? as usize & mask;
            if self.entries.get(number)?.0 == *key {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    /// The value of `key`.
    #[inline(always)]
    pub(super) fn find_mut(&mut self, hash: u64, key: &K) -> Option<&mut A> {
        let number = self.find(hash, key)?;
        Some(&mut self.entries[number].1)
    }

    /// Puts in a key that is not there. If `hash_of` panics, the table is not to be used again.
    ///
    /// # Panics
    /// When there are more keys than there is memory for on any machine: see [`growth`](Self::growth).
    pub(super) fn insert(&mut self, hash: u64, key: K, value: A, hash_of: impl Fn(&K) -> u64) {
        if self.len() == self.capacity() {
            self.grow(hash_of);
        }
        self.point(hash, self.entries.len());
        self.entries.push((key, value));
    }

    fn grow(&mut self, hash_of: impl Fn(&K) -> u64) {
        let len = self.len();
        let Some((slots, keys)) = self.grown() else { panic!("internal error: a table of {len} keys") };
        self.entries.reserve_exact(keys - len);
        if slots != self.index.len() {
            self.index = Vec::new();
            self.index.resize(slots, FREE);
            for number in 0..len {
                self.point(hash_of(&self.entries[number].0), number);
            }
        }
    }

    /// Has the first free slot for `hash` lead to entry `number`.
    fn point(&mut self, hash: u64, number: usize) {
        let (mask, slot) = (self.mask(), self.tag(hash) | number as u32);
        let mut at = hash as usize & mask;
        while self.index[at] != FREE {
            at = (at + 1) & mask;
        }
        self.index[at] = slot;
    }

    /// The slot that leads to entry `number`, whose key has this hash.
    fn slot_of(&self, hash: u64, number: usize) -> usize {
        let (mask, slot) = (self.mask(), self.tag(hash) | number as u32);
        let mut at = hash as usize & mask;
        while self.index[at] != slot {
            at = (at + 1) & mask;
        }
        at
    }

    /// Takes out what `leaves` says of the `most` entries from `at` on; `leaves` and `hash_of` are given the keys. How far it has come, or `None`
    /// when that was the last entry. Everything has been looked at if nothing is removed in between.
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
        for _ in 0..most {
            let (key, _) = self.entries.get(at)?;
            let hash = hash_of(key);
            if leaves(hash) {
                out(hash, self.remove(hash, at, &hash_of));
            } else {
                at += 1;
            }
        }
        (at < self.len()).then_some(at)
    }

    /// Takes out entry `number`, whose key has this hash. The last entry takes its place.
    fn remove(&mut self, hash: u64, number: usize, hash_of: &impl Fn(&K) -> u64) -> (K, A) {
        let gap = self.slot_of(hash, number);
        let last = self.len() - 1;
        if number != last {
            let moved = hash_of(&self.entries[last].0);
            let slot = self.slot_of(moved, last);
            self.index[slot] = self.tag(moved) | number as u32;
        }
        let entry = self.entries.swap_remove(number);
        self.close_gap(gap, hash_of);
        entry
    }

    /// Moves slots that stand behind `gap`, and were to be before it, to where they are found.
    fn close_gap(&mut self, mut gap: usize, hash_of: &impl Fn(&K) -> u64) {
        let mask = self.mask();
        let mut at = (gap + 1) & mask;
        while self.index[at] != FREE {
            let home = hash_of(&self.entries[self.index[at] as usize & mask].0) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.index[gap] = self.index[at];
                gap = at;
            }
            at = (at + 1) & mask;
        }
        self.index[gap] = FREE;
    }

    /// Takes everything out, in the order in which it came as long as nothing was removed.
    pub(super) fn take(&mut self) -> Entries<K, A> {
        std::mem::replace(self, Self::with_room_for(0)).entries.into_iter()
    }
}

/// The keys and values of a table.
pub(super) type Entries<K, A> = std::vec::IntoIter<(K, A)>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Adds one to the count of `key`.
    fn count(table: &mut FoldTable<u16, u64>, key: u16, hash_of: fn(&u16) -> u64) {
        let hash = hash_of(&key);
        table.prefetch_index(hash);
        let likely = table.prefetch_entry(hash);
        let found = table.find(hash, &key);
        assert!(found.is_none() || likely != FREE, "where an entry is, there is a likely one");
        if let Some(value) = table.entry(likely, &key) {
            *value += 1;
        } else if let Some(value) = table.find_mut(hash, &key) {
            *value += 1;
        } else {
            table.insert(hash, key, 1, hash_of);
        }
    }

    /// From a perfect spread to one slot and one tag for all, of all tags the one of free slots among them.
    const HASHES: [fn(&u16) -> u64; 5] = [
        |key| crate::keyed::hash_key(key),
        |key| u64::from(key % 4) << 60,
        |key| u64::from(key % 8),
        |_| 0,
        |_| u64::MAX,
    ];

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_holds_however_hashes_collide(
            keys in prop::collection::vec(0u16..200, 0..600),
            hash in 0..HASHES.len(),
        ) {
            let mut table = FoldTable::with_room_for(0);
            let mut model = BTreeMap::new();
            let mut order = Vec::new();
            for key in keys {
                let grown = table.growth();
                let (before, capacity, slots) = (table.len(), table.capacity(), table.index.len());
                count(&mut table, key, HASHES[hash]);
                let of = model.entry(key).or_insert(0);
                *of += 1;
                if *of == 1 {
                    order.push(key);
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.len() <= table.capacity() && table.capacity() < table.index.len());
                prop_assert!(slots == table.index.len() || before == capacity_of(slots), "grown before its time");
                if capacity != table.capacity() {
                    prop_assert!(before == capacity && grown.is_some_and(|(keys, _)| keys == table.capacity()));
                    prop_assert!(grown.is_some_and(|(_, bytes)| table.bytes() <= bytes));
                }
            }
            let entries = table.take();
            prop_assert_eq!((entries.len(), table.len()), (model.len(), 0));
            let (keys, counts): (Vec<_>, Vec<_>) = entries.unzip();
            prop_assert_eq!(&keys, &order);
            prop_assert_eq!(keys.into_iter().zip(counts).collect::<BTreeMap<_, _>>(), model);
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
            let mut steps = 0;
            while let Some(from) = at {
                at = table.extract(from, most, hash_of, |hash| hash == away, |hash, (key, n)| {
                    assert_eq!((hash, out.insert(key, n)), (away, None));
                });
                steps += 1;
                prop_assert!(steps <= 301 / most + 1, "it goes on");
            }
            let (gone, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
                model.into_iter().partition(|(key, _)| hash_of(key) == away);
            prop_assert_eq!(&out, &gone);
            for (key, n) in &left {
                prop_assert_eq!(table.find_mut(hash_of(key), key), Some(&mut n.clone()), "{} is lost", key);
            }
            for key in gone.keys() {
                prop_assert_eq!(table.find(hash_of(key), key), None);
            }
            // What left may come back.
            for (key, n) in &gone {
                table.insert(hash_of(key), *key, *n, hash_of);
            }
            prop_assert_eq!(table.len(), left.len() + gone.len());
            prop_assert_eq!(table.take().collect::<BTreeMap<_, _>>(), left.into_iter().chain(gone).collect());
        }
    }

    #[test]
    fn an_index_has_more_slots_than_it_serves_keys() {
        for keys in [0, 1, 2, 3, 4, 5, 1000, 1 << 30, usize::MAX] {
            let slots = index_for(keys);
            assert!(slots > keys && slots < 4 * keys.min(usize::MAX / 4) + 2 || keys == usize::MAX, "{keys}");
        }
        assert_eq!((size_of_val(&FREE), FoldTable::<u64, u64>::bytes_for(0)), (4, 4));
    }

    #[test]
    fn every_key_is_dropped_once_taken_out_or_not() {
        let key = std::rc::Rc::new(0);
        for taken in [0, 1, 2] {
            // Equal keys: `insert` trusts its caller that they differ.
            let mut table = FoldTable::with_room_for(0);
            (0..20).for_each(|_| table.insert(7, std::rc::Rc::clone(&key), (), |_| 7));
            assert_eq!(std::rc::Rc::strong_count(&key), 21);
            let mut left = 20;
            table.extract(0, 5, |_| 7, |_| true, |_, _| left -= 1);
            assert_eq!((left, std::rc::Rc::strong_count(&key)), (15, 16));
            let mut entries = table.take();
            entries.by_ref().take(taken).for_each(drop);
            assert_eq!(entries.len(), 15 - taken);
            drop(entries);
            assert_eq!(std::rc::Rc::strong_count(&key), 1);
        }
    }
}
