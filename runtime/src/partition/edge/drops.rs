//! Telling the user what an edge drops.

use std::sync::Arc;

use super::EdgeControl;
use crate::model::StageId;
use crate::stage::catch;

/// Why an edge dropped an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The edge was full and refused it: `DropNewest`.
    Newest,
    /// It was the oldest one waiting and made room: `DropOldest`.
    Oldest,
}

/// An item that an edge dropped.
#[derive(Debug)]
pub struct Dropped<'a, T> {
    /// The item.
    pub item: T,
    /// Why.
    pub reason: DropReason,
    /// The producing stage of the edge.
    pub from: &'a StageId,
    /// The consuming stage of the edge.
    pub to: &'a StageId,
}

type Callback<T> = dyn Fn(Dropped<'_, T>) + Send + Sync;

/// What to call with each item that an edge drops.
pub struct DropHook<T> {
    callback: Arc<Callback<T>>,
}

impl<T> Clone for DropHook<T> {
    fn clone(&self) -> Self {
        Self { callback: Arc::clone(&self.callback) }
    }
}

impl<T> DropHook<T> {
    /// Calls `callback`, on the producer's core. No lock is held meanwhile.
    pub fn new(callback: impl Fn(Dropped<'_, T>) + Send + Sync + 'static) -> Self {
        Self { callback: Arc::new(callback) }
    }

    /// A panic of the callback fails the pipeline, at the next step of either end.
    #[cold]
    pub(crate) fn call(&self, item: T, reason: DropReason, edge: &EdgeControl) {
        let dropped = Dropped { item, reason, from: edge.from(), to: edge.to() };
        if let Err(panic) = catch(|| (self.callback)(dropped)) {
            edge.fail(panic);
        }
    }
}
