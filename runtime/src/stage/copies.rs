//! Items that lie in memory, on their way into a chain.

use crate::sync::prefetch_early;

/// How far ahead of what is copied memory is fetched, in bytes.
const AHEAD_BYTES: usize = 12 * 1024;
/// Of shorter slices more than a quarter of what is fetched would lie behind the end.
const FETCHED_FROM: usize = 4 * AHEAD_BYTES;
/// Several smaller items share a cache line: they are cheap to load, and a fetch for each would not be.
const FETCHED_BYTES: usize = 32;
/// What a stage goes over twice stays in the first-level cache meanwhile.
const BLOCK_BYTES: usize = 4_096;

/// Items in memory that a chain is given: each is copied when it is its turn. A stage that gains from seeing several at once may look at them
/// before.
///
/// With `FETCHED` memory further on is fetched with each. That is for what a stage goes over twice: the processor's own look ahead stands still while it
/// is gone over again. Read once from end to end, memory comes faster without.
#[derive(Clone, Copy, Debug)]
pub struct Copies<'a, T, const FETCHED: bool = false> {
    items: &'a [T],
    /// How far ahead memory is fetched if it is.
    ahead: usize,
}

impl<'a, T: Copy> Copies<'a, T> {
    /// The first `n` of `items`.
    #[inline(always)]
    pub(super) fn of_first(n: usize, items: &'a [T]) -> Self {
        let ahead = if size_of_val(items) < FETCHED_FROM { 0 } else { AHEAD_BYTES };
        Self { items: &items[..n], ahead }
    }
}

impl<'a, T: Copy, const FETCHED: bool> Copies<'a, T, FETCHED> {
    /// The copies, in order.
    #[inline(always)]
    pub fn iter(self) -> impl Iterator<Item = T> + use<'a, T, FETCHED> {
        self.items.iter().map(move |item| {
            if FETCHED && size_of::<T>() >= FETCHED_BYTES {
                prefetch_early(std::ptr::from_ref(item).wrapping_byte_add(self.ahead));
            }
            *item
        })
    }

    /// The items where they lie.
    #[inline]
    pub fn as_slice(self) -> &'a [T] {
        self.items
    }

    /// The same, in parts that the first-level cache holds, each to be gone over twice.
    #[inline]
    pub fn parts(self) -> impl Iterator<Item = Copies<'a, T, true>> + use<'a, T, FETCHED> {
        let block = (BLOCK_BYTES / size_of::<T>().max(1)).max(1);
        self.items.chunks(block).map(move |items| Copies { items, ahead: self.ahead })
    }
}
