//! Bad core maps and awkward machines: cases 31 to 39 of the fault list.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panic; clippy sees only the #[test] functions as tests"
)]

mod fake_machine;

use corelane::model::StageId;
use corelane::policy::Parallelism;
use corelane::topology::{
    CoreMap, CoreMapError, CoreMapParseError, CpuList, CpuListError, CpuListProblem as Problem, Fact,
    FileProblem, Machine, Placement, PlacementWarning,
};
use fake_machine::{FakeMachine, list};

fn id(name: &str) -> StageId {
    StageId::new(name).unwrap()
}

fn two_stages() -> [(StageId, Parallelism); 2] {
    [(id("decode"), Parallelism::Sequential), (id("traces"), Parallelism::CpuBound)]
}

fn resolve(map: &str, machine: &Machine) -> Result<Placement, Vec<CoreMapError>> {
    let map: CoreMap = map.parse().unwrap();
    map.resolve(machine, &two_stages()).map_err(|errors| errors.into_iter().collect())
}

/// The list is refused on its own, in a one-line map and in a TOML map, each with the token and its place.
fn refused(text: &str, token: &str, position: usize, problem: Problem) {
    let error = CpuListError { token: token.into(), position, problem };
    assert_eq!(text.parse::<CpuList>(), Err(error.clone()), "{text:?}");

    let in_map = |errors: &[CoreMapParseError], line, column| {
        let [CoreMapParseError::Cores { place, source }] = errors else {
            panic!("{text:?}: {errors:?}");
        };
        assert_eq!((place.field.as_str(), source), ("traces", &error), "{text:?}");
        assert_eq!(place.at, Some((line, column)), "{text:?}");
    };
    let errors = format!("decode=0;traces={text}").parse::<CoreMap>().unwrap_err();
    in_map(errors.as_slice(), 1, "decode=0;traces=".len() + position + 1);
    assert!(errors.to_string().contains(&format!("{token:?}")), "{errors}");
    let toml = format!("[stages]\ndecode = \"0\"\ntraces = \"{text}\"\n");
    let errors = CoreMap::from_toml(&toml).unwrap_err();
    in_map(errors.as_slice(), 3, "traces = \"".len() + position + 1);
}

#[test]
fn text_that_ends_where_more_was_expected_is_told_without_an_empty_quotation() {
    let errors = CoreMap::from_toml("[stages]\nnot a\n").unwrap_err().to_string();
    assert!(errors.contains("line 2") && !errors.contains("\"\""), "{errors}");
}

#[test]
fn fault_31_bad_syntax_is_refused_with_token_and_place() {
    refused("0-", "0-", 0, Problem::OpenRange);
    refused("3-1", "3-1", 0, Problem::Backwards);
    refused("0,,1", "", 2, Problem::EmptyItem);
    refused("0,", "", 2, Problem::EmptyItem);
    refused(",", "", 0, Problem::EmptyItem);
    refused(" 0", " 0", 0, Problem::NotANumber);
    refused("0 ", "0 ", 0, Problem::NotANumber);
    refused("0, 1", " 1", 2, Problem::NotANumber);
    refused("0-1-2", "0-1-2", 0, Problem::NotANumber);
    refused("2,0x1", "0x1", 2, Problem::NotANumber);
    refused("+1", "+1", 0, Problem::NotANumber);
    refused("-1", "-1", 0, Problem::OpenRange);
    refused("-", "-", 0, Problem::OpenRange);
    refused("0--1", "0--1", 0, Problem::NotANumber);
    refused("007", "007", 0, Problem::LeadingZero);
    refused("1.5", "1.5", 0, Problem::NotANumber);
    refused("٣", "٣", 0, Problem::NotANumber);
    refused("", "", 0, Problem::Empty);
}

#[test]
fn fault_31_every_error_of_a_line_is_reported_at_once() {
    let errors = "decode=0-;;traces;a/b=0;decode=1;@x=spin;@0=fast;@memory=near;@memory=any;"
        .parse::<CoreMap>()
        .unwrap_err();
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "decode (line 1, column 8): cores \"0-\": a range needs a number on both sides, like 0-3",
            "line 1, column 11: there is nothing between the semicolons",
            "line 1, column 12: \"traces\" is not of the form stage=cores",
            "a/b (line 1, column 19): \"a/b\" cannot be the name of a stage: an id has only A-Z a-z 0-9 . _ -, not '/'",
            "decode (line 1, column 25): decode is given twice",
            "@x (line 1, column 35): cores \"x\": not a decimal number (no sign, space or prefix is allowed)",
            "@0 (line 1, column 45): \"fast\" is not an idle policy; there are spin, yield, park and adaptive",
            "@memory (line 1, column 58): \"near\" does not say where memory lies; there are any, local and strict",
            "@memory (line 1, column 64): @memory is given twice",
            "line 1, column 75: there is nothing between the semicolons",
        ]
    );
    assert_eq!("".parse::<CoreMap>().unwrap_err().as_slice(), [CoreMapParseError::Empty]);
}

#[test]
fn fault_31_every_error_of_a_toml_file_is_reported_with_its_line() {
    let text = "\
speed = 1
[stages]
decode = 0
traces = \"0-\"
a.b = \"0\"
traces = \"1\"
write = \"0
[cores]
0 = \"spin\"
\"0\" = [1]
\"0-1\" = \"park\"
[node]
";
    let errors = CoreMap::from_toml(text).unwrap_err();
    let lines: Vec<_> = errors
        .iter()
        .map(|error| {
            let place = error.place().unwrap();
            (place.at.unwrap().0, place.field.as_str())
        })
        .collect();
    assert_eq!(
        lines,
        [
            (1, "speed"),
            (3, "decode"),
            (4, "traces"),
            (5, "a"),
            (6, ""),
            (7, ""),
            (10, ""),
            (11, "@0-1"),
            (12, "node")
        ],
        "{errors}"
    );
    assert!(errors.to_string().contains("decode (line 3, column 1): expected text in quotes"), "{errors}");
    assert!(errors.to_string().contains("line 6, column 1: duplicate key: \"traces\""), "{errors}");
    assert!(errors.to_string().contains("@0-1 (line 11, column 2): @0 is given twice"), "{errors}");
}

#[test]
fn fault_31_the_same_errors_come_through_serde() {
    for (json, part) in [
        (r#""decode=0-""#, "decode (line 1, column 8): cores \"0-\""),
        (r#"{"stages": {"decode": "3-1", "*": ""}}"#, "decode: cores \"3-1\""),
        (r#"{"stages": {"decode": "3-1", "*": ""}}"#, "*: cores \"\": a list needs at least one number"),
        (r#"{"core": {}}"#, "unknown field `core`"),
        ("7", "a core map: a line like"),
    ] {
        let error = serde_json::from_str::<CoreMap>(json).unwrap_err().to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn fault_32_numbers_beyond_the_largest_cpu_are_refused() {
    assert_eq!("65535".parse::<CpuList>().unwrap().first(), Some(65_535));
    refused("65536", "65536", 0, Problem::TooLarge);
    refused("99999999999", "99999999999", 0, Problem::TooLarge);
    refused("0,1-99999999999999999999999", "1-99999999999999999999999", 2, Problem::TooLarge);
}

#[test]
fn fault_33_a_cpu_named_twice_is_refused() {
    refused("0,0", "0", 2, Problem::Duplicate(0));
    refused("0-3,2", "2", 4, Problem::Duplicate(2));
    refused("2,4,0-3", "0-3", 4, Problem::Duplicate(2));
}

#[test]
fn fault_34_a_core_that_is_offline_or_not_present_is_refused_with_what_there_is() {
    let fake = FakeMachine::desktop();
    fake.offline(1);
    let machine = fake.read("0-3").unwrap();
    // Three cores are left, so core 2 is CPU 3.
    assert_eq!(resolve("*=2", &machine).unwrap().partitions[0].cpu, Some(3));
    let errors = resolve("decode=3;*=0-9;@5=spin", &machine).unwrap_err();
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let there_is = "this process may use cores 0-2, which are CPUs 0,2-3; CPUs 1 are offline";
    assert_eq!(
        lines,
        [
            format!("core map: decode: core 3 does not exist: {there_is}"),
            format!("core map: *: cores 3-9 do not exist: {there_is}"),
            format!("core map: @5: core 5 does not exist: {there_is}"),
        ]
    );
}

#[test]
fn fault_35_a_core_outside_the_affinity_mask_is_refused_and_taskset_is_named() {
    let machine = FakeMachine::desktop().read("0").unwrap();
    let errors = resolve("decode=0;traces=0-1", &machine).unwrap_err();
    let [error @ CoreMapError::NoSuchCore { field, cores, limits }] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!((field.as_str(), cores), ("traces", &list("1")));
    assert_eq!((limits.cores, &limits.outside_affinity), (1, &list("1-3")));
    assert_eq!(
        error.to_string(),
        "core map: traces: core 1 does not exist: this process may use one core: core 0 is CPU 0; \
         CPUs 1-3 are outside its affinity mask (see taskset)"
    );
}

#[test]
fn fault_35_a_core_outside_the_cpuset_is_refused_and_the_cpuset_is_named() {
    let fake = FakeMachine::desktop();
    fake.file("sys/fs/cgroup/cpuset.cpus.effective", "2-3\n");
    let machine = fake.read("0-3").unwrap();
    let placement = resolve("decode=0;traces=1", &machine).unwrap();
    assert_eq!(placement.cpus(), list("2-3"));
    let [error] = &resolve("traces=2", &machine).unwrap_err()[..] else { panic!() };
    let said = error.to_string();
    assert!(said.contains("cores 0-1, which are CPUs 2-3"), "{said}");
    assert!(said.contains("CPUs 0-1 are outside the cgroup cpuset of this process"), "{said}");
    assert!(!said.contains("taskset"), "{said}");
}

#[test]
fn fault_36_more_instances_than_cores_run_with_a_warning() {
    let machine = FakeMachine::desktop().read("0-1").unwrap();
    let stages = [(id("hash"), Parallelism::Fixed(5))];
    let placement = CoreMap::default().resolve(&machine, &stages).unwrap();
    assert_eq!(placement.partitions.len(), 2);
    assert_eq!(placement.instances(&id("hash")), [0, 1, 0, 1, 0]);
    let warning = PlacementWarning::InstancesShareCores { stage: id("hash"), instances: 5, cores: 2 };
    assert_eq!(placement.warnings, [warning]);
}

#[test]
fn fault_36_more_partitions_than_cpus_run_with_a_warning() {
    let stages = [(id("hash"), Parallelism::CpuBound)];
    for cores in [8, 16] {
        let placement = Placement::virtual_cores(cores, &list("3,7"), &CoreMap::default(), &stages).unwrap();
        let n = cores as usize;
        assert_eq!(placement.instances(&id("hash")), (0..n).collect::<Vec<_>>());
        assert_eq!(placement.partitions.iter().filter(|p| p.cpu == Some(7)).count(), n / 2);
        assert_eq!(placement.warnings, [PlacementWarning::PartitionsShareCpus { partitions: n, cpus: 2 }]);
    }
}

/// The kernel moves a pinned thread only when its CPU leaves the cpuset or goes offline, and `taskset -p` does so at
/// once; the driver has to look again from time to time. What is pure about it: reading the machine again and
/// telling which partitions are displaced.
#[test]
fn fault_37_an_affinity_changed_after_start_is_seen_when_the_machine_is_read_again() {
    let fake = FakeMachine::desktop();
    let placement = resolve("decode=0;traces=1-3", &fake.read("0-3").unwrap()).unwrap();
    assert_eq!(placement.displaced(&fake.read("0-3").unwrap().allowed()), [0usize; 0]);
    // taskset -p
    assert_eq!(placement.displaced(&fake.read("0,2").unwrap().allowed()), [1, 3]);
    // a cpuset narrowed by the container's owner
    fake.file("sys/fs/cgroup/cpuset.cpus.effective", "1-3\n");
    assert_eq!(placement.displaced(&fake.read("0-3").unwrap().allowed()), [0]);
    // a CPU taken offline
    fake.offline(3);
    assert_eq!(placement.displaced(&fake.read("0-3").unwrap().allowed()), [0, 3]);
    // The same map on the new machine says what is missing before anything starts.
    assert_eq!(resolve("decode=0;traces=1-3", &fake.read("0-3").unwrap()).unwrap_err().len(), 1);
}

#[test]
fn fault_38_two_smt_siblings_in_use_are_warned_about() {
    let fake = FakeMachine::smt_server();
    let machine = fake.read("0-15").unwrap();
    let siblings = |cpus| PlacementWarning::SmtSiblings { cpus: list(cpus) };
    assert_eq!(resolve("*=0-3", &machine).unwrap().warnings, []);
    assert_eq!(resolve("*=0-3,9,11", &machine).unwrap().warnings, [siblings("1,9"), siblings("3,11")]);
    // Named but not used by any instance is no conflict.
    let placement = resolve("decode=0,8;traces=1", &machine).unwrap();
    let unused = PlacementWarning::UnusedCores { stage: id("decode"), instances: 1, unused: list("8") };
    assert_eq!(placement.warnings, [unused]);
    // With the sibling offline the core is whole again.
    fake.offline(9);
    assert_eq!(resolve("*=0-3,8", &fake.read("0-15").unwrap()).unwrap().warnings, [siblings("0,8")]);
}

#[test]
fn fault_39_without_any_file_the_affinity_mask_is_the_machine() {
    let machine = FakeMachine::empty().read("0,2").unwrap();
    assert_eq!(machine.allowed(), list("0,2"));
    assert_eq!(machine.quota(), None);
    assert_eq!(machine.cpu(2).unwrap().siblings, list("2"));
    assert_eq!(machine.nodes.len(), 1);
    assert_eq!(machine.nodes[0].cpus, list("0,2"));
    let facts: Vec<_> = machine.notes.iter().map(|note| note.fact).collect();
    assert_eq!(
        facts,
        [
            Fact::OnlineCpus,
            Fact::PresentCpus,
            Fact::IsolatedCpus,
            Fact::NumaNodes,
            Fact::Package,
            Fact::Core,
            Fact::SmtSiblings,
            Fact::L3Group,
            Fact::Cgroup,
            Fact::Cpuset,
            Fact::CpuQuota,
        ]
    );
    assert!(machine.notes.iter().all(|note| note.problem == FileProblem::Missing), "{:?}", machine.notes);
    assert_eq!(resolve("*=0-1", &machine).unwrap().cpus(), list("0,2"));
}

/// Each file in turn is missing, a directory (which cannot be read), empty, or garbage: always the same machine as far as
/// its CPUs go, and a note that names the file and what is wrong with it.
#[test]
fn fault_39_each_unusable_file_is_replaced_by_its_fallback_with_a_note() {
    let cpu = "sys/devices/system/cpu";
    for (path, fact) in [
        (format!("{cpu}/online"), Fact::OnlineCpus),
        (format!("{cpu}/present"), Fact::PresentCpus),
        (format!("{cpu}/isolated"), Fact::IsolatedCpus),
        (format!("{cpu}/cpu1/topology/physical_package_id"), Fact::Package),
        (format!("{cpu}/cpu1/topology/core_id"), Fact::Core),
        (format!("{cpu}/cpu1/cache/index3/shared_cpu_list"), Fact::L3Group),
        (format!("{cpu}/cpu1/cache/index0/level"), Fact::L3Group),
        ("sys/devices/system/node/node0/cpulist".to_owned(), Fact::NumaNodes),
        ("sys/fs/cgroup/cpuset.cpus.effective".to_owned(), Fact::Cpuset),
        ("sys/fs/cgroup/cpu.max".to_owned(), Fact::CpuQuota),
    ] {
        for fault in ["missing", "directory", "garbage", "not text"] {
            let fake = FakeMachine::desktop();
            fake.file("sys/fs/cgroup/cpu.max", "max 100000\n");
            fake.remove(&path);
            match fault {
                "missing" if fact == Fact::CpuQuota => continue, // the root group has no such file
                "missing" => {}
                "directory" => fake.file(&format!("{path}/x"), ""),
                "garbage" => fake.file(&path, "0-\u{2713}\n"),
                _ => std::fs::write(fake.root().join(&path), [0xff, 0xfe, 0x00]).unwrap(),
            }
            let machine = fake.read("0-3").unwrap();
            assert_eq!(machine.allowed(), list("0-3"), "{path} {fault}");
            assert_eq!(machine.quota(), None, "{path} {fault}");
            assert_eq!(machine.nodes[0].cpus, list("0-3"), "{path} {fault}");
            let note = machine.notes.iter().find(|note| note.fact == fact);
            let note = note.unwrap_or_else(|| panic!("{path} {fault}: {:?}", machine.notes));
            let right = match fault {
                "missing" => note.problem == FileProblem::Missing,
                "garbage" => {
                    matches!(&note.problem, FileProblem::Malformed(text) if text.starts_with("0-\u{2713}"))
                }
                _ => matches!(note.problem, FileProblem::Unreadable(_)),
            };
            assert!(right, "{path} {fault}: {note}");
        }
    }
}
