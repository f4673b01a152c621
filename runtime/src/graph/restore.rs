//! Where the order was lost that an ordered edge is to restore.

use super::ValidatedGraph;
use crate::model::StageKind;

/// What an edge between stages does to the order of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Each instance keeps what it has.
    Kept,
    /// One instance gives them out to several.
    Split,
    /// From several instances, or by key: nobody knows the order any more.
    Scattered,
}

/// The edge at which one instance gave out to several the items that come together again in edge `edge`, which leaves
/// several instances and enters one.
///
/// # Errors
/// Why there is none.
pub(crate) fn split_of(
    graph: &ValidatedGraph,
    edge: usize,
    spread: impl Fn(usize) -> Spread,
) -> Result<usize, String> {
    let id = |node: usize| graph.stages()[node].id.as_str();
    let kind = |node: usize| graph.graph().nodes[node].kind;
    let ends = &graph.edges()[edge];
    if kind(ends.to) == StageKind::Merge {
        return Err("a merge takes from several instances in an order of its own".to_owned());
    }
    let mut node = ends.from;
    loop {
        let &[edge] = &graph.stages()[node].inputs[..] else {
            return Err(format!("stage {} makes or merges items in several instances", id(node)));
        };
        if matches!(kind(node), StageKind::Branch | StageKind::Accumulator | StageKind::Merge) {
            return Err(format!("stage {} does not keep the order of its input", id(node)));
        }
        if graph.graph().nodes[node].holds_items {
            return Err(format!("stage {} may hold items back while later ones pass", id(node)));
        }
        match spread(edge) {
            Spread::Kept => node = graph.edges()[edge].from,
            Spread::Split => return Ok(edge),
            Spread::Scattered => {
                return Err(format!(
                    "the input of stage {} is spread from several instances or by key",
                    id(node)
                ));
            }
        }
    }
}
