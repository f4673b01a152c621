//! Proposed core maps: what is expected on each made-up machine, and what holds on all of them.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panic; clippy sees only the #[test] functions as tests"
)]

mod fake_machine;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use corelane::graph::{ChannelOrdering, Edge, PipelineGraph, StageNode, ValidatedGraph, ValidationContext};
use corelane::model::StageKind;
use corelane::plan::{
    Carriage, Conflict, Distance, Proposal, Reason, Span, Wishes, conflicts, hops, plan, propose,
};
use corelane::policy::{IdlePolicy, Parallelism, PolicyRegistry};
use corelane::topology::{CoreLinks, CoreMap, CpuList, Machine, Placement};
use fake_machine::{FakeMachine, list};
use proptest::prelude::*;

/// `read -> decode -> fold -> write`: one instance, one per core twice with an exchange between them, one.
fn spread() -> ValidatedGraph {
    graph(&[Parallelism::Sequential, Parallelism::CpuBound, Parallelism::CpuBound, Parallelism::Sequential])
}

fn graph(parallelism: &[Parallelism; 4]) -> ValidatedGraph {
    let node = |(id, kind, parallelism)| StageNode { parallelism, ..StageNode::new(id, kind) };
    let kinds = [StageKind::Source, StageKind::Transform, StageKind::Transform, StageKind::Sink];
    let ids = ["read", "decode", "fold", "write"];
    let nodes = (0..4).map(|i| node((ids[i], kinds[i], parallelism[i]))).collect();
    let mut edges: Vec<Edge> = ids.windows(2).map(|pair| Edge::new(pair[0], pair[1])).collect();
    edges[1].channel.ordering = ChannelOrdering::PartitionOrdered { key: Some("key".into()) };
    let graph = PipelineGraph { id: Some("spread".into()), nodes, edges, ..PipelineGraph::default() };
    graph.validate(&PolicyRegistry::default(), &ValidationContext::default()).unwrap()
}

/// The gallery as it is read, once for all tests.
fn machines() -> &'static [(&'static str, Machine)] {
    static MACHINES: OnceLock<Vec<(&str, Machine)>> = OnceLock::new();
    let read = |(name, fake): (&'static str, FakeMachine)| (name, Machine::of_tree(fake.root()).unwrap());
    MACHINES.get_or_init(|| FakeMachine::gallery().into_iter().map(read).collect())
}

fn machine(name: &str) -> Machine {
    machines().iter().find(|(other, _)| *other == name).unwrap().1.clone()
}

fn within(span: Span) -> Wishes {
    Wishes { span, ..Wishes::default() }
}

fn proposed(machine: &Machine, wishes: &Wishes) -> Proposal {
    propose(&spread(), machine, wishes).unwrap()
}

fn resolve(proposal: &Proposal, machine: &Machine) -> Placement {
    proposal.map.resolve(machine, &spread().parallelism()).unwrap()
}

#[test]
fn every_machine_of_the_gallery_has_its_expected_plan() {
    // Core numbers count the allowed CPUs: in the containers core 0 is not CPU 0.
    let expected = [
        ("desktop", "read=1;write=1;*=2-3"),
        // One thread of each core, and CPU 0 for the rest; CPU 4 is the most central of seven.
        ("smt-server", "read=4;write=4;*=1-3,5-7"),
        // The other node is left to everything else.
        ("two-sockets", "read=0;write=0;*=1-3"),
        ("four-sockets", "read=0;write=1;*=0-1"),
        ("chiplets", "read=4;write=5;*=1-3,6-15"),
        // The fast cores only.
        ("big-little", "read=4;write=4;*=5-7"),
        ("hybrid-laptop", "read=0;write=2;*=0,2"),
        ("v1-container", "read=0;write=1;*=0-1;@*=park"),
        // Six CPUs allowed, one and a half of them paid for.
        ("v2-container", "*=0;@*=park"),
        ("node-without-memory", "read=0;write=0;*=1-3"),
        ("offline-cpus", "read=4;write=4;*=1-3,5-7"),
        ("isolated-cpus", "read=4;write=4;*=5-7;@*=spin"),
        ("missing-files", "read=1;write=1;*=2-3"),
        ("taskset", "*=0"),
    ];
    assert_eq!(machines().len(), expected.len());
    for ((name, machine), (expected_name, map)) in machines().iter().zip(expected) {
        assert_eq!(
            (*name, proposed(machine, &Wishes::default()).map.to_string().as_str()),
            (expected_name, map)
        );
    }
}

#[test]
fn a_proposal_spreads_no_further_than_it_was_asked_to() {
    let chiplets = machine("chiplets");
    let cpus = |span| proposed(&chiplets, &within(span)).cpus;
    assert_eq!(cpus(Span::Cache), list("0-3"), "the first of four equal caches");
    assert_eq!(cpus(Span::Node), list("1-15"), "all cores of the node but one");
    let sockets = machine("four-sockets");
    let cpus = |span| proposed(&sockets, &within(span)).cpus;
    assert_eq!(cpus(Span::Node), list("0-1"));
    assert_eq!(cpus(Span::Machine), list("1-7"));
    let two = Wishes { cores: Some(4), ..within(Span::Machine) };
    assert_eq!(proposed(&sockets, &two).cpus, list("2-5"), "two nodes side by side in the ring");
}

#[test]
fn measured_latencies_go_before_what_files_say() {
    let desktop = Machine::flat(4);
    let near = |a: u32, b: u32| (a == 1 && b == 3) || (a == 3 && b == 1);
    let row = |a: u32| {
        (0..4)
            .map(|b| {
                if a == b {
                    0.0
                } else if near(a, b) {
                    40.0
                } else {
                    90.0
                }
            })
            .collect()
    };
    let links = CoreLinks {
        cpus: list("0-3"),
        one_way_ns: (0..4).map(row).collect(),
        items_per_s: vec![vec![0.0; 4]; 4],
    };
    links.check().unwrap();
    let wishes = Wishes { cores: Some(2), links: Some(links), ..Wishes::default() };
    let proposal = proposed(&desktop, &wishes);
    assert_eq!(proposal.cpus, list("1,3"));
    assert!(proposal.reasons.contains(&Reason::Nearest { cpus: list("1,3"), measured: true }));
    let files = Wishes { cores: Some(2), ..Wishes::default() };
    assert_eq!(proposed(&desktop, &files).cpus, list("1-2"));
}

#[test]
fn a_table_of_latencies_that_is_none_is_refused() {
    let links = CoreLinks { cpus: list("0-1"), one_way_ns: vec![vec![0.0, 1.0]; 2], items_per_s: vec![] };
    assert_eq!(links.check().unwrap_err().table, "items-per-s");
    let links = CoreLinks { one_way_ns: vec![vec![0.0, f64::NAN]; 2], ..links };
    assert_eq!(links.check().unwrap_err().table, "one-way-ns");
    assert_eq!(links.between(0, 2), None);
}

#[test]
fn stages_with_one_instance_are_one_core_and_a_fixed_number_takes_no_more_than_it_needs() {
    let desktop = machine("desktop");
    let one = Parallelism::Sequential;
    let proposal = propose(&graph(&[one, one, one, one]), &desktop, &Wishes::default()).unwrap();
    assert_eq!(proposal.map.to_string(), "*=1");
    assert_eq!(proposal.reasons.last(), Some(&Reason::Nearest { cpus: list("1"), measured: false }));
    let server = machine("smt-server");
    let two = Parallelism::Fixed(2);
    let proposal = propose(&graph(&[one, two, two, one]), &server, &Wishes::default()).unwrap();
    assert!(proposal.reasons.contains(&Reason::AsManyAsInstances { cores: 3 }), "{:?}", proposal.reasons);
    assert_eq!(proposal.cpus.len(), 3);
    let caches: BTreeSet<u32> = proposal.cpus.iter().map(|cpu| server.cpu(cpu).unwrap().l3).collect();
    assert_eq!(caches.len(), 1, "{}", proposal.cpus);
}

#[test]
fn a_step_has_the_slots_of_its_smallest_ring_and_of_an_exchange_those_of_two() {
    let graph = spread();
    let slots = |stages: &str| {
        let rings = "read->decode=1024;decode->fold=256;fold->write=4096";
        let map: CoreMap = format!("{stages};{rings}").parse().unwrap();
        let placement = map.resolve(&machine("two-sockets"), &graph.parallelism()).unwrap();
        plan(&graph, &placement).unwrap().slots_of_a_step(&graph)
    };
    assert_eq!(slots("read=0;decode=0,1;fold=0,1;write=8"), [Some(512), Some(512), Some(4096)]);
    // What one instance sends is spread over two rings, and each of those is all that the other end reads.
    assert_eq!(slots("read=0;decode=0;fold=1,2;write=8"), [Some(512), Some(256), Some(256), Some(4096)]);
    assert_eq!(slots("read=0;decode=0;fold=0;write=0"), [None]);
}

#[test]
fn hops_say_what_each_ring_crosses() {
    let sockets = machine("two-sockets");
    let graph = spread();
    let map: CoreMap = "read=0;decode=0,1,4;fold=0,1,4;write=8".parse().unwrap();
    let placement = map.resolve(&sockets, &graph.parallelism()).unwrap();
    let planned = plan(&graph, &placement).unwrap();
    assert_eq!(planned.edges[1].carriage, Carriage::Exchange);
    let far = Distance::Nodes(21);
    let rings: Vec<Vec<(Distance, usize)>> = hops(&graph, &planned, &placement, &sockets, None)
        .iter()
        .map(|hops| hops.rings.iter().map(|(distance, rings)| (*distance, *rings)).collect())
        .collect();
    assert_eq!(
        rings,
        [
            vec![(Distance::Core, 1), (Distance::Cache, 1), (far, 1)],
            vec![(Distance::Core, 3), (Distance::Cache, 2), (far, 4)],
            vec![(Distance::Siblings, 1), (Distance::Cache, 1), (far, 1)],
        ]
    );
    let found = conflicts(&graph, &planned, &placement, &sockets);
    let crossing = Conflict::ExchangeAcrossNodes { edge: "decode -> fold".into(), rings: 4 };
    assert!(found.contains(&crossing), "{found:?}");
    assert!(found.iter().any(|c| matches!(c, Conflict::SharedCore { core: 0, .. })), "{found:?}");
}

#[test]
fn each_conflict_is_predicted() {
    let graph = spread();
    let said = |machine: &Machine, map: &str| -> Vec<String> {
        let placement = map.parse::<CoreMap>().unwrap().resolve(machine, &graph.parallelism()).unwrap();
        let planned = plan(&graph, &placement).unwrap();
        conflicts(&graph, &planned, &placement, machine).iter().map(ToString::to_string).collect()
    };
    let expect = |machine: &str, map: &str, words: &str| {
        let said = said(&self::machine(machine), map);
        assert!(said.iter().any(|line| line.contains(words)), "{machine} {map}: {said:?}");
    };
    expect("smt-server", "*=0,8;@8=spin", "CPUs 0,8 are threads of one core and one of them spins");
    expect("v2-container", "*=0;@0=spin", "core 0 spins under a CPU quota of 1.5");
    expect("desktop", "*=*", "all 4 allowed cores run partitions");
    expect(
        "desktop",
        "*=0-1",
        "core 0: read, write (one instance each) and instances of decode, fold take turns",
    );
    expect("big-little", "*=3-4", "CPUs 3 are slower than others in use");
    expect("two-sockets", "*=0,4", "decode -> fold is an exchange between all instances and 2 of its rings");
    expect("node-without-memory", "*=4", "node 1 has no memory: whatever CPUs 4 touch is remote");
    assert_eq!(said(&machine("desktop"), "read=0;write=0;*=1-2"), [""; 0]);
}

#[test]
fn a_proposal_that_several_instances_would_break_falls_back_to_one_core_and_says_why() {
    let mut wrong = spread().graph().clone();
    // The order that the exchange loses cannot be restored behind it.
    wrong.edges[2].channel.ordering = ChannelOrdering::Ordered;
    let wrong = wrong.validate(&PolicyRegistry::default(), &ValidationContext::default());
    let Ok(graph) = wrong else { return };
    let proposal = propose(&graph, &machine("desktop"), &Wishes::default()).unwrap();
    assert_eq!(proposal.cpus.len(), 1);
    assert!(matches!(proposal.reasons.last(), Some(Reason::OneCoreOnly { .. })), "{:?}", proposal.reasons);
}

/// The machines of the gallery with any of their CPUs left out by the affinity mask.
fn some_machine() -> impl Strategy<Value = Machine> {
    let machines: Vec<Machine> = machines().iter().map(|(_, machine)| machine.clone()).collect();
    (prop::sample::select(machines), any::<u32>()).prop_filter_map("no CPU is left", |(machine, mask)| {
        let affinity: CpuList = machine.allowed().iter().filter(|cpu| mask >> cpu & 1 == 1).collect();
        let machine = Machine { affinity, ..machine };
        (!machine.allowed().is_empty()).then_some(machine)
    })
}

fn parallelism() -> impl Strategy<Value = Parallelism> {
    prop_oneof![
        Just(Parallelism::Sequential),
        Just(Parallelism::CpuBound),
        (1u32..6).prop_map(Parallelism::Fixed)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// On any machine and for any such graph: it can be resolved and planned, survives its text, has no two partitions on one
    /// physical core, none more than a quota can feed, none on a slower core beside a faster one, and one group unless more was asked for.
    #[test]
    fn a_proposal_keeps_its_promises(
        machine in some_machine(),
        stages in prop::array::uniform2(parallelism()),
        cores in prop::option::of(1usize..6),
    ) {
        let graph = graph(&[Parallelism::Sequential, stages[0], stages[1], Parallelism::Sequential]);
        let wishes = Wishes { cores, ..Wishes::default() };
        let proposal = propose(&graph, &machine, &wishes).unwrap();
        prop_assert_eq!(&proposal.map.to_string().parse::<CoreMap>().unwrap(), &proposal.map);
        let placement = proposal.map.resolve(&machine, &graph.parallelism()).unwrap();
        let planned = plan(&graph, &placement).unwrap();
        let used = placement.cpus();
        prop_assert!(used.difference(&proposal.cpus).is_empty(), "{} {}", used, proposal.cpus);
        prop_assert!(used.len() <= cores.unwrap_or(usize::MAX));
        let facts: Vec<_> = used.iter().map(|cpu| machine.cpu(cpu).unwrap()).collect();
        prop_assert!(facts.iter().all(|cpu| cpu.siblings.intersection(&used).len() == 1));
        prop_assert!(facts.windows(2).all(|pair| pair[0].node == pair[1].node && pair[0].capacity == pair[1].capacity));
        if let Some(quota) = machine.quota() {
            prop_assert!(used.len() == 1 || used.len() as f64 <= quota);
            prop_assert!(placement.partitions.iter().all(|place| place.idle == IdlePolicy::Park));
        }
        if machine.allowed().len() >= 4 && used.len() >= 4 {
            prop_assert!(used != machine.allowed(), "a core is left");
        }
        let found = conflicts(&graph, &planned, &placement, &machine);
        let spins = |c: &Conflict| matches!(c, Conflict::SpinningSiblings { .. } | Conflict::SpinsUnderQuota { .. });
        prop_assert!(!found.iter().any(spins), "{:?}", found);
    }
}

#[test]
fn where_there_is_one_stage_for_each_core_all_edges_stay_within_their_cache() {
    let server = machine("smt-server");
    let proposal = proposed(&server, &within(Span::Cache));
    let placement = resolve(&proposal, &server);
    let planned = plan(&spread(), &placement).unwrap();
    for hops in hops(&spread(), &planned, &placement, &server, None) {
        assert!(hops.farthest().is_none_or(|distance| distance <= Distance::Cache), "{hops:?}");
    }
}
