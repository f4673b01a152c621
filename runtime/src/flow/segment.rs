//! Segments: the part of a stream upstream of a point, as a type.

use std::sync::Arc;

use super::assembly::{Assembly, Port};
use super::blueprint::{ChainBlueprint, Factory, LinkedBlueprint, make};
use crate::partition::SourceTask;
use crate::stage::{Operator, Source, StageSite};

/// Everything upstream of a point of a stream. Put together by continuation: it is given what follows.
pub trait Segment: Send + 'static {
    /// What arrives at the point.
    type Item: Send + 'static;

    /// The chain of the stage that follows, with what the stream has asked to be put before it.
    type Head<B: ChainBlueprint<Self::Item>>: ChainBlueprint<Self::Item>;

    /// Puts before `head`, whose stage has its instances at `sites`, what the stream has asked for.
    fn head<B: ChainBlueprint<Self::Item>>(&self, head: B, sites: &Arc<[StageSite]>) -> Self::Head<B>;

    /// Adds its tasks to `assembly`, each ending in `down`.
    fn assemble<B: ChainBlueprint<Self::Item>>(self, assembly: &mut Assembly, down: B);
}

/// A source.
pub struct SourceSegment<F, S> {
    pub(super) node: usize,
    pub(super) factory: F,
    pub(super) source: std::marker::PhantomData<fn() -> S>,
}

impl<S, F> Segment for SourceSegment<F, S>
where
    S: Source,
    S::Item: Send,
    F: Factory<S>,
{
    type Item = S::Item;
    type Head<B: ChainBlueprint<S::Item>> = B;

    fn head<B: ChainBlueprint<S::Item>>(&self, head: B, _sites: &Arc<[StageSite]>) -> B {
        head
    }

    fn assemble<B: ChainBlueprint<S::Item>>(self, assembly: &mut Assembly, down: B) {
        let sites = assembly.sites(self.node);
        assembly.add_tasks(self.node, |instance| {
            let (site, factory, down) = (sites[instance].clone(), self.factory.clone(), down.clone());
            Box::new(move || {
                let source = make(factory, &site)?;
                Ok(Box::new(SourceTask::new(source, down.build(instance)?, site)) as _)
            })
        });
    }
}

/// An operator behind a segment, over an edge on which items find their instance by `R`.
pub struct Then<P, R, F, O> {
    pub(super) up: P,
    pub(super) edge: usize,
    pub(super) node: usize,
    pub(super) routing: R,
    pub(super) factory: F,
    pub(super) op: std::marker::PhantomData<fn() -> O>,
}

/// How items of type `T` find the instance they go to.
pub trait Routing<T>: Send + 'static {
    /// Connects what follows, `head`, with what is upstream of `edge`.
    fn connect<P, B>(self, assembly: &mut Assembly, edge: usize, up: P, head: B)
    where
        P: Segment<Item = T>,
        B: ChainBlueprint<T>;
}

/// To any: the plan says how.
pub struct Unkeyed;

impl<T: Send + 'static> Routing<T> for Unkeyed {
    fn connect<P, B>(self, assembly: &mut Assembly, edge: usize, up: P, head: B)
    where
        P: Segment<Item = T>,
        B: ChainBlueprint<T>,
    {
        assembly.connect(edge, up, head);
    }
}

/// To the one that has their key, by its hash.
pub struct ByKey<H>(pub(super) H);

impl<T, H> Routing<T> for ByKey<H>
where
    T: Send + 'static,
    H: FnMut(&T) -> u64 + Clone + Send + 'static,
{
    fn connect<P, B>(self, assembly: &mut Assembly, edge: usize, up: P, head: B)
    where
        P: Segment<Item = T>,
        B: ChainBlueprint<T>,
    {
        assembly.connect_keyed(edge, up, self.0, head);
    }
}

impl<P, R, F, O> Segment for Then<P, R, F, O>
where
    P: Segment,
    R: Routing<P::Item>,
    O: Operator<P::Item>,
    O::Out: Send + 'static,
    F: Factory<O>,
{
    type Item = O::Out;
    type Head<B: ChainBlueprint<O::Out>> = B;

    fn head<B: ChainBlueprint<O::Out>>(&self, head: B, _sites: &Arc<[StageSite]>) -> B {
        head
    }

    fn assemble<B: ChainBlueprint<O::Out>>(self, assembly: &mut Assembly, down: B) {
        let head = LinkedBlueprint::new(self.factory, assembly.sites(self.node), down);
        self.routing.connect(assembly, self.edge, self.up, head);
    }
}

/// What comes out of a branch or a merge.
pub struct PortSegment<T> {
    pub(super) port: Port,
    pub(super) item: std::marker::PhantomData<fn() -> T>,
}

impl<T: Send + 'static> Segment for PortSegment<T> {
    type Item = T;
    type Head<B: ChainBlueprint<T>> = B;

    fn head<B: ChainBlueprint<T>>(&self, head: B, _sites: &Arc<[StageSite]>) -> B {
        head
    }

    fn assemble<B: ChainBlueprint<T>>(self, assembly: &mut Assembly, down: B) {
        assembly.leave(self.port, down);
    }
}
