//! Stages that can fail: their dead letters as a stream, and retries behind a key.

use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Deref;

use super::assembly::{Assembly, BuildError, Port};
use super::blueprint::{ChainBlueprint, ErasedBlueprint, Factory, LinkedBlueprint};
use super::closures::{hash_by, stage_of, with_user_errors};
use super::draft::{Origin, SharedDraft, StageOptions, Terminal};
use super::erase::{BoxedBlueprint, BoxedStream};
use super::keyed::Keyed;
use super::segment::{ByKey, PortSegment, Routing, Segment, Then};
use super::stream::Stream;
use crate::graph::ChannelOrdering;
use crate::keyed::TryMapByKey;
use crate::model::StageKind;
use crate::policy::{CircuitBreakerPolicy, Parallelism};
use crate::stage::{BoxedChain, DeadLetter, Operator, Posting, Posts, Reporting};

/// What takes the dead letters of a stage, without its type.
pub struct LettersBlueprint<T>(Box<dyn ErasedBlueprint<DeadLetter<T>>>);

impl<T> LettersBlueprint<T> {
    /// Fetches what was left at `port`.
    pub(super) fn fetch(assembly: &mut Assembly, port: Port) -> Option<Self>
    where
        T: Send + 'static,
    {
        assembly.fetch(port).map(Self)
    }
}

/// A segment whose last stage can fail on an item.
pub trait FallibleSegment: Segment {
    /// What that stage takes.
    type Input: Send + 'static;

    /// As [`Segment::assemble`], with the stage's dead letters going to `letters`.
    fn assemble_posting<B: ChainBlueprint<Self::Item>>(
        self,
        assembly: &mut Assembly,
        down: B,
        letters: LettersBlueprint<Self::Input>,
    );
}

impl<P, R, F, O> FallibleSegment for Then<P, R, F, O>
where
    P: Segment,
    R: Routing<P::Item>,
    O: Operator<P::Item> + Posts<P::Item>,
    O::Out: Send + 'static,
    F: Factory<O>,
{
    type Input = P::Item;

    fn assemble_posting<B: ChainBlueprint<O::Out>>(
        self,
        assembly: &mut Assembly,
        down: B,
        letters: LettersBlueprint<P::Item>,
    ) {
        let chain = LinkedBlueprint::new(self.factory, assembly.sites(self.node), down);
        self.routing.connect(assembly, self.edge, self.up, PostingBlueprint { chain, letters });
    }
}

/// A chain whose first stage leaves dead letters, and what takes them.
pub(super) struct PostingBlueprint<B, T> {
    pub(super) chain: B,
    pub(super) letters: LettersBlueprint<T>,
}

impl<B: Clone, T> Clone for PostingBlueprint<B, T> {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), letters: LettersBlueprint(self.letters.0.duplicate()) }
    }
}

impl<T, B> ChainBlueprint<T> for PostingBlueprint<B, T>
where
    T: Send + 'static,
    B: ChainBlueprint<T>,
    B::Chain: Posts<T> + Reporting<T>,
{
    type Chain = Posting<B::Chain, T>;

    fn build(self, instance: usize) -> Result<Self::Chain, BuildError> {
        let chain = self.chain.build(instance)?;
        Ok(Posting::new(chain, BoxedChain::new(self.letters.0.build_output(instance)?)))
    }
}

impl<S: FallibleSegment> Stream<S> {
    /// The stream, and the dead letters of the stage just added: what its error policy or its circuit breaker gives up, as
    /// items that may go to any stage or sink or be merged with others.
    ///
    /// Dead letters are an edge of the graph, labelled `dead-letters`, with backpressure as on any other: when they find
    /// no room, the stage takes no more input. What takes them has an error policy of its own; its own dead letters never
    /// come back here. The stream goes on as behind [`boxed`](Self::boxed): one virtual call per batch.
    ///
    /// ```
    /// use corelane::engine::Engine;
    /// use corelane::flow::PipelineBuilder;
    /// use corelane::policy::ErrorPolicy;
    ///
    /// let p = PipelineBuilder::new("numbers");
    /// let (numbers, dead) = p
    ///     .items("words", ["1", "two", "3"])
    ///     .try_map("parse", |word| word.parse::<u32>())
    ///     .on_error(ErrorPolicy::DeadLetter)
    ///     .dead_letters();
    /// let (numbers, dead) = (numbers.collect("out"), dead.collect("dead"));
    /// let result = Engine::default().run(p.build()?)?;
    /// result.account.verify().map_err(|laws| format!("{laws:?}"))?;
    ///
    /// assert_eq!(numbers.take(), [1, 3]);
    /// let letters = dead.take();
    /// assert_eq!((letters[0].item, letters[0].stage.as_str(), letters[0].attempts), (Some("two"), "parse", 1));
    /// assert_eq!(letters[0].error, "invalid digit found in string");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dead_letters(self) -> (BoxedStream<S::Item>, BoxedStream<DeadLetter<S::Input>>) {
        let Self { draft, origin, segment } = self;
        let [main, letters] = std::array::from_fn(|_| draft.borrow_mut().port());
        let terminal: Terminal = Box::new(move |assembly| {
            let down = assembly.fetch::<S::Item>(main);
            let (Some(down), Some(letters)) = (down, LettersBlueprint::fetch(assembly, letters)) else {
                return;
            };
            segment.assemble_posting(assembly, BoxedBlueprint(down), letters);
        });
        draft.borrow_mut().terminals.push(terminal);
        let dead = dead_letters_of(&draft, origin.node, letters);
        (Stream { draft, origin, segment: PortSegment { port: main, item: PhantomData } }, dead)
    }

    /// See [`StageOptions::circuit_breaker`].
    pub fn circuit_breaker(self, policy: CircuitBreakerPolicy) -> Self {
        self.options().circuit_breaker(policy);
        self
    }

    /// See [`StageOptions::circuit_breaker_named`].
    pub fn circuit_breaker_named(self, name: &str) -> Self {
        self.options().circuit_breaker_named(name);
        self
    }
}

/// The stream of the dead letters of stage `node`.
fn dead_letters_of<T>(draft: &SharedDraft, node: usize, port: Port) -> BoxedStream<DeadLetter<T>> {
    Stream {
        draft: SharedDraft::clone(draft),
        origin: Origin::dead_letters::<T>(node),
        segment: PortSegment { port, item: PhantomData },
    }
}

/// Options of a sink just added, and its dead letters.
pub struct SinkOptions<T> {
    pub(super) options: StageOptions,
    pub(super) letters: Port,
    pub(super) item: PhantomData<fn() -> T>,
}

impl<T> Deref for SinkOptions<T> {
    type Target = StageOptions;
    fn deref(&self) -> &StageOptions {
        &self.options
    }
}

impl<T> SinkOptions<T> {
    /// What the sink's error policy or circuit breaker gives up. As [`Stream::dead_letters`].
    pub fn dead_letters(self) -> BoxedStream<DeadLetter<T>> {
        dead_letters_of(&self.options.draft, self.options.node, self.letters)
    }
}

impl<S, K, F> Keyed<S, F>
where
    S: Segment,
    K: Hash + Eq + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
{
    /// One item in, one out or an error, in the order of each key. Under an error policy with retries an item that fails
    /// parks its key: items of other keys go on, and up to `max_parked` items of an instance wait for or behind a retry.
    ///
    /// One instance for each core of the stage, unless asked otherwise.
    pub fn try_map<U, E, G>(
        self,
        name: &str,
        f: G,
    ) -> Stream<impl FallibleSegment<Item = U, Input = S::Item> + use<S, K, F, U, E, G>>
    where
        U: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        G: FnMut(&S::Item) -> Result<U, E> + Clone + Send + 'static,
    {
        let (stream, key) = self.into_parts();
        let hash = hash_by(key.clone());
        let factory = stage_of((key, with_user_errors(f)), |(key, f), site| {
            TryMapByKey::<K, S::Item, _, _>::new(key, f, site)
        });
        let ordering = ChannelOrdering::PartitionOrdered { key: Some(format!("{name}.key")) };
        let (origin, edge) =
            stream.attach::<U>(name, StageKind::Transform, Some(Parallelism::CpuBound), ordering);
        stream.draft.borrow_mut().makes_calls(origin.node);
        let op = PhantomData::<fn() -> TryMapByKey<K, S::Item, F, _>>;
        let routing = ByKey(hash);
        let segment = Then { up: stream.segment, edge, node: origin.node, routing, factory, op };
        Stream { draft: stream.draft, origin, segment }
    }
}
