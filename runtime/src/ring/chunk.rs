//! Items read in place.

use std::iter::FusedIterator;

use super::Consumer;
use super::slots::View;

/// Items being taken out of a ring, in order.
///
/// Dropping it gives the slots of the items taken back to the producer, with one store; items not taken stay in the
/// ring. `for_each` and `fold` run over the slots in at most two plain loops and are the fastest way to take all of them.
/// If the closure panics, the items it was given are gone and the others stay. Leaking a chunk leaks its items.
pub struct Chunk<'a, T> {
    consumer: &'a mut Consumer<T>,
    slots: View<T>,
    at: u64,
    end: u64,
}

impl<'a, T> Chunk<'a, T> {
    /// Takes the next `n` items, which must be available.
    #[inline]
    pub(super) fn new(consumer: &'a mut Consumer<T>, n: u64) -> Self {
        let at = consumer.head;
        let end = at + n;
        // As if all were taken: a leaked chunk must not let an item be taken twice. `drop` puts it right.
        consumer.head = end;
        Self { slots: consumer.slots, consumer, at, end }
    }
}

impl<T> Iterator for Chunk<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.at == self.end {
            return None;
        }
        let index = self.slots.index(self.at);
        self.at += 1;
        // SAFETY: the position was available and is taken once.
        Some(unsafe { self.slots.take(index) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = (self.end - self.at) as usize;
        (n, Some(n))
    }

    #[inline]
    fn fold<A, F: FnMut(A, T) -> A>(mut self, init: A, mut f: F) -> A {
        let mut acc = init;
        while self.at != self.end {
            for index in self.slots.run(self.at, self.end) {
                // SAFETY: the position was available and is taken once.
                let item = unsafe { self.slots.take(index) };
                // Before the call: should it panic, the item counts as taken.
                self.at += 1;
                acc = f(acc, item);
            }
        }
        acc
    }
}

impl<T> ExactSizeIterator for Chunk<'_, T> {}

impl<T> FusedIterator for Chunk<'_, T> {}

impl<T> Drop for Chunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.head = self.at;
        self.consumer.commit();
    }
}
