//! Items read in place.

use std::iter::FusedIterator;
use std::mem::MaybeUninit;
use std::slice;

use super::Consumer;
use super::slots::View;

/// Items being taken out of a ring, in order.
///
/// Dropping it gives the slots of the items taken back to the producer, with one store; items not taken stay in the
/// ring. `for_each` and `fold` run over the slots in at most two plain loops and are the fastest way to take all of them one
/// by one; [`as_slices`](Self::as_slices) and [`commit_all`](Self::commit_all) read them where they are, which the compiler
/// turns into vector code. If a closure panics, the items it was given are gone and the others stay. Leaking a chunk leaks
/// its items.
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

    /// The items that are left, in order: those up to where the ring wraps, and those behind.
    ///
    /// Looking does not take them: what is to be gone afterwards has to be [committed](Self::commit_all).
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(4)?;
    /// producer.push_slice(&[1, 2, 3]);
    /// producer.publish();
    ///
    /// let mut chunk = consumer.read(usize::MAX);
    /// assert_eq!(chunk.next(), Some(1));
    /// let (first, second) = chunk.as_slices();
    /// assert_eq!(first.iter().chain(second).sum::<u64>(), 2 + 3);
    /// chunk.commit_all();
    /// assert!(consumer.is_empty());
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    /// The slices do not outlive the chunk:
    /// ```compile_fail,E0505
    /// let (_producer, mut consumer) = corelane::ring::ring::<u64>(4).unwrap();
    /// let chunk = consumer.read(4);
    /// let (first, _) = chunk.as_slices();
    /// chunk.commit_all();
    /// drop(first.to_vec());
    /// ```
    #[inline]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let first = self.slots.run(self.at, self.end);
        let wrapped = self.at + first.len() as u64;
        // SAFETY: the positions were available, are not taken yet, and stay so while `self` is borrowed.
        let first = unsafe { self.slots.slice(first) };
        // SAFETY: as above.
        let second = unsafe { self.slots.slice(self.slots.run(wrapped, self.end)) };
        (first, second)
    }

    /// The items that are left up to where the ring wraps, in order: to be taken one by one with less work for each than by the chunk itself. Those
    /// behind the wrap are in the next run.
    ///
    /// ```
    /// let (mut producer, mut consumer) = corelane::ring::ring::<u64>(4)?;
    /// producer.push_slice(&[1, 2]);
    /// producer.publish();
    /// consumer.read(2).for_each(drop);
    /// // The last of these is behind the wrap.
    /// producer.push_slice(&[3, 4, 5]);
    /// producer.publish();
    ///
    /// let mut chunk = consumer.read(usize::MAX);
    /// assert_eq!(chunk.run().next(), Some(3));
    /// assert_eq!(chunk.run().collect::<Vec<_>>(), [4]);
    /// assert_eq!(chunk.run().collect::<Vec<_>>(), [5]);
    /// assert_eq!(chunk.run().len(), 0);
    /// # Ok::<(), corelane::ring::RingError>(())
    /// ```
    #[inline]
    pub fn run(&mut self) -> Run<'_, T> {
        let run = self.slots.run(self.at, self.end);
        // As if all were taken, for the reason that a chunk does so.
        self.at += run.len() as u64;
        // SAFETY: the positions were available, are not taken yet, and nobody else does so while `self` is borrowed.
        let slots = unsafe { self.slots.full(run) };
        Run { slots: slots.iter(), at: &mut self.at }
    }

    /// Takes all that is left, and drops it in place. If an item's drop panics, the others are dropped nonetheless.
    #[inline]
    pub fn commit_all(mut self) {
        // First, so that a panic in a drop leaves no item to be dropped twice.
        let from = std::mem::replace(&mut self.at, self.end);
        // SAFETY: the positions were available and are taken once.
        unsafe { self.slots.drop_items(from..self.end, 0..0) };
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

/// Items of a [`Chunk`] in slots one behind the other, being taken out. When it is dropped, those that were not taken stay in the chunk; leaking it
/// leaks them.
pub struct Run<'a, T> {
    slots: slice::Iter<'a, MaybeUninit<T>>,
    /// Where the chunk goes on.
    at: &'a mut u64,
}

impl<T> Iterator for Run<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        let slot = self.slots.next()?;
        // SAFETY: it holds an item, which is taken once.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl<T> ExactSizeIterator for Run<'_, T> {}

impl<T> FusedIterator for Run<'_, T> {}

impl<T> Drop for Run<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.at -= self.slots.len() as u64;
    }
}

impl<T> Drop for Chunk<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.head = self.at;
        self.consumer.commit();
    }
}
