//! Where streams with the same key meet: several inputs, each spread by key, of one stage.

use std::marker::PhantomData;

use super::blueprint::make;
use super::draft::{Origin, SharedDraft, Terminal};
use super::merge::AssembleInto;
use super::segment::{PortSegment, Segment};
use super::stream::Stream;
use crate::graph::ChannelOrdering;
use crate::model::StageKind;
use crate::partition::{Inlet, InletTask, MergePolicy};
use crate::policy::{self, Parallelism};
use crate::stage::{BoxedChain, Linked, Operator, StageError, StageSite};

/// A stream with a key, as an input of a stage with several; see [`Keyed::into_input`](super::Keyed::into_input).
#[must_use = "a stream that ends in no sink is an error at build"]
pub struct KeyedInput<T> {
    draft: SharedDraft,
    origin: Origin,
    assemble: AssembleInto<T>,
}

impl<T: Send + 'static> KeyedInput<T> {
    pub(super) fn new<S, H>(stream: Stream<S>, hash: H) -> Self
    where
        S: Segment<Item = T>,
        H: FnMut(&T) -> u64 + Clone + Send + 'static,
    {
        let Stream { draft, origin, segment } = stream;
        let assemble: AssembleInto<T> = Box::new(move |assembly, outlet| {
            if outlet.sites.len() == 1 {
                segment.assemble(assembly, outlet);
            } else {
                segment.assemble(assembly, outlet.by_key(hash));
            }
        });
        Self { draft, origin, assemble }
    }

    /// An operator that takes the items of this input and of `others`, which are streams of the same pipeline: items with
    /// equal keys reach the same instance, whichever input they come from, and those of one input in the order in which
    /// they came. Watermarks of all inputs are combined.
    ///
    /// One instance for each core of the stage, unless asked otherwise. Made by `factory` on its own core.
    pub fn operator<O, G>(
        self,
        name: &str,
        others: impl IntoIterator<Item = Self>,
        factory: G,
    ) -> Stream<PortSegment<O::Out>>
    where
        O: Operator<T>,
        O::Out: Send + 'static,
        G: FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
    {
        let shared = SharedDraft::clone(&self.draft);
        let mut draft = shared.borrow_mut();
        let node = draft.node::<T, O::Out>(name, StageKind::Merge, Some(Parallelism::CpuBound));
        draft.graph.nodes[node].merge = Some(policy::MergePolicy::Fair);
        let port = draft.port();
        let mut parts = Vec::new();
        for input in std::iter::once(self).chain(others) {
            let ordering = ChannelOrdering::PartitionOrdered { key: Some(format!("{name}.key")) };
            parts.push((draft.edge(&input.origin, node, ordering), input.assemble));
        }
        let terminal: Terminal = Box::new(move |assembly| {
            let Some(down) = assembly.fetch::<O::Out>(port) else { return };
            let sites = assembly.sites(node);
            assembly.gather(node, parts, |instance, inputs| {
                let (down, site, factory) = (down.duplicate(), sites[instance].clone(), factory.clone());
                Box::new(move || {
                    let op = make(factory, &site)?;
                    let down = BoxedChain::new(down.build_output(instance)?);
                    let inlet = Inlet::new(inputs, MergePolicy::Fair);
                    let chain = Linked::new(op, down, site.clone());
                    Ok(Box::new(InletTask::new(inlet, chain, &site)) as _)
                })
            });
        });
        draft.terminals.push(terminal);
        drop(draft);
        Stream { draft: shared, origin: Origin::of(node), segment: PortSegment { port, item: PhantomData } }
    }
}
