//! How far the tables of a fold may grow.

use hashbrown::HashTable;

use super::fold_table::FoldTable;
use super::keys::{MemoryExhausted, usable};
use crate::stage::StageSite;

/// Slots of the small table when it gets its first key.
const FIRST: usize = 4;

/// What the keys and values of a fold may take, by the size of their types. Nothing of it can go to disk, and nothing ends before
/// the input does, so a fold that would need more cannot go on.
pub(super) struct Bound {
    limit: Option<usize>,
}

impl Bound {
    /// As the resources of `site` say.
    pub(super) fn new(site: &StageSite) -> Self {
        Self { limit: usable([site.resources.memory]) }
    }

    /// Keys that surely fit, beside those that are there. While a table grows or keys move to the other one, both are in memory.
    #[inline]
    pub(super) fn spare<K: Eq, A>(
        &self,
        table: &HashTable<(K, A)>,
        large: &FoldTable<K, A>,
        moves: bool,
    ) -> usize {
        let Some(limit) = self.limit else { return usize::MAX };
        let left = limit.saturating_sub(memory(table, large));
        if large.len() > 0 {
            return match large.growth() {
                // What it has now is in memory meanwhile, if only the entries of it.
                Some((keys, bytes)) if bytes <= limit => keys - large.len(),
                _ => large.capacity() - large.len(),
            };
        }
        if moves && self.may_move(table, large) {
            return table.len();
        }
        let free = table.capacity() - table.len();
        let doubled = (2 * table.allocation_size()).max(FIRST * (size_of::<(K, A)>() + 1) + 64);
        if doubled <= left { free + table.capacity().max(FIRST - 1) } else { free }
    }

    /// Whether the keys of the small table fit the large one, which is to have room for as many again.
    pub(super) fn may_move<K: Eq, A>(&self, table: &HashTable<(K, A)>, large: &FoldTable<K, A>) -> bool {
        let Some(limit) = self.limit else { return true };
        memory(table, large).saturating_add(FoldTable::<K, A>::bytes_for(2 * table.len())) <= limit
    }

    /// Why there is no room for one key more.
    #[cold]
    pub(super) fn exhausted<K: Eq, A>(
        &self,
        table: &HashTable<(K, A)>,
        large: &FoldTable<K, A>,
    ) -> MemoryExhausted {
        MemoryExhausted::State { held: memory(table, large), limit: self.limit.unwrap_or(usize::MAX) }
    }
}

/// Bytes of the tables.
pub(super) fn memory<K: Eq, A>(table: &HashTable<(K, A)>, large: &FoldTable<K, A>) -> usize {
    table.allocation_size() + large.bytes()
}
