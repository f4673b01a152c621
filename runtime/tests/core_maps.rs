//! Core maps and CPU lists: what they mean, and that they survive being written and read.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panic; clippy sees only the #[test] functions as tests"
)]

mod fake_machine;

use std::collections::BTreeSet;

use corelane::model::StageId;
use corelane::policy::{IdlePolicy, MemoryLocality, Parallelism};
use corelane::topology::{
    CoreMap, CoreMapError, Cores, CpuList, EdgeName, EffectiveIdle, Machine, NoSpin, PartitionPlace,
    Placement, PlacementWarning, effective_idle,
};
use fake_machine::{FakeMachine, list};
use proptest::prelude::*;

fn id(name: &str) -> StageId {
    StageId::new(name).unwrap()
}

fn map(line: &str) -> CoreMap {
    line.parse().unwrap()
}

const SEQUENTIAL: Parallelism = Parallelism::Sequential;
const CPU_BOUND: Parallelism = Parallelism::CpuBound;

/// The core of each instance of a stage.
fn cores(placement: &Placement, stage: &str) -> Vec<u32> {
    let core = |&partition: &usize| placement.partitions[partition].core;
    placement.instances(&id(stage)).iter().map(core).collect()
}

#[test]
fn each_parallelism_spreads_its_instances_over_the_cores_of_its_stage() {
    let stages = [
        (id("read"), SEQUENTIAL),
        (id("call"), Parallelism::IoBound),
        (id("hash"), Parallelism::Fixed(3)),
        (id("fold"), CPU_BOUND),
    ];
    let placement = map("read=2;call=3,1;hash=1-2;fold=1,3").resolve(&Machine::flat(4), &stages).unwrap();
    assert_eq!(cores(&placement, "read"), [2]);
    assert_eq!(cores(&placement, "call"), [1]);
    assert_eq!(cores(&placement, "hash"), [1, 2, 1]);
    assert_eq!(cores(&placement, "fold"), [1, 3]);
    // One partition per core in use; core 0 is not.
    assert_eq!(placement.partitions.iter().map(|p| p.core).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(placement.instances(&id("other")), [0usize; 0]);
}

#[test]
fn stages_the_map_does_not_name_take_the_star_or_else_every_core_it_names() {
    let stages = [(id("read"), SEQUENTIAL), (id("fold"), CPU_BOUND)];
    for (line, fold) in [
        ("read=0;*=2-3", vec![2, 3]),
        ("read=1", vec![1]),
        ("read=1,3", vec![1, 3]),
        ("read=*", vec![0, 1, 2, 3]),
        ("*=*", vec![0, 1, 2, 3]),
        ("@0=spin", vec![0, 1, 2, 3]),
    ] {
        let placement = map(line).resolve(&Machine::flat(4), &stages).unwrap();
        assert_eq!(cores(&placement, "fold"), fold, "{line}");
    }
    assert_eq!(CoreMap::default(), map("*=*"));
}

#[test]
fn a_map_says_how_near_memory_is_to_lie_and_without_a_word_it_is_local() {
    let stages = [(id("read"), SEQUENTIAL)];
    for (line, locality) in [
        ("*=*", MemoryLocality::Local),
        ("*=*;@memory=local", MemoryLocality::Local),
        ("*=*;@memory=any;@*=park", MemoryLocality::Any),
        ("@memory=strict", MemoryLocality::Strict),
    ] {
        let (map, machine) = (map(line), Machine::flat(1));
        assert_eq!(map.resolve(&machine, &stages).unwrap().memory, locality, "{line}");
        assert_eq!(CoreMap::from_toml(&map.to_toml()), Ok(map), "{line}");
    }
    assert_eq!(map("*=*").memory(), None);
    // A stage of that name is a stage.
    assert_eq!(map("memory=0").memory(), None);
}

#[test]
fn partitions_have_the_nearest_node_with_memory_for_their_home() {
    let stages = [(id("fold"), CPU_BOUND)];
    for (machine, homes) in [
        (FakeMachine::two_sockets().read("0,4").unwrap(), [Some(0), Some(1)]),
        (FakeMachine::node_without_memory().read("0,4").unwrap(), [Some(0), Some(0)]),
        // Only the memory of node 3, which is one hop from node 2 and two from node 1.
        (memory_of("3", "2,4"), [Some(3), Some(3)]),
        // Of two as near the first.
        (memory_of("0,2", "2,6"), [Some(0), Some(0)]),
        // No node that this process may use.
        (memory_of("9", "2,6"), [None, None]),
    ] {
        let placement = map("*=*").resolve(&machine, &stages).unwrap();
        assert_eq!(placement.home_nodes(&machine), homes, "{:?}", machine.mems);
    }
    let placement = Placement::virtual_cores(1, &CpuList::EMPTY, &map("*=*"), &stages).unwrap();
    assert_eq!(placement.home_nodes(&Machine::flat(1)), [None]);
}

/// Four nodes in a ring, with the memory of some of them.
fn memory_of(mems: &str, cpus: &str) -> Machine {
    let fake = FakeMachine::four_sockets();
    fake.file("proc/self/status", &format!("Name:\tpipeline\nMems_allowed_list:\t{mems}\n"));
    fake.read(cpus).unwrap()
}

#[test]
fn core_numbers_are_relative_to_the_allowed_cpus() {
    let machine = FakeMachine::smt_server().read("3,6,9").unwrap();
    let placement = map("a=2;*=0").resolve(&machine, &[(id("a"), SEQUENTIAL), (id("b"), CPU_BOUND)]).unwrap();
    let idle = IdlePolicy::Adaptive;
    assert_eq!(
        placement.partitions,
        [PartitionPlace { core: 0, cpu: Some(3), idle }, PartitionPlace { core: 2, cpu: Some(9), idle }]
    );
}

#[test]
fn idle_policies_go_to_their_cores() {
    let placement =
        map("*=0-3;@0,2=spin;@1=park;@*=yield").resolve(&Machine::flat(4), &[(id("a"), CPU_BOUND)]).unwrap();
    let idle: Vec<_> = placement.partitions.iter().map(|p| p.idle).collect();
    assert_eq!(idle, [IdlePolicy::Spin, IdlePolicy::Park, IdlePolicy::Spin, IdlePolicy::Yield]);
    let placement = map("*=0;@1=spin").resolve(&Machine::flat(4), &[(id("a"), CPU_BOUND)]).unwrap();
    assert_eq!(placement.partitions[0].idle, IdlePolicy::default());
    assert_eq!(placement.warnings, [PlacementWarning::IdleWithoutPartition { cores: list("1") }]);
}

#[test]
fn everything_that_stands_against_a_map_is_reported_at_once_with_a_suggestion() {
    let stages =
        [(id("decode"), Parallelism::Fixed(0)), (id("traces"), SEQUENTIAL), (id("traces"), SEQUENTIAL)];
    let wrong = map("Trace=0;zzzzzz=7").stage(id("traces"), Cores::List(CpuList::EMPTY));
    let errors = wrong.resolve(&Machine::flat(2), &stages).unwrap_err();
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "core map: there is no stage Trace; did you mean traces?",
            "core map: there is no stage zzzzzz; there are decode, traces",
            "core map: traces: an empty set of cores; name at least one",
            "core map: zzzzzz: core 7 does not exist: this process may use cores 0-1, which are CPUs 0-1",
            "stage decode: 0 instances; there must be 1 to 65536",
            "stage traces is there twice",
        ]
    );
    let many = [(id("a"), Parallelism::Fixed(u32::MAX))];
    let errors = CoreMap::default().resolve(&Machine::flat(2), &many).unwrap_err();
    assert_eq!(errors.as_slice(), [CoreMapError::Instances { stage: id("a"), instances: u32::MAX }]);
}

#[test]
fn a_quota_below_the_partitions_is_warned_about() {
    let fake = FakeMachine::desktop();
    fake.file("sys/fs/cgroup/cpu.max", "150000 100000\n");
    let machine = fake.read("0-3").unwrap();
    let warnings = |line| map(line).resolve(&machine, &[(id("a"), CPU_BOUND)]).unwrap().warnings;
    assert_eq!(warnings("*=0-1"), [PlacementWarning::QuotaBelowPartitions { quota: 1.5, partitions: 2 }]);
    assert_eq!(warnings("*=0"), []);
}

#[test]
fn virtual_cores_without_cpus_are_not_pinned_and_obey_the_map() {
    let stages = [(id("read"), SEQUENTIAL), (id("fold"), CPU_BOUND)];
    let on = |cores, line| Placement::virtual_cores(cores, &CpuList::EMPTY, &map(line), &stages);
    let placement = on(16, "read=9;*=8-15").unwrap();
    assert_eq!(placement.partitions.len(), 8);
    assert!(placement.partitions.iter().all(|p| p.cpu.is_none()));
    assert_eq!(placement.warnings, []);
    assert_eq!(placement.instances(&id("read")), [1]);
    let error = on(8, "*=8").unwrap_err().to_string();
    assert_eq!(error, "core map: *: core 8 does not exist: there are 8 virtual cores, 0-7");
    let error = on(0, "*=*").unwrap_err();
    assert_eq!(error.as_slice(), [CoreMapError::NoCores { field: "*".into() }]);
}

#[test]
fn a_placement_prints_who_runs_where() {
    let stages = [(id("read"), SEQUENTIAL), (id("hash"), Parallelism::Fixed(3))];
    let placement = map("read=0;hash=0-1;@1=park").resolve(&Machine::flat(2), &stages).unwrap();
    assert_eq!(
        placement.to_string(),
        "partition 0: core 0, CPU 0, idle Adaptive: hash x2 read\npartition 1: core 1, CPU 1, idle Park: hash\n"
    );
}

#[test]
fn adaptive_spins_only_with_a_spare_core_and_without_a_quota() {
    let stages = [(id("a"), CPU_BOUND)];
    let adaptive = |machine: &Machine, line| {
        let placement = map(line).resolve(machine, &stages).unwrap();
        effective_idle(IdlePolicy::Adaptive, &placement, machine)
    };
    let fake = FakeMachine::desktop();
    let machine = fake.read("0-3").unwrap();
    let spins = EffectiveIdle { spin: true, give_way: true, park: true, no_spin: None };
    assert_eq!(adaptive(&machine, "*=0-2"), spins);
    let no_spare = NoSpin::NoSpareCore { cores: 4, partitions: 4 };
    assert_eq!(adaptive(&machine, "*=*"), EffectiveIdle { spin: false, no_spin: Some(no_spare), ..spins });
    let two = fake.read("1-2").unwrap();
    assert_eq!(adaptive(&two, "*=0-1").no_spin, Some(NoSpin::NoSpareCore { cores: 2, partitions: 2 }));
    fake.file("sys/fs/cgroup/cpu.max", "300000 100000\n");
    let quota = fake.read("0-3").unwrap();
    let no_spin = Some(NoSpin::Quota { cpus: 3.0 });
    assert_eq!(adaptive(&quota, "*=0"), EffectiveIdle { spin: false, no_spin, ..spins });
}

#[test]
fn the_other_idle_policies_are_taken_at_their_word() {
    let machine = Machine::flat(1);
    let placement = CoreMap::default().resolve(&machine, &[(id("a"), CPU_BOUND)]).unwrap();
    for (policy, ways) in [
        (IdlePolicy::Spin, (true, false, false)),
        (IdlePolicy::Yield, (false, true, false)),
        (IdlePolicy::Park, (false, false, true)),
    ] {
        let idle = effective_idle(policy, &placement, &machine);
        assert_eq!((idle.spin, idle.give_way, idle.park), ways, "{policy:?}");
    }
}

#[test]
fn the_toml_form_says_the_same_as_the_line() {
    let text = "
        [stages]
        decode = \"0\"   # the reader
        traces = '0-1'
        \"v1.2\" = \"1\"
        \"*\" = \"*\"
        [cores]
        0 = \"spin\"
        \"1-2\" = \"park\"
        \"*\" = \"yield\"
    ";
    let read = CoreMap::from_toml(text).unwrap();
    let line = "decode=0;traces=0-1;v1.2=1;*=*;@0=spin;@1-2=park;@*=yield";
    assert_eq!(read, map(line));
    assert_eq!(read.to_string(), line);
    assert_eq!(CoreMap::from_toml("").unwrap(), CoreMap::default());
    assert_eq!(CoreMap::from_toml(&text.replace('\n', "\r\n")).unwrap(), read);
}

#[test]
fn kernel_lists_may_be_empty_and_written_ones_may_not() {
    assert_eq!(CpuList::from_kernel("0-2,7\n"), Ok(list("0-2,7")));
    assert_eq!(CpuList::from_kernel("\n"), Ok(CpuList::EMPTY));
    assert!(CpuList::from_kernel("0\n\n").is_err());
    assert!("".parse::<CpuList>().is_err());
    assert_eq!(list("9,8,0-1,2").to_string(), "0-2,8-9");
}

fn cpu_list() -> impl Strategy<Value = CpuList> {
    let near = prop::collection::btree_set(0u32..40, 1..12);
    let far = prop::collection::btree_set(65_500u32..=65_535, 0..3);
    (near, far).prop_map(|(near, far)| near.into_iter().chain(far).collect())
}

fn core_set() -> impl Strategy<Value = Cores> {
    let one = || {
        prop_oneof![
            Just(Cores::All),
            cpu_list().prop_map(Cores::List),
            cpu_list().prop_map(Cores::Nodes),
            cpu_list().prop_map(Cores::Caches),
        ]
    };
    let same = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}".prop_map(|stage| Cores::SameAs(id(&stage)));
    prop_oneof![one(), same, prop::collection::vec(one(), 2..4).prop_map(Cores::Each)]
}

fn edge() -> impl Strategy<Value = EdgeName> {
    let stage = || "[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}".prop_map(|stage| id(&stage));
    let label = prop::option::of("[a-z@:,*/ -]{1,6}");
    (stage(), label, stage()).prop_map(|(from, label, to)| EdgeName { from, label, to })
}

fn idle_policy() -> impl Strategy<Value = IdlePolicy> {
    use IdlePolicy::{Adaptive, Park, Spin, Yield};
    prop::sample::select(vec![Spin, Yield, Park, Adaptive])
}

fn core_map() -> impl Strategy<Value = CoreMap> {
    let stages = prop::collection::btree_map("[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}", core_set(), 0..5);
    let idle = prop::collection::btree_map(0u32..20, idle_policy(), 0..6);
    let rest = (prop::option::of(core_set()), prop::option::of(idle_policy()));
    let rings = prop::collection::btree_map(edge(), 1u64..=1 << 31, 0..4);
    let memory =
        prop::option::of(prop::sample::select(MemoryLocality::NAMES.map(|(_, locality)| locality).to_vec()));
    (stages, idle, rest, rings, memory).prop_map(|(stages, idle, (rest, idle_rest), rings, memory)| {
        let named = stages.into_iter().map(|(stage, cores)| (id(&stage), cores));
        let map = idle.into_iter().fold(CoreMap::of_stages(named), |map, (c, policy)| map.idle(c, policy));
        let map = rest.into_iter().fold(map, CoreMap::rest);
        let map = idle_rest.into_iter().fold(map, CoreMap::idle_rest);
        let map = memory.into_iter().fold(map, CoreMap::with_memory);
        rings.into_iter().fold(map, |map, (edge, items)| map.ring(edge, items))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cpu_list_survives_its_text(list in cpu_list()) {
        prop_assert_eq!(list.to_string().parse(), Ok(list));
    }

    /// Any text is either a list or an error that points at its token.
    #[test]
    fn a_cpu_list_error_points_at_its_token(text in "[0-9,+ x-]{0,8}") {
        if let Err(error) = text.parse::<CpuList>() {
            prop_assert!(text[error.position..].starts_with(&error.token), "{}", error);
        }
    }

    #[test]
    fn set_operations_agree_with_sets(a in cpu_list(), b in cpu_list()) {
        let set = |list: &CpuList| list.iter().collect::<BTreeSet<_>>();
        prop_assert_eq!(set(&a.union(&b)), &set(&a) | &set(&b));
        prop_assert_eq!(set(&a.intersection(&b)), &set(&a) & &set(&b));
        prop_assert_eq!(set(&a.difference(&b)), &set(&a) - &set(&b));
        prop_assert!((0..50).all(|cpu| a.contains(cpu) == set(&a).contains(&cpu)));
    }

    #[test]
    fn a_core_map_survives_its_line(map in core_map()) {
        prop_assert_eq!(map.to_string().parse::<CoreMap>(), Ok(map));
    }

    #[test]
    fn a_core_map_survives_its_toml(map in core_map()) {
        prop_assert_eq!(CoreMap::from_toml(&map.to_toml()), Ok(map.clone()));
        prop_assert_eq!(toml::from_str::<CoreMap>(&map.to_toml()), Ok(map));
    }

    #[test]
    fn a_core_map_survives_serde_in_both_forms(map in core_map()) {
        let tables = serde_json::to_string(&map).unwrap();
        prop_assert_eq!(&serde_json::from_str::<CoreMap>(&tables).unwrap(), &map);
        let line = serde_json::to_string(&map.to_string()).unwrap();
        prop_assert_eq!(&serde_json::from_str::<CoreMap>(&line).unwrap(), &map);
    }

    /// No text makes the readers panic, and what they accept they can write.
    #[test]
    fn any_text_is_a_map_or_an_error(text in "[a-c*@=;0-9,:/>\" \n\\[\\]-]{0,24}|.{0,40}") {
        if let Ok(map) = text.parse::<CoreMap>() {
            prop_assert_eq!(map.to_string().parse::<CoreMap>(), Ok(map));
        }
        let _ = CoreMap::from_toml(&text);
        let _ = CoreMap::from_toml(&format!("[stages]\n{text}\n[cores]\n{text}\n[rings]\n{text}"));
    }

    /// Whatever is accepted keeps the promises of a placement.
    #[test]
    fn an_accepted_placement_keeps_its_promises(
        cpus in 1u32..16,
        fixed in 1u32..30,
        named in prop::collection::vec(prop::option::of(prop::collection::btree_set(0u32..8, 1..5)), 3),
    ) {
        let stages = [(id("read"), SEQUENTIAL), (id("hash"), Parallelism::Fixed(fixed)), (id("fold"), CPU_BOUND)];
        let named = stages.iter().zip(named).filter_map(|((stage, _), cores)| {
            Some((stage.clone(), Cores::List(cores?.into_iter().collect())))
        });
        let map = CoreMap::of_stages(named);
        let machine = Machine::flat(cpus);
        let outside = stages.iter().any(|(stage, _)| match map.cores_of(stage) {
            Some(Cores::List(list)) => list.iter().any(|core| core >= cpus),
            _ => false,
        });
        let Ok(placement) = map.resolve(&machine, &stages) else {
            prop_assert!(outside, "{} is fine on {} cores", map, cpus);
            return Ok(());
        };
        prop_assert!(!outside, "{} is not fine on {} cores", map, cpus);
        let used: BTreeSet<usize> = placement.stages.values().flatten().copied().collect();
        prop_assert_eq!(used, (0..placement.partitions.len()).collect::<BTreeSet<_>>());
        prop_assert!(placement.partitions.windows(2).all(|pair| pair[0].core < pair[1].core));
        for partition in &placement.partitions {
            prop_assert_eq!(partition.cpu, machine.allowed().get(partition.core as usize));
        }
        prop_assert_eq!(placement.instances(&id("read")).len(), 1);
        prop_assert_eq!(placement.instances(&id("hash")).len(), fixed as usize);
        let fold = placement.instances(&id("fold"));
        prop_assert_eq!(fold.iter().collect::<BTreeSet<_>>().len(), fold.len());
    }
}
