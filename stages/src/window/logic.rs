//! What all windows ask of the user's code, in one place.

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::model::{Timed, Timestamp};

use super::{Aggregate, Fired, Windowed};

/// Tells the event time of an item. Implemented for closures, and by [`OwnTime`] for items that know their time.
pub trait TimeOf<T>: Clone + Send + 'static {
    /// When it happened.
    fn time_of(&self, item: &T) -> Timestamp;
}

impl<T, F: Fn(&T) -> Timestamp + Clone + Send + 'static> TimeOf<T> for F {
    #[inline(always)]
    fn time_of(&self, item: &T) -> Timestamp {
        self(item)
    }
}

/// The time that an item brings with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTime;

impl<T: Timed> TimeOf<T> for OwnTime {
    #[inline(always)]
    fn time_of(&self, item: &T) -> Timestamp {
        item.timestamp()
    }
}

/// What becomes of items that come too late for all of their windows.
pub trait LateItems<In, K, R>: Clone + Send + 'static {
    /// What the stage emits.
    type Out: Send + 'static;

    /// Emits a result.
    fn result(&self, result: Windowed<K, R>) -> Self::Out;

    /// Emits a late item, or drops it.
    fn late(&self, item: In) -> Option<Self::Out>;
}

/// Late items are dropped: counted as `late`, and as `filtered`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropLate;

impl<In, K: Send + 'static, R: Send + 'static> LateItems<In, K, R> for DropLate {
    type Out = Windowed<K, R>;

    #[inline]
    fn result(&self, result: Windowed<K, R>) -> Windowed<K, R> {
        result
    }
    fn late(&self, _item: In) -> Option<Windowed<K, R>> {
        None
    }
}

/// Late items go out beside the results: counted as `late`, and as `passed`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepLate;

impl<In: Send + 'static, K: Send + 'static, R: Send + 'static> LateItems<In, K, R> for KeepLate {
    type Out = Fired<K, R, In>;

    #[inline]
    fn result(&self, result: Windowed<K, R>) -> Fired<K, R, In> {
        Fired::Result(result)
    }
    fn late(&self, item: In) -> Option<Fired<K, R, In>> {
        Some(Fired::Late(item))
    }
}

/// The user's code of a window stage: key, time, aggregate, and what becomes of late items.
#[derive(Clone)]
pub struct Parts<K, F, T, A, L> {
    pub(super) key: F,
    pub(super) time: T,
    pub(super) aggregate: A,
    pub(super) late: L,
    pub(super) of: PhantomData<fn() -> K>,
}

/// [`Parts`] as one trait, so that the stages need not name each.
pub trait Logic<In>: 'static {
    /// What items of a window have in common.
    type Key: Hash + Eq + Clone + 'static;
    /// What is kept for a window and key.
    type Acc: 'static;
    /// What becomes of it.
    type Value: 'static;
    /// What the stage emits.
    type Out: Send + 'static;
    /// See [`Aggregate::SKIPS`].
    const SKIPS: bool;

    /// The key of an item.
    fn key(&mut self, item: &In) -> Self::Key;
    /// Its time, in nanoseconds since the epoch.
    fn time(&self, item: &In) -> i64;
    /// See [`Aggregate::skips`].
    fn skips(&self, acc: &Self::Acc, item: &In) -> bool;
    /// See [`Aggregate::init`].
    fn init(&self) -> Self::Acc;
    /// See [`Aggregate::add`].
    fn add(&self, acc: &mut Self::Acc, item: &In);
    /// See [`Aggregate::add_owned`].
    fn add_owned(&self, acc: &mut Self::Acc, item: In);
    /// See [`Aggregate::merge`].
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// See [`Aggregate::unmerge`].
    fn unmerge(&self, acc: &mut Self::Acc, other: &Self::Acc) -> bool;
    /// See [`Aggregate::result`].
    fn result(&self, acc: &Self::Acc) -> Self::Value;
    /// See [`Aggregate::finish`].
    fn finish(&self, acc: Self::Acc) -> Self::Value;
    /// See [`LateItems::result`].
    fn emit(&self, result: Windowed<Self::Key, Self::Value>) -> Self::Out;
    /// See [`LateItems::late`].
    fn late(&self, item: In) -> Option<Self::Out>;
}

impl<In, K, F, T, A, L> Logic<In> for Parts<K, F, T, A, L>
where
    In: 'static,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&In) -> K + 'static,
    T: TimeOf<In>,
    A: Aggregate<In>,
    L: LateItems<In, K, A::Out>,
{
    type Key = K;
    type Acc = A::Acc;
    type Value = A::Out;
    type Out = L::Out;
    const SKIPS: bool = A::SKIPS;

    #[inline(always)]
    fn key(&mut self, item: &In) -> K {
        (self.key)(item)
    }
    #[inline(always)]
    fn time(&self, item: &In) -> i64 {
        self.time.time_of(item).as_nanos()
    }
    #[inline(always)]
    fn skips(&self, acc: &A::Acc, item: &In) -> bool {
        self.aggregate.skips(acc, item)
    }
    #[inline(always)]
    fn init(&self) -> A::Acc {
        self.aggregate.init()
    }
    #[inline(always)]
    fn add(&self, acc: &mut A::Acc, item: &In) {
        self.aggregate.add(acc, item);
    }
    #[inline(always)]
    fn add_owned(&self, acc: &mut A::Acc, item: In) {
        self.aggregate.add_owned(acc, item);
    }
    #[inline]
    fn merge(&self, acc: &mut A::Acc, other: &A::Acc) {
        self.aggregate.merge(acc, other);
    }
    #[inline]
    fn unmerge(&self, acc: &mut A::Acc, other: &A::Acc) -> bool {
        self.aggregate.unmerge(acc, other)
    }
    #[inline]
    fn result(&self, acc: &A::Acc) -> A::Out {
        self.aggregate.result(acc)
    }
    #[inline]
    fn finish(&self, acc: A::Acc) -> A::Out {
        self.aggregate.finish(acc)
    }
    #[inline]
    fn emit(&self, result: Windowed<K, A::Out>) -> L::Out {
        self.late.result(result)
    }
    fn late(&self, item: In) -> Option<L::Out> {
        self.late.late(item)
    }
}
