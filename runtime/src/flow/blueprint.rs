//! Recipes for chains: what is sent to a core so that the chain is built there.

use std::sync::{Arc, Mutex, PoisonError};

use super::assembly::BuildError;
use crate::partition::{Exchange, Inlet, InletTask, Outlet, Senders, Spread, Task};
use crate::shard::ShardTable;
use crate::stage::{Chain, DynChain, Linked, Operator, Pass, Sink, SinkEnd, StageError, StageSite, catch};

/// Builds the rest of a chain for one instance, on that instance's core.
pub trait ChainBlueprint<T>: Clone + Send + 'static {
    /// What is built.
    type Chain: Chain<T>;

    /// Builds it for instance number `instance`.
    ///
    /// # Errors
    /// The stage whose factory failed, and why.
    fn build(self, instance: usize) -> Result<Self::Chain, BuildError>;
}

/// Makes one instance's behaviour on its own core.
///
/// Implemented for closures from a [`StageSite`] to the behaviour or an error.
pub trait Factory<B>: Clone + Send + 'static {
    /// Makes it.
    ///
    /// # Errors
    /// What the user's factory said; the pipeline does not start.
    fn make(self, site: &StageSite) -> Result<B, StageError>;
}

impl<B, F> Factory<B> for F
where
    F: FnOnce(&StageSite) -> Result<B, StageError> + Clone + Send + 'static,
{
    fn make(self, site: &StageSite) -> Result<B, StageError> {
        self(site)
    }
}

/// Calls `factory` for the instance at `site`; its error or panic goes by the stage's name.
pub(super) fn make<B>(factory: impl Factory<B>, site: &StageSite) -> Result<B, BuildError> {
    match catch(|| factory.make(site)) {
        Ok(Ok(behaviour)) => Ok(behaviour),
        Ok(Err(error)) | Err(error) => Err(site.failed(error)),
    }
}

/// An operator in front of a chain.
pub(super) struct LinkedBlueprint<F, O, D> {
    factory: F,
    sites: Arc<[StageSite]>,
    down: D,
    op: std::marker::PhantomData<fn() -> O>,
}

impl<F, O, D> LinkedBlueprint<F, O, D> {
    pub(super) fn new(factory: F, sites: Arc<[StageSite]>, down: D) -> Self {
        Self { factory, sites, down, op: std::marker::PhantomData }
    }
}

impl<F: Clone, O, D: Clone> Clone for LinkedBlueprint<F, O, D> {
    fn clone(&self) -> Self {
        Self::new(self.factory.clone(), Arc::clone(&self.sites), self.down.clone())
    }
}

impl<T, O, F, D> ChainBlueprint<T> for LinkedBlueprint<F, O, D>
where
    T: 'static,
    O: Operator<T>,
    F: Factory<O>,
    D: ChainBlueprint<O::Out>,
{
    type Chain = Linked<O, D::Chain>;

    fn build(self, instance: usize) -> Result<Self::Chain, BuildError> {
        let site = &self.sites[instance];
        let op = make(self.factory, site)?;
        Ok(Linked::new(op, self.down.build(instance)?, site.clone()))
    }
}

/// A sink at the end of a chain.
pub(super) struct SinkBlueprint<F, S> {
    factory: F,
    sites: Arc<[StageSite]>,
    sink: std::marker::PhantomData<fn() -> S>,
}

impl<F, S> SinkBlueprint<F, S> {
    pub(super) fn new(factory: F, sites: Arc<[StageSite]>) -> Self {
        Self { factory, sites, sink: std::marker::PhantomData }
    }
}

impl<F: Clone, S> Clone for SinkBlueprint<F, S> {
    fn clone(&self) -> Self {
        Self::new(self.factory.clone(), Arc::clone(&self.sites))
    }
}

impl<S: Sink, F: Factory<S>> ChainBlueprint<S::Item> for SinkBlueprint<F, S> {
    type Chain = SinkEnd<S>;

    fn build(self, instance: usize) -> Result<Self::Chain, BuildError> {
        let site = &self.sites[instance];
        let sink = make(self.factory, site)?;
        Ok(SinkEnd::new(sink, site.clone()))
    }
}

/// Any chain at the end, from a factory.
pub(super) struct EndBlueprint<F, C> {
    factory: F,
    sites: Arc<[StageSite]>,
    chain: std::marker::PhantomData<fn() -> C>,
}

impl<F, C> EndBlueprint<F, C> {
    pub(super) fn new(factory: F, sites: Arc<[StageSite]>) -> Self {
        Self { factory, sites, chain: std::marker::PhantomData }
    }
}

impl<F: Clone, C> Clone for EndBlueprint<F, C> {
    fn clone(&self) -> Self {
        Self::new(self.factory.clone(), Arc::clone(&self.sites))
    }
}

impl<T: 'static, C: Chain<T>, F: Factory<C>> ChainBlueprint<T> for EndBlueprint<F, C> {
    type Chain = C;

    fn build(self, instance: usize) -> Result<C, BuildError> {
        let site = &self.sites[instance];
        make(self.factory, site)
    }
}

/// The producing ends of an edge's rings, by upstream instance; each is taken once, on its own core.
pub(super) type Ends<T> = Arc<Mutex<Vec<Option<Senders<T>>>>>;

fn take<T>(ends: &Ends<T>, instance: usize) -> Option<Senders<T>> {
    ends.lock().unwrap_or_else(PoisonError::into_inner).get_mut(instance)?.take()
}

fn taken_twice(site: &StageSite) -> BuildError {
    (site.context.stage_id.clone(), StageError::msg("internal error: an edge's rings were built twice"))
}

/// An edge without a key at the end of a chain.
pub struct OutletBlueprint<T> {
    pub(super) ends: Ends<T>,
    pub(super) spread: Spread,
    /// The consuming stage, for messages.
    pub(super) sites: Arc<[StageSite]>,
}

impl<T> Clone for OutletBlueprint<T> {
    fn clone(&self) -> Self {
        Self { ends: Arc::clone(&self.ends), spread: self.spread, sites: Arc::clone(&self.sites) }
    }
}

/// Shards per instance of a keyed stage: enough to move load in small parts.
const SHARDS_PER_INSTANCE: usize = 64;

impl<T> OutletBlueprint<T> {
    /// The same edge, keyed by `hash`.
    pub(super) fn by_key<H>(self, hash: H) -> ExchangeBlueprint<T, H> {
        let Self { ends, sites, .. } = self;
        let instances = sites.len();
        let shards = ShardTable::even(instances * SHARDS_PER_INSTANCE, instances);
        ExchangeBlueprint { ends, shards, hash, sites }
    }
}

impl<T: Send + 'static> ChainBlueprint<T> for OutletBlueprint<T> {
    type Chain = Outlet<T>;

    fn build(self, instance: usize) -> Result<Outlet<T>, BuildError> {
        let senders = take(&self.ends, instance).ok_or_else(|| taken_twice(&self.sites[0]))?;
        Ok(Outlet::new(senders, self.spread))
    }
}

/// A keyed edge at the end of a chain.
pub(super) struct ExchangeBlueprint<T, H> {
    pub(super) ends: Ends<T>,
    pub(super) shards: ShardTable,
    pub(super) hash: H,
    pub(super) sites: Arc<[StageSite]>,
}

impl<T, H: Clone> Clone for ExchangeBlueprint<T, H> {
    fn clone(&self) -> Self {
        Self {
            ends: Arc::clone(&self.ends),
            shards: self.shards.clone(),
            hash: self.hash.clone(),
            sites: Arc::clone(&self.sites),
        }
    }
}

impl<T, H> ChainBlueprint<T> for ExchangeBlueprint<T, H>
where
    T: Send + 'static,
    H: FnMut(&T) -> u64 + Clone + Send + 'static,
{
    type Chain = Exchange<T, H>;

    fn build(self, instance: usize) -> Result<Exchange<T, H>, BuildError> {
        let senders = take(&self.ends, instance).ok_or_else(|| taken_twice(&self.sites[0]))?;
        Ok(Exchange::new(senders, self.shards, self.hash, &self.sites[0]))
    }
}

/// What follows a branch or a merge, without its type: one virtual call per batch.
pub(super) trait ErasedBlueprint<T>: Send {
    fn duplicate(&self) -> Box<dyn ErasedBlueprint<T>>;

    /// As the output of a branch.
    fn build_output(self: Box<Self>, instance: usize) -> Result<Box<dyn DynChain<T>>, BuildError>;

    /// Behind a merge at `site` that reads `inlet`.
    fn build_merge(self: Box<Self>, site: &StageSite, inlet: Inlet<T>) -> Result<Box<dyn Task>, BuildError>;
}

impl<T: Send + 'static, B: ChainBlueprint<T>> ErasedBlueprint<T> for B {
    fn duplicate(&self) -> Box<dyn ErasedBlueprint<T>> {
        Box::new(self.clone())
    }

    fn build_output(self: Box<Self>, instance: usize) -> Result<Box<dyn DynChain<T>>, BuildError> {
        Ok(Box::new((*self).build(instance)?))
    }

    fn build_merge(self: Box<Self>, site: &StageSite, inlet: Inlet<T>) -> Result<Box<dyn Task>, BuildError> {
        let down = (*self).build(site.context.instance)?;
        let chain = Linked::new(Pass, down, site.clone());
        Ok(Box::new(InletTask::new(inlet, chain, site)))
    }
}
