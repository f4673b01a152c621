//! Where keys live: found by hash, kept in the order they came in, and gone without a trace.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

const HASHER: FixedState = FixedState::with_seed(0x243f_6a88_85a3_08d3);

const NIL: u32 = u32::MAX;

/// The hash of a key: the same on every core of this process, and what both the exchange and the tables use.
///
/// It may differ between builds and machines: never let it leave the process. It is made for tables: keys that follow a pattern may share some
/// bits of their hashes more often than at random. What needs better ones has to mix them.
#[inline(always)]
pub fn hash_key<K: Hash + ?Sized>(key: &K) -> u64 {
    HASHER.hash_one(key)
}

/// A place of the table, with something that stays with the place when keys come and go.
#[derive(Debug)]
struct Place<V, P> {
    value: Option<V>,
    hash: u64,
    /// In the order of insertion; of free places `next` is the next free one.
    prev: u32,
    next: u32,
    per_place: P,
}

/// Values found by a key they contain, in numbered places that are reused.
///
/// Finding, inserting and removing cost a constant. Removing frees the place at once; memory is that of the most values at
/// the same time.
#[derive(Debug)]
pub(super) struct KeyedTable<V, P> {
    index: HashTable<u32>,
    places: Vec<Place<V, P>>,
    free: u32,
    first: u32,
    last: u32,
}

impl<V, P: Default> KeyedTable<V, P> {
    pub(super) fn new() -> Self {
        Self { index: HashTable::new(), places: Vec::new(), free: NIL, first: NIL, last: NIL }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Places there are, free ones included.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// The place whose value `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(&V) -> bool) -> Option<u32> {
        let places = &self.places;
        self.index.find(hash, |&at| places[at as usize].value.as_ref().is_some_and(&mut is_it)).copied()
    }

    /// A place whose value came with this hash.
    #[inline]
    pub(super) fn find_hash(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |&at| self.places[at as usize].hash == hash).copied()
    }

    /// The hash of the value at `at`, or of the last one there.
    ///
    /// # Panics
    /// When there was never such a place.
    pub(super) fn hash_at(&self, at: u32) -> u64 {
        self.places[at as usize].hash
    }

    /// Bytes of memory it takes, without what values point to.
    pub(super) fn memory(&self) -> usize {
        self.places.len() * size_of::<Place<V, P>>() + self.index.allocation_size()
    }

    /// The value at `at`, if there is one.
    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut V> {
        self.places.get_mut(at as usize)?.value.as_mut()
    }

    /// The value at `at`.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub(super) fn value(&mut self, at: u32) -> &mut V {
        match self.get_mut(at) {
            Some(value) => value,
            None => panic!("internal error: place {at} holds no value"),
        }
    }

    /// What stays with the place `at`.
    ///
    /// # Panics
    /// When there was never such a place.
    #[inline]
    pub(super) fn per_place(&mut self, at: u32) -> &mut P {
        &mut self.places[at as usize].per_place
    }

    /// The value that has been here longest.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NIL).then_some(self.first)
    }

    /// The value that came after the one at `at`, which must be there.
    pub(super) fn after(&self, at: u32) -> Option<u32> {
        self.places.get(at as usize).map(|place| place.next).filter(|&next| next != NIL)
    }

    /// Puts a value, whose key is not there yet, into a free place.
    ///
    /// # Panics
    /// With 2^32 - 1 values.
    pub(super) fn insert(&mut self, hash: u64, value: V) -> u32 {
        let (prev, next) = (self.last, NIL);
        let at = if self.free == NIL {
            let at = u32::try_from(self.places.len()).ok().filter(|&at| at != NIL);
            let Some(at) = at else { panic!("more than 2^32 - 1 keys in one instance") };
            self.places.push(Place { value: Some(value), hash, prev, next, per_place: P::default() });
            at
        } else {
            let at = self.free;
            let place = &mut self.places[at as usize];
            self.free = place.next;
            (place.value, place.hash, place.prev, place.next) = (Some(value), hash, prev, next);
            at
        };
        match prev {
            NIL => self.first = at,
            prev => self.places[prev as usize].next = at,
        }
        self.last = at;
        let places = &self.places;
        self.index.insert_unique(hash, at, |&at| places[at as usize].hash);
        at
    }

    /// Takes the value out of place `at`, if there is one.
    pub(super) fn remove(&mut self, at: u32) -> Option<V> {
        let place = self.places.get_mut(at as usize)?;
        let value = place.value.take()?;
        let (hash, prev, next) = (place.hash, place.prev, place.next);
        place.next = std::mem::replace(&mut self.free, at);
        match prev {
            NIL => self.first = next,
            prev => self.places[prev as usize].next = next,
        }
        match next {
            NIL => self.last = prev,
            next => self.places[next as usize].prev = prev,
        }
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        Some(value)
    }

    /// Removes everything and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hash_is_the_same_everywhere_in_the_process_and_spreads() {
        let here: Vec<_> = (0..1000u64).map(|key| hash_key(&key)).collect();
        let there = std::thread::scope(|scope| {
            scope.spawn(|| (0..1000u64).map(|key| hash_key(&key)).collect::<Vec<_>>()).join().unwrap()
        });
        assert_eq!(here, there);
        assert_eq!(hash_key("key"), hash_key(&"key".to_owned()));
        // The bits the exchange uses, those that find a bucket, and those of the tag: each must be spread.
        for shift in [0, 32, 57] {
            let mut buckets = [0; 16];
            here.iter().for_each(|hash| buckets[(hash >> shift) as usize % 16] += 1);
            assert!(buckets.iter().all(|n| (30..100).contains(n)), "{shift}: {buckets:?}");
        }
    }

    proptest! {
        #[test]
        fn a_table_is_a_list_of_its_values_in_order(ops in prop::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let mut table = KeyedTable::<(u8, usize), u64>::new();
            let mut model: Vec<(u8, usize)> = Vec::new();
            let mut most = 0;
            for (n, (key, put)) in ops.into_iter().enumerate() {
                // Four hashes only: most keys collide.
                let hash = u64::from(key % 4) << 60;
                let found = table.find(hash, |value| value.0 == key);
                prop_assert_eq!(found.is_some(), model.iter().any(|value| value.0 == key));
                match found {
                    None if put => {
                        let at = table.insert(hash, (key, n));
                        *table.per_place(at) += 1;
                        model.push((key, n));
                    }
                    Some(at) if !put => {
                        let value = table.remove(at);
                        prop_assert_eq!(table.remove(at), None);
                        prop_assert_eq!(table.get_mut(at), None);
                        let place = model.iter().position(|value| value.0 == key).unwrap();
                        prop_assert_eq!(value, Some(model.remove(place)));
                    }
                    _ => {}
                }
                most = most.max(model.len());
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.places(), most);
            }
            let mut left = Vec::new();
            while let Some(at) = table.first() {
                left.extend(table.remove(at));
            }
            prop_assert_eq!(left, model);
            prop_assert!(table.is_empty());
        }
    }
}
