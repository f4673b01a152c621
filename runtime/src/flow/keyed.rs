//! Keyed stages: folds and accumulators, sharded by hash over the cores of their stage.

use std::hash::Hash;
use std::marker::PhantomData;

use super::closures::{accumulator_of, hash_by, hash_of_accumulator, keyed_stage_of, stage_with_key};
use super::meet::KeyedInput;
use super::segment::{ByKey, Segment, Then};
use super::stream::Stream;
use crate::graph::ChannelOrdering;
use crate::keyed::{AccumulateOp, Accumulator, FoldByKeyOp};
use crate::model::StageKind;
use crate::policy::{AccumulationDescriptor, AccumulatorPolicy, Parallelism};
use crate::stage::{Operator, StageError, StageSite};

/// A stream with a key; see [`Stream::key_by`].
#[must_use = "a key alone does nothing: fold by it"]
pub struct Keyed<S, F> {
    stream: Stream<S>,
    key: F,
}

impl<S, F> Keyed<S, F> {
    pub(super) fn new(stream: Stream<S>, key: F) -> Self {
        Self { stream, key }
    }

    /// The stream and what its key is.
    pub fn into_parts(self) -> (Stream<S>, F) {
        (self.stream, self.key)
    }
}

impl<S, K, F> Keyed<S, F>
where
    S: Segment,
    K: Hash + Eq + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
{
    /// An operator of your own, made by `factory` on its own core; it is given the key function. Items with the same key
    /// reach the same instance, in the order in which they came.
    ///
    /// One instance for each core of the stage, unless asked otherwise. `policy` says what bounds the operator's state:
    /// it shows in the graph and is checked there, and is for the operator to keep.
    pub fn operator<O, G>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        factory: G,
    ) -> Stream<impl Segment<Item = O::Out> + use<S, K, F, O, G>>
    where
        O: Operator<S::Item>,
        O::Out: Send + 'static,
        G: FnOnce(F, &StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        let Self { stream, key } = self;
        let hash = hash_by(key.clone());
        stream.keyed_operator(name, hash, policy, stage_with_key(key, factory))
    }

    /// As one of several inputs of a keyed stage: see [`KeyedInput::operator`].
    pub fn into_input(self) -> KeyedInput<S::Item> {
        let Self { stream, key } = self;
        KeyedInput::new(stream, hash_by(key))
    }

    /// Folds the items of each key into one value, emitted with its key when the input has ended. The state grows with
    /// the number of distinct keys; for limits per key use [`Stream::accumulate`].
    ///
    /// One instance for each core of the stage, unless asked otherwise.
    pub fn fold<A, I, G>(
        self,
        name: &str,
        init: I,
        fold: G,
    ) -> Stream<impl Segment<Item = (K, A)> + use<S, K, F, A, I, G>>
    where
        A: Send + 'static,
        I: FnMut() -> A + Clone + Send + 'static,
        G: FnMut(&mut A, S::Item) + Clone + Send + 'static,
    {
        let factory =
            keyed_stage_of((init, fold), |key, (init, fold), site| FoldByKeyOp::new(key, init, fold, site));
        let stream = self.operator(name, AccumulatorPolicy::until_end(), factory);
        stream.draft.borrow_mut().can_move(stream.origin.node);
        stream
    }
}

impl<S: Segment> Stream<S> {
    /// Accumulates the items of each key until the accumulator says that they are complete or a limit of `policy` is
    /// reached.
    ///
    /// `accumulator` is cloned for each instance: one for each core of the stage, unless asked otherwise. A key lives in
    /// exactly one instance.
    pub fn accumulate<A>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        accumulator: A,
    ) -> Stream<impl Segment<Item = A::Out> + use<S, A>>
    where
        A: Accumulator<S::Item> + Clone + Send,
        A::Out: Send,
    {
        self.accumulate_by(name, policy, accumulator, AccumulateOp::new)
    }

    /// As [`accumulate`](Self::accumulate), with keys and states that may go to another thread: its shards can be
    /// [`rebalanced`](Self::rebalanced). What `accumulator` holds beside the states stays in its instance. A key that has moved counts as
    /// opened when it came, where the end of the input lets go of keys in that order.
    pub fn accumulate_movable<A>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        accumulator: A,
    ) -> Stream<impl Segment<Item = A::Out> + use<S, A>>
    where
        A: Accumulator<S::Item> + Clone + Send,
        A::Key: Send,
        A::State: Send,
        A::Out: Send,
    {
        let new = |accumulator, policy, site: &StageSite| {
            AccumulateOp::new(accumulator, policy, site).movable(site)
        };
        let stream = self.accumulate_by(name, policy, accumulator, new);
        stream.draft.borrow_mut().can_move(stream.origin.node);
        stream
    }

    fn accumulate_by<A>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        accumulator: A,
        new: fn(A, AccumulatorPolicy, &StageSite) -> AccumulateOp<S::Item, A>,
    ) -> Stream<impl Segment<Item = A::Out> + use<S, A>>
    where
        A: Accumulator<S::Item> + Clone + Send,
        A::Out: Send,
    {
        let hash = hash_of_accumulator(accumulator.clone());
        let can_spill = accumulator.spill_schema().is_some();
        let factory = accumulator_of(accumulator, policy.clone(), new);
        let stream = self.keyed_operator(name, hash, policy, factory);
        if can_spill {
            stream.draft.borrow_mut().can_spill(stream.origin.node);
        }
        stream
    }

    fn keyed_operator<O, H, F>(
        self,
        name: &str,
        hash: H,
        policy: AccumulatorPolicy,
        factory: F,
    ) -> Stream<Then<S, ByKey<H>, F, O>>
    where
        O: Operator<S::Item>,
        O::Out: Send + 'static,
        H: FnMut(&S::Item) -> u64 + Clone + Send + 'static,
        F: FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        let parallelism = Parallelism::CpuBound;
        let ordering = ChannelOrdering::PartitionOrdered { key: Some(format!("{name}.key")) };
        let (origin, edge) = self.attach::<O::Out>(name, StageKind::Accumulator, Some(parallelism), ordering);
        let node = origin.node;
        let routing = ByKey(hash);
        let segment = Then { up: self.segment, edge, node, routing, factory, op: PhantomData };
        let stream = Stream { draft: self.draft, origin, segment };
        stream.options().accumulation(AccumulationDescriptor {
            policy,
            engine_hint: parallelism,
            ..AccumulationDescriptor::default()
        });
        stream
    }
}
