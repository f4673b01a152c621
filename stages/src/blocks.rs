//! A list that grows without moving what is in it.

use std::ops::{Index, IndexMut};
use std::vec::Drain;

/// About what a block takes, once there are several.
const BLOCK_BYTES: usize = 64 * 1024;

/// Items in the order in which they were added. A vector moves all it has whenever it doubles, to memory that nobody has touched yet: at a
/// million items that holds up the core for milliseconds. Here the first block grows so, and from then on whole blocks are added.
pub(crate) struct Blocks<T> {
    /// All full up to the one in which the last item is; those behind it are empty.
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }
}

impl<T> Blocks<T> {
    /// Items in a block: a power of two, so that finding one is a shift.
    const BLOCK: usize = {
        let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        let items = (BLOCK_BYTES / size).next_power_of_two();
        if items < 16 { 16 } else { items }
    };

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Items there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.blocks.iter().map(Vec::capacity).sum()
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.blocks.get_mut(at / Self::BLOCK)?.get_mut(at % Self::BLOCK)
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, item: T) {
        let block = self.len / Self::BLOCK;
        if block == self.blocks.len() {
            self.add_block();
        }
        self.blocks[block].push(item);
        self.len += 1;
    }

    /// Makes room for more, in one block unless it is the first.
    #[cold]
    #[inline(never)]
    fn add_block(&mut self) {
        let items = if self.blocks.is_empty() { 0 } else { Self::BLOCK };
        self.blocks.push(Vec::with_capacity(items));
    }

    /// Takes the last item out. Its memory is kept for others.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let item = self.blocks[last / Self::BLOCK].pop();
        self.len = last;
        item
    }

    /// Takes the last items out, at most `most`, and only those of one block. `None` if there are none. Their memory is kept for others.
    pub(crate) fn drain_last(&mut self, most: usize) -> Option<Drain<'_, T>> {
        let last = self.len.checked_sub(1)?;
        let block = &mut self.blocks[last / Self::BLOCK];
        let left = block.len().saturating_sub(most);
        self.len -= block.len() - left;
        Some(block.drain(left..))
    }
}

impl<T> Index<usize> for Blocks<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, at: usize) -> &T {
        &self.blocks[at / Self::BLOCK][at % Self::BLOCK]
    }
}

impl<T> IndexMut<usize> for Blocks<T> {
    #[inline(always)]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.blocks[at / Self::BLOCK][at % Self::BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So large that a block has sixteen of them.
    type Large = (u32, [u8; 8 * 1024]);

    const ITEMS: usize = Blocks::<Large>::BLOCK;

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        Pop(usize),
        Drain(usize),
        Change(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let some = 0..3 * ITEMS;
        prop_oneof![
            2 => some.clone().prop_map(Op::Push),
            1 => some.clone().prop_map(Op::Pop),
            1 => some.clone().prop_map(Op::Drain),
            1 => some.prop_map(Op::Change),
        ]
    }

    proptest! {
        #[test]
        fn blocks_are_a_vector_to_those_who_use_them(ops in prop::collection::vec(op(), 1..30)) {
            let (mut blocks, mut vector, mut next) = (Blocks::<Large>::default(), Vec::new(), 0);
            for op in ops {
                match op {
                    Op::Push(count) => for _ in 0..count {
                        blocks.push((next, [0; _]));
                        vector.push(next);
                        next += 1;
                    },
                    Op::Pop(count) => for _ in 0..count {
                        prop_assert_eq!(blocks.pop().map(|item| item.0), vector.pop());
                    },
                    Op::Drain(most) => match blocks.drain_last(most) {
                        None => prop_assert!(vector.is_empty()),
                        Some(last) => {
                            prop_assert!(last.len() <= most && (last.len() > 0 || most == 0));
                            let gone = vector.split_off(vector.len() - last.len());
                            prop_assert_eq!(last.map(|item| item.0).collect::<Vec<_>>(), gone);
                        }
                    },
                    Op::Change(at) => {
                        let (one, other) = (blocks.get_mut(at).map(|item| &mut item.0), vector.get_mut(at));
                        prop_assert_eq!(&one, &other);
                        if let (Some(one), Some(other)) = (one, other) {
                            (*one, *other) = (*one + 1, *other + 1);
                        }
                    }
                }
                prop_assert_eq!((blocks.len(), blocks.is_empty()), (vector.len(), vector.is_empty()));
                prop_assert!(blocks.capacity() >= blocks.len());
            }
            prop_assert!((0..vector.len()).all(|at| blocks[at].0 == vector[at]));
        }
    }

    #[test]
    fn what_is_there_is_not_moved_once_there_is_a_whole_block() {
        let mut blocks = Blocks::default();
        (0..ITEMS as u32).for_each(|number| blocks.push((number, [0; 8 * 1024])));
        let places: Vec<*const Large> = (0..ITEMS).map(|at| &raw const blocks[at]).collect();
        (0..5 * ITEMS as u32).for_each(|number| blocks.push((number, [0; 8 * 1024])));
        assert!(places.iter().enumerate().all(|(at, place)| *place == &raw const blocks[at]));
        assert_eq!(blocks.capacity(), 6 * ITEMS);
    }

    #[test]
    fn a_few_take_little_memory() {
        let mut blocks = Blocks::default();
        blocks.push([0u8; 48]);
        assert!(blocks.capacity() <= 8);
    }
}
