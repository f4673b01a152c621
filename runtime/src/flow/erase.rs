//! Streams whose type says nothing but what flows: for graphs that are put together at run time.

use std::marker::PhantomData;

use super::assembly::BuildError;
use super::blueprint::{ChainBlueprint, ErasedBlueprint};
use super::draft::{SharedDraft, Terminal};
use super::segment::{PortSegment, Segment};
use super::stream::Stream;
use crate::stage::BoxedChain;

/// A stream whose type does not grow with its stages; see [`Stream::boxed`].
pub type BoxedStream<T> = Stream<PortSegment<T>>;

/// A continuation without its type at the end of a chain.
pub(super) struct BoxedBlueprint<T>(pub(super) Box<dyn ErasedBlueprint<T>>);

impl<T> Clone for BoxedBlueprint<T> {
    fn clone(&self) -> Self {
        Self(self.0.duplicate())
    }
}

impl<T: Send + 'static> ChainBlueprint<T> for BoxedBlueprint<T> {
    type Chain = BoxedChain<T>;

    fn build(self, instance: usize) -> Result<BoxedChain<T>, BuildError> {
        Ok(BoxedChain::new(self.0.build_output(instance)?))
    }
}

impl<S: Segment> Stream<S> {
    /// Forgets the stages upstream in the type, so that streams can be kept in one `Vec` and graphs built in a loop, and
    /// so that long chains compile fast.
    ///
    /// Adds no stage and no ring: what follows still runs in the same chain where it can. Costs one virtual call per
    /// batch, and a buffer that the batch goes through.
    pub fn boxed(self) -> BoxedStream<S::Item> {
        let Self { draft, origin, segment } = self;
        let port = draft.borrow_mut().port();
        let terminal: Terminal = Box::new(move |assembly| {
            let Some(down) = assembly.fetch::<S::Item>(port) else { return };
            segment.assemble(assembly, BoxedBlueprint(down));
        });
        draft.borrow_mut().terminals.push(terminal);
        Stream { draft: SharedDraft::clone(&draft), origin, segment: PortSegment { port, item: PhantomData } }
    }
}
