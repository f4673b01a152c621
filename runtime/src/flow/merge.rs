//! Branches and merges: where streams part and join.

use std::sync::Arc;

use super::assembly::{Assembly, BuildError};
use super::blueprint::{ChainBlueprint, ErasedBlueprint, OutletBlueprint};
use super::draft::Origin;
use crate::partition::{BranchEnd, Branching};
use crate::stage::StageSite;

/// Several outputs at the end of a chain.
pub(super) struct BranchBlueprint<T, F> {
    how: F,
    outputs: Vec<Box<dyn ErasedBlueprint<T>>>,
    sites: Arc<[StageSite]>,
}

impl<T, F> BranchBlueprint<T, F> {
    pub(super) fn new(how: F, outputs: Vec<Box<dyn ErasedBlueprint<T>>>, sites: Arc<[StageSite]>) -> Self {
        Self { how, outputs, sites }
    }
}

impl<T, F: Clone> Clone for BranchBlueprint<T, F> {
    fn clone(&self) -> Self {
        let outputs = self.outputs.iter().map(|o| o.duplicate()).collect();
        Self { how: self.how.clone(), outputs, sites: Arc::clone(&self.sites) }
    }
}

impl<T, F, H> ChainBlueprint<T> for BranchBlueprint<T, F>
where
    T: Send + 'static,
    F: FnOnce() -> H + Clone + Send + 'static,
    H: Branching<T>,
{
    type Chain = BranchEnd<T, H>;

    fn build(self, instance: usize) -> Result<BranchEnd<T, H>, BuildError> {
        let outputs: Result<Vec<_>, _> = self.outputs.into_iter().map(|o| o.build_output(instance)).collect();
        Ok(BranchEnd::new((self.how)(), outputs?, self.sites[instance].clone()))
    }
}

/// Puts everything upstream of a point together, in front of an edge's rings.
pub(super) type AssembleInto<T> = Box<dyn FnOnce(&mut Assembly, OutletBlueprint<T>) + Send>;

/// A stream as an input of a merge; see [`Stream::into_input`](super::Stream::into_input).
#[must_use = "a stream that ends in no sink is an error at build"]
pub struct MergeInput<T> {
    pub(super) origin: Origin,
    pub(super) assemble: AssembleInto<T>,
}
