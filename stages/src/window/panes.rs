//! Open panes: for each span of time a table of what was gathered in it.

use std::collections::BTreeMap;

use corelane::keyed::hash_key;
use hashbrown::HashTable;
use std::hash::Hash;

/// Tables that are kept for panes to come.
const SPARE: usize = 2;
/// Panes found without a search, among the recently used.
const NEAR: usize = 64;

/// What a pane holds for a key.
pub(super) trait Entry {
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

pub(super) struct Pane<E> {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) items: u64,
    pub(super) table: HashTable<E>,
    /// Entries when it began to be drained.
    held: usize,
    open: bool,
}

/// Panes by their start. Opening and closing one costs a search among the open ones; memory is that of what is open, and
/// of up to two tables that are kept while any pane is open.
pub(super) struct Panes<E> {
    slots: Vec<Pane<E>>,
    free: Vec<usize>,
    by_start: BTreeMap<i64, usize>,
    near: [usize; NEAR],
    spare: Vec<HashTable<E>>,
}

impl<E: Entry> Panes<E> {
    pub(super) fn new() -> Self {
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
    pub(super) fn find(&mut self, start: i64) -> Option<usize> {
        let near = &mut self.near[Self::near(start)];
        if self.slots.get(*near).is_some_and(|pane| pane.open && pane.start == start) {
            return Some(*near);
        }
        let slot = *self.by_start.get(&start)?;
        *near = slot;
        Some(slot)
    }

    /// Opens a pane that is not open.
    pub(super) fn open(&mut self, start: i64, end: i64) -> usize {
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
    pub(super) fn pane(&mut self, slot: usize) -> &mut Pane<E> {
        &mut self.slots[slot]
    }

    /// The pane in `slot`, if one is open there.
    #[inline(always)]
    pub(super) fn current(&mut self, slot: usize) -> Option<&mut Pane<E>> {
        self.slots.get_mut(slot).filter(|pane| pane.open)
    }

    /// Where a pane ends.
    pub(super) fn end(&self, slot: usize) -> i64 {
        self.slots[slot].end
    }

    /// Whether `slot` holds an open pane that covers `time`.
    #[inline(always)]
    pub(super) fn covers(&self, slot: usize, time: i64) -> bool {
        self.slots.get(slot).is_some_and(|pane| pane.start <= time && time < pane.end && pane.open)
    }

    /// The open pane with the earliest start at or after `from`.
    pub(super) fn first_from(&self, from: i64) -> Option<usize> {
        self.by_start.range(from..).next().map(|(_, slot)| *slot)
    }

    /// The open pane with the earliest start, and its end.
    #[inline]
    pub(super) fn first(&self) -> Option<(usize, i64)> {
        let (_, slot) = self.by_start.first_key_value()?;
        Some((*slot, self.slots[*slot].end))
    }

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
        let mut left = most;
        while left > 0 && *at < table.num_buckets() {
            if let Ok(entry) = table.get_bucket_entry(*at) {
                left -= 1;
                give(entry.remove().0);
            }
            *at += 1;
        }
        table.is_empty()
    }

    /// Closes an empty pane. Its table may serve another one, unless it is far bigger than the pane turned out to need.
    pub(super) fn close(&mut self, slot: usize) {
        let pane = &mut self.slots[slot];
        pane.open = false;
        let table = std::mem::take(&mut pane.table);
        let held = pane.held;
        self.by_start.remove(&pane.start);
        self.free.push(slot);
        if self.by_start.is_empty() {
            *self = Self::new();
        } else if self.spare.len() < SPARE && table.capacity() <= 64 + 4 * held {
            self.spare.push(table);
        }
    }

    /// Entries of all open panes.
    pub(super) fn len(&self) -> usize {
        self.by_start.values().map(|slot| self.slots[*slot].table.len()).sum()
    }

    /// Bytes of all tables, kept ones included.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let tables = self.slots.iter().map(|pane| &pane.table).chain(&self.spare);
        tables.map(HashTable::allocation_size).sum::<usize>() + self.slots.capacity() * size_of::<Pane<E>>()
    }
}

/// Out of the way of the keys that are there.
#[cold]
#[inline(never)]
pub(super) fn insert<E: Entry>(table: &mut HashTable<E>, hash: u64, entry: E) {
    table.insert_unique(hash, entry, |entry| hash_key(entry.key()));
}
