//! What becomes of the values that the keys of a window have when it ends.

use std::marker::PhantomData;

use super::logic::Logic;
use super::{Aggregate, Pane, Window, Windowed};

/// Takes the value of each key when a window ends, and says what is given out.
pub trait Values<In, U: Logic<In>>: 'static {
    /// What the stage emits.
    type Out: 'static;
    /// Whether values stay in here until the window is over, and take no room before.
    const GATHERS: bool;

    /// A key's value.
    fn value(&mut self, user: &U, value: Windowed<U::Key, U::Value>) -> Option<Self::Out>;

    /// All keys of the window have given their values.
    fn over(&mut self, window: Window) -> Option<Self::Out>;

    /// An item that is too late for all of its windows.
    fn late(&self, user: &U, item: In) -> Option<Self::Out>;

    /// Forgets what it has gathered.
    fn clear(&mut self);
}

/// Each key's value is given out.
#[derive(Clone, Copy, Debug, Default)]
pub struct EachKey;

impl<In, U: Logic<In>> Values<In, U> for EachKey {
    type Out = U::Out;
    const GATHERS: bool = false;

    #[inline(always)]
    fn value(&mut self, user: &U, value: Windowed<U::Key, U::Value>) -> Option<U::Out> {
        Some(user.emit(value))
    }
    #[inline(always)]
    fn over(&mut self, _window: Window) -> Option<U::Out> {
        None
    }
    fn late(&self, user: &U, item: In) -> Option<U::Out> {
        user.late(item)
    }
    fn clear(&mut self) {}
}

/// One value is made of those of all keys, and given out at the end of the window.
pub struct Across<K, V, X: Aggregate<Windowed<K, V>>> {
    aggregate: X,
    /// Of the window that is ending, if any key has given its value.
    acc: Option<X::Acc>,
    of: PhantomData<fn(K, V)>,
}

impl<K, V, X: Aggregate<Windowed<K, V>>> Across<K, V, X> {
    pub(super) const fn new(aggregate: X) -> Self {
        Self { aggregate, acc: None, of: PhantomData }
    }
}

impl<In, U, X> Values<In, U> for Across<U::Key, U::Value, X>
where
    U: Logic<In>,
    X: Aggregate<Windowed<U::Key, U::Value>>,
{
    type Out = Windowed<(), X::Out>;
    const GATHERS: bool = true;

    #[inline(always)]
    fn value(&mut self, _user: &U, value: Windowed<U::Key, U::Value>) -> Option<Self::Out> {
        let Self { aggregate, acc, .. } = self;
        aggregate.add_owned(acc.get_or_insert_with(|| aggregate.init()), value);
        None
    }
    fn over(&mut self, window: Window) -> Option<Self::Out> {
        let value = self.aggregate.finish(self.acc.take()?);
        Some(Windowed { key: (), window, value, pane: Pane::ONLY })
    }
    fn late(&self, _user: &U, _item: In) -> Option<Self::Out> {
        None
    }
    fn clear(&mut self) {
        self.acc = None;
    }
}
