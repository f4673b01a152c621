//! Aggregates from closures.

use std::marker::PhantomData;

use super::Aggregate;

/// See [`fold`].
#[derive(Debug)]
pub struct Fold<I, G, M, R, A> {
    init: I,
    add: G,
    merge: M,
    result: R,
    acc: PhantomData<fn() -> A>,
}

impl<I: Clone, G: Clone, M: Clone, R: Clone, A> Clone for Fold<I, G, M, R, A> {
    fn clone(&self) -> Self {
        let Self { init, add, merge, result, .. } = self;
        Self {
            init: init.clone(),
            add: add.clone(),
            merge: merge.clone(),
            result: result.clone(),
            acc: PhantomData,
        }
    }
}

/// An aggregate from closures: the accumulator of no items, how an item is added, how two accumulators are merged, and
/// what becomes of one.
///
/// ```
/// use corelane_stages::window::{Aggregate, fold};
///
/// let longest = fold(
///     || 0,
///     |longest: &mut usize, word: &String| *longest = word.len().max(*longest),
///     |longest: &mut usize, other: &usize| *longest = (*longest).max(*other),
///     |longest: &usize| *longest,
/// );
/// let mut acc = longest.init();
/// longest.add(&mut acc, &"corelane".to_owned());
/// assert_eq!(longest.result(&acc), 8);
/// ```
pub const fn fold<In, A, O, I, G, M, R>(init: I, add: G, merge: M, result: R) -> Fold<I, G, M, R, A>
where
    I: Fn() -> A,
    G: Fn(&mut A, &In),
    M: Fn(&mut A, &A),
    R: Fn(&A) -> O,
{
    Fold { init, add, merge, result, acc: PhantomData }
}

impl<In, A, O, I, G, M, R> Aggregate<In> for Fold<I, G, M, R, A>
where
    A: 'static,
    O: Send + 'static,
    I: Fn() -> A + Clone + Send + 'static,
    G: Fn(&mut A, &In) + Clone + Send + 'static,
    M: Fn(&mut A, &A) + Clone + Send + 'static,
    R: Fn(&A) -> O + Clone + Send + 'static,
{
    type Acc = A;
    type Out = O;

    #[inline]
    fn init(&self) -> A {
        (self.init)()
    }
    #[inline(always)]
    fn add(&self, acc: &mut A, item: &In) {
        (self.add)(acc, item);
    }
    #[inline]
    fn merge(&self, acc: &mut A, other: &A) {
        (self.merge)(acc, other);
    }
    #[inline]
    fn result(&self, acc: &A) -> O {
        (self.result)(acc)
    }
}
