//! Cores by node, by cache, as another stage and for each instance, and how many items rings hold.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panic; clippy sees only the #[test] functions as tests"
)]

mod fake_machine;

use corelane::driver::LaunchError;
use corelane::engine::{Engine, ExecutionOptions, StartError};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::StageId;
use corelane::observe::MemoryHolder;
use corelane::plan::{Carriage, PlanError, plan};
use corelane::policy::Parallelism;
use corelane::topology::{CoreMap, CoreMapError, CpuList, Machine, Placement};
use fake_machine::{FakeMachine, list};

fn id(name: &str) -> StageId {
    StageId::new(name).unwrap()
}

const THREE: [(&str, Parallelism); 3] =
    [("read", Parallelism::Sequential), ("hash", Parallelism::Fixed(3)), ("fold", Parallelism::CpuBound)];

fn resolve(line: &str, machine: &Machine) -> Result<Placement, Vec<CoreMapError>> {
    let stages = THREE.map(|(stage, parallelism)| (id(stage), parallelism));
    let map: CoreMap = line.parse().unwrap();
    map.resolve(machine, &stages).map_err(|errors| errors.into_iter().collect())
}

/// The CPU of each instance of a stage.
fn cpus(placement: &Placement, stage: &str) -> Vec<u32> {
    let cpu = |&partition: &usize| placement.partitions[partition].cpu.unwrap();
    placement.instances(&id(stage)).iter().map(cpu).collect()
}

fn errors(line: &str, machine: &Machine) -> Vec<String> {
    resolve(line, machine).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_node_stands_for_its_allowed_cores() {
    let machine = FakeMachine::two_sockets().read("0-15").unwrap();
    let placement = resolve("read=node:1;fold=node:0;hash=node:0-1", &machine).unwrap();
    assert_eq!(cpus(&placement, "read"), [4]);
    assert_eq!(cpus(&placement, "fold"), [0, 1, 2, 3, 8, 9, 10, 11]);
    assert_eq!(cpus(&placement, "hash"), [0, 1, 2]);
    let part = FakeMachine::two_sockets().read("3,5-6,12").unwrap();
    assert_eq!(cpus(&resolve("*=node:1", &part).unwrap(), "fold"), [5, 6, 12]);
}

#[test]
fn a_cache_stands_for_the_allowed_cores_under_it() {
    let machine = FakeMachine::chiplets().read("0-31").unwrap();
    let placement = resolve("*=l3:2", &machine).unwrap();
    assert_eq!(placement.cpus(), list("8-11,24-27"));
    let placement = resolve("read=l3:3;*=l3:0-1", &machine).unwrap();
    assert_eq!((cpus(&placement, "read"), cpus(&placement, "fold").len()), (vec![12], 16));
}

#[test]
fn a_stage_is_where_another_one_is_instance_by_instance() {
    let machine = FakeMachine::two_sockets().read("0-15").unwrap();
    for (line, fold) in [
        ("hash=2/4/6;fold=same:hash;*=0", vec![2, 4, 6]),
        ("hash=node:1;fold=same:hash;*=0", vec![4, 5, 6, 7, 12, 13, 14, 15]),
        ("fold=same:read;read=same:hash;hash=3", vec![3]),
        ("fold=same:read;hash=0;*=7,9", vec![7, 9]),
        // Nothing is said of `read`: it has all cores that are named.
        ("fold=same:read;hash=5-6", vec![5, 6]),
    ] {
        assert_eq!(cpus(&resolve(line, &machine).unwrap(), "fold"), fold, "{line}");
    }
}

#[test]
fn each_instance_has_the_least_used_core_of_its_own_set() {
    let machine = FakeMachine::two_sockets().read("0-15").unwrap();
    let placement = resolve("hash=node:1/0-1/0-1;fold=6/6/0;*=0", &machine).unwrap();
    assert_eq!(cpus(&placement, "hash"), [4, 0, 1]);
    assert_eq!(cpus(&placement, "fold"), [6, 6, 0], "a CpuBound stage has an instance for each set");
    assert_eq!(placement.warnings, [], "cores that are left are no mistake in a set to choose from");
}

#[test]
fn what_is_not_there_is_reported_all_at_once_with_what_is() {
    let machine = FakeMachine::two_sockets().read("0-3").unwrap();
    assert_eq!(
        errors("read=node:1;fold=l3:0,7;hash=same:hsh", &machine),
        [
            "core map: there is no stage hsh; did you mean hash?",
            "core map: fold: no core of last-level cache 7 can be used; there are cores of last-level cache 0",
            "core map: read: no core of node 1 can be used; there are cores of node 0",
        ]
    );
    assert_eq!(
        errors("read=0/1;hash=0/node:1;fold=same:hash", &machine),
        [
            "core map: hash: no core of node 1 can be used; there are cores of node 0",
            "core map: read: 2 sets of cores for its 1 instance",
            "core map: hash: 2 sets of cores for its 3 instances",
        ]
    );
    assert_eq!(
        errors("read=same:fold;fold=same:hash;hash=same:fold", &machine),
        ["core map: fold, hash: each is to be where another of them is, and none says where"]
    );
    let virtual_cores = Placement::virtual_cores(
        4,
        &CpuList::EMPTY,
        &"*=node:0".parse().unwrap(),
        &[(id("a"), Parallelism::CpuBound)],
    );
    let said = virtual_cores.unwrap_err().to_string();
    assert_eq!(said, "core map: *: virtual cores have no node");
}

#[test]
fn fault_31_bad_groups_are_refused_with_token_and_place() {
    for (line, said) in [
        ("a=node:", "a (line 1, column 8): cores \"\": a list needs at least one number"),
        ("a=node:0-", "a (line 1, column 8): cores \"0-\": a range needs a number on both sides, like 0-3"),
        ("a=core:0", "a (line 1, column 3): cores \"core:0\": before a colon there may be node, l3 or same"),
        ("a=0//1", "a (line 1, column 5): cores \"\": a list needs at least one number"),
        (
            "a=0/l3:x",
            "a (line 1, column 8): cores \"x\": not a decimal number (no sign, space or prefix is allowed)",
        ),
        (
            "a=0/same:b",
            "a (line 1, column 5): cores \"same:b\": same: is for a whole stage, not for one of its instances",
        ),
        (
            "a=same:b/c",
            "a (line 1, column 3): cores \"same:b\": same: is for a whole stage, not for one of its instances",
        ),
        ("a=same:", "a (line 1, column 8): cores \"\": behind same: there must be the name of a stage"),
        ("a->=4", "a-> (line 1, column 1): \"a->\" names no edge: an id must not be empty"),
        (
            "a/->b=4",
            "a/->b (line 1, column 1): \"a/->b\" names no edge: \"\" cannot be a label here: it must not be empty nor hold = or ;",
        ),
        (
            "a->b=0",
            "a->b (line 1, column 6): \"0\" cannot be the capacity of a ring: it is a number of items from 1 to 2147483648",
        ),
        (
            "a->b=2147483649;*=0",
            "a->b (line 1, column 6): \"2147483649\" cannot be the capacity of a ring: it is a number of items from 1 to 2147483648",
        ),
        ("a->b=4;a->b=8", "a->b (line 1, column 8): a->b is given twice"),
    ] {
        let errors = line.parse::<CoreMap>().unwrap_err();
        assert_eq!(errors.to_string(), said, "{line}");
    }
    let errors = CoreMap::from_toml("[rings]\n\"a->b\" = 12\n\"b->c\" = -1\n\"c\" = \"7\"\n").unwrap_err();
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("b->c (line 3, column 10): \"-1\" cannot be"), "{lines:?}");
    assert!(
        lines[1].starts_with("c (line 4, column 2): \"c\" names no edge: an edge is written"),
        "{lines:?}"
    );
}

fn counted() -> Pipeline {
    let p = PipelineBuilder::new("counted");
    p.items("numbers", 0u64..1000)
        .map("double", |x| x * 2)
        .key_by(|x| x % 9)
        .fold("count", || 0u64, |n, _| *n += 1)
        .for_each("out", drop);
    p.build().unwrap()
}

#[test]
fn a_ring_holds_what_the_map_says_and_a_fused_edge_stays_fused() {
    let pipeline = counted();
    let map: CoreMap = "*=0-1;double->count=100;numbers->double=7".parse().unwrap();
    let placement = map.resolve(&Machine::flat(2), &pipeline.stages()).unwrap();
    let planned = plan(pipeline.validated(), &placement).unwrap();
    let edges = pipeline.graph().edges.iter().zip(&planned.edges);
    let of = |from: &str| edges.clone().find(|(edge, _)| edge.from == from).unwrap().1;
    assert_eq!((of("double").carriage.clone(), of("double").capacity), (Carriage::Exchange, 128));
    assert_eq!(of("numbers").carriage, Carriage::Fused);
    assert_eq!(of("count").capacity, 4096, "as the graph says");
}

#[test]
fn a_pipeline_runs_with_the_rings_of_its_map_and_refuses_edges_it_does_not_have() {
    let run = |map: &str| {
        let core_map = map.parse().unwrap();
        let options = ExecutionOptions { core_map, virtual_cores: Some(2), ..ExecutionOptions::default() };
        Engine::new(options).start(counted())
    };
    let running = run("*=0-1;double->count=4").unwrap();
    let rings =
        running.monitor().memory().holders.into_iter().find(
            |(holder, _)| matches!(holder, MemoryHolder::Rings { from, .. } if from.as_str() == "double"),
        );
    let result = running.join();
    result.account.verify().unwrap();
    assert!(result.success);
    assert_eq!(rings.map(|(_, bytes)| bytes), Some(2 * 4 * 8), "two rings of four numbers");
    match run("*=0-1;double->cuont=4").map(drop) {
        Err(StartError::Launch(LaunchError::Plan(errors))) => {
            assert!(errors.iter().all(PlanError::is_core_map));
            let said = errors[0].to_string();
            assert_eq!(said, "core map: there is no edge double->cuont; did you mean double->count?");
        }
        other => panic!("{other:?}"),
    }
}
