//! Items that wait for the state of their key.

use hashbrown::HashTable;

const NIL: u32 = u32::MAX;

struct Waiting<T> {
    item: Option<T>,
    next: u32,
}

/// The items of one hash: the first and the last.
#[derive(Clone, Copy)]
struct Queue {
    hash: u64,
    first: u32,
    last: u32,
}

/// Queues of items, one for each hash. Each operation costs a constant; memory is that of the most items at once.
pub(in crate::keyed) struct Lot<T> {
    queues: HashTable<Queue>,
    places: Vec<Waiting<T>>,
    free: u32,
    len: usize,
}

impl<T> Lot<T> {
    pub(in crate::keyed) fn new() -> Self {
        Self { queues: HashTable::new(), places: Vec::new(), free: NIL, len: 0 }
    }

    pub(in crate::keyed) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::keyed) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an item with this hash waits.
    pub(in crate::keyed) fn has(&self, hash: u64) -> bool {
        self.len > 0 && self.queues.find(hash, |queue| queue.hash == hash).is_some()
    }

    /// Adds an item behind those with the same hash.
    pub(in crate::keyed) fn push(&mut self, hash: u64, item: T) {
        let at = match self.free {
            NIL => {
                self.places.push(Waiting { item: Some(item), next: NIL });
                (self.places.len() - 1) as u32
            }
            at => {
                let place = &mut self.places[at as usize];
                self.free = std::mem::replace(&mut place.next, NIL);
                place.item = Some(item);
                at
            }
        };
        self.len += 1;
        match self.queues.find_mut(hash, |queue| queue.hash == hash) {
            Some(queue) => {
                self.places[queue.last as usize].next = at;
                queue.last = at;
            }
            None => {
                self.queues.insert_unique(hash, Queue { hash, first: at, last: at }, |queue| queue.hash);
            }
        }
    }

    /// The first item with this hash.
    pub(in crate::keyed) fn pop(&mut self, hash: u64) -> Option<T> {
        let mut entry = self.queues.find_entry(hash, |queue| queue.hash == hash).ok()?;
        let at = entry.get().first;
        let place = &mut self.places[at as usize];
        let item = place.item.take();
        match std::mem::replace(&mut place.next, self.free) {
            NIL => drop(entry.remove()),
            next => entry.get_mut().first = next,
        }
        self.free = at;
        self.len -= 1;
        item
    }

    /// Drops all items; how many there were.
    pub(in crate::keyed) fn clear(&mut self) -> usize {
        let len = self.len;
        *self = Self::new();
        len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lot_is_a_queue_for_each_hash(ops in prop::collection::vec((0u64..5, any::<bool>()), 0..200)) {
            let mut lot = Lot::new();
            let mut model = BTreeMap::<u64, VecDeque<usize>>::new();
            let (mut most, mut len) = (0, 0usize);
            for (n, (hash, push)) in ops.into_iter().enumerate() {
                // All of them in one bucket, and three of five with the same tag.
                let spread = (hash % 3) << 60 | hash;
                if push {
                    lot.push(spread, n);
                    model.entry(hash).or_default().push_back(n);
                    len += 1;
                } else {
                    let expected = model.get_mut(&hash).and_then(VecDeque::pop_front);
                    len -= usize::from(expected.is_some());
                    prop_assert_eq!(lot.pop(spread), expected);
                }
                most = most.max(len);
                prop_assert_eq!(lot.len(), len);
                prop_assert_eq!(lot.has(spread), model.get(&hash).is_some_and(|queue| !queue.is_empty()));
                prop_assert_eq!(lot.places.len(), most);
            }
            prop_assert_eq!(lot.clear(), len);
            prop_assert!(lot.is_empty());
        }
    }
}
