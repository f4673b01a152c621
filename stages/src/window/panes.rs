//! Open panes: for each span of time what was gathered in it.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Deref;

use corelane::keyed::hash_key;
use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

/// Stores that are kept for panes to come.
const SPARE: usize = 2;
/// A store for no more than so many entries is kept while no pane is open.
pub(crate) const FEW: usize = 8 * 1024;
/// Panes found without a search, among the recently used.
const NEAR: usize = 64;

/// What a pane holds for a key.
pub(crate) trait Entry {
    type Key: Hash + Eq;
    fn key(&self) -> &Self::Key;
}

impl<K: Hash + Eq, A> Entry for (K, A) {
    type Key = K;
    #[inline(always)]
    fn key(&self) -> &K {
        &self.0
    }
}

/// Holds what is in a pane.
pub(crate) trait Store: Default {
    /// Keys in it.
    fn len(&self) -> usize;
    /// Entries that it has memory for.
    fn capacity(&self) -> usize;
    /// Bytes that it has memory for.
    #[cfg(test)]
    fn bytes(&self) -> usize;
}

impl<E> Store for HashTable<E> {
    fn len(&self) -> usize {
        self.len()
    }
    fn capacity(&self) -> usize {
        self.capacity()
    }
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.allocation_size()
    }
}

pub(crate) struct Pane<T> {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) items: u64,
    pub(crate) table: T,
    /// Entries when it began to be emptied.
    pub(crate) held: usize,
    open: bool,
}

/// Panes by their start. Opening and closing one costs a search among the open ones; memory is that of what is open, and
/// of up to two stores that are kept: large ones only while any pane is open.
pub(crate) struct Panes<T> {
    slots: Vec<Pane<T>>,
    free: Vec<usize>,
    by_start: BTreeMap<i64, usize>,
    near: [usize; NEAR],
    spare: Vec<T>,
}

impl<T: Store> Panes<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_start: BTreeMap::new(),
            near: [usize::MAX; NEAR],
            spare: Vec::new(),
        }
    }

    fn near(start: i64) -> usize {
        (start.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
    }

    /// The open pane that starts at `start`.
    #[inline]
    pub(crate) fn find(&mut self, start: i64) -> Option<usize> {
        let near = &mut self.near[Self::near(start)];
        if self.slots.get(*near).is_some_and(|pane| pane.open && pane.start == start) {
            return Some(*near);
        }
        let slot = *self.by_start.get(&start)?;
        *near = slot;
        Some(slot)
    }

    /// Opens a pane that is not open.
    pub(crate) fn open(&mut self, start: i64, end: i64) -> usize {
        let table = self.spare.pop().unwrap_or_default();
        let pane = Pane { start, end, items: 0, table, held: 0, open: true };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = pane;
                slot
            }
            None => {
                self.slots.push(pane);
                self.slots.len() - 1
            }
        };
        self.by_start.insert(start, slot);
        slot
    }

    #[inline(always)]
    pub(crate) fn pane(&mut self, slot: usize) -> &mut Pane<T> {
        &mut self.slots[slot]
    }

    /// The pane in `slot`, if one is open there.
    #[inline(always)]
    pub(crate) fn current(&mut self, slot: usize) -> Option<&mut Pane<T>> {
        self.slots.get_mut(slot).filter(|pane| pane.open)
    }

    /// As [`current`](Self::current), to look at.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&Pane<T>> {
        self.slots.get(slot).filter(|pane| pane.open)
    }

    /// Where a pane ends.
    pub(super) fn end(&self, slot: usize) -> i64 {
        self.slots[slot].end
    }

    /// Whether `slot` holds an open pane that covers `time`.
    #[inline(always)]
    pub(crate) fn covers(&self, slot: usize, time: i64) -> bool {
        self.slots.get(slot).is_some_and(|pane| pane.start <= time && time < pane.end && pane.open)
    }

    /// The open pane with the earliest start at or after `from`.
    pub(super) fn first_from(&self, from: i64) -> Option<usize> {
        self.by_start.range(from..).next().map(|(_, slot)| *slot)
    }

    /// The open pane with the earliest start, and its end.
    #[inline]
    pub(crate) fn first(&self) -> Option<(usize, i64)> {
        let (_, slot) = self.by_start.first_key_value()?;
        Some((*slot, self.slots[*slot].end))
    }

    /// Closes an empty pane. Its store may serve another one, unless it is far bigger than the pane turned out to need.
    pub(crate) fn close(&mut self, slot: usize) {
        let pane = &mut self.slots[slot];
        pane.open = false;
        let (table, held) = (std::mem::take(&mut pane.table), pane.held);
        self.by_start.remove(&pane.start);
        self.free.push(slot);
        if self.by_start.is_empty() {
            let spare = std::mem::take(&mut self.spare);
            *self = Self { spare, ..Self::new() };
            self.spare.retain(|table| table.capacity() <= FEW);
        }
        self.keep(table, held);
    }

    /// Keeps an empty store that held so many entries for panes to come, if it is worth it.
    pub(super) fn keep(&mut self, table: T, held: usize) {
        let most = if self.by_start.is_empty() { FEW } else { usize::MAX };
        if self.spare.len() < SPARE && table.capacity() > 0 && table.capacity() <= most.min(64 + 4 * held) {
            self.spare.push(table);
        }
    }

    /// Takes all that is in a pane and closes it; [`keep`](Self::keep) takes the store back later.
    pub(super) fn take(&mut self, slot: usize) -> T {
        let table = std::mem::take(&mut self.slots[slot].table);
        self.close(slot);
        table
    }

    /// Entries of all open panes.
    pub(crate) fn len(&self) -> usize {
        self.by_start.values().map(|slot| self.slots[*slot].table.len()).sum()
    }

    /// Bytes of all tables, kept ones included.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let tables = self.slots.iter().map(|pane| &pane.table).chain(&self.spare);
        tables.map(Store::bytes).sum::<usize>() + self.slots.capacity() * size_of::<Pane<T>>()
    }
}

impl<E> Panes<HashTable<E>> {
    /// Takes entries out of a pane, at most `most`, and hands them to `give`; true if none is left. `at` is where it goes
    /// on, 0 at first; nothing may be added in between.
    pub(super) fn drain(
        &mut self,
        slot: usize,
        at: &mut usize,
        most: usize,
        mut give: impl FnMut(E),
    ) -> bool {
        let Pane { table, held, .. } = &mut self.slots[slot];
        *held = table.len().max(*held);
        if table.len() <= most {
            // In one go: that leaves the table as new.
            table.drain().for_each(give);
            return true;
        }
        walk_entries(table, at, &mut { most }, |entry| give(entry.remove().0));
        table.is_empty()
    }

    /// Looks at the entries of a pane, at most `most`; true if it has been through all. `at` is where it goes on, 0 at first; nothing
    /// may be added in between.
    pub(super) fn visit(&self, slot: usize, at: &mut usize, most: usize, give: impl FnMut(&E)) -> bool {
        walk(&self.slots[slot].table, at, &mut { most }, give)
    }
}

/// Buckets that are looked at together.
const LOOK: usize = 64;
/// In a table of up to so many buckets, gone through again and again, the processor learns which are full.
const LEARNT: usize = 2048;

/// Looks at the entries of a table from bucket `at` on, at most `left`, which it counts down; true if it has been through all. Nothing may
/// be added in between.
#[inline]
pub(super) fn walk<E>(
    table: &HashTable<E>,
    at: &mut usize,
    left: &mut usize,
    mut give: impl FnMut(&E),
) -> bool {
    if *at == 0 && table.len() <= *left {
        table.iter().for_each(give);
        *left -= table.len();
        *at = table.num_buckets();
        return true;
    }
    walk_buckets(table, at, left, |table, bucket| table.get_bucket(bucket).map(&mut give).is_some())
}

/// As [`walk`], with entries that may be changed or removed.
#[inline]
pub(super) fn walk_entries<E>(
    table: &mut HashTable<E>,
    at: &mut usize,
    left: &mut usize,
    mut give: impl FnMut(OccupiedEntry<'_, E>),
) -> bool {
    walk_buckets(table, at, left, |table, bucket| table.get_bucket_entry(bucket).map(&mut give).is_ok())
}

/// `give` gives the entry of a bucket, and answers whether there was one.
#[inline(always)]
fn walk_buckets<E, T: Deref<Target = HashTable<E>>>(
    mut table: T,
    at: &mut usize,
    left: &mut usize,
    mut give: impl FnMut(&mut T, usize) -> bool,
) -> bool {
    let buckets = table.num_buckets();
    let few = buckets <= LEARNT;
    while few && *at < buckets {
        if *left == 0 {
            return false;
        }
        if give(&mut table, *at) {
            *left -= 1;
        }
        *at += 1;
    }
    let mut full = [0; LOOK];
    while *at < buckets {
        if *left == 0 {
            return false;
        }
        // In larger ones nobody foresees it, so the full ones are found first, without a branch for each.
        let (start, end) = (*at, (*at + LOOK).min(buckets));
        let mut found = 0;
        for bucket in start..end {
            full[found % LOOK] = bucket;
            found += usize::from(table.get_bucket(bucket).is_some());
        }
        let given = found.min(*left);
        for bucket in &full[..given] {
            give(&mut table, *bucket);
        }
        *left -= given;
        *at = if given < found { full[given] } else { end };
    }
    true
}

/// Out of the way of the keys that are there.
#[cold]
#[inline(never)]
pub(crate) fn insert<E: Entry>(table: &mut HashTable<E>, hash: u64, entry: E) {
    table.insert_unique(hash, entry, |entry| hash_key(entry.key()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_walk_that_stops_and_goes_on_gives_each_entry_once(keys in 0u64..4_000, gone in 0u64..4_000, most in 1usize..1_500, removes: bool) {
            let mut table = HashTable::new();
            (0..keys).for_each(|key| insert(&mut table, hash_key(&key), (key, ())));
            table.retain(|(key, ())| *key >= gone);
            let (mut at, mut given, mut calls) = (0, Vec::new(), 0);
            loop {
                let (mut left, before) = (most, given.len());
                let done = if removes {
                    walk_entries(&mut table, &mut at, &mut left, |entry| given.push(entry.remove().0.0))
                } else {
                    walk(&table, &mut at, &mut left, |entry| given.push(entry.0))
                };
                prop_assert_eq!(given.len() - before, most - left);
                calls += 1;
                if done {
                    break;
                }
                prop_assert_eq!(left, 0);
            }
            given.sort_unstable();
            prop_assert_eq!(&given, &(gone..keys.max(gone)).collect::<Vec<_>>());
            prop_assert!(calls <= 1 + given.len() / most);
        }
    }
}
