//! Small graphs for the tests of graphs.
#![allow(dead_code, reason = "each test program uses its part")]

use std::time::Duration;

use corelane::graph::{Edge, GraphError, PipelineGraph, StageNode, ValidatedGraph, ValidationContext};
use corelane::model::StageKind;
use corelane::policy::{
    AccumulationDescriptor, AccumulatorPolicy, BackpressureStrategy, FieldProblem, PolicyProblem,
    PolicyRegistry,
};

/// A stage that is valid for its kind.
pub(crate) fn node(id: &str, kind: StageKind) -> StageNode {
    let mut node = StageNode::new(id, kind);
    if kind == StageKind::Accumulator {
        let policy = AccumulatorPolicy::ttl(Duration::from_secs(1));
        node.accumulation = Some(AccumulationDescriptor { policy, ..Default::default() });
    }
    node.has_default = kind == StageKind::Branch;
    node
}

/// A chain of stages of these kinds, named `a`, `b`, `c` and so on.
pub(crate) fn chain(kinds: &[StageKind]) -> PipelineGraph {
    let name = |i: usize| char::from(b'a' + i as u8).to_string();
    PipelineGraph {
        nodes: kinds.iter().enumerate().map(|(i, &kind)| node(&name(i), kind)).collect(),
        edges: (1..kinds.len()).map(|i| Edge::new(name(i - 1), name(i))).collect(),
        ..Default::default()
    }
}

/// Source `a`, `kind` `b`, sink `c`.
pub(crate) fn three(kind: StageKind) -> PipelineGraph {
    chain(&[StageKind::Source, kind, StageKind::Sink])
}

/// A chain of `n` stages.
pub(crate) fn long_chain(n: usize) -> PipelineGraph {
    let kind = |i| match i {
        0 => StageKind::Source,
        i if i == n - 1 => StageKind::Sink,
        _ => StageKind::Transform,
    };
    PipelineGraph {
        nodes: (0..n).map(|i| StageNode::new(format!("s{i}"), kind(i))).collect(),
        edges: (1..n).map(|i| Edge::new(format!("s{}", i - 1), format!("s{i}"))).collect(),
        ..Default::default()
    }
}

/// Two cores, nowhere to spill.
pub(crate) fn context() -> ValidationContext {
    ValidationContext { cores: Some(2), ..ValidationContext::default() }
}

/// Validated with an empty registry.
pub(crate) fn validate(graph: &PipelineGraph) -> Result<ValidatedGraph, Vec<GraphError>> {
    let result = graph.validate(&PolicyRegistry::default(), &context());
    result.map_err(|errors| errors.errors().to_vec())
}

/// The errors of a graph that has some.
pub(crate) fn errors(graph: &PipelineGraph) -> Vec<GraphError> {
    validate(graph).expect_err("the graph is wrong")
}

/// The one error there is; its message names all of `words`.
pub(crate) fn only_error(graph: &PipelineGraph, words: &[&str]) -> GraphError {
    let mut errors = errors(graph);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let message = errors[0].to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not name {word:?}");
    }
    errors.remove(0)
}

/// The errors, all of which are in policies.
pub(crate) fn field_problems(graph: &PipelineGraph) -> Vec<(String, PolicyProblem)> {
    let problem = |error| match error {
        GraphError::Policy { problem: FieldProblem { field, problem }, .. } => (field.into_owned(), problem),
        other => panic!("{other:?}"),
    };
    errors(graph).into_iter().map(problem).collect()
}

/// The problems of stage `b` with this backpressure.
pub(crate) fn backpressure_problems(strategy: BackpressureStrategy) -> Vec<(String, PolicyProblem)> {
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].backpressure = Some(strategy.into());
    field_problems(&graph)
}
