//! The commands that look at the machine, on trees of made-up ones.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

#[path = "../../runtime/tests/fake_machine/mod.rs"]
mod fake_machine;
mod support;

use std::collections::BTreeMap;
use std::fs;

use corelane::topology::CoreLinks;
use corelane_tools::exit::Exit;
use fake_machine::FakeMachine;
use support::{code, subcommand, text};

/// What `corelane topology` prints of a tree.
fn topology(machine: &FakeMachine, options: &[&str]) -> String {
    let root = ["--root", machine.root().to_str().unwrap()];
    let output = subcommand("topology", &[&root[..], options].concat()).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    text(&output.stdout)
}

#[test]
fn topology_tells_people_what_there_is_and_what_limits_it() {
    assert_eq!(
        topology(&FakeMachine::v2_container(), &[]),
        "1 package, 1 die, 1 node, 2 last-level caches, 8 cores, 16 CPUs\n\
         node 0: CPUs 0-15, 1.0 GiB, distances 10\n  \
           cache 0 (package 0, die 0): 0+8(not allowed) 1+9(not allowed) 2+10(not allowed) 3+11(not allowed)\n  \
           cache 1 (package 0, die 0): 4+12 5+13 6+14 7+15(not allowed)\n\
         this process may use 6 cores: CPUs 4-6,12-14\n  \
           affinity mask  0-15\n  \
           cgroup cpuset  4-6,12-14\n  \
           CPU quota      1.5 CPUs\n  \
           memory nodes   all\n  \
           isolated       none\n  \
           nohz_full      none\n  \
           offline        none\n  \
           pin refused    none\n"
    );
    let board = topology(&FakeMachine::big_little(), &[]);
    assert!(board.contains("  cache 0 (package 0, die 0): 0(43%) 1(43%) 2(43%) 3(43%)\n"), "{board}");
    assert!(
        board.contains("note: /sys/devices/system/node missing: one node with all CPUs is taken\n"),
        "{board}"
    );
    let isolated = topology(&FakeMachine::isolated_cpus(), &[]);
    assert!(isolated.contains(" 3 4(isolated) 5(isolated) "), "{isolated}");
}

#[test]
fn topology_of_every_machine_is_text_json_and_a_drawing_of_each_cpu() {
    for (name, machine) in FakeMachine::gallery() {
        assert!(topology(&machine, &[]).contains("this process may use"), "{name}");
        let json: serde_json::Value = serde_json::from_str(&topology(&machine, &["--json"])).unwrap();
        let cpus = json["cpus"].as_array().unwrap();
        assert!(!cpus.is_empty() && json["allowed"].is_string(), "{name}: {json}");
        let svg = topology(&machine, &["--svg"]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{name}: {svg}");
        for cpu in cpus {
            let hint = format!("CPU {}", cpu["id"]);
            assert!(svg.contains(&hint), "{name}: {hint}");
        }
    }
}

#[test]
fn topology_reads_this_machine_without_a_tree() {
    let output = subcommand("topology", &["--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(code(&output), 0);
    assert!(!json["cpus"].as_array().unwrap().is_empty());
}

/// What `corelane doctor` finds of a tree, by check, and its exit code.
fn doctor(machine: &FakeMachine) -> (i32, BTreeMap<String, (String, String)>) {
    let options = ["--json", "--root", machine.root().to_str().unwrap()];
    let output = subcommand("doctor", &options).output().unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let word =
        |finding: &serde_json::Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let mut by_check = BTreeMap::new();
    for finding in &findings {
        let bad = ["note", "problem"].contains(&word(finding, "verdict").as_str());
        assert_eq!(
            bad,
            finding["remedy"].is_string(),
            "a remedy for what is bad and for nothing else: {finding}"
        );
        by_check.insert(word(finding, "check"), (word(finding, "verdict"), word(finding, "found")));
    }
    assert_eq!(by_check.len(), findings.len(), "each check once");
    (code(&output), by_check)
}

/// A machine on which nothing is wrong.
fn healthy() -> FakeMachine {
    let machine = FakeMachine::desktop();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.0-rt1\n"),
        ("proc/sys/kernel/io_uring_disabled", "0\n"),
        ("proc/sys/kernel/numa_balancing", "0\n"),
        ("proc/swaps", "Filename Type Size Used Priority\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("sys/devices/system/cpu/smt/control", "notsupported\n"),
    ] {
        machine.file(path, text);
    }
    status(&machine, "4711", "0", "1000");
    limits(&machine, "8388608", "1048576", "127000");
    machine
}

fn status(machine: &FakeMachine, pid: &str, seccomp: &str, uid: &str) {
    let text = format!(
        "Name:\tx\nPid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCpus_allowed_list:\t0-3\nSeccomp:\t{seccomp}\n"
    );
    machine.file("proc/self/status", &text);
}

fn limits(machine: &FakeMachine, locked: &str, files: &str, processes: &str) {
    let row = |name: &str, soft: &str| format!("{name:26}{soft:21}{soft:21}units\n");
    let head = row("Limit", "Soft Limit");
    let rows =
        [row("Max processes", processes), row("Max open files", files), row("Max locked memory", locked)];
    machine.file("proc/self/limits", &format!("{head}{}", rows.concat()));
}

#[test]
fn doctor_finds_nothing_wrong_with_a_healthy_machine() {
    let (exit, findings) = doctor(&healthy());
    assert!(findings.values().all(|(verdict, _)| verdict == "ok"), "{findings:#?}");
    assert_eq!((exit, findings.len()), (0, 20));
}

#[test]
fn doctor_tells_each_thing_that_is_wrong_and_ends_with_8_where_pipelines_would_not_start_as_they_should_fault_117()
 {
    type Harm = (&'static str, &'static str, &'static str, fn(&FakeMachine));
    let harms: [Harm; 21] = [
        // Faults 113 to 119 as files show them; 117 is a clock source that the kernel gave up.
        ("kernel", "problem", "4.19.0: older than 5.8", |m| m.file("proc/sys/kernel/osrelease", "4.19.0\n")),
        ("io_uring", "problem", "switched off for everybody", |m| {
            m.file("proc/sys/kernel/io_uring_disabled", "2\n")
        }),
        ("io_uring", "problem", "to privileged processes only", |m| {
            m.file("proc/sys/kernel/io_uring_disabled", "1\n")
        }),
        ("seccomp", "note", "may forbid io_uring", |m| status(m, "7", "2", "1000")),
        ("memlock", "problem", "64 KiB; glommio locks 512 KiB", |m| limits(m, "65536", "1024", "1000")),
        ("open files", "problem", "32; executors on 4 cores want about 96", |m| {
            limits(m, "unlimited", "32", "1000")
        }),
        ("threads", "problem", "at most 4; a pipeline on 4 cores", |m| limits(m, "unlimited", "1024", "4")),
        ("threads", "problem", "at most 9;", |m| m.file("sys/fs/cgroup/pids.max", "9\n")),
        ("clock source", "note", "hpet: each reading is a system call", |m| {
            m.file("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
        }),
        ("proc and sys", "note", "/proc/self missing", |m| m.remove("proc")),
        ("init", "ok", "started as process 1", |m| status(m, "1", "0", "1000")),
        // The rest of the machine.
        ("CPU quota", "note", "1.5 CPUs", |m| m.file("sys/fs/cgroup/cpu.max", "150000 100000\n")),
        ("cpuset", "ok", "1-2, affinity mask 0-3: CPUs 0,3 are for others", |m| {
            m.file("sys/fs/cgroup/cpuset.cpus.effective", "1-2\n");
        }),
        ("cgroup", "note", "no cpuset is known", |m| m.remove("sys/fs/cgroup/cpuset.cpus.effective")),
        ("isolation", "note", "CPUs 5 are isolated and not in the affinity mask", |m| {
            m.cpu_file("isolated", "3,5")
        }),
        ("isolation", "note", "CPUs 3 are isolated and have a timer tick", |m| m.cpu_file("isolated", "3")),
        ("SMT", "note", "CPUs 1 share cores", |m| m.cpu_file("cpu1/topology/core_cpus_list", "0-1")),
        ("governor", "note", "powersave on CPUs 2", |m| {
            m.cpu_file("cpu2/cpufreq/scaling_governor", "powersave")
        }),
        ("huge pages", "note", "always:", |m| {
            m.file("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        }),
        ("swap", "note", "/dev/sda2:", |m| {
            m.file("proc/swaps", "Filename\tType\n/dev/sda2 partition 8 0 -2\n")
        }),
        ("cores", "problem", "no CPU is allowed", |m| m.cpu_file("online", "4")),
    ];
    for (check, verdict, words, harm) in harms {
        let machine = healthy();
        harm(&machine);
        let (exit, findings) = doctor(&machine);
        let (found_verdict, found) = &findings[check];
        assert_eq!(found_verdict, verdict, "{check}: {found}");
        assert!(found.contains(words), "{check}: {found}");
        let problems = findings.values().any(|(verdict, _)| verdict == "problem");
        assert_eq!(
            exit,
            if problems { i32::from(Exit::Environment.code()) } else { 0 },
            "{check}: {findings:#?}"
        );
        assert_eq!(problems, verdict == "problem", "{check}: {findings:#?}");
    }
    let machine = FakeMachine::two_sockets();
    machine.file("proc/sys/kernel/numa_balancing", "1\n");
    assert_eq!(doctor(&machine).1["NUMA balancing"].0, "note");
    assert_eq!(doctor(&machine).1["memory nodes"].0, "ok");
    machine.file("proc/self/status", "Cpus_allowed_list:\t0-7\nMems_allowed_list:\t0\n");
    let (verdict, found) = &doctor(&machine).1["memory nodes"];
    assert!(verdict == "note" && found.starts_with("CPUs 4-7 have no memory of their own"), "{found}");
    let root = healthy();
    status(&root, "7", "0", "0");
    limits(&root, "65536", "1024", "1000");
    assert_eq!(doctor(&root).1["memlock"].0, "ok", "the limit does not bind root");
}

#[test]
fn doctor_says_what_it_knows_of_every_machine_and_of_this_one() {
    for (name, machine) in FakeMachine::gallery() {
        let (exit, findings) = doctor(&machine);
        assert!(exit == 0 && findings.len() >= 12, "{name}: {findings:#?}");
    }
    let output = subcommand("doctor", &[]).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("io_uring        ") && said.contains("cores           ok      "), "{said}");
    assert!([0, i32::from(Exit::Environment.code())].contains(&code(&output)), "{said}");
}

#[test]
fn c2c_measures_this_machine_and_map_plan_reads_what_it_measured() {
    let output = subcommand("c2c", &["--passes", "1", "--json"]).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    let links: CoreLinks = serde_json::from_slice(&output.stdout).unwrap();
    links.check().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("links.json");
    fs::write(&file, &output.stdout).unwrap();
    let plan =
        subcommand("map", &["plan", "trace-assembly", "--links", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&plan), 0, "{}", text(&plan.stderr));
}

#[test]
fn c2c_shows_what_was_measured_as_tables_and_as_a_heat_map() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("links.json");
    fs::write(
        &file,
        r#"{"cpus": "0,4", "one-way-ns": [[0, 55.4], [120, 0]], "items-per-s": [[0, 9e8], [5e8, 0]]}"#,
    )
    .unwrap();
    let show = |options: &[&str]| {
        let output =
            subcommand("c2c", &[&["--from", file.to_str().unwrap()], options].concat()).output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
        text(&output.stdout)
    };
    assert_eq!(
        show(&[]),
        concat!(
            "nanoseconds of one item from the CPU of the row to that of the column (half a round trip)\n",
            "     0   4\n0    -  55\n4  120   -\n\n",
            "million items of 8 bytes a second\n",
            "     0    4\n0    -  900\n4  500    -\n",
        )
    );
    let svg = show(&["--svg"]);
    assert!(svg.contains("CPU 4 to 0: 120 ns, 500 million items a second"), "{svg}");
    fs::write(&file, "[]").unwrap();
    let output = subcommand("c2c", &["--from", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&output), i32::from(Exit::Config.code()));
}

#[test]
fn c2c_refuses_cpus_that_the_process_may_not_use() {
    let output = subcommand("c2c", &["--cpus", "0,4711"]).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), i32::from(Exit::Placement.code()), "{message}");
    assert!(message.contains("this process may not use CPUs 4711"), "{message}");
}

#[test]
fn a_tree_that_is_none_is_named_with_the_exit_code_of_inputs() {
    let machine = FakeMachine::empty();
    for (root, said) in [
        ("/nonexistent".to_owned(), "--root /nonexistent: is not a directory"),
        (
            machine.root().to_str().unwrap().to_owned(),
            "no CPU is online: sys/devices/system/cpu/online is missing",
        ),
    ] {
        let output = subcommand("topology", &["--root", &root]).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(Exit::Input.code()), "{message}");
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn idle_tells_what_each_policy_costs_with_each_driver_and_a_run_what_parking_does() {
    let output = subcommand("idle", &["--json"]).output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    let costs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let policies: Vec<&str> = costs.iter().map(|cost| cost["policy"].as_str().unwrap()).collect();
    assert!(!costs.is_empty() && costs.len().is_multiple_of(4), "{costs:?}");
    for four in policies.chunks(4) {
        assert_eq!(four, ["spin", "yield", "park", "adaptive"]);
    }
    for cost in &costs {
        assert!(cost["wake-ns"].as_u64().unwrap() > 0 && cost["plain-ns"].as_u64().unwrap() > 0, "{cost}");
    }
    let share = |policy: &str| {
        costs.iter().find(|cost| cost["policy"] == policy).unwrap()["idle-share"].as_f64().unwrap()
    };
    assert!(
        share("spin") > 4.0 * share("park"),
        "a core that spins is in use, one that parks is not: {costs:?}"
    );

    let dir = tempfile::tempdir().unwrap();
    let input = support::recording(dir.path(), 5);
    let run = |options: &[&str]| {
        let output = support::corelane(&[&[input.to_str().unwrap()], options].concat()).output().unwrap();
        assert_eq!(code(&output), 0);
        text(&output.stderr)
    };
    let said = run(&["--idle", "park"]);
    assert!(said.contains("\nidle    parks; a parked core is woken in "), "{said}");
    let summary: serde_json::Value =
        serde_json::from_str(&run(&["--summary", "json", "--cores", "*=*"])).unwrap();
    let ways = summary["idle"]["ways"].to_string();
    assert!(ways.contains("yields, parks; no spinning, because no core is spare ("), "{ways}");
    assert!(summary["idle"]["park_wake_ns"].as_u64().unwrap() > 0, "{summary}");
}
