//! The pipeline as plain data: stages, edges and their policies, without any code of theirs.
//!
//! A [`PipelineGraph`] comes from the typed builder or from text ([`PipelineGraph::from_toml`],
//! [`PipelineGraph::from_json`]). It may be wrong in any way; [`PipelineGraph::validate`] finds everything that is
//! wrong at once and otherwise gives a [`ValidatedGraph`]: ids checked, policies resolved, stages in topological
//! order. It is drawn by [`PipelineGraph::to_dot`], [`PipelineGraph::to_mermaid`], [`PipelineGraph::to_svg`], and as
//! a table by `Display`. Nothing here recurses, so the depth of a graph is not limited by a stack.

mod data;
mod deadlock;
mod draw;
mod error;
mod failures;
mod flow;
mod layout;
mod order;
mod overrides;
mod problem;
mod restore;
mod svg;
mod table;
mod text;
mod validate;
mod validated;

pub use data::{
    ChannelDescriptor, ChannelOrdering, DEAD_LETTERS, DEFAULT_BUFFER_SIZE, Edge, PipelineGraph, StageNode,
};
pub(crate) use deadlock::{Crossing, deadlocks};
pub use deadlock::{Deadlock, MAX_WAITING_INPUTS, Wait};
pub use error::{GraphErrors, Warning};
pub use overrides::{InputOverrides, StageOverrides};
pub use problem::{At, GraphError};
pub(crate) use restore::{Spread, split_of};
pub use text::{ParseError, PrintError};
pub use validate::{MAX_EDGES, MAX_STAGES, ValidationContext};
pub use validated::{ResolvedEdge, ResolvedStage, ValidatedGraph};
