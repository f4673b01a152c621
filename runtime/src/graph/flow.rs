//! What is wrong with how items flow through a graph all of whose parts are right: order that is lost, and deadlocks.

use super::validate::at_edge;
use super::{
    ChannelOrdering, Crossing, GraphError, ResolvedEdge, Spread, ValidatedGraph, deadlocks, split_of,
};
use crate::policy::Parallelism;

/// What is wrong with how items flow, whatever machine they flow on; `plan` looks again, at the instances there are.
pub(super) fn flow_problems(graph: &ValidatedGraph) -> Vec<GraphError> {
    let nodes = &graph.graph.nodes;
    let many: Vec<bool> =
        nodes.iter().map(|node| matches!(node.parallelism, Parallelism::Fixed(2..))).collect();
    let crossing = |(index, edge): (usize, &ResolvedEdge)| {
        let keyed =
            matches!(graph.graph.edges[index].channel.ordering, ChannelOrdering::PartitionOrdered { .. });
        let alike = nodes[edge.from].parallelism == nodes[edge.to].parallelism;
        match many[edge.to] {
            true if keyed => Crossing::ByKey,
            true if !alike => Crossing::Shared,
            _ => Crossing::Straight,
        }
    };
    let crossings: Vec<Crossing> = graph.edges.iter().enumerate().map(crossing).collect();
    let mut errors: Vec<GraphError> =
        (0..graph.edges.len()).filter_map(|edge| order_lost(graph, edge)).collect();
    match deadlocks(graph, &many, &crossings) {
        Ok(found) => errors.extend(found.into_iter().map(GraphError::Deadlock)),
        Err(inputs) => errors.push(GraphError::TooManyWaiting(inputs)),
    }
    errors
}

/// Whether ordered edge `index` cannot restore the order, however many instances there are but one.
fn order_lost(graph: &ValidatedGraph, index: usize) -> Option<GraphError> {
    let one = |node: usize| {
        matches!(graph.graph.nodes[node].parallelism, Parallelism::Sequential | Parallelism::Fixed(1))
    };
    let edge = &graph.graph.edges[index];
    let ResolvedEdge { from, to, .. } = graph.edges[index];
    // Between equal numbers of instances it depends on their cores whether there is anything to restore.
    if edge.channel.ordering != ChannelOrdering::Ordered || one(from) || !one(to) {
        return None;
    }
    let spread = |index: usize| {
        let ResolvedEdge { from, to, .. } = graph.edges[index];
        let keyed =
            matches!(graph.graph.edges[index].channel.ordering, ChannelOrdering::PartitionOrdered { .. });
        match (graph.graph.nodes[from].parallelism, graph.graph.nodes[to].parallelism) {
            _ if keyed => Spread::Scattered,
            _ if one(from) => Spread::Split,
            (Parallelism::Fixed(n), Parallelism::Fixed(m)) if n != m => Spread::Scattered,
            _ => Spread::Kept,
        }
    };
    let why = split_of(graph, index, spread).err()?;
    Some(GraphError::OrderLost { at: at_edge(index, edge), why })
}
