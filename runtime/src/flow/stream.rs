//! The typed side of the builder: what can be said of a stream.

use std::any::TypeId;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_core::Stream as FuturesStream;

use super::assembly::{Collected, Port};
use super::blueprint::{ChainBlueprint, EndBlueprint, Factory, SinkBlueprint};
use super::closures::{
    handing_over, in_any_step, pushing, routing, splitting, stage_from, stage_of, with_user_errors,
};
use super::draft::{Origin, SharedDraft, StageOptions, Terminal};
use super::failures::{FallibleSegment, LettersBlueprint, PostingBlueprint, SinkOptions};
use super::keyed::Keyed;
use super::merge::{BranchBlueprint, MergeInput};
use super::segment::{PortSegment, Segment, Then, Unkeyed};
use crate::graph::ChannelOrdering;
use crate::model::StageKind;
use crate::partition::{Branching, Broadcast};
use crate::policy::{BackpressureStrategy, BufferPolicy, ErrorPolicy, Parallelism, RebalancePolicy};
use crate::stage::{
    Chain, Filter, FilterMap, FlatMap, FoldSink, ForEach, Inspect, Map, Operator, Posts, Reporting, Sink,
    StageError, StageSite, StepCx, StreamFn, StreamIn, Transform, TransformOp, TryMap,
};

/// A stream of items of one type, and everything upstream of it.
///
/// Each method adds a stage with the name given first; names are unique in a pipeline. Closures are cloned for each
/// instance of the stage and run on that instance's core only. A stream that ends in no sink is an error at `build`.
#[must_use = "a stream that ends in no sink is an error at build"]
pub struct Stream<S> {
    pub(super) draft: SharedDraft,
    pub(super) origin: Origin,
    pub(super) segment: S,
}

impl<S: Segment> Stream<S> {
    /// One item in, one item out.
    pub fn map<U, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = U> + use<S, U, F>>
    where
        U: Send + 'static,
        F: FnMut(S::Item) -> U + Clone + Send + 'static,
    {
        self.operator(name, stage_of(f, Map::new))
    }

    /// Keeps the items for which `f` is true; the others count as filtered.
    pub fn filter<F>(self, name: &str, f: F) -> Stream<impl Segment<Item = S::Item> + use<S, F>>
    where
        F: FnMut(&S::Item) -> bool + Clone + Send + 'static,
    {
        self.operator(name, stage_of(f, Filter::new))
    }

    /// Maps and filters in one: `None` counts as filtered.
    pub fn filter_map<U, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = U> + use<S, U, F>>
    where
        U: Send + 'static,
        F: FnMut(S::Item) -> Option<U> + Clone + Send + 'static,
    {
        self.operator(name, stage_of(in_any_step(f), FilterMap::new))
    }

    /// As [`filter_map`](Self::filter_map), with a closure that `factory` makes for each instance on its own core, and that is
    /// given the step: so it may keep what cannot be sent, such as the core's [memory pool](StageSite::pool), and use the step's
    /// [arena](StepCx::arena).
    pub fn filter_map_with<U, F, M>(
        self,
        name: &str,
        factory: M,
    ) -> Stream<impl Segment<Item = U> + use<S, U, F, M>>
    where
        U: Send + 'static,
        F: FnMut(S::Item, &StepCx) -> Option<U> + 'static,
        M: FnOnce(&StageSite) -> Result<F, StageError> + Clone + Send + 'static,
    {
        self.operator(name, stage_from(factory, FilterMap::new))
    }

    /// One item in, any number out.
    pub fn flat_map<U, O, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = U> + use<S, U, O, F>>
    where
        U: Send + 'static,
        O: IntoIterator<Item = U>,
        F: FnMut(S::Item) -> O + Clone + Send + 'static,
    {
        self.operator(name, stage_of(f, FlatMap::new))
    }

    /// Looks at every item and passes it on.
    pub fn inspect<F>(self, name: &str, f: F) -> Stream<impl Segment<Item = S::Item> + use<S, F>>
    where
        F: FnMut(&S::Item) + Clone + Send + 'static,
    {
        self.operator(name, stage_of(f, Inspect::new))
    }

    /// One item in, one out or an error. `f` borrows the item, so that it can be tried again: this is the stage for an
    /// error policy with retries.
    pub fn try_map<U, E, F>(
        self,
        name: &str,
        f: F,
    ) -> Stream<impl FallibleSegment<Item = U, Input = S::Item> + use<S, U, E, F>>
    where
        U: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        F: FnMut(&S::Item) -> Result<U, E> + Clone + Send + 'static,
    {
        self.fallible(name, stage_of(with_user_errors(f), TryMap::new))
    }

    /// A stage with its own state and timers, made by `factory` on its own core.
    pub fn transform<X, F>(
        self,
        name: &str,
        factory: F,
    ) -> Stream<impl FallibleSegment<Item = X::Out, Input = S::Item> + use<S, X, F>>
    where
        X: Transform<In = S::Item>,
        X::Out: Send,
        F: FnOnce(&StageSite) -> Result<X, StageError> + Clone + Send + 'static,
    {
        let stream = self.fallible(name, stage_from(factory, TransformOp::new));
        stream.holding(X::HOLDS_ITEMS)
    }

    /// Any function from a stream to a stream: the contract's `Process`, literally. The stream is polled on the stage's
    /// core and need not be `Send`. It may hold items inside, so an ordered edge behind several instances of it is refused.
    pub fn stream_fn<R, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = R::Item> + use<S, R, F>>
    where
        R: FuturesStream + 'static,
        R::Item: Send,
        F: FnOnce(StreamIn<S::Item>) -> R + Clone + Send + 'static,
    {
        // Whether it holds items inside, nobody can see.
        self.operator(name, stage_of(f, |f, site| StreamFn::new(f, site))).holding(true)
    }

    /// Notes in the graph whether the stage may hold items back.
    fn holding(self, holds: bool) -> Self {
        self.draft.borrow_mut().graph.nodes[self.origin.node].holds_items = holds;
        self
    }

    /// An operator of your own, made by `factory` on its own core.
    pub fn operator<O, F>(self, name: &str, factory: F) -> Stream<impl Segment<Item = O::Out> + use<S, O, F>>
    where
        O: Operator<S::Item>,
        O::Out: Send + 'static,
        F: FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        self.then(name, factory)
    }

    /// As [`operator`](Self::operator), for one that can fail on an item.
    fn fallible<O, F>(self, name: &str, factory: F) -> Stream<Then<S, Unkeyed, F, O>>
    where
        O: Operator<S::Item> + Posts<S::Item>,
        O::Out: Send + 'static,
        F: FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        let stream = self.then(name, factory);
        stream.draft.borrow_mut().makes_calls(stream.origin.node);
        stream
    }

    fn then<O, F>(self, name: &str, factory: F) -> Stream<Then<S, Unkeyed, F, O>>
    where
        O: Operator<S::Item>,
        O::Out: Send + 'static,
        F: FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        let (origin, edge) =
            self.attach::<O::Out>(name, StageKind::Transform, None, ChannelOrdering::Unordered);
        let node = origin.node;
        let op = PhantomData::<fn() -> O>;
        let segment = Then { up: self.segment, edge, node, routing: Unkeyed, factory, op };
        Stream { draft: self.draft, origin, segment }
    }

    /// Adds a node and the edge to it.
    pub(super) fn attach<Out: 'static>(
        &self,
        name: &str,
        kind: StageKind,
        parallelism: Option<Parallelism>,
        ordering: ChannelOrdering,
    ) -> (Origin, usize) {
        let mut draft = self.draft.borrow_mut();
        let node = draft.node::<S::Item, Out>(name, kind, parallelism);
        let edge = draft.edge(&self.origin, node, ordering);
        // What items cost is known until they become something else.
        let same = TypeId::of::<S::Item>() == TypeId::of::<Out>();
        let cost = self.origin.cost.clone().filter(|_| same);
        (Origin { cost, ..Origin::of(node) }, edge)
    }

    /// Items with the same key go to the same instance of the stage that follows, in the order in which they came.
    ///
    /// The key must depend on the item alone; one that wavers loses order and nothing else. Where the stage has several
    /// instances, `f` runs on the cores that send to them. A panic of it there ends the pipeline under every error policy, as it
    /// does in a fold: an item without a key belongs to no instance.
    pub fn key_by<K, F>(self, f: F) -> Keyed<S, F>
    where
        K: Hash + Eq + 'static,
        F: FnMut(&S::Item) -> K + Clone + Send + 'static,
    {
        Keyed::new(self, f)
    }

    // Options of the stage just added.

    /// See [`StageOptions::on_error`].
    pub fn on_error(self, policy: ErrorPolicy) -> Self {
        self.options().on_error(policy);
        self
    }

    /// See [`StageOptions::on_error_named`].
    pub fn on_error_named(self, name: &str) -> Self {
        self.options().on_error_named(name);
        self
    }

    /// See [`StageOptions::parallel`].
    pub fn parallel(self, parallelism: Parallelism) -> Self {
        self.options().parallel(parallelism);
        self
    }

    /// See [`StageOptions::input_buffer`].
    pub fn input_buffer(self, policy: BufferPolicy) -> Self {
        self.options().input_buffer(policy);
        self
    }

    /// See [`StageOptions::input_buffer_named`].
    pub fn input_buffer_named(self, name: &str) -> Self {
        self.options().input_buffer_named(name);
        self
    }

    /// See [`StageOptions::input_backpressure`].
    pub fn input_backpressure(self, strategy: BackpressureStrategy) -> Self {
        self.options().input_backpressure(strategy);
        self
    }

    /// See [`StageOptions::input_backpressure_named`].
    pub fn input_backpressure_named(self, name: &str) -> Self {
        self.options().input_backpressure_named(name);
        self
    }

    /// See [`StageOptions::input_cut`].
    pub fn input_cut(self) -> Self {
        self.options().input_cut();
        self
    }

    /// See [`StageOptions::input_ordered`].
    pub fn input_ordered(self) -> Self {
        self.options().input_ordered();
        self
    }

    /// See [`StageOptions::assume_progress`].
    pub fn assume_progress(self) -> Self {
        self.options().assume_progress();
        self
    }

    /// See [`StageOptions::rebalanced`].
    pub fn rebalanced(self, policy: RebalancePolicy) -> Self {
        self.options().rebalanced(policy);
        self
    }

    pub(super) fn options(&self) -> StageOptions {
        StageOptions { draft: SharedDraft::clone(&self.draft), node: self.origin.node }
    }
}

/// Branches.
impl<S: Segment> Stream<S> {
    /// Sends each item to the output that `f` names by its index into `outputs`. An index out of range goes to the last
    /// output, which is the default.
    pub fn route<const N: usize, F>(
        self,
        name: &str,
        outputs: [&str; N],
        f: F,
    ) -> [Stream<impl Segment<Item = S::Item> + use<S, N, F>>; N]
    where
        F: FnMut(&S::Item) -> usize + Clone + Send + 'static,
    {
        self.branch(name, outputs, routing(f))
    }

    /// Splits by a predicate: the first output has the items for which `f` is true.
    pub fn split<F>(
        self,
        name: &str,
        outputs: [&str; 2],
        f: F,
    ) -> [Stream<impl Segment<Item = S::Item> + use<S, F>>; 2]
    where
        F: FnMut(&S::Item) -> bool + Clone + Send + 'static,
    {
        self.branch(name, outputs, routing(splitting(f)))
    }

    /// A copy of each item to every output.
    pub fn broadcast<const N: usize>(
        self,
        name: &str,
        outputs: [&str; N],
    ) -> [Stream<impl Segment<Item = S::Item> + use<S, N>>; N]
    where
        S::Item: Clone,
    {
        self.branch(name, outputs, || Broadcast(<S::Item as Clone>::clone))
    }

    fn branch<const N: usize, H: Branching<S::Item>>(
        self,
        name: &str,
        outputs: [&str; N],
        how: impl FnOnce() -> H + Clone + Send + 'static,
    ) -> [Stream<PortSegment<S::Item>>; N] {
        let (origin, edge) =
            self.attach::<S::Item>(name, StageKind::Branch, None, ChannelOrdering::Unordered);
        let Origin { node, cost, .. } = origin;
        self.draft.borrow_mut().graph.nodes[node].has_default = true;
        let ports: [Port; N] = std::array::from_fn(|_| self.draft.borrow_mut().port());
        let segment = self.segment;
        let terminal: Terminal = Box::new(move |assembly| {
            let erased: Option<Vec<_>> = ports.iter().map(|&port| assembly.fetch::<S::Item>(port)).collect();
            let Some(outputs) = erased else { return };
            let head = BranchBlueprint::new(how, outputs, assembly.sites(node));
            assembly.connect(edge, segment, head);
        });
        self.draft.borrow_mut().terminals.push(terminal);
        std::array::from_fn(|i| Stream {
            draft: SharedDraft::clone(&self.draft),
            origin: Origin { label: Some(outputs[i].to_owned()), cost: cost.clone(), ..Origin::of(node) },
            segment: PortSegment { port: ports[i], item: PhantomData },
        })
    }

    /// As an input of a merge.
    pub fn into_input(self) -> MergeInput<S::Item> {
        let segment = self.segment;
        MergeInput {
            origin: self.origin,
            assemble: Box::new(move |assembly, outlet| segment.assemble(assembly, outlet)),
        }
    }
}

/// Sinks.
impl<S: Segment> Stream<S> {
    /// Ends the stream in a sink made by `factory` on its own core. One instance unless asked otherwise.
    pub fn sink<K, F>(self, name: &str, factory: F) -> SinkOptions<S::Item>
    where
        K: Sink<Item = S::Item>,
        F: FnOnce(&StageSite) -> Result<K, StageError> + Clone + Send + 'static,
    {
        self.fallible_end(name, Some(Parallelism::Sequential), move |sites| {
            SinkBlueprint::<F, K>::new(factory, sites)
        })
    }

    /// Calls `f` with each item, on the cores of the stage before it.
    pub fn for_each<F>(self, name: &str, f: F) -> SinkOptions<S::Item>
    where
        F: FnMut(S::Item) + Clone + Send + 'static,
    {
        let factory = stage_of(f, |f, _| ForEach::new(f));
        self.fallible_end(name, None, move |sites| {
            SinkBlueprint::<_, ForEach<S::Item, F>>::new(factory, sites)
        })
    }

    /// Collects all items; for tests and small results. One instance unless asked otherwise.
    pub fn collect(self, name: &str) -> Collected<S::Item> {
        let collected = Collected::new();
        let with = (pushing(), handing_over(collected.shared(), Vec::<S::Item>::extend::<Vec<_>>));
        let factory = stage_of(with, |(push, hand_over), site| {
            FoldSink::new(Vec::new(), push, hand_over, site.clone())
        });
        self.end_in(name, Some(Parallelism::Sequential), factory);
        collected
    }

    /// Folds all items of each instance into one value, handed out when the stream ends or the pipeline stops; a panic
    /// in `f` fails the pipeline. As many instances as the stage before it.
    pub fn fold<A, F>(self, name: &str, init: A, f: F) -> Collected<A>
    where
        A: Clone + Send + 'static,
        F: FnMut(A, S::Item) -> A + Clone + Send + 'static,
    {
        let collected = Collected::new();
        let with = (init, f, handing_over(collected.shared(), Vec::push));
        let factory =
            stage_of(with, |(init, f, hand_over), site| FoldSink::new(init, f, hand_over, site.clone()));
        self.end_in(name, None, factory);
        collected
    }

    /// Ends the stream in a chain made by `factory` on its own core.
    pub(crate) fn end_in<C, M>(self, name: &str, parallelism: Option<Parallelism>, factory: M) -> StageOptions
    where
        C: Chain<S::Item>,
        M: Factory<C>,
    {
        self.end(name, parallelism, move |sites| EndBlueprint::<M, C>::new(factory, sites))
    }

    /// As [`end`](Self::end), for a sink that can fail on an item.
    fn fallible_end<B>(
        self,
        name: &str,
        parallelism: Option<Parallelism>,
        blueprint: impl FnOnce(Arc<[StageSite]>) -> B + Send + 'static,
    ) -> SinkOptions<S::Item>
    where
        B: ChainBlueprint<S::Item>,
        B::Chain: Posts<S::Item> + Reporting<S::Item>,
    {
        let (origin, edge) =
            self.attach::<()>(name, StageKind::Sink, parallelism, ChannelOrdering::Unordered);
        let (node, segment) = (origin.node, self.segment);
        let letters = self.draft.borrow_mut().port();
        let terminal: Terminal = Box::new(move |assembly| {
            let chain = blueprint(assembly.sites(node));
            match LettersBlueprint::fetch(assembly, letters) {
                Some(letters) => assembly.connect(edge, segment, PostingBlueprint { chain, letters }),
                None => assembly.connect(edge, segment, chain),
            }
        });
        let mut draft = self.draft.borrow_mut();
        draft.makes_calls(node);
        draft.terminals.push(terminal);
        drop(draft);
        SinkOptions { options: StageOptions { draft: self.draft, node }, letters, item: PhantomData }
    }

    fn end<B>(
        self,
        name: &str,
        parallelism: Option<Parallelism>,
        blueprint: impl FnOnce(Arc<[StageSite]>) -> B + Send + 'static,
    ) -> StageOptions
    where
        B: ChainBlueprint<S::Item>,
    {
        let (origin, edge) =
            self.attach::<()>(name, StageKind::Sink, parallelism, ChannelOrdering::Unordered);
        let (node, segment) = (origin.node, self.segment);
        let terminal: Terminal = Box::new(move |assembly| {
            let head = blueprint(assembly.sites(node));
            assembly.connect(edge, segment, head);
        });
        self.draft.borrow_mut().terminals.push(terminal);
        StageOptions { draft: self.draft, node }
    }
}
