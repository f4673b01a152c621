//! Configuration files: what they say is done, and what is wrong with them is named with its place.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use corelane::config::Config;
use corelane::driver::Simulation;
use corelane::flow::{Collected, Pipeline, PipelineBuilder};
use corelane::graph::GraphErrors;
use corelane::partition::MergePolicy;
use corelane::policy::{BackpressureStrategy, BufferPolicy, DropPolicy, ErrorPolicy, Parallelism};

/// `n -> half -> keep =(small, large)=> join -> out`, with policies of its own at `half`.
fn build(config: &Config) -> Result<(Pipeline, Collected<u64>), GraphErrors> {
    let p = PipelineBuilder::new("p").with_config(config);
    let [small, large] = p
        .generate("n", 100, |i| i)
        .try_map("half", |x: &u64| if x.is_multiple_of(10) { Err("ten") } else { Ok(x / 2) })
        .on_error(ErrorPolicy::Fail)
        .input_buffer(BufferPolicy { capacity: 8, ..BufferPolicy::default() })
        .map("next", |x| x)
        .split("keep", ["small", "large"], |x| *x < 20);
    let inputs = [small.into_input(), large.into_input()];
    let out = p.merge("join", MergePolicy::Fair, inputs).collect("out");
    Ok((p.build()?, out))
}

fn config(text: &str) -> Config {
    Config::from_toml(text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn what_a_configuration_says_goes_before_the_code() {
    let config = config(
        r#"
        [policies.buffer-policies]
        tiny = { capacity = 2 }
        [core-map.stages]
        half = "0"
        [core-map.cores]
        "*" = "park"
        [stages.half]
        parallelism = { fixed = 2 }
        buffer = { ref = "tiny" }
        error-policy = "ignore"
        [stages.join]
        buffer = { capacity = 16 }
        [stages.join.inputs."keep/large"]
        buffer = { capacity = 32, drop-policy = "drop-newest" }
        [stages.n]
        buffer = { capacity = 64 }
        "#,
    );
    let (pipeline, out) = build(&config).unwrap();
    let (graph, validated) = (pipeline.graph(), pipeline.validated());
    let parallelism: Vec<_> = graph.nodes[..4].iter().map(|node| node.parallelism).collect();
    let two = Parallelism::Fixed(2);
    assert_eq!(parallelism, [Parallelism::Sequential, two, two, two], "stages behind it follow suit");
    let rooms: Vec<_> = validated.edges().iter().map(|edge| (edge.capacity, edge.drop_policy)).collect();
    let at = |from: &str, label: Option<&str>| {
        let found = graph.edges.iter().position(|e| e.from == from && e.label.as_deref() == label);
        rooms[found.unwrap()]
    };
    assert_eq!(
        at("n", None),
        (2, DropPolicy::Block),
        "what half says of its input goes before what n says of its output"
    );
    assert_eq!(at("keep", Some("small")), (16, DropPolicy::Block));
    assert_eq!(at("keep", Some("large")), (32, DropPolicy::DropNewest));
    assert_eq!(config.core_map.as_ref().unwrap().to_string(), "half=0;@*=park");

    let result = Simulation::new(1).run(pipeline).unwrap().result;
    result.account.verify().unwrap();
    assert!(result.success, "the stage ignores its errors: {}", result.outcome);
    assert_eq!(result.account.stages[&"half".parse().unwrap()].ignored, 10);
    assert!(out.take().len() <= 90);
}

#[test]
fn a_buffer_takes_the_place_of_a_bounded_strategy_of_the_code() {
    let text = "[stages.b]\nbuffer = { capacity = 4 }";
    for (strategy, expected) in [
        (BackpressureStrategy::Bounded { capacity: 64, drop_policy: DropPolicy::DropNewest }, None),
        (BackpressureStrategy::RateShaping { rate: 1, burst: 1 }, Some(())),
    ] {
        let p = PipelineBuilder::new("p");
        p.generate("a", 1, |i| i).map("b", |x| x).for_each("c", drop);
        let mut graph = p.build().unwrap().graph().clone();
        graph.edges[0].channel.backpressure = Some(strategy.into());
        let registry = corelane::policy::PolicyRegistry::default();
        assert!(graph.apply(&config(text).stages, &registry).is_empty());
        let edge = &graph.validate(&registry, &Default::default()).unwrap().edges()[0].clone();
        assert_eq!((edge.capacity, edge.drop_policy), (4, DropPolicy::Block));
        assert_eq!(edge.backpressure.map(drop), expected);
    }
}

#[test]
fn without_settings_the_code_is_as_it_was() {
    let plain = build(&Config::default()).unwrap().0.graph().clone();
    assert_eq!(build(&config("")).unwrap().0.graph(), &plain);
    assert_eq!(build(&config("[stages.half]\n[policies]\n[core-map]")).unwrap().0.graph(), &plain);
}

#[test]
fn everything_wrong_with_the_texts_is_reported_at_once_with_file_line_and_column_faults_40_42() {
    let first = "\
[stages.half]
parallelism = { fixed = 0 }
buffer = { capacity = 99999999999 }
bufer = { capacity = 1 }
[stages.\"a/b\"]
buffer = { capacity = 1 }
[stages.join.inputs.keep]
colour = 1
[core-map.stages]
half = \"3-1\"
[policy]
";
    let second = "\
[stages]
n = 7
[stages.half]
error-policy = \"panic\"
buffer = { capacity = 1 }
[policies.buffer-policies]
tiny = { capacity = 0 }
[core-map]
";
    let errors = Config::from_files([("a.toml", first), ("b.toml", second)]).unwrap_err();
    let expected = [
        ("a.toml:2:15: stages.half.parallelism: is fixed at 0", ""),
        ("a.toml:3:23: stages.half.buffer.capacity: is 99999999999", ""),
        ("a.toml:4:1: stages.half.bufer: there is no such field; did you mean buffer?", ""),
        ("a.toml:5:9: stages.a/b: \"a/b\" cannot be the name of a stage", ""),
        ("a.toml:8:1: stages.join.inputs.keep.colour: there is no such field", "buffer, backpressure"),
        ("a.toml:10:9: half: cores \"3-1\"", ""),
        ("a.toml:11:2: policy: there is no such field; there are policies, core-map, memory, stages", ""),
        ("b.toml:2:5: stages.n: expected a table, found integer", ""),
        ("b.toml:4:16: stages.half.error-policy: unknown variant `panic`", ""),
        ("b.toml:5:1: stages.half.buffer: is given already at a.toml:3:1: stages.half.buffer", ""),
        ("b.toml:7:21: policies.buffer-policies.tiny.capacity: is 0", ""),
        ("b.toml:8:2: core-map: is given already at a.toml:9:2: core-map", ""),
    ];
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), expected.len(), "{messages:#?}");
    for (message, (start, words)) in messages.iter().zip(expected) {
        assert!(message.starts_with(start) && message.contains(words), "{message}\n{start} .. {words}");
    }
    assert_eq!(errors.iter().filter(|error| error.is_core_map()).count(), 1);
}

#[test]
fn what_only_the_graph_can_tell_is_found_at_build_and_has_its_place() {
    let text = "\
[stages.haf]
buffer = { capacity = 1 }
[stages.half]
error-policy = { ref = \"patience\" }
[stages.join.inputs.kep]
buffer = { capacity = 1 }
[stages.join.inputs.\"keep/large\"]
buffer = { ref = \"wide\" }
[policies.error-policies]
patient = \"ignore\"
";
    let (config, errors) = Config::examine([("c.toml", text)]);
    assert!(errors.is_empty(), "{errors:?}");
    let Err(errors) = build(&config) else { panic!("accepted") };
    let mut found: Vec<_> = errors
        .errors()
        .iter()
        .map(|error| (config.place_of(error).unwrap().at.unwrap().0, error.to_string()))
        .collect();
    found.sort();
    let expected = [
        (1, "did you mean half?"),
        (4, "did you mean patient?"),
        (5, "keep/small, keep/large"),
        (8, "there are none"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((line, message), (expected, words)) in found.iter().zip(expected) {
        assert!(*line == expected && message.contains(words), "{line} {message}\n{expected} {words}");
    }
    assert!(errors.errors().iter().all(|error| !config.is_known(error)));
}

#[test]
fn what_the_texts_have_wrong_is_not_reported_again_by_the_graph() {
    let text = "\
[policies.buffer-policies]
none = { capacity = 0 }
odd = { capacity = \"x\" }
[stages.half]
buffer = { ref = \"none\" }
[stages.join]
buffer = { ref = \"odd\" }
[stages.out]
buffer = { capacity = 0 }
";
    let (config, errors) = Config::examine([("c.toml", text)]);
    assert_eq!(errors.len(), 3, "{errors:#?}");
    let Err(errors) = build(&config) else { panic!("accepted") };
    assert!(errors.errors().iter().all(|error| config.is_known(error)), "{errors}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_refused_with_places(text in "(\\[[a-z.\"-]{0,20}\\]\n|[a-z-]{1,8} = .{0,20}\n|.{0,10}){0,12}") {
        if let Err(errors) = Config::from_files([("f", text.as_str())]) {
            let placed = errors.iter().all(|error| error.to_string().starts_with("f:"));
            proptest::prop_assert!(placed, "{errors}");
        }
    }
}

#[test]
fn what_is_said_of_memory_is_read_and_what_is_wrong_with_it_is_named() {
    let text = r#"
        [memory]
        budget-bytes = 1_000_000
        [memory.pool]
        limit-bytes = 500_000
        checked = true
        preallocate = [{ size = 4096, count = 8 }]
    "#;
    let memory = config(text).memory;
    let pool = memory.pool.unwrap();
    assert_eq!((memory.budget_bytes, pool.limit_bytes, pool.checked), (Some(1_000_000), 500_000, true));
    assert_eq!((pool.huge_pages, pool.preallocate[0].count), (false, 8));
    assert_eq!(config("").memory, Default::default());

    let wrong = [
        ("memory = 3", "expected a table"),
        ("[memory]\nbudget = 3", "budget-bytes"),
        ("[memory]\nbudget-bytes = 0", "memory.budget-bytes"),
        ("[memory]\nbudget-bytes = -1", "memory.budget-bytes"),
        ("[memory]\nbudget-bytes = 1e99", "memory.budget-bytes"),
        ("[memory.pool]\nlimit-bytes = 0", "memory.pool.limit-bytes"),
        ("[memory.pool]\nslab-bytes = 4096", "unknown field `slab-bytes`"),
        ("[memory.pool]\nlimit-bytes = 4096\npreallocate = [{ size = 4096, count = 2 }]", "8192"),
        ("[memory.pool]\npreallocate = [{ size = 9_000_000_000_000, count = 9_000_000_000 }]", "preallocate"),
    ];
    for (text, said) in wrong {
        let error = Config::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let twice = [("a", "[memory]\nbudget-bytes = 5"), ("b", "[memory]\nbudget-bytes = 5")];
    assert!(Config::from_files(twice).unwrap_err().to_string().contains("given already at a"));
}
