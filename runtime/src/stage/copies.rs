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
/// What is gone over twice is fetched some blocks ahead: the processor's own look ahead stands still while a block is gone over again. Read once from
/// end to end, memory comes faster without.
#[derive(Clone, Copy, Debug)]
pub struct Copies<'a, T> {
    items: &'a [T],
    /// Whether what they are the first of is worth to be fetched ahead.
    is_long: bool,
    /// How far ahead memory is fetched, in bytes.
    ahead: usize,
}

impl<'a, T: Copy> Copies<'a, T> {
    /// The first `n` of `items`.
    #[inline(always)]
    pub(super) fn of_first(n: usize, items: &'a [T]) -> Self {
        Self { items: &items[..n], is_long: size_of_val(items) >= FETCHED_FROM, ahead: 0 }
    }

    /// The copies, in order.
    #[inline(always)]
    pub fn iter(self) -> impl Iterator<Item = T> + use<'a, T> {
        self.items.iter().map(move |item| {
            if size_of::<T>() >= FETCHED_BYTES {
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

    /// The same, in parts that the first-level cache holds if they are to be `gone_over_twice`, and otherwise in one.
    #[inline]
    pub fn parts(self, gone_over_twice: bool) -> impl Iterator<Item = Self> + use<'a, T> {
        let (block, ahead) = if gone_over_twice {
            (BLOCK_BYTES / size_of::<T>().max(1), if self.is_long { AHEAD_BYTES } else { 0 })
        } else {
            (self.items.len(), self.ahead)
        };
        self.items.chunks(block.max(1)).map(move |items| Self { items, ahead, ..self })
    }
}
