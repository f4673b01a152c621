//! Graphs as text: what is printed reads back as the same graph, and what is wrong is named.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::graph::{ChannelDescriptor, ChannelOrdering, Edge, PipelineGraph, StageNode};
use corelane::model::StageKind;
use corelane::policy::{
    AccumulationDescriptor, AccumulatorPolicy, AfterRetries, AutoRebalance, Backoff, BackpressureStrategy,
    BufferPolicy, CircuitBreakerPolicy, DropPolicy, ErrorPolicy, MergePolicy, Parallelism, PolicyRef,
    PolicyRegistry, RebalancePolicy, SettingError, TimeDomain, WhileOpen,
};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5000, any::<u64>()]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u64>().prop_map(Duration::from_nanos),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
        (0u64..100_000).prop_map(Duration::from_millis),
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("JSON has finite numbers only", |x| x.is_finite())
}

fn drop_policy() -> impl Strategy<Value = DropPolicy> {
    select(vec![DropPolicy::DropOldest, DropPolicy::DropNewest, DropPolicy::Block])
}

fn buffer() -> impl Strategy<Value = BufferPolicy> {
    let max_bytes = proptest::option::of(amount());
    (amount(), drop_policy(), max_bytes).prop_map(|(capacity, drop_policy, max_bytes)| BufferPolicy {
        capacity,
        drop_policy,
        max_bytes,
    })
}

fn backpressure() -> impl Strategy<Value = BackpressureStrategy> {
    use BackpressureStrategy::{Adaptive, Bounded, CreditBased, RateShaping, ReactivePull};
    let pair = || (any::<u32>(), any::<u32>());
    prop_oneof![
        (amount(), drop_policy()).prop_map(|(capacity, drop_policy)| Bounded { capacity, drop_policy }),
        pair().prop_map(|(initial, replenish_threshold)| CreditBased { initial, replenish_threshold }),
        pair().prop_map(|(rate, burst)| RateShaping { rate, burst }),
        pair().prop_map(|(min_batch, max_batch)| Adaptive { min_batch, max_batch }),
        any::<u32>().prop_map(|window_size| ReactivePull { window_size }),
    ]
}

fn error_policy() -> impl Strategy<Value = ErrorPolicy> {
    let then = select(vec![AfterRetries::DeadLetter, AfterRetries::Fail, AfterRetries::Ignore]);
    prop_oneof![
        select(vec![ErrorPolicy::DeadLetter, ErrorPolicy::Fail, ErrorPolicy::Ignore]),
        (any::<u32>(), duration(), duration(), any::<u8>(), then, any::<u32>()).prop_map(
            |(max_retries, base, cap, jitter, then, max_parked)| {
                let backoff = Backoff::new(base, cap).with_jitter(jitter);
                ErrorPolicy::Retry { max_retries, backoff, then, max_parked }
            }
        ),
    ]
}

fn breaker() -> impl Strategy<Value = CircuitBreakerPolicy> {
    let while_open = select(vec![WhileOpen::Wait, WhileOpen::DeadLetter, WhileOpen::PauseSources]);
    let amounts = (any::<u32>(), any::<u32>());
    (finite(), finite(), duration(), duration(), duration(), amounts, while_open).prop_map(
        |(
            error_threshold,
            slow_call_threshold,
            latency_threshold,
            window_size,
            cooldown_period,
            amounts,
            while_open,
        )| {
            let (minimum_throughput, half_open_probes) = amounts;
            CircuitBreakerPolicy {
                error_threshold,
                latency_threshold,
                slow_call_threshold,
                window_size,
                minimum_throughput,
                cooldown_period,
                half_open_probes,
                while_open,
            }
        },
    )
}

fn accumulation() -> impl Strategy<Value = AccumulationDescriptor> {
    let limits = (of(amount()), of(amount()), of(duration()), of(duration()));
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let weights = prop::collection::btree_map(any::<String>(), finite(), 0..3);
    (limits, switches, parallelism(), weights).prop_map(
        |(limits, switches, engine_hint, progress_weights)| {
            let (max_items, max_bytes, max_latency, completeness_ttl) = limits;
            let (partial_flush, spill_allowed, until_end, event) = switches;
            let clock = if event { TimeDomain::Event } else { TimeDomain::Processing };
            let policy = AccumulatorPolicy {
                max_items,
                max_bytes,
                max_latency,
                completeness_ttl,
                partial_flush,
                spill_allowed,
                memory_bytes: max_bytes,
                clock,
                until_end,
            };
            AccumulationDescriptor { policy, engine_hint, progress_weights }
        },
    )
}

fn parallelism() -> impl Strategy<Value = Parallelism> {
    prop_oneof![
        select(vec![Parallelism::Sequential, Parallelism::CpuBound, Parallelism::IoBound]),
        any::<u32>().prop_map(Parallelism::Fixed),
    ]
}

fn named_or<P: std::fmt::Debug + Clone>(
    policy: impl Strategy<Value = P>,
) -> impl Strategy<Value = PolicyRef<P>> {
    prop_oneof![policy.prop_map(PolicyRef::Inline), any::<String>().prop_map(PolicyRef::Named)]
}

fn stage() -> impl Strategy<Value = StageNode> {
    use StageKind::{Accumulator, Branch, Merge, Sink, Source, Transform};
    let kind = select(vec![Source, Transform, Accumulator, Branch, Merge, Sink]);
    let types = (of(any::<String>()), of(any::<String>()));
    let policies = (
        of(named_or(buffer())),
        of(named_or(backpressure())),
        named_or(error_policy()),
        of(named_or(breaker())),
    );
    let merge = of(select(vec![
        MergePolicy::Fair,
        MergePolicy::Priority,
        MergePolicy::ByTimestamp,
        MergePolicy::Turns,
    ]));
    let rest = (parallelism(), of(accumulation()), merge, any::<[bool; 2]>(), of(rebalance()));
    (any::<String>(), kind, types, policies, rest).prop_map(|(id, kind, types, policies, rest)| StageNode {
        in_type: types.0,
        out_type: types.1,
        parallelism: rest.0,
        accumulation: rest.1,
        buffer: policies.0,
        backpressure: policies.1,
        error_policy: policies.2,
        circuit_breaker: policies.3,
        merge: rest.2,
        has_default: rest.3[0],
        assume_progress: rest.3[1],
        rebalance: rest.4,
        ..StageNode::new(id, kind)
    })
}

fn rebalance() -> impl Strategy<Value = RebalancePolicy> {
    let automatic = (duration(), finite(), any::<u32>(), duration()).prop_map(
        |(period, imbalance, periods, cooldown)| AutoRebalance { period, imbalance, periods, cooldown },
    );
    (any::<u32>(), of(automatic)).prop_map(|(shards, automatic)| RebalancePolicy { shards, automatic })
}

fn edge() -> impl Strategy<Value = Edge> {
    let ordering = prop_oneof![
        select(vec![ChannelOrdering::Unordered, ChannelOrdering::Ordered]),
        of(any::<String>()).prop_map(|key| ChannelOrdering::PartitionOrdered { key }),
    ];
    let channel = (amount(), ordering, of(named_or(buffer())), of(named_or(backpressure())));
    (any::<String>(), any::<String>(), of(any::<String>()), channel).prop_map(|(from, to, label, channel)| {
        let (buffer_size, ordering, buffer, backpressure) = channel;
        Edge { from, to, label, channel: ChannelDescriptor { buffer_size, ordering, buffer, backpressure } }
    })
}

fn graph() -> impl Strategy<Value = PipelineGraph> {
    let texts = prop::collection::btree_map(any::<String>(), any::<String>(), 0..3);
    let nodes = prop::collection::vec(stage(), 0..4);
    let edges = prop::collection::vec(edge(), 0..4);
    (of(any::<String>()), texts, nodes, edges).prop_map(|(id, metadata, nodes, edges)| PipelineGraph {
        id,
        metadata,
        nodes,
        edges,
    })
}

fn registry() -> impl Strategy<Value = PolicyRegistry> {
    fn table<P: std::fmt::Debug>(
        policy: impl Strategy<Value = P>,
    ) -> impl Strategy<Value = BTreeMap<String, P>> {
        prop::collection::btree_map(any::<String>(), policy, 0..3)
    }
    (table(error_policy()), table(backpressure()), table(breaker()), table(buffer())).prop_map(|tables| {
        PolicyRegistry {
            error_policies: tables.0,
            backpressure_policies: tables.1,
            circuit_breaker_policies: tables.2,
            buffer_policies: tables.3,
        }
    })
}

proptest! {
    /// C22.
    #[test]
    fn c22_a_printed_graph_reads_back_the_same(graph in graph()) {
        let toml = graph.to_toml().unwrap();
        prop_assert_eq!(PipelineGraph::from_toml(&toml).unwrap(), graph.clone(), "{}", toml);
        let json = graph.to_json().unwrap();
        prop_assert_eq!(PipelineGraph::from_json(&json).unwrap(), graph, "{}", json);
    }

    #[test]
    fn c22_a_printed_registry_reads_back_the_same(registry in registry()) {
        let toml = registry.to_toml().unwrap();
        match PolicyRegistry::from_toml(&toml) {
            Ok(read) => prop_assert_eq!(&read, &registry, "{}", toml),
            // Policies that cannot work are refused where they stand.
            Err(errors) => {
                let policies = errors.iter().all(|error| matches!(error, SettingError::Policy { .. }));
                prop_assert!(policies, "{}\n{}", errors, toml);
            }
        }
        let json = registry.to_json().unwrap();
        prop_assert_eq!(PolicyRegistry::from_json(&json).unwrap(), registry, "{}", json);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = PipelineGraph::from_toml(&text);
        let _ = PipelineGraph::from_json(&text);
        let _ = PolicyRegistry::from_toml(&text);
    }
}

const HEAD: &str = "[[nodes]]\nid = \"a\"\nkind = \"sink\"\n";

#[test]
fn durations_are_written_as_text() {
    let mut node = StageNode::new("a", StageKind::Accumulator);
    let policy = AccumulatorPolicy::ttl(Duration::from_secs(90));
    node.accumulation = Some(AccumulationDescriptor { policy, ..Default::default() });
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(30));
    node.error_policy = ErrorPolicy::retry(3, backoff).then(AfterRetries::Fail).into();
    let graph = PipelineGraph { nodes: vec![node], ..Default::default() };
    for text in [graph.to_toml().unwrap(), graph.to_json().unwrap()] {
        assert!(["\"1m 30s\"", "\"5ms\"", "\"30s\""].iter().all(|words| text.contains(words)), "{text}");
    }
}

#[test]
fn unknown_fields_are_refused_by_name_at_every_depth() {
    for (line, text) in [
        "colour = 1".to_owned(),
        format!("{HEAD}colour = 1"),
        format!("{HEAD}buffer = {{ capacity = 1, colour = 1 }}"),
        format!("{HEAD}buffer = {{ colour = 1, capacity = 1 }}"),
        format!("{HEAD}error-policy = {{ ref = \"x\", colour = 1 }}"),
        format!("{HEAD}backpressure = {{ rate-shaping = {{ rate = 1, burst = 1, colour = 1 }} }}"),
        format!("{HEAD}accumulation = {{ policy = {{ colour = 1 }} }}"),
        "[[edges]]\nfrom = \"a\"\nto = \"b\"\nchannel = { colour = 1 }".to_owned(),
        "[[edges]]\nfrom = \"a\"\nto = \"b\"\nchannel = { ordering = { partition-ordered = { colour = 1 } } }".into(),
    ]
    .iter()
    .map(|text| (text.lines().count(), text))
    {
        let error = PipelineGraph::from_toml(text).unwrap_err();
        assert!(error.message.contains("colour"), "{text}\n{error}");
        assert_eq!(error.line, line, "{text}\n{error}");
    }
    let error = PipelineGraph::from_json("{\"nodes\": [],\n \"colour\": 1}").unwrap_err();
    assert!(error.message.contains("`colour`") && error.line == 2, "{error}");
    let error = PolicyRegistry::from_toml("[colour-policies]").unwrap_err().to_string();
    assert!(error.starts_with("colour-policies (line 1, column 2): there is no such field"), "{error}");
}

#[test]
fn what_is_missing_or_of_a_wrong_type_is_named_with_line_and_field() {
    let refused = |text: &str| PipelineGraph::from_toml(text).unwrap_err().to_string();
    let says = |text: &str, words: &[&str]| {
        let message = refused(text);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    says("[[nodes]]\nid = \"a\"\n", &["line 1", "nodes[0]", "missing field `kind`"]);
    says("[[nodes]]\nid = 7\nkind = \"sink\"", &["TOML line 2, column 6, field nodes[0].id", "string"]);
    says("[[nodes]]\nid = \"a\"\nkind = \"sinks\"", &["line 3", "nodes[0].kind", "unknown variant `sinks`"]);
    says(&format!("{HEAD}error-policy = \"panic\""), &["line 4", "nodes[0].error-policy", "`panic`"]);
    says(&format!("{HEAD}buffer = {{ capacity = \"x\" }}"), &["line 4", "nodes[0].buffer.capacity"]);
    says(&format!("{HEAD}buffer = {{ ref = 1 }}"), &["line 4", "nodes[0].buffer"]);
    says("id = \"a\"\nid = \"b\"", &["line 2", "duplicate key"]);
    says("id = ", &["line 1"]);
    let ttl =
        |text: &str| refused(&format!("{HEAD}accumulation = {{ policy = {{ max-latency = {text} }} }}"));
    assert!(ttl("\"soon\"").contains("\"soon\" is not a duration"), "{}", ttl("\"soon\""));
    assert!(ttl("5").contains("a duration as text"), "{}", ttl("5"));
    let error = PipelineGraph::from_json("{\"nodes\": []} x").unwrap_err();
    assert_eq!((error.line, error.column), (1, 15), "{error}");
}

#[test]
fn what_a_text_form_has_no_words_for_is_refused_when_written() {
    let mut node = StageNode::new("a", StageKind::Accumulator);
    let mut accumulation = AccumulationDescriptor::default();
    accumulation.progress_weights.insert("root".into(), f64::NAN);
    node.accumulation = Some(accumulation);
    let graph = PipelineGraph { nodes: vec![node], ..Default::default() };
    let error = graph.to_json().unwrap_err().to_string();
    assert!(error.contains("nodes[0].accumulation.progress-weights.root"), "{error}");
    assert!(graph.to_toml().unwrap().contains("nan"));
}
