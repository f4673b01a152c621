//! What is read from fake trees of machines.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panic; clippy sees only the #[test] functions as tests"
)]

mod fake_machine;

use corelane::policy::Parallelism;
use corelane::topology::{CoreMap, CpuList, FULL_CAPACITY, Fact, FileProblem, Machine, MachineError};
use fake_machine::{FakeMachine, Shape, list};

/// The value of one property for each CPU in order.
fn each<T>(machine: &Machine, property: impl Fn(&corelane::topology::Cpu) -> T) -> Vec<T> {
    machine.cpus.iter().map(property).collect()
}

fn facts(machine: &Machine) -> Vec<Fact> {
    machine.notes.iter().map(|note| note.fact).collect()
}

#[test]
fn a_desktop_is_read_without_a_note() {
    let machine = FakeMachine::desktop().read("0-3").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.allowed(), list("0-3"));
    assert_eq!(machine.quota(), None);
    assert_eq!(each(&machine, |cpu| cpu.core), [0, 1, 2, 3]);
    assert_eq!(each(&machine, |cpu| cpu.siblings.to_string()), ["0", "1", "2", "3"]);
    assert_eq!(each(&machine, |cpu| (cpu.package, cpu.node, cpu.l3)), [(0, 0, 0); 4]);
    assert_eq!(machine.nodes[0].memory, Some(1 << 30));
    assert!(machine.isolated.is_empty() && machine.offline().is_empty());
}

#[test]
fn an_smt_server_shows_siblings_and_cache_groups() {
    let machine = FakeMachine::smt_server().read("0-15").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.cpu(3).unwrap().siblings, list("3,11"));
    assert_eq!(machine.cpu(11).unwrap().siblings, list("3,11"));
    assert_eq!(each(&machine, |cpu| cpu.l3), [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(machine.cpu(16), None);
}

#[test]
fn two_sockets_show_packages_nodes_and_distances() {
    let machine = FakeMachine::two_sockets().read("0-15").unwrap();
    assert_eq!(machine.notes, []);
    let cpu = machine.cpu(13).unwrap();
    assert_eq!((cpu.package, cpu.core, cpu.node, cpu.l3), (1, 1, 1, 1));
    assert_eq!(machine.nodes[1].cpus, list("4-7,12-15"));
    assert_eq!(machine.nodes[1].distances, [21, 10]);
}

#[test]
fn a_v2_container_is_limited_by_its_cpuset_and_the_smallest_quota_above_it() {
    let fake = FakeMachine::desktop();
    fake.file("proc/self/cgroup", "0::/pod/app\n");
    fake.file("sys/fs/cgroup/pod/cpuset.cpus.effective", "1-3\n");
    fake.file("sys/fs/cgroup/pod/cpu.max", "150000 100000\n");
    fake.file("sys/fs/cgroup/pod/app/cpuset.cpus.effective", "2-3\n");
    fake.file("sys/fs/cgroup/pod/app/cpu.max", "350000 100000\n");
    assert_eq!(fake.read("0-3").unwrap().quota(), Some(1.5));
    fake.file("sys/fs/cgroup/pod/app/cpu.max", "25000 100000\n");
    assert_eq!(fake.read("0-3").unwrap().quota(), Some(0.25));
    fake.file("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n");
    let machine = fake.read("0-3").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.cpuset, Some(list("2-3")));
    assert_eq!(machine.allowed(), list("2-3"));
    assert_eq!(machine.quota(), Some(1.5));
}

#[test]
fn a_v2_group_without_the_cpuset_controller_takes_that_of_the_group_above() {
    let fake = FakeMachine::desktop();
    fake.file("proc/self/cgroup", "0::/user.slice/shell\n");
    fake.file("sys/fs/cgroup/user.slice/cpuset.cpus.effective", "0-1\n");
    fake.file("sys/fs/cgroup/user.slice/shell/cgroup.procs", "1\n");
    assert_eq!(fake.read("0-3").unwrap().allowed(), list("0-1"));
}

#[test]
fn a_container_that_sees_the_hosts_group_names_is_read_at_its_mount() {
    let fake = FakeMachine::desktop();
    // No cgroup namespace: the group is named as on the host, and the mount shows the container's part only.
    fake.file("proc/self/cgroup", "0::/docker/abc/init\n");
    fake.mounts(&["31 23 0:28 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw"]);
    fake.file("sys/fs/cgroup/init/cpuset.cpus.effective", "3\n");
    fake.file("sys/fs/cgroup/cpu.max", "50000 100000\n");
    let machine = fake.read("0-3").unwrap();
    assert_eq!(machine.allowed(), list("3"));
    assert_eq!(machine.quota(), Some(0.5));
    // A name that only begins alike is not inside.
    fake.file("proc/self/cgroup", "0::/docker/abcinit\n");
    fake.file("sys/fs/cgroup/cpuset.cpus.effective", "2\n");
    assert_eq!(fake.read("0-3").unwrap().allowed(), list("2"));
    // A group outside of what is mounted leaves the mount itself.
    fake.file("proc/self/cgroup", "0::/../other\n");
    fake.file("sys/fs/cgroup/cpuset.cpus.effective", "1\n");
    assert_eq!(fake.read("0-3").unwrap().allowed(), list("1"));
}

#[test]
fn a_v1_container_is_limited_by_its_cpuset_and_quota() {
    let fake = FakeMachine::v1_container();
    let machine = fake.read("0-3").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.allowed(), list("1,3"));
    assert_eq!(machine.quota(), Some(2.5));
}

#[test]
fn an_old_v1_kernel_without_effective_cpus_is_read_too() {
    let fake = FakeMachine::v1_container();
    fake.remove("sys/fs/cgroup/cpuset/kube/app/cpuset.effective_cpus");
    fake.file("sys/fs/cgroup/cpuset/kube/app/cpuset.cpus", "2\n");
    assert_eq!(fake.read("0-3").unwrap().allowed(), list("2"));
}

#[test]
fn without_a_mount_table_the_usual_places_are_read() {
    for (path, v1) in [("sys/fs/cgroup", false), ("sys/fs/cgroup/cpuset", true)] {
        let fake = FakeMachine::desktop();
        fake.remove("proc");
        fake.remove("sys/fs/cgroup");
        fake.file(&format!("{path}/{}", if v1 { "cpuset.cpus" } else { "cpuset.cpus.effective" }), "0,2\n");
        if v1 {
            fake.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
            fake.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
        } else {
            fake.file("sys/fs/cgroup/cpu.max", "200000\n");
        }
        let machine = fake.read("0-3").unwrap();
        assert_eq!(machine.allowed(), list("0,2"), "{path}");
        assert_eq!(machine.quota(), Some(2.0), "{path}");
        assert_eq!(facts(&machine), [Fact::Cgroup], "{path}");
    }
}

#[test]
fn offline_cpus_are_known_but_not_allowed() {
    let fake = FakeMachine::smt_server();
    fake.offline(2);
    fake.offline(8);
    let machine = fake.read("0-15").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.offline(), list("2,8"));
    assert_eq!(machine.allowed(), list("0-1,3-7,9-15"));
    assert_eq!(machine.cpu(2), None);
    // Its sibling is offline, so it has its core for itself.
    assert_eq!(machine.cpu(0).unwrap().siblings, list("0"));
    assert_eq!(machine.cpu(1).unwrap().siblings, list("1,9"));
    assert_eq!(machine.nodes[0].cpus, machine.online);
}

#[test]
fn a_node_without_memory_and_a_node_without_cpus_are_both_nodes() {
    let fake = FakeMachine::two_sockets();
    fake.node(1, "4-7,12-15", 0, "21 10 31");
    fake.node(2, "", 4 << 20, "31 31 10");
    let machine = fake.read("0-15").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((machine.nodes[1].memory, &machine.nodes[1].cpus), (Some(0), &list("4-7,12-15")));
    assert_eq!(machine.nodes[2].memory, Some(4 << 30));
    assert!(machine.nodes[2].cpus.is_empty());
    assert_eq!(machine.cpu(12).unwrap().node, 1);
}

#[test]
fn cpus_that_no_node_lists_go_to_the_first_node_with_a_note() {
    let fake = FakeMachine::two_sockets();
    fake.node(1, "4-7", 1 << 20, "21 10");
    let machine = fake.read("0-15").unwrap();
    assert_eq!(machine.nodes[0].cpus, list("0-3,8-15"));
    assert_eq!(machine.cpu(12).unwrap().node, 0);
    let [note] = &machine.notes[..] else { panic!("{:?}", machine.notes) };
    assert_eq!(
        (note.fact, note.fallback.as_str()),
        (Fact::NumaNodes, "CPUs 12-15 are taken to be in node 0")
    );
}

#[test]
fn taskset_narrows_what_is_allowed() {
    let fake = FakeMachine::smt_server();
    let machine = fake.read("5,1").unwrap();
    assert_eq!(machine.allowed(), list("1,5"));
    assert_eq!(machine.online, list("0-15"));
    // A mask may name more CPUs than the machine has.
    assert_eq!(fake.read("14-63").unwrap().allowed(), list("14-15"));
}

#[test]
fn isolated_cpus_are_allowed_and_known() {
    let fake = FakeMachine::desktop();
    fake.cpu_file("isolated", "2-3");
    let machine = fake.read("0-3").unwrap();
    assert_eq!(machine.isolated, list("2-3"));
    assert_eq!(machine.allowed(), list("0-3"));
}

#[test]
fn limits_with_nothing_in_common_are_an_error_that_lists_them() {
    let fake = FakeMachine::desktop();
    fake.file("sys/fs/cgroup/cpuset.cpus.effective", "0-1\n");
    let error = fake.read("2-3").unwrap_err();
    let MachineError::NothingAllowed { online, cpuset, affinity } = &error else { panic!("{error}") };
    assert_eq!((online, cpuset, affinity), (&list("0-3"), &Some(list("0-1")), &list("2-3")));
    assert_eq!(
        error.to_string(),
        "no CPU is allowed: online are 0-3, the cgroup cpuset allows 0-1, the affinity mask allows 2-3"
    );
}

#[test]
fn a_machine_without_a_level_3_cache_takes_the_package_for_it() {
    let shape = Shape { packages: 2, cores_per_package: 2, threads_per_core: 1, cores_per_l3: 2 };
    let fake = FakeMachine::new(&shape);
    for cpu in 0..4 {
        fake.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cache/index3"));
    }
    let machine = fake.read("0-3").unwrap();
    assert_eq!(each(&machine, |cpu| cpu.l3), [0, 0, 1, 1]);
    let [note] = &machine.notes[..] else { panic!("{:?}", machine.notes) };
    assert_eq!((note.fact, &note.problem), (Fact::L3Group, &FileProblem::Missing));
    assert!(note.fallback.contains("CPUs 0-3"), "{note}");
}

#[test]
fn an_old_kernel_names_siblings_by_the_older_file() {
    let fake = FakeMachine::smt_server();
    for cpu in 0..16 {
        fake.remove(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"));
    }
    let machine = fake.read("0-15").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.cpu(9).unwrap().siblings, list("1,9"));
}

#[test]
fn a_machine_survives_json() {
    let fake = FakeMachine::v1_container();
    fake.remove("sys/devices/system/cpu/cpu1/topology/core_id");
    fake.node(1, "", 0, "");
    let machine = fake.read("0-3").unwrap();
    assert_eq!(machine.notes.len(), 1);
    let json = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
}

#[test]
fn chiplets_show_dies_and_their_caches() {
    let machine = FakeMachine::chiplets().read("0-31").unwrap();
    assert_eq!(machine.notes, []);
    assert_eq!(machine.nodes.len(), 1);
    assert_eq!(each(&machine, |cpu| cpu.die)[..17], [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 0]);
    assert_eq!(machine.l3_group(2), list("8-11,24-27"));
    assert_eq!(machine.l3_group(4), CpuList::EMPTY);
}

#[test]
fn distances_lead_through_the_nodes_and_are_assumed_where_nothing_is_said() {
    let machine = FakeMachine::four_sockets().read("0-7").unwrap();
    let from_1: Vec<u32> = (0..4).map(|to| machine.node_distance(1, to)).collect();
    assert_eq!(from_1, [16, 10, 16, 22]);
    let fake = FakeMachine::two_sockets();
    fake.remove("sys/devices/system/node/node1/distance");
    let machine = fake.read("0-15").unwrap();
    assert_eq!((machine.node_distance(1, 1), machine.node_distance(1, 0)), (10, 20));
    assert_eq!(machine.node_distance(0, 1), 21);
}

#[test]
fn slow_and_fast_cores_are_told_apart_and_share_the_cache_of_their_cluster() {
    let machine = FakeMachine::big_little().read("0-7").unwrap();
    assert_eq!(facts(&machine), [Fact::NumaNodes], "{:?}", machine.notes);
    assert_eq!(each(&machine, |cpu| cpu.capacity), [446, 446, 446, 446, 1024, 1024, 1024, 1024]);
    assert_eq!(each(&machine, |cpu| cpu.l3), [0, 0, 0, 0, 1, 1, 1, 1]);
    let laptop = FakeMachine::hybrid_laptop().read("0-7").unwrap();
    assert_eq!(
        each(&laptop, |cpu| cpu.siblings.to_string()),
        ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"]
    );
    assert_eq!(each(&laptop, |cpu| cpu.l3), [0; 8]);
    assert_eq!(each(&FakeMachine::desktop().read("0-3").unwrap(), |cpu| cpu.capacity), [FULL_CAPACITY; 4]);
}

#[test]
fn cpus_without_a_tick_are_known_and_a_kernel_that_says_null_has_none() {
    let fake = FakeMachine::isolated_cpus();
    assert_eq!(fake.read("0-7").unwrap().nohz_full, list("4-7"));
    fake.cpu_file("nohz_full", "(null)");
    let machine = fake.read("0-7").unwrap();
    assert_eq!((machine.nohz_full, machine.notes), (CpuList::EMPTY, vec![]));
}

#[test]
fn a_cpu_that_a_trial_refuses_is_not_allowed_whatever_the_files_say() {
    let machine = FakeMachine::desktop().read("0-3").unwrap().without(list("1")).unwrap();
    assert_eq!(machine.allowed(), list("0,2-3"));
    let stages = [("a".parse().unwrap(), Parallelism::Sequential)];
    let error = "a=3".parse::<CoreMap>().unwrap().resolve(&machine, &stages).unwrap_err().to_string();
    assert!(error.contains("cores 0-2, which are CPUs 0,2-3; CPUs 1 are refused"), "{error}");
    let error = machine.without(list("0-3")).unwrap_err();
    assert_eq!(error, MachineError::EveryPinRefused { refused: list("0-3") });
}

#[test]
fn a_tree_is_read_as_the_process_it_is_about() {
    let fake = FakeMachine::desktop();
    assert_eq!(
        Machine::of_tree(fake.root()).unwrap().affinity,
        list("0-3"),
        "nothing said: every online CPU"
    );
    fake.affinity("1-2");
    assert_eq!(Machine::of_tree(fake.root()).unwrap().allowed(), list("1-2"));
    let error = Machine::of_tree(FakeMachine::empty().root()).unwrap_err();
    assert_eq!(error, MachineError::NothingOnline);
}

#[test]
fn every_machine_of_the_gallery_is_read_and_survives_json() {
    let gallery = FakeMachine::gallery();
    assert!(gallery.len() >= 12);
    for (name, fake) in gallery {
        let machine = Machine::of_tree(fake.root()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine, "{name}");
        assert!(
            machine.cpus.iter().all(|cpu| machine.node(cpu.node).unwrap().cpus.contains(cpu.id)),
            "{name}"
        );
        assert!(machine.cpus.iter().all(|cpu| machine.l3_group(cpu.l3).contains(cpu.id)), "{name}");
    }
}
