//! Streams whose items are looked at: traces and ages.

use std::sync::Arc;

use super::assembly::{Assembly, BuildError};
use super::blueprint::ChainBlueprint;
use super::segment::Segment;
use super::stream::Stream;
use crate::model::{Timed, Timestamp, TraceContext, Traced};
use crate::stage::{Ages, ProbeFactory, Probed, Spans, StageSite};

/// A segment whose items are looked at as the stage that follows takes them.
pub struct ProbedSegment<P, M> {
    up: P,
    probe: M,
}

impl<P: Segment, M: ProbeFactory<P::Item>> Segment for ProbedSegment<P, M> {
    type Item = P::Item;
    type Head<B: ChainBlueprint<P::Item>> = P::Head<ProbedBlueprint<B, M>>;

    fn head<B: ChainBlueprint<P::Item>>(&self, head: B, sites: &Arc<[StageSite]>) -> Self::Head<B> {
        let (probe, own) = (self.probe.clone(), Arc::clone(sites));
        self.up.head(ProbedBlueprint { probe, sites: own, head }, sites)
    }

    fn assemble<B: ChainBlueprint<P::Item>>(self, assembly: &mut Assembly, down: B) {
        self.up.assemble(assembly, down);
    }
}

/// A probe in front of a chain.
#[derive(Clone)]
pub struct ProbedBlueprint<B, M> {
    probe: M,
    /// Those of the stage that the chain starts with.
    sites: Arc<[StageSite]>,
    head: B,
}

impl<T: 'static, B: ChainBlueprint<T>, M: ProbeFactory<T>> ChainBlueprint<T> for ProbedBlueprint<B, M> {
    type Chain = Probed<M::Probe, B::Chain>;

    fn build(self, instance: usize) -> Result<Self::Chain, BuildError> {
        let probe = self.probe.make(&self.sites[instance]);
        Ok(Probed::new(probe, self.head.build(instance)?))
    }
}

/// What is recorded of the items of a stream, in the stage that follows. Each holds for that stage only: say it again
/// behind it. A stream that says nothing pays nothing; an input of a merge cannot say it.
impl<S: Segment> Stream<S> {
    /// The stage that follows records a span for every item whose trace is sampled, under the item's own trace context; see
    /// [`traced_by`](Self::traced_by).
    pub fn traced(self) -> Stream<impl Segment<Item = S::Item> + use<S>>
    where
        S::Item: Traced,
    {
        self.traced_by(|item| item.trace_context())
    }

    /// The stage that follows records a span, called like the stage, for every item whose trace context is sampled, as a
    /// child of that: `trace` finds it.
    ///
    /// Costs one call of `trace` per item if the pipeline has a tracer, else a comparison.
    pub fn traced_by<F>(self, trace: F) -> Stream<impl Segment<Item = S::Item> + use<S, F>>
    where
        F: Fn(&S::Item) -> Option<&TraceContext> + Clone + Send + Sync + 'static,
    {
        self.probed(Spans::new(trace))
    }

    /// The stage that follows records how old items are when they come to it, by the times they carry and the wall clock; see
    /// [`aged_by`](Self::aged_by). In front of a sink, that is the latency from end to end.
    pub fn aged(self) -> Stream<impl Segment<Item = S::Item> + use<S>>
    where
        S::Item: Timed,
    {
        self.aged_by(|item| item.timestamp())
    }

    /// The stage that follows records how old items are when they come to it, by the wall clock: `time` finds their times. It
    /// is shown as the stage's `latency`.
    ///
    /// Costs one call of `time` and one sample per batch, of its first item.
    pub fn aged_by<F>(self, time: F) -> Stream<impl Segment<Item = S::Item> + use<S, F>>
    where
        F: Fn(&S::Item) -> Timestamp + Clone + Send + Sync + 'static,
    {
        self.probed(Ages::new(time))
    }

    fn probed<M: ProbeFactory<S::Item>>(self, probe: M) -> Stream<ProbedSegment<S, M>> {
        let Self { draft, origin, segment } = self;
        Stream { draft, origin, segment: ProbedSegment { up: segment, probe } }
    }
}
