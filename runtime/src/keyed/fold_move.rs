//! The keys of a fold on their way between instances.

use std::cell::Cell;
use std::hash::Hash;

use hashbrown::HashTable;

use super::fold_bound::Bound;
use super::fold_loops::outgrow;
use super::fold_table::FoldTable;
use super::hash_key;
use crate::shard::Movable;
use crate::stage::StageError;

/// Keys of the large table that are looked at in one step.
const LOOK: usize = 4096;

/// A key's state has come to an instance that has state for it, too: its key function does not give the same key for the same item each time,
/// or the key's hash is not always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has state in two instances: the key function or the hash of its key is not always the same")]
pub struct KeyInTwoPlaces;

/// Items whose keys have moved.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) handed_over: u64,
    pub(super) taken_over: u64,
}

/// The keys of a fold, for as long as a step of a move takes.
pub(super) struct FoldKeys<'a, K, A> {
    pub(super) table: &'a mut HashTable<(K, A)>,
    pub(super) large: &'a mut FoldTable<K, A>,
    pub(super) bound: &'a Bound,
    /// Whether the small table is larger than the cache.
    pub(super) outgrown: fn(&HashTable<(K, A)>) -> bool,
    pub(super) folded: &'a mut u64,
    pub(super) moved: &'a mut Moved,
}

impl<K: Hash + Eq, A> FoldKeys<'_, K, A> {
    fn insert(&mut self, hash: u64, key: K, value: A) -> Result<(), StageError> {
        let Self { table, large, .. } = self;
        if large.len() == 0 {
            if table.find(hash, |(other, _)| *other == key).is_some() {
                return Err(StageError::User(Box::new(KeyInTwoPlaces)));
            }
            table.insert_unique(hash, (key, value), |(key, _)| hash_key(key));
            return Ok(());
        }
        if large.find_mut(hash, &key).is_some() {
            return Err(StageError::User(Box::new(KeyInTwoPlaces)));
        }
        large.insert(hash, key, value, |key| hash_key(key));
        Ok(())
    }
}

impl<K: Hash + Eq + Send + 'static, A: Send + 'static> Movable for FoldKeys<'_, K, A> {
    type Key = (K, A);
    type Error = StageError;

    fn give(
        &mut self,
        at: &mut usize,
        away: impl Fn(u64) -> Option<usize>,
        mut out: impl FnMut(usize, (K, A)),
    ) -> bool {
        // The small table is no larger than the cache, and looked at whole.
        if *at == 0 {
            *at = 1;
            // Where the entry goes that is just being taken out.
            let to = Cell::new(None);
            let leaving = self.table.extract_if(|(key, _)| {
                to.set(away(hash_key(key)));
                to.get().is_some()
            });
            leaving.for_each(|entry| {
                if let Some(to) = to.get() {
                    out(to, entry);
                }
            });
        }
        let leaves = |hash| away(hash).is_some();
        let next = self.large.extract(
            *at - 1,
            LOOK,
            |key| hash_key(key),
            leaves,
            |hash, entry| {
                if let Some(to) = away(hash) {
                    out(to, entry);
                }
            },
        );
        *at = next.map_or(*at, |number| number + 1);
        next.is_none()
    }

    fn take(&mut self, (key, value): (K, A)) -> Result<(), StageError> {
        let Self { table, large, bound, .. } = self;
        let moves = (self.outgrown)(table);
        if bound.spare(table, large, moves) == 0 {
            return Err(StageError::User(Box::new(bound.exhausted(table, large))));
        }
        if large.len() == 0 && moves && bound.may_move(table, large) {
            outgrow(table, large);
        }
        self.insert(hash_key(&key), key, value)
    }

    fn items(_key: &(K, A)) -> u64 {
        0
    }

    fn gone(&mut self, items: u64) {
        *self.folded -= items;
        self.moved.handed_over += items;
    }

    fn came(&mut self, items: u64) {
        *self.folded += items;
        self.moved.taken_over += items;
    }
}
