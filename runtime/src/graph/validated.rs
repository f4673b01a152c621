//! A graph that can be built.

use crate::model::StageId;
use crate::policy::{BackpressureStrategy, CircuitBreakerPolicy, DropPolicy, ErrorPolicy, Parallelism};

use super::{PipelineGraph, Warning};

/// A stage with its names resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedStage {
    /// Its id.
    pub id: StageId,
    /// What a failure on one item does.
    pub error_policy: ErrorPolicy,
    /// When it is taken out of service.
    pub circuit_breaker: Option<CircuitBreakerPolicy>,
    /// Edges into it, in the order of the graph.
    pub inputs: Vec<usize>,
    /// Edges out of it, in the order of the graph.
    pub outputs: Vec<usize>,
    /// Of these, the one that takes its dead letters.
    pub dead_letters: Option<usize>,
}

/// An edge with its names resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedEdge {
    /// Position of the producing stage.
    pub from: usize,
    /// Position of the consuming stage.
    pub to: usize,
    /// Items it holds: a power of two, at least what was asked for.
    pub capacity: u64,
    /// What happens when it is full.
    pub drop_policy: DropPolicy,
    /// Bytes it holds at most, if that was bounded.
    pub max_bytes: Option<u64>,
    /// How it makes its producer wait beyond that, if anything is said.
    pub backpressure: Option<BackpressureStrategy>,
}

/// A graph that was found to have no errors. Positions of stages and edges are those of
/// [`PipelineGraph::nodes`] and [`PipelineGraph::edges`].
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedGraph {
    pub(super) graph: PipelineGraph,
    pub(super) stages: Vec<ResolvedStage>,
    pub(super) edges: Vec<ResolvedEdge>,
    pub(super) order: Vec<usize>,
    pub(super) warnings: Vec<Warning>,
}

impl ValidatedGraph {
    /// The graph as it was given.
    pub fn graph(&self) -> &PipelineGraph {
        &self.graph
    }

    /// The stages, one for each node.
    pub fn stages(&self) -> &[ResolvedStage] {
        &self.stages
    }

    /// The stages with their parallelism, one for each node: what a placement is made from.
    pub fn parallelism(&self) -> Vec<(StageId, Parallelism)> {
        let nodes = self.stages.iter().zip(&self.graph.nodes);
        nodes.map(|(stage, node)| (stage.id.clone(), node.parallelism)).collect()
    }

    /// The edges, one for each edge of the graph.
    pub fn edges(&self) -> &[ResolvedEdge] {
        &self.edges
    }

    /// Positions of the stages such that every edge leads forward; the same for the same graph.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// What the user may want to know.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Position of the stage `id`, if there is one. Walks over all stages.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.id.as_str() == id)
    }
}
