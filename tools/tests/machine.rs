//! The commands that look at the machine, on trees of made-up ones.
#![allow(clippy::unwrap_used)] // the exemption for tests does not reach their helper functions

#[path = "../../runtime/tests/fake_machine/mod.rs"]
mod fake_machine;
mod support;

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

#[test]
fn a_tree_that_is_none_is_named_with_the_exit_code_of_inputs() {
    let machine = FakeMachine::empty();
    for (root, said) in [
        ("/nonexistent".to_owned(), "--root /nonexistent: is not a directory"),
        (machine.root().to_str().unwrap().to_owned(), "no CPU is allowed: online are ,"),
    ] {
        let output = subcommand("topology", &["--root", &root]).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(code(&output), i32::from(Exit::Input.code()), "{message}");
        assert!(message.contains(said), "{message}");
    }
}
