//! What validation gives, and that it gives all errors at once.

mod graph_kit;

use std::time::Duration;

use corelane::graph::{ChannelOrdering, Edge, GraphError, PipelineGraph, Warning};
use corelane::model::StageKind;
use corelane::policy::{
    AccumulationDescriptor, AccumulatorPolicy, BackpressureStrategy, BufferPolicy, DropPolicy, ErrorPolicy,
    MergePolicy, Parallelism, PolicyRef, PolicyRegistry,
};

use graph_kit::{chain, context, errors, node, three, validate};

#[test]
fn graphs_without_faults_are_accepted_without_a_word() {
    for kind in [StageKind::Transform, StageKind::Accumulator, StageKind::Branch, StageKind::Merge] {
        let valid = validate(&three(kind)).unwrap();
        assert_eq!(valid.order(), [0, 1, 2]);
        assert!(valid.warnings().is_empty());
    }
    validate(&chain(&[StageKind::Source, StageKind::Sink])).unwrap();
}

#[test]
fn stages_know_their_edges_and_every_edge_leads_forward_in_the_order() {
    use StageKind::{Branch, Merge, Sink, Source};
    let mut graph = chain(&[Sink, Merge, Branch, Source]);
    let pairs = [("d", "c"), ("c", "b"), ("b", "a")];
    graph.edges = pairs.map(|(from, to)| Edge::new(from, to)).to_vec();
    graph.edges.push(Edge::new("c", "b").labelled("again"));
    let valid = validate(&graph).unwrap();
    assert_eq!(valid.order(), [3, 2, 1, 0]);
    let merge = &valid.stages()[valid.position("b").unwrap()];
    assert_eq!((merge.inputs.as_slice(), merge.outputs.as_slice()), ([1, 3].as_slice(), [2].as_slice()));
    assert_eq!(valid.position("e"), None);
    assert_eq!(valid.graph(), &graph);
}

#[test]
fn only_merges_have_several_inputs_and_only_branches_several_outputs() {
    let mut graph = three(StageKind::Transform);
    graph.nodes.extend([node("s", StageKind::Source), node("t", StageKind::Sink)]);
    graph.edges.extend([Edge::new("s", "b"), Edge::new("b", "t")]);
    let found = errors(&graph);
    assert!(matches!(found[0], GraphError::SeveralInputs { inputs: 2, .. }));
    assert!(found[0].to_string().contains("put a merge in front"));
    assert!(matches!(found[1], GraphError::SeveralOutputs { outputs: 2, .. }));
    assert!(found[1].to_string().contains("put a branch behind"));
    assert_eq!(found.len(), 2);
}

#[test]
fn fields_of_other_kinds_are_refused() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].accumulation = node("x", StageKind::Accumulator).accumulation;
    graph.nodes[1].merge = Some(MergePolicy::Fair);
    graph.nodes[1].has_default = true;
    let field = |error: &GraphError| match error {
        GraphError::Misplaced { field, kind: StageKind::Transform, .. } => *field,
        other => panic!("{other:?}"),
    };
    let fields: Vec<_> = errors(&graph).iter().map(field).collect();
    assert_eq!(fields, ["accumulation", "merge", "has-default"]);
}

#[test]
fn an_edge_takes_its_policies_from_itself_then_its_consumer_then_a_source() {
    use BackpressureStrategy::{Bounded, RateShaping, ReactivePull};
    let newest = DropPolicy::DropNewest;
    let buffer = |capacity| Some(PolicyRef::from(BufferPolicy::new(capacity, newest)));
    let resolved = |graph: &PipelineGraph| {
        let valid = validate(graph).unwrap();
        valid.edges().iter().map(|e| (e.capacity, e.drop_policy, e.backpressure)).collect::<Vec<_>>()
    };
    let mut graph = three(StageKind::Transform);
    let plain = (4096, DropPolicy::Block, None);
    assert_eq!(resolved(&graph), [plain, plain]);
    graph.nodes[0].buffer = buffer(8);
    graph.nodes[0].backpressure = Some(RateShaping { rate: 1, burst: 1 }.into());
    assert_eq!(resolved(&graph), [(8, newest, Some(RateShaping { rate: 1, burst: 1 })), plain]);
    graph.nodes[1].buffer = buffer(16);
    graph.nodes[1].backpressure = Some(ReactivePull { window_size: 2 }.into());
    assert_eq!(resolved(&graph), [(16, newest, Some(ReactivePull { window_size: 2 })), plain]);
    graph.edges[0].channel.backpressure =
        Some(Bounded { capacity: 32, drop_policy: DropPolicy::DropOldest }.into());
    assert_eq!(resolved(&graph), [(32, DropPolicy::DropOldest, None), plain]);
}

#[test]
fn names_are_resolved_in_the_registry() {
    let registry = PolicyRegistry::from_toml(
        "[buffer-policies.wide]\ncapacity = 65536\ndrop-policy = \"drop-oldest\"\n\
         [error-policies]\ngentle = \"ignore\"\n\
         [circuit-breaker-policies.db]\nerror-threshold = 0.5\nlatency-threshold = \"5ms\"\nwindow-size = \"10s\"\n\
         minimum-throughput = 20\ncooldown-period = \"1m\"\n",
    )
    .unwrap();
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].buffer = Some(PolicyRef::named("wide"));
    graph.nodes[1].error_policy = PolicyRef::named("gentle");
    graph.nodes[1].circuit_breaker = Some(PolicyRef::named("db"));
    let valid = graph.validate(&registry, &context()).unwrap();
    let stage = &valid.stages()[1];
    assert_eq!((valid.edges()[0].capacity, valid.edges()[0].drop_policy), (65536, DropPolicy::DropOldest));
    assert_eq!(stage.error_policy, ErrorPolicy::Ignore);
    assert_eq!(stage.circuit_breaker.as_ref(), registry.circuit_breaker_policies.get("db"));
    assert_eq!(valid.stages()[0].error_policy, ErrorPolicy::Fail);
}

const MANY_ERRORS: &str = r#"
id = "my pipeline"

[[nodes]]
id = "in"
kind = "source"
buffer = { capacity = 0 }

[[nodes]]
id = "IN"
kind = "source"

[[nodes]]
id = "route/1"
kind = "branch"
error-policy = { ref = "gentle" }

[[nodes]]
id = "fold"
kind = "accumulator"
parallelism = { fixed = 0 }
accumulation = { policy = { spill-allowed = true }, progress-weights = { root = -1.0 } }

[[nodes]]
id = "out"
kind = "sink"

[nodes.circuit-breaker]
error-threshold = 1.5
latency-threshold = "1s"
window-size = "0s"
minimum-throughput = 1
cooldown-period = "1s"

[[edges]]
from = "in"
to = "route/1"

[[edges]]
from = "route/1"
to = "fold"
channel = { ordering = { partition-ordered = {} } }

[[edges]]
from = "fold"
to = "fold"

[[edges]]
from = "ghost"
to = "out"

[[edges]]
from = "route/1"
to = "nowhere"
"#;

#[test]
fn many_errors_are_reported_all_at_once() {
    let graph = PipelineGraph::from_toml(MANY_ERRORS).unwrap();
    let found = graph.validate(&PolicyRegistry::default(), &context()).unwrap_err();
    let message = found.to_string();
    let expected = [
        "field id, \"my pipeline\"",
        "\"route/1\" (node 2), field id",
        "\"in\" and \"IN\" differ",
        "\"in\", field buffer.capacity: is 0",
        "\"route/1\", field has-default",
        "\"route/1\", field error-policy: no policy \"gentle\"",
        "\"fold\", field parallelism: is fixed at 0",
        "\"fold\", field accumulation.policy: has no limit",
        "\"fold\", field accumulation.progress-weights.root: is -1",
        "\"fold\", field accumulation.policy.spill-allowed",
        "\"out\", field circuit-breaker.error-threshold: is 1.5",
        "\"out\", field circuit-breaker.window-size: is zero",
        "field channel.ordering.partition-ordered.key: is missing",
        "edge 2 (\"fold\" -> \"fold\") leads back to its own stage",
        "there is no stage \"ghost\"",
        "there is no stage \"nowhere\"",
        "\"IN\" is a source whose output nothing consumes",
        "\"fold\" is an accumulator whose output nothing consumes",
    ];
    for words in expected {
        assert_eq!(message.matches(words).count(), 1, "{words:?} in {message}");
    }
    assert_eq!(found.errors().len(), expected.len(), "{message}");
    assert!(message.starts_with("the graph has 18 errors:\n  1. "));
}

#[test]
fn an_ordered_edge_whose_order_cannot_be_restored_is_refused_whatever_the_machine() {
    let ordered = |kinds: &[StageKind], parallelism: &[Parallelism]| {
        let mut graph = chain(kinds);
        graph.nodes.iter_mut().zip(parallelism).for_each(|(node, &p)| node.parallelism = p);
        graph.edges.last_mut().unwrap().channel.ordering = ChannelOrdering::Ordered;
        validate(&graph).map(drop).map_err(|errors| errors[0].to_string())
    };
    use Parallelism::{CpuBound, Fixed, Sequential};
    use StageKind::{Accumulator, Branch, Merge, Sink, Source, Transform};
    let three = [Source, Transform, Sink];
    assert_eq!(ordered(&three, &[Sequential, CpuBound, Sequential]), Ok(()));
    assert_eq!(ordered(&three, &[Sequential, Fixed(3), Sequential]), Ok(()));
    assert_eq!(ordered(&three, &[CpuBound, CpuBound, CpuBound]), Ok(()), "nothing to restore");
    for (kinds, parallelism, why) in [
        (
            &three[..],
            &[Fixed(2), Fixed(2), Sequential][..],
            "\"b\" -> \"c\"), field channel.ordering: is ordered, but stage a makes",
        ),
        (&three, &[Fixed(3), Fixed(2), Sequential], "the input of stage b is spread from several instances"),
        (
            &[Source, Accumulator, Sink],
            &[Sequential, CpuBound, Sequential],
            "stage b does not keep the order",
        ),
        (&[Source, Branch, Sink], &[Sequential, CpuBound, Sequential], "stage b does not keep the order"),
        (&[Source, Transform, Merge, Sink], &[Sequential, CpuBound, Sequential], ""),
    ] {
        let mut result = ordered(kinds, parallelism);
        if why.is_empty() {
            // The edge into the merge, not the one behind it.
            let mut graph = chain(kinds);
            graph.nodes.iter_mut().zip(parallelism).for_each(|(node, &p)| node.parallelism = p);
            graph.edges[1].channel.ordering = ChannelOrdering::Ordered;
            result = validate(&graph).map(drop).map_err(|errors| errors[0].to_string());
        }
        let why = if why.is_empty() { "a merge takes from several instances" } else { why };
        assert!(result.as_ref().is_err_and(|error| error.contains(why)), "{why}: {result:?}");
    }
}

#[test]
fn an_accumulator_whose_quiet_keys_stay_is_warned_about() {
    let warned = |policy: AccumulatorPolicy| {
        let mut graph = three(StageKind::Accumulator);
        graph.nodes[1].accumulation = Some(AccumulationDescriptor { policy, ..Default::default() });
        let warnings = validate(&graph).unwrap().warnings().to_vec();
        warnings.iter().any(|warning| matches!(warning, Warning::QuietKeysStay { .. }))
    };
    let second = Duration::from_secs(1);
    assert!(warned(AccumulatorPolicy::NONE.max_items(5)));
    assert!(warned(AccumulatorPolicy { max_bytes: Some(1), ..AccumulatorPolicy::NONE }));
    assert!(!warned(AccumulatorPolicy::ttl(second).max_items(5)));
    assert!(!warned(AccumulatorPolicy { max_latency: Some(second), ..AccumulatorPolicy::NONE }));
    assert!(!warned(AccumulatorPolicy::until_end()), "asked for");
}
