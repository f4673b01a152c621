//! What a stream says about the edge that follows it.

use std::sync::Arc;

use super::segment::Segment;
use super::stream::Stream;
use crate::model::{Cost, Costed};
use crate::partition::{CostOf, Demand, DropHook, Dropped};

/// The edge that follows.
impl<S: Segment> Stream<S> {
    /// What each item costs, for edges that are bounded by bytes ([`BufferPolicy::max_bytes`]). Holds for this point of the
    /// stream and for what follows, until items become another type. Without it every item costs the size of its type.
    ///
    /// Asked once per item, on the producer's core, and only by edges bounded by bytes; there an item takes the long way into
    /// the ring. A panic in `f` fails the pipeline.
    ///
    /// [`BufferPolicy::max_bytes`]: crate::policy::BufferPolicy::max_bytes
    pub fn cost_by<F>(mut self, f: F) -> Self
    where
        F: Fn(&S::Item) -> Cost + Send + Sync + 'static,
    {
        let cost: CostOf<S::Item> = Arc::new(f);
        self.origin.cost = Some(Arc::new(cost));
        self
    }

    /// As [`cost_by`](Self::cost_by), for items that know their cost, as an [`Envelope`](crate::model::Envelope) does.
    pub fn costed(self) -> Self
    where
        S::Item: Costed,
    {
        self.cost_by(S::Item::cost)
    }

    /// Calls `f` with each item that the edge to the *next* stage drops because it is full, with the reason, on the producer's
    /// core. `f` must not block; a panic in it fails the pipeline. Items count as dropped either way.
    ///
    /// An edge that blocks drops nothing, and one that is fused is never full.
    pub fn on_drop<F>(mut self, f: F) -> Self
    where
        F: Fn(Dropped<'_, S::Item>) + Send + Sync + 'static,
    {
        self.origin.on_drop = Some(Arc::new(DropHook::new(f)));
        self
    }

    /// See [`StageOptions::input_demand`](super::StageOptions::input_demand).
    pub fn input_demand(self, demand: &Demand, window_size: u32) -> Self {
        self.options().input_demand(demand, window_size);
        self
    }
}
