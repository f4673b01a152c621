//! Things found by key, in numbered places.

use std::hash::Hash;
use std::ops::{Index, IndexMut};

use corelane::keyed::hash_key;
use hashbrown::HashTable;
use slab::Slab;

/// Memory for more than this many is given back when the last one has gone.
const SMALL: usize = 256;

struct Place<K, V> {
    key: K,
    hash: u64,
    value: V,
}

/// Values by key, several for one key if so wanted. A place stays the same as long as its value is there.
pub(crate) struct Keys<K, V> {
    places: Slab<Place<K, V>>,
    by_key: HashTable<usize>,
}

impl<K: Hash + Eq, V> Keys<K, V> {
    pub(crate) fn new() -> Self {
        Self { places: Slab::new(), by_key: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Places of the values of `key`.
    pub(crate) fn of<'a>(&'a self, key: &'a K) -> impl Iterator<Item = usize> + 'a {
        self.by_key.iter_hash(hash_key(key)).copied().filter(move |&at| self.places[at].key == *key)
    }

    /// Adds a value, besides those that `key` has; its place.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        let hash = hash_key(&key);
        let at = self.places.insert(Place { key, hash, value });
        let places = &self.places;
        self.by_key.insert_unique(hash, at, |&at| places[at].hash);
        at
    }

    /// The place of the value of `key`, made by `value` if it has none.
    pub(crate) fn place(&mut self, key: K, value: impl FnOnce(&K) -> V) -> usize {
        let found = self.of(&key).next();
        found.unwrap_or_else(|| {
            let value = value(&key);
            self.insert(key, value)
        })
    }

    pub(crate) fn remove(&mut self, at: usize) -> (K, V) {
        let Place { key, hash, value } = self.places.remove(at);
        if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        if self.places.is_empty() && self.places.capacity() > SMALL {
            *self = Self::new();
        }
        (key, value)
    }

    /// Key and value, if there is one at `at`.
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<(&K, &mut V)> {
        self.places.get_mut(at).map(|place| (&place.key, &mut place.value))
    }

    /// One more than the last place in use.
    pub(crate) fn end(&self) -> usize {
        self.places.iter().next_back().map_or(0, |(at, _)| at + 1)
    }

    /// Values there is memory for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity().max(self.by_key.capacity())
    }
}

impl<K, V> Index<usize> for Keys<K, V> {
    type Output = V;
    fn index(&self, at: usize) -> &V {
        &self.places[at].value
    }
}

impl<K, V> IndexMut<usize> for Keys<K, V> {
    fn index_mut(&mut self, at: usize) -> &mut V {
        &mut self.places[at].value
    }
}
