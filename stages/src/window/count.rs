//! Count windows, on the runtime's accumulators.

use std::cell::RefCell;

use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Timestamp};

use super::logic::Logic;
use super::{Pane, Timing, Window, Windowed};

/// The items of a key, by the number of them.
pub struct CountWindows<U> {
    /// The runtime asks for keys through a shared reference.
    user: RefCell<U>,
    items: u64,
}

impl<U> CountWindows<U> {
    pub(super) const fn new(user: U, items: u64) -> Self {
        Self { user: RefCell::new(user), items }
    }
}

impl<In: 'static, U: Logic<In>> Accumulator<In> for CountWindows<U> {
    type Key = U::Key;
    type State = U::Acc;
    type Out = U::Out;

    fn key(&self, item: &In) -> U::Key {
        self.user.borrow_mut().key(item)
    }

    fn timestamp(&self, item: &In, _time: CheckTime) -> Timestamp {
        Timestamp(self.user.borrow().time(item))
    }

    fn init(&mut self, _key: &U::Key, _first: &In) -> U::Acc {
        self.user.get_mut().init()
    }

    fn update(&mut self, of: &mut StateOf<In, Self>, item: In) {
        self.user.get_mut().add_owned(&mut of.state, item);
    }

    fn check(&mut self, of: &mut StateOf<In, Self>, _time: CheckTime) -> Completeness<U::Out> {
        if of.size_items < self.items {
            return Completeness::Incomplete;
        }
        Completeness::Complete(self.result(of, Timing::OnTime))
    }

    fn flush_forced(&mut self, of: &mut StateOf<In, Self>, _reason: FlushReason) -> Option<U::Out> {
        Some(self.result(of, Timing::Early))
    }
}

impl<U> CountWindows<U> {
    fn result<In: 'static>(&mut self, of: &mut StateOf<In, Self>, timing: Timing) -> U::Out
    where
        U: Logic<In>,
    {
        let user = self.user.get_mut();
        let window = Window { start: of.first_ts, end: Timestamp(of.last_ts.as_nanos().saturating_add(1)) };
        let acc = std::mem::replace(&mut of.state, user.init());
        let value = user.finish(acc);
        user.emit(Windowed {
            key: of.key.clone(),
            window,
            value,
            pane: Pane { timing, index: 0, last: true },
        })
    }
}
