//! Bad graphs: each numbered case gives its own error. (All at once: `graph_validation.rs`.)

mod graph_kit;

use std::time::Duration;

use corelane::graph::{
    At, ChannelOrdering, Edge, GraphError, MAX_STAGES, PipelineGraph, ValidationContext, Warning,
};
use corelane::model::{IdError, StageKind};
use corelane::policy::{
    AccumulationDescriptor, AccumulatorPolicy, AfterRetries, Backoff, BackpressureStrategy, BufferPolicy,
    CircuitBreakerPolicy, DropPolicy, ErrorPolicy, FieldProblem, MAX_CAPACITY, Parallelism, PolicyProblem,
    PolicyRef, PolicyRegistry,
};

use graph_kit::{
    backpressure_problems, chain, context, errors, field_problems, long_chain, node, only_error, three,
    validate,
};

#[test]
fn fault_01_an_empty_graph_is_refused() {
    assert_eq!(only_error(&PipelineGraph::default(), &["no stages", "source"]), GraphError::Empty);
}

#[test]
fn fault_02_a_cycle_of_two_is_named() {
    let mut graph = chain(&[StageKind::Merge, StageKind::Branch, StageKind::Sink]);
    graph.edges.push(Edge::new("b", "a"));
    let error = only_error(&graph, &["\"a\" -> \"b\" -> \"a\"", "remove"]);
    assert_eq!(error, GraphError::Cycle { stages: vec!["a".into(), "b".into()] });
}

#[test]
fn fault_03_a_self_loop_is_named() {
    let mut graph = three(StageKind::Merge);
    graph.edges.push(Edge::new("b", "b"));
    let error = only_error(&graph, &["edge 2", "\"b\"", "remove"]);
    assert!(matches!(error, GraphError::SelfLoop { at: At::Edge { index: 2, .. } }));
}

#[test]
fn fault_04_a_long_cycle_through_a_merge_is_named_in_order() {
    use StageKind::{Branch, Merge, Sink, Source, Transform};
    let mut graph = chain(&[Source, Merge, Transform, Transform, Transform, Branch, Sink]);
    graph.edges.push(Edge::new("f", "b").labelled("again"));
    let error = only_error(&graph, &["\"b\" -> \"c\" -> \"d\" -> \"e\" -> \"f\" -> \"b\""]);
    let GraphError::Cycle { stages } = error else { panic!("{error:?}") };
    assert_eq!(stages, ["b", "c", "d", "e", "f"]);
}

#[test]
fn fault_04_each_separate_cycle_is_named() {
    let mut graph = three(StageKind::Transform);
    for (a, b) in [("m", "n"), ("o", "p")] {
        graph.nodes.extend([node(a, StageKind::Transform), node(b, StageKind::Transform)]);
        graph.edges.extend([Edge::new(a, b), Edge::new(b, a)]);
    }
    let cycles: Vec<_> = errors(&graph).iter().map(ToString::to_string).collect();
    assert_eq!(cycles.len(), 2);
    assert!(cycles[0].contains("\"m\" -> \"n\" -> \"m\"") && cycles[1].contains("\"o\" -> \"p\" -> \"o\""));
}

#[test]
fn fault_05_an_edge_to_an_unknown_stage_is_named() {
    let mut graph = three(StageKind::Transform);
    graph.edges[1].to = "d".into();
    let errors = errors(&graph);
    assert!(
        matches!(&errors[0], GraphError::UnknownTarget { at: At::Edge { index: 1, to, .. } } if to == "d")
    );
    assert!(errors[0].to_string().contains("field to: there is no stage \"d\""));
    assert!(matches!(&errors[1], GraphError::NoInput { at: At::Stage { index: 2, .. }, .. }));
    assert_eq!(errors.len(), 2);
}

#[test]
fn fault_06_an_edge_from_an_unknown_stage_is_named() {
    let mut graph = three(StageKind::Transform);
    graph.edges[0].from = "z".into();
    let errors = errors(&graph);
    assert!(
        matches!(&errors[0], GraphError::UnknownOrigin { at: At::Edge { index: 0, from, .. } } if from == "z")
    );
    assert!(errors[0].to_string().contains("field from: there is no stage \"z\""));
    assert!(matches!(&errors[1], GraphError::NoOutput { at: At::Stage { index: 0, .. }, .. }));
    assert_eq!(errors.len(), 2);
}

#[test]
fn fault_07_a_duplicate_id_is_named_with_both_positions() {
    let mut graph = three(StageKind::Transform);
    graph.nodes.push(node("b", StageKind::Transform));
    let error = only_error(&graph, &["nodes 1 and 3", "\"b\"", "rename"]);
    assert_eq!(error, GraphError::DuplicateStage { id: "b".into(), first: 1, second: 3 });
}

/// Source `a`, two transforms of these names, sink `d`.
fn two_named(first: &str, second: &str) -> PipelineGraph {
    use StageKind::{Sink, Source, Transform};
    PipelineGraph {
        nodes: vec![node("a", Source), node(first, Transform), node(second, Transform), node("d", Sink)],
        edges: vec![Edge::new("a", first), Edge::new(first, second), Edge::new(second, "d")],
        ..Default::default()
    }
}

#[test]
fn fault_08_ids_equal_after_case_folding_are_refused() {
    let error = only_error(&two_named("Parse", "pARSE"), &["\"Parse\"", "\"pARSE\"", "rename"]);
    assert_eq!(error, GraphError::IdsDifferByCase { first: "Parse".into(), second: "pARSE".into() });
}

#[test]
fn fault_08_ids_equal_after_unicode_normalisation_are_refused() {
    let found = errors(&two_named("caf\u{e9}", "cafe\u{301}"));
    let refused: Vec<_> = found
        .iter()
        .map(|error| match error {
            GraphError::InvalidStageId { problem, .. } => problem.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refused, [IdError::Character('\u{e9}'), IdError::Character('\u{301}')]);
}

#[test]
fn fault_09_bad_ids_are_read_and_then_refused_with_their_position() {
    let long = "x".repeat(64 * 1024);
    for (id, problem) in [
        ("", IdError::Empty),
        ("a/b", IdError::Character('/')),
        ("..", IdError::LeadingDot),
        ("a\0b", IdError::Character('\0')),
        (long.as_str(), IdError::TooLong(64 * 1024)),
    ] {
        let mut graph = three(StageKind::Transform);
        graph.nodes[1].id = id.into();
        graph.edges = vec![Edge::new("a", id), Edge::new(id, "c")];
        for graph in [
            PipelineGraph::from_toml(&graph.to_toml().unwrap()).unwrap(),
            PipelineGraph::from_json(&graph.to_json().unwrap()).unwrap(),
        ] {
            let error = only_error(&graph, &["node 1", "field id", "rename"]);
            assert!(error.to_string().len() < 400, "a message is of a length people read");
            assert!(!error.to_string().contains('\0'));
            let at = At::Stage { index: 1, id: id.into() };
            assert_eq!(error, GraphError::InvalidStageId { at, problem: problem.clone() });
        }
    }
    let graph = PipelineGraph { id: Some("a b".into()), ..three(StageKind::Transform) };
    assert!(matches!(only_error(&graph, &["field id", "\"a b\""]), GraphError::InvalidPipelineId { .. }));
}

#[test]
fn fault_10_a_duplicate_edge_is_named_and_counts_once() {
    let mut graph = three(StageKind::Transform);
    graph.edges.push(Edge::new("b", "c"));
    let error = only_error(&graph, &["edge 2", "already as edge 1"]);
    assert!(matches!(error, GraphError::DuplicateEdge { at: At::Edge { index: 2, .. }, first: 1 }));
}

#[test]
fn fault_10_outputs_of_a_branch_with_one_label_are_refused_and_with_two_are_not() {
    let mut graph = chain(&[StageKind::Source, StageKind::Branch, StageKind::Merge, StageKind::Sink]);
    graph.edges[1].label = Some("slow".into());
    graph.edges.push(Edge::new("b", "c").labelled("failed"));
    validate(&graph).unwrap();
    graph.nodes.push(node("e", StageKind::Sink));
    graph.edges.push(Edge::new("b", "e").labelled("slow"));
    let error = only_error(&graph, &["edge 4", "\"slow\"", "edge 1"]);
    assert!(matches!(error, GraphError::DuplicateLabel { first: 1, .. }));
    for label in ["".to_owned(), "x".repeat(129)] {
        graph.edges[4].label = Some(label);
        assert!(matches!(only_error(&graph, &["edge 4", "field label"]), GraphError::InvalidLabel { .. }));
    }
}

#[test]
fn fault_11_a_source_with_input_and_a_sink_with_output_are_refused() {
    use StageKind::{Branch, Merge, Sink, Source};
    let mut graph = chain(&[Source, Branch, Sink, Source, Merge, Sink]);
    let pairs = [("a", "b"), ("b", "c"), ("b", "d"), ("c", "e"), ("d", "e"), ("e", "f")];
    graph.edges = pairs.map(|(from, to)| Edge::new(from, to)).to_vec();
    let found = errors(&graph);
    assert!(matches!(&found[0], GraphError::SourceWithInput { at: At::Edge { index: 2, .. } }));
    assert!(found[0].to_string().contains("\"d\", which is a source"));
    assert!(matches!(&found[1], GraphError::SinkWithOutput { at: At::Edge { index: 3, .. } }));
    assert!(found[1].to_string().contains("\"c\", which is a sink"));
    assert_eq!(found.len(), 2);
}

#[test]
fn fault_12_stages_without_input_or_with_an_unused_output_are_named() {
    let mut graph = three(StageKind::Transform);
    graph.nodes.push(node("lost", StageKind::Accumulator));
    graph.nodes.push(node("idle", StageKind::Source));
    graph.nodes.push(node("dry", StageKind::Sink));
    let messages: Vec<_> = errors(&graph).iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 4, "{messages:#?}");
    assert!(messages[0].contains("stage \"lost\" is an accumulator without input"));
    assert!(messages[1].contains("stage \"lost\" is an accumulator whose output nothing consumes"));
    assert!(messages[2].contains("stage \"idle\" is a source whose output nothing consumes"));
    assert!(messages[3].contains("stage \"dry\" is a sink without input"));
}

#[test]
fn fault_13_a_type_mismatch_names_both_types() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[0].out_type = Some("u64".into());
    validate(&graph).expect("one unknown side is not compared");
    graph.nodes[1].in_type = Some("u64".into());
    validate(&graph).unwrap();
    graph.nodes[1].in_type = Some("alloc::string::String".into());
    let error = only_error(&graph, &["edge 0", "u64", "alloc::string::String"]);
    assert!(matches!(error, GraphError::TypeMismatch { at: At::Edge { index: 0, .. }, .. }));
}

#[test]
fn fault_14_a_capacity_of_nothing_is_refused_wherever_it_stands() {
    let drop_policy = DropPolicy::Block;
    let mut graph = three(StageKind::Transform);
    graph.nodes[0].buffer = Some(BufferPolicy::new(0, drop_policy).into());
    graph.nodes[1].backpressure = Some(BackpressureStrategy::Bounded { capacity: 0, drop_policy }.into());
    graph.nodes[2].backpressure = Some(BackpressureStrategy::ReactivePull { window_size: 0 }.into());
    graph.edges[0].channel.buffer_size = 0;
    graph.edges[1].channel.buffer = Some(BufferPolicy::new(0, drop_policy).into());
    graph.edges[1].channel.backpressure =
        Some(BackpressureStrategy::CreditBased { initial: 0, replenish_threshold: 0 }.into());
    let expected = [
        "buffer.capacity",
        "backpressure.bounded.capacity",
        "backpressure.reactive-pull.window-size",
        "channel.buffer-size",
        "channel.buffer.capacity",
        "channel.backpressure.credit-based.initial",
    ];
    assert_eq!(field_problems(&graph), expected.map(|field| (field.to_owned(), PolicyProblem::ZeroAmount)));
}

#[test]
fn fault_15_a_capacity_no_edge_may_have_is_refused() {
    let mut graph = three(StageKind::Transform);
    for capacity in [MAX_CAPACITY + 1, 1 << 63, u64::MAX] {
        graph.edges[0].channel.buffer_size = capacity;
        let expected = ("channel.buffer-size".to_owned(), PolicyProblem::CapacityTooLarge(capacity));
        assert_eq!(field_problems(&graph), [expected]);
    }
    let text = "[[edges]]\nfrom = \"a\"\nto = \"b\"\nchannel = { buffer-size = 18446744073709551616 }\n";
    let error = PipelineGraph::from_toml(text).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (4, "edges[0].channel.buffer-size"));
}

#[test]
fn fault_15_a_capacity_whose_bytes_overflow_is_refused() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[2].buffer = Some(BufferPolicy::new(1 << 30, DropPolicy::Block).into());
    let with = |bytes| ValidationContext { item_bytes: vec![None, Some(bytes)], ..context() };
    graph.validate(&PolicyRegistry::default(), &with(1 << 32)).unwrap();
    for item_bytes in [1 << 33, usize::MAX] {
        let found = graph.validate(&PolicyRegistry::default(), &with(item_bytes)).unwrap_err();
        let at = At::Edge { index: 1, from: "b".into(), to: "c".into(), label: None };
        let (field, capacity) = ("buffer.capacity".into(), 1 << 30);
        assert_eq!(found.errors(), [GraphError::CapacityBytesOverflow { at, field, capacity, item_bytes }]);
    }
}

#[test]
fn fault_16_a_capacity_that_is_no_power_of_two_is_rounded_up_and_said_so() {
    use StageKind::{Branch, Merge, Sink, Source};
    let mut graph = chain(&[Source, Branch, Merge, Sink]);
    graph.edges.push(Edge::new("b", "c").labelled("other"));
    graph.edges[0].channel.buffer_size = 1000;
    graph.nodes[2].buffer = Some(BufferPolicy::new(3, DropPolicy::DropOldest).into());
    let valid = validate(&graph).unwrap();
    assert_eq!(valid.edges().iter().map(|edge| edge.capacity).collect::<Vec<_>>(), [1024, 4, 4096, 4]);
    assert_eq!(valid.edges()[1].drop_policy, DropPolicy::DropOldest);
    let said: Vec<_> = valid.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "a stage's buffer is spoken of once, not once for each edge: {said:?}");
    assert!(said[0].contains("edge 0") && said[0].contains("1000 is rounded up to 1024"));
    assert!(said[1].contains("stage \"c\", field buffer.capacity: 3 is rounded up to 4"));
}

#[test]
fn fault_17_a_parallelism_of_nothing_or_beyond_measure_is_refused() {
    let mut graph = three(StageKind::Accumulator);
    graph.nodes[1].parallelism = Parallelism::Fixed(0);
    graph.nodes[1].accumulation.as_mut().unwrap().engine_hint = Parallelism::Fixed(u32::MAX);
    let expected = [
        ("parallelism".to_owned(), PolicyProblem::ZeroInstances),
        ("accumulation.engine-hint".to_owned(), PolicyProblem::TooManyInstances(u32::MAX)),
    ];
    assert_eq!(field_problems(&graph), expected);
}

#[test]
fn fault_17_more_instances_than_cores_are_a_note() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].parallelism = Parallelism::Fixed(2);
    assert!(validate(&graph).unwrap().warnings().is_empty());
    graph.nodes[1].parallelism = Parallelism::Fixed(3);
    let valid = validate(&graph).unwrap();
    let [note @ Warning::MoreInstancesThanCores { instances: 3, cores: 2, .. }] = valid.warnings() else {
        panic!("{:?}", valid.warnings())
    };
    assert!(note.to_string().contains("stage \"b\", field parallelism: 3 instances"));
}

#[test]
fn fault_17_a_negative_parallelism_is_refused_when_read() {
    let text = "[[nodes]]\nid = \"a\"\nkind = \"source\"\nparallelism = { fixed = -1 }\n";
    let error = PipelineGraph::from_toml(text).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (4, "nodes[0].parallelism.fixed"));
    let text = "{\"nodes\": [{\"id\": \"a\", \"kind\": \"source\", \"parallelism\": {\"fixed\": -1}}]}";
    let error = PipelineGraph::from_json(text).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (1, "nodes[0].parallelism.fixed"));
}

#[test]
fn fault_18_an_order_by_key_without_a_key_is_refused() {
    let mut graph = three(StageKind::Transform);
    for key in [None, Some(String::new())] {
        graph.edges[1].channel.ordering = ChannelOrdering::PartitionOrdered { key };
        let error = only_error(&graph, &["edge 1", "channel.ordering.partition-ordered.key", "name the key"]);
        assert!(matches!(error, GraphError::NoPartitionKey { .. }));
    }
    graph.edges[1].channel.ordering = ChannelOrdering::PartitionOrdered { key: Some("user".into()) };
    validate(&graph).unwrap();
}

#[test]
fn fault_19_a_branch_without_default_is_refused() {
    let mut graph = three(StageKind::Branch);
    graph.nodes[1].has_default = false;
    let error = only_error(&graph, &["stage \"b\"", "has-default", "give it a default output"]);
    assert!(matches!(error, GraphError::BranchWithoutDefault { .. }));
}

#[test]
fn fault_20_an_accumulator_without_limit_is_refused() {
    let mut graph = three(StageKind::Accumulator);
    graph.nodes[1].accumulation = Some(AccumulationDescriptor::default());
    only_error(&graph, &["stage \"b\"", "accumulation.policy:", "max-items", "until-end = true"]);
    assert_eq!(field_problems(&graph), [("accumulation.policy".to_owned(), PolicyProblem::Unbounded)]);
    graph.nodes[1].accumulation.as_mut().unwrap().policy = AccumulatorPolicy::until_end();
    validate(&graph).unwrap();
    graph.nodes[1].accumulation = None;
    assert!(matches!(
        only_error(&graph, &["stage \"b\"", "accumulation"]),
        GraphError::NoAccumulation { .. }
    ));
}

#[test]
fn fault_21_spilling_without_a_directory_is_refused() {
    let mut graph = three(StageKind::Accumulator);
    graph.nodes[1].accumulation.as_mut().unwrap().policy.spill_allowed = true;
    let error = only_error(&graph, &["stage \"b\"", "spill-allowed", "configure one"]);
    assert!(matches!(error, GraphError::NoSpillDirectory { .. }));
    let with_directory = ValidationContext { spill_dir: true, ..context() };
    graph.validate(&PolicyRegistry::default(), &with_directory).unwrap();
}

#[test]
fn fault_22_a_smallest_batch_above_the_largest_is_refused() {
    let problems = backpressure_problems(BackpressureStrategy::Adaptive { min_batch: 8, max_batch: 4 });
    let expected = PolicyProblem::MinAboveMax { min: 8, max: 4 };
    assert_eq!(problems, [("backpressure.adaptive.min-batch".to_owned(), expected)]);
}

#[test]
fn fault_23_credits_that_never_refill_are_refused() {
    for threshold in [10, 11] {
        let strategy = BackpressureStrategy::CreditBased { initial: 10, replenish_threshold: threshold };
        let expected = PolicyProblem::CreditsNeverRefill { initial: 10, threshold };
        let field = "backpressure.credit-based.replenish-threshold".to_owned();
        assert_eq!(backpressure_problems(strategy), [(field, expected)]);
    }
}

#[test]
fn fault_24_a_rate_or_burst_of_nothing_is_refused() {
    let problems = backpressure_problems(BackpressureStrategy::RateShaping { rate: 0, burst: 0 });
    let expected = [
        ("backpressure.rate-shaping.rate".to_owned(), PolicyProblem::ZeroRate),
        ("backpressure.rate-shaping.burst".to_owned(), PolicyProblem::ZeroBurst),
    ];
    assert_eq!(problems, expected);
}

#[test]
fn fault_24_rate_times_burst_never_overflows() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].backpressure =
        Some(BackpressureStrategy::RateShaping { rate: u32::MAX, burst: u32::MAX }.into());
    validate(&graph).expect("the product of the largest numbers fits 64 bits");
    let head = "[[nodes]]\nid = \"a\"\nkind = \"sink\"\n[nodes.backpressure.rate-shaping]\n";
    let error = PipelineGraph::from_toml(&format!("{head}rate = 4294967296\nburst = 1")).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (5, "nodes[0].backpressure.rate-shaping.rate"));
}

#[test]
fn fault_25_retries_without_end_or_wait_are_refused() {
    let (second, year) = (Duration::from_secs(1), Duration::from_secs(31_557_600));
    let retry = |max_retries, base, cap| {
        let mut graph = three(StageKind::Transform);
        graph.nodes[1].error_policy = ErrorPolicy::retry(max_retries, Backoff::new(base, cap)).into();
        graph
    };
    validate(&retry(10_000, second, second)).unwrap();
    let problem = |field: &str, problem| (format!("error-policy.retry.{field}"), problem);
    let found = field_problems(&retry(u32::MAX, Duration::ZERO, second));
    let many = problem("max-retries", PolicyProblem::TooManyRetries(u32::MAX));
    assert_eq!(found, [many, problem("backoff.base", PolicyProblem::ZeroDuration)]);
    let found = field_problems(&retry(300, second, year));
    assert_eq!(
        found,
        [problem("max-retries", PolicyProblem::RetryTimeOverflows { retries: 300, cap: year })]
    );
    let found = field_problems(&retry(1, second, Duration::MAX));
    assert_eq!(found, [problem("backoff.cap", PolicyProblem::DurationTooLong(Duration::MAX))]);
    let found = field_problems(&retry(1, year, second));
    assert_eq!(found, [problem("backoff.cap", PolicyProblem::CapBelowBase { base: year, cap: second })]);
    let mut graph = three(StageKind::Transform);
    let backoff = Backoff::new(second, second).with_jitter(101);
    let then = AfterRetries::Fail;
    graph.nodes[1].error_policy = ErrorPolicy::Retry { max_retries: 1, backoff, then, max_parked: 0 }.into();
    let jitter = problem("backoff.jitter-percent", PolicyProblem::NotAPercentage(101));
    assert_eq!(field_problems(&graph), [jitter, problem("max-parked", PolicyProblem::ZeroAmount)]);
}

#[test]
fn fault_26_a_breaker_that_cannot_work_is_refused() {
    let breaker = |error_threshold, window_size| CircuitBreakerPolicy {
        window_size,
        ..CircuitBreakerPolicy::on_errors(error_threshold)
    };
    let second = Duration::from_secs(1);
    let mut graph = three(StageKind::Transform);
    for share in [-0.1, 1.1, f64::INFINITY, f64::NAN] {
        graph.nodes[1].circuit_breaker = Some(breaker(share, second).into());
        let found = field_problems(&graph);
        let [(field, PolicyProblem::NotAShare(said))] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((field.as_str(), said.to_bits()), ("circuit-breaker.error-threshold", share.to_bits()));
    }
    graph.nodes[1].circuit_breaker = Some(breaker(0.5, Duration::ZERO).into());
    let expected = ("circuit-breaker.window-size".to_owned(), PolicyProblem::ZeroDuration);
    assert_eq!(field_problems(&graph), [expected]);
    let bad = CircuitBreakerPolicy { slow_call_threshold: 1.5, half_open_probes: 0, ..breaker(0.5, second) };
    graph.nodes[1].circuit_breaker = Some(bad.into());
    let slow = ("circuit-breaker.slow-call-threshold".to_owned(), PolicyProblem::NotAShare(1.5));
    let probes = ("circuit-breaker.half-open-probes".to_owned(), PolicyProblem::ZeroAmount);
    assert_eq!(field_problems(&graph), [slow, probes]);
    for share in [0.0, 1.0] {
        graph.nodes[1].circuit_breaker = Some(breaker(share, second).into());
        validate(&graph).unwrap();
    }
}

#[test]
fn fault_27_a_policy_that_is_not_in_the_registry_is_named_with_its_table() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[0].buffer = Some(PolicyRef::named("w"));
    graph.nodes[1].backpressure = Some(PolicyRef::named("x"));
    graph.nodes[1].error_policy = PolicyRef::named("y");
    graph.nodes[2].circuit_breaker = Some(PolicyRef::named("z"));
    graph.edges[0].channel.buffer = Some(PolicyRef::named("v"));
    let messages: Vec<_> = errors(&graph).iter().map(ToString::to_string).collect();
    let expected = [
        ["stage \"a\", field buffer:", "\"w\"", "buffer-policies"],
        ["stage \"b\", field backpressure:", "\"x\"", "backpressure-policies"],
        ["stage \"b\", field error-policy:", "\"y\"", "error-policies"],
        ["stage \"c\", field circuit-breaker:", "\"z\"", "circuit-breaker-policies"],
        ["edge 0", "field channel.buffer:", "\"v\""],
    ];
    assert_eq!(messages.len(), expected.len());
    for (message, words) in messages.iter().zip(expected) {
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn fault_28_the_largest_graph_is_checked_without_recursion() {
    let mut graph = long_chain(MAX_STAGES);
    let check = move || {
        assert!(validate(&graph).unwrap().order().iter().copied().eq(0..MAX_STAGES));
        // The same as one cycle: the search for it must not recurse either.
        graph.nodes.iter_mut().for_each(|node| node.kind = StageKind::Transform);
        graph.edges.push(Edge::new(format!("s{}", MAX_STAGES - 1), "s0"));
        let error = only_error(&graph, &["100000 stages"]);
        assert!(error.to_string().len() < 1000);
        let GraphError::Cycle { stages } = error else { panic!("no cycle") };
        assert_eq!(stages.len(), MAX_STAGES);
    };
    // A stack that one frame for each stage would overflow many times.
    let builder = std::thread::Builder::new().stack_size(256 * 1024);
    builder.spawn(check).unwrap().join().unwrap();
}

#[test]
fn fault_28_a_graph_above_the_limit_is_refused_at_once() {
    let error = only_error(&long_chain(MAX_STAGES + 1), &["100001 stages", "100000"]);
    assert_eq!(error, GraphError::TooManyStages(MAX_STAGES + 1));
}

#[test]
fn fault_29_weights_that_are_no_weights_are_refused() {
    let with = |weights: &[(&str, f64)]| {
        let mut graph = three(StageKind::Accumulator);
        let owned = weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        graph.nodes[1].accumulation.as_mut().unwrap().progress_weights = owned;
        graph
    };
    validate(&with(&[("root", 1.0), ("extra", 0.0)])).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let found = field_problems(&with(&[("good", 1.0), ("root", bad)]));
        let [(field, PolicyProblem::BadWeight(said))] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((field.as_str(), said.to_bits()), ("accumulation.progress-weights.root", bad.to_bits()));
    }
    for weights in [&[("a", 0.0)][..], &[("a", f64::MAX), ("b", f64::MAX)][..]] {
        let found = field_problems(&with(weights));
        assert!(matches!(found.as_slice(), [(_, PolicyProblem::BadWeightSum(_))]), "{found:?}");
    }
}

#[test]
fn fault_30_a_negative_duration_is_refused_when_read_with_its_field_and_line() {
    let head = "[[nodes]]\nid = \"a\"\nkind = \"accumulator\"\n[nodes.accumulation.policy]\n";
    let toml = |ttl: &str| PipelineGraph::from_toml(&format!("{head}completeness-ttl = {ttl}\n"));
    assert!(toml("\"5s\"").is_ok());
    for ttl in ["\"-5s\"", "-5"] {
        let error = toml(ttl).unwrap_err();
        assert_eq!(error.line, 5);
        assert_eq!(error.field, "nodes[0].accumulation.policy.completeness-ttl");
        assert!(error.message.contains("cannot be negative"), "{error}");
    }
    let json = "{\"nodes\": [{\"id\": \"a\", \"kind\": \"sink\",\n \"error-policy\": {\"retry\": \
                {\"max-retries\": 1, \"backoff\": {\"base\": \"-1ms\", \"cap\": \"1s\"}}}}]}";
    let error = PipelineGraph::from_json(json).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (2, "nodes[0].error-policy.retry.backoff.base"));
    assert!(error.message.contains("cannot be negative"), "{error}");
    let text = "[circuit-breaker-policies.db]\nerror-threshold = 0.5\nlatency-threshold = \"-1s\"\n";
    let error = PolicyRegistry::from_toml(text).unwrap_err();
    let place = error.as_slice()[0].place();
    assert_eq!(place.to_string(), "circuit-breaker-policies.db.latency-threshold (line 3, column 21)");
}

#[test]
fn fault_27_a_bad_policy_of_the_registry_is_named() {
    let mut graph = three(StageKind::Transform);
    graph.nodes[1].buffer = Some(PolicyRef::named("tiny"));
    let mut registry = PolicyRegistry::default();
    registry.buffer_policies.insert("tiny".into(), BufferPolicy::new(0, DropPolicy::Block));
    let found = graph.validate(&registry, &context()).unwrap_err();
    let [GraphError::Policy { problem: FieldProblem { .. }, name: Some(name), .. }] = found.errors() else {
        panic!("{found}")
    };
    assert_eq!(name, "tiny");
    let message = found.to_string();
    assert!(message.contains("buffer.capacity (policy \"tiny\" of the registry): is 0"), "{message}");
}
