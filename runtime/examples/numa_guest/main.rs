//! What `make test-numa` runs inside of a virtual machine: is the machine read as it was ordered, and do partitions, rings and slabs lie where the
//! core map says? Judged by the kernel's own files, and by `move_pages`.
//!
//! ```text
//! numa_guest two topology     # the machine, then the check; each check prints what it found, and the process ends with 1 if any failed
//! ```
#![allow(clippy::disallowed_methods, reason = "a program of its own, not part of the runtime")]

mod shape;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use corelane::driver::{DriverChoice, MemoryBinding};
use corelane::engine::{Engine, ExecutionOptions, Running, this_machine};
use corelane::observe::{HeldPages, MemoryHolder};
use corelane::plan::{Span, Wishes, propose};
use corelane::policy::MemoryLocality;
use corelane::ring::ring;
use corelane::shard::ShardMove;
use corelane::sync::HomeNode;
use corelane::topology::{CoreMap, CpuList, Machine};

use shape::{Frames, Shape, areas};
use watched::{Notes, Seen, States, folding, pipeline};

/// Counts and prints what does not hold.
#[derive(Default)]
struct Checks {
    failed: usize,
}

impl Checks {
    fn holds(&mut self, what: &str, holds: bool, found: &dyn std::fmt::Debug) {
        if holds {
            println!("  ok    {what}");
        } else {
            self.failed += 1;
            println!("  FAIL  {what}: {found:?}");
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        self.holds(what, found == expected, &(&found, "expected", &expected));
    }
}

fn machine() -> Machine {
    this_machine().expect("the machine can be read")
}

fn list(text: &str) -> CpuList {
    if text.is_empty() { CpuList::EMPTY } else { text.parse().expect("a list") }
}

/// Is the machine read as it was ordered?
fn topology(checks: &mut Checks, shape: &Shape) {
    let machine = machine();
    let each = |of: &dyn Fn(u32) -> u32| (0..shape.cpus).map(of).collect::<Vec<_>>();
    let read = |of: fn(&corelane::topology::Cpu) -> u32| machine.cpus.iter().map(of).collect::<Vec<_>>();
    checks.same("CPUs", machine.online.clone(), CpuList::first_n(shape.cpus));
    checks.same("the node of each CPU", read(|cpu| cpu.node), each(&|cpu| shape.node(cpu)));
    checks.same("the cache of each", read(|cpu| cpu.l3), each(&|cpu| cpu / shape.cpus_per_cache));
    checks.same("the package of each", read(|cpu| cpu.package), each(&|cpu| cpu / shape.cpus_per_package));
    let siblings = |cpu: u32| (cpu / shape.threads * shape.threads..).take(shape.threads as usize).collect();
    let read: Vec<CpuList> = machine.cpus.iter().map(|cpu| cpu.siblings.clone()).collect();
    checks.same("the threads of each core", read, (0..shape.cpus).map(siblings).collect());
    let nodes = shape.cpus / shape.cpus_per_node;
    let apart = |from, to| if from == to { 10 } else { shape.distance };
    let distances = |from| (0..nodes).map(|to| apart(from, to)).collect::<Vec<_>>();
    let read: Vec<_> = machine.nodes.iter().map(|node| node.distances.clone()).collect();
    checks.same("distances between nodes", read, (0..nodes).map(distances).collect());
    checks.same("every node has memory", machine.memory_nodes(), (0..nodes).collect());
    checks.same("isolated CPUs", machine.isolated.clone(), list(shape.isolated));
    let allowed = CpuList::first_n(shape.cpus).difference(&list(shape.isolated));
    checks.same("CPUs that may be used", machine.allowed(), allowed);
    checks.same("nothing was guessed", machine.notes.len(), 0);
}

/// Where the instances of each stage are to be, by the CPU of each.
type Expected<'a> = [(&'a str, &'a [u32])];

/// Starts the pipeline and waits until the last stage has had some items; a core map, and how much of the memory is bound.
fn start(map: &str, driver: DriverChoice) -> (Running, Notes) {
    let notes = Notes::default();
    let core_map: CoreMap = map.parse().expect("a core map");
    let options = ExecutionOptions { core_map, driver, ..ExecutionOptions::default() };
    let running =
        Engine::new(options).start(pipeline(&notes)).unwrap_or_else(|error| panic!("{map}: {error}"));
    let through =
        |notes: &Notes| notes.lock().iter().any(|((stage, _), seen)| stage == "gone" && seen.items > 4000);
    // The host has a deadline for all of it.
    while !through(&notes) && !running.is_finished() {
        thread::sleep(Duration::from_millis(20));
    }
    (running, notes)
}

fn stop(checks: &mut Checks, running: Running) {
    running.stop();
    let result = running.join();
    checks.same("the account closes", result.account.verify(), Ok(()));
    checks.same("it was stopped", result.outcome, corelane::observe::Outcome::Stopped);
}

/// Runs under `map`: do its instances run where they are to, and does their memory lie there?
fn placed(checks: &mut Checks, shape: &Shape, map: &str, driver: DriverChoice, expected: &Expected<'_>) {
    println!(" {map} ({driver:?})");
    let (running, notes) = start(map, driver);
    let notes = notes.lock().clone();
    for (stage, cpus) in expected {
        let seen: Vec<&Seen> =
            notes.iter().filter(|((id, _), _)| id == stage).map(|(_, seen)| seen).collect();
        let pinned: Vec<_> = seen.iter().map(|seen| seen.allowed.clone()).collect();
        let only = |cpu: &u32| BTreeSet::from([cpu.to_string()]);
        checks.same(&format!("{stage} is pinned"), pinned, cpus.iter().map(only).collect());
        let ran: Vec<_> = seen.iter().map(|seen| seen.cpus.clone()).collect();
        checks.same(
            &format!("{stage} runs there"),
            ran,
            cpus.iter().map(|cpu| BTreeSet::from([*cpu])).collect(),
        );
    }
    memory(checks, shape, map, &running);
    let strict = |seen: &&Seen| seen.slab.as_ref().map(|slab| slab.policy.clone());
    let rent = expected.iter().find(|(stage, _)| *stage == "rent").map_or(&[][..], |(_, cpus)| cpus);
    let slabs = notes.iter().filter(|((stage, _), _)| stage == "rent").map(|(_, seen)| seen);
    for (seen, cpu) in slabs.zip(rent) {
        let (node, policy) = (shape.node(*cpu), policy(map));
        let wanted = policy.map_or("default".to_owned(), |policy| format!("{policy}:{node}"));
        checks.same("the slab's policy", strict(&seen), Some(wanted));
        let away = seen.slab.as_ref().map(|slab| slab.not_on(node));
        checks.same("the slab's pages elsewhere, by numa_maps", away, Some(0));
    }
    let held = running.monitor();
    let before = held.held_pages().expect("move_pages answers");
    stop(checks, running);
    if policy(map).is_some() {
        let after = held.held_pages().expect("move_pages answers");
        let rings = |held: &[HeldPages]| {
            held.iter().filter(|held| held.holder != MemoryHolder::Pool).cloned().collect::<Vec<_>>()
        };
        checks.same("what is told when it is over", rings(&after), rings(&before));
    }
}

/// The kernel's name for what the map asks for.
fn policy(map: &str) -> Option<&'static str> {
    match map.split_once("@memory=").map(|(_, locality)| locality) {
        Some("any") => None,
        Some("strict") => Some("bind"),
        _ => Some("prefer"),
    }
}

/// Do rings lie with their consumers and slabs with their homes?
fn memory(checks: &mut Checks, shape: &Shape, map: &str, running: &Running) {
    let locality = match policy(map) {
        Some("bind") => MemoryBinding::Bound(MemoryLocality::Strict),
        Some(_) => MemoryBinding::Bound(MemoryLocality::Local),
        None => MemoryBinding::NotAsked,
    };
    checks.same("the wish has come true", running.memory_binding(), locality);
    let held = running.monitor().held_pages().expect("move_pages answers");
    let node_of = |partition: usize| running.placement().partitions[partition].cpu.map(|cpu| shape.node(cpu));
    let homeless: Vec<_> = held.iter().filter(|held| held.home != node_of(held.partition)).collect();
    checks.holds("each holder is at home where its partition is", homeless.is_empty(), &homeless);
    let rings: Vec<_> = held.iter().filter(|held| held.holder != MemoryHolder::Pool).collect();
    let few = rings.iter().filter(|held| held.pages.nodes.is_empty() || held.pages.nowhere > 0).count();
    checks.holds("all rings have been touched", rings.len() >= 3 && few == 0, &rings);
    let away: Vec<_> = rings.iter().filter(|held| held.misplaced() > 0).collect();
    checks.holds("rings lie on the node of their consumer, by move_pages", away.is_empty(), &away);
    let pool: Vec<_> = held.iter().filter(|held| held.holder == MemoryHolder::Pool).collect();
    let away: Vec<_> = pool.iter().filter(|held| held.misplaced() > 0).collect();
    checks.holds(
        "slabs lie on the node of their home, by move_pages",
        !pool.is_empty() && away.is_empty(),
        &pool,
    );
    bound_areas(checks, map, &held);
}

/// What numa_maps knows of bound memory is what we say we have bound.
fn bound_areas(checks: &mut Checks, map: &str, held: &[HeldPages]) {
    let areas = areas();
    let bound: Vec<_> = areas.iter().filter(|area| area.policy != "default").collect();
    let Some(policy) = policy(map) else {
        return checks.holds("nothing is bound", bound.is_empty(), &bound);
    };
    let odd: Vec<_> = bound.iter().filter(|area| !area.policy.starts_with(policy)).collect();
    checks.holds("nothing has another policy", odd.is_empty(), &odd);
    let strays: Vec<_> =
        bound.iter().filter(|area| area.wanted().is_none_or(|node| area.not_on(node) > 0)).collect();
    checks.holds("what is bound lies there, by numa_maps", strays.is_empty(), &strays);
    let mut by_node = BTreeMap::<u32, u64>::new();
    let pages = held.iter().filter(|held| held.small_bytes == 0 || !held.pages.nodes.is_empty());
    pages
        .flat_map(|held| &held.pages.nodes)
        .for_each(|(node, pages)| *by_node.entry(*node).or_default() += pages);
    for (node, pages) in by_node {
        let mapped: u64 = bound.iter().filter_map(|area| area.pages.get(&node)).sum();
        // The rings by which buffers go home are bound too, and are nobody's in the report; a slab may have come since.
        checks.holds(
            &format!("the {pages} pages on node {node} are bound"),
            mapped >= pages,
            &(mapped, pages),
        );
    }
}

/// Core maps by number, node, cache, stage and instance, on either driver.
fn maps(checks: &mut Checks, shape: &Shape) {
    let two: &[(&str, &Expected<'_>)] = &[
        (
            "read=0;rent=node:1;hop=node:0;*=7",
            &[("rent", &[4, 5, 6, 7]), ("hop", &[0, 1, 2, 3]), ("gone", &[7])],
        ),
        (
            "read=l3:1;rent=same:read;hop=0/5/3;*=6",
            &[("rent", &[4, 5, 6, 7]), ("hop", &[0, 5, 3]), ("gone", &[6])],
        ),
        (
            "read=0;rent=6,2;hop=2,6;*=5;@memory=strict",
            &[("rent", &[2, 6]), ("hop", &[2, 6]), ("gone", &[5])],
        ),
        ("read=0;rent=1,4;hop=5;*=3;@memory=any", &[("rent", &[1, 4]), ("hop", &[5]), ("gone", &[3])]),
    ];
    let four: &[(&str, &Expected<'_>)] = &[
        // CPU 15 is isolated, and so no core of node 3.
        (
            "read=0;rent=l3:5;hop=node:3;*=l3:1",
            &[("rent", &[10, 11]), ("hop", &[12, 13, 14]), ("gone", &[2])],
        ),
        (
            "read=14;rent=node:1-2;hop=l3:0,4;*=l3:6",
            &[("rent", &[4, 5, 6, 7, 8, 9, 10, 11]), ("hop", &[0, 1, 8, 9]), ("gone", &[12])],
        ),
    ];
    let cases = if shape.threads > 1 { two } else { four };
    for (map, expected) in cases {
        placed(checks, shape, map, DriverChoice::Thread, expected);
    }
    placed(checks, shape, cases[0].0, DriverChoice::Glommio, cases[0].1);
    proposals(checks, shape);
}

/// Does a proposed map keep to a node, a cache and one thread of each core?
fn proposals(checks: &mut Checks, shape: &Shape) {
    let (machine, pipeline) = (machine(), pipeline(&Notes::default()));
    for (span, width) in [(Span::Node, shape.cpus_per_node), (Span::Cache, shape.cpus_per_cache)] {
        let wishes = Wishes { span, ..Wishes::default() };
        let proposal = propose(pipeline.validated(), &machine, &wishes).expect("there are cores");
        let groups: BTreeSet<u32> = proposal.cpus.iter().map(|cpu| cpu / width).collect();
        checks.holds(&format!("a proposal keeps to one {span:?}"), groups.len() == 1, &proposal.cpus);
        let cores: BTreeSet<u32> = proposal.cpus.iter().map(|cpu| cpu / shape.threads).collect();
        checks.holds("and to one thread of each core", cores.len() == proposal.cpus.len(), &proposal.cpus);
    }
}

/// With an affinity mask that has the isolated CPU too: it is a core like others, and those who ask for a map are given it.
fn isolated(checks: &mut Checks, shape: &Shape) {
    let (machine, last) = (machine(), shape.cpus - 1);
    checks.same("the mask has all CPUs", machine.allowed(), CpuList::first_n(shape.cpus));
    let map = format!("read=0;rent={last};hop=12;*={last}");
    placed(
        checks,
        shape,
        &map,
        DriverChoice::Thread,
        &[("rent", &[last]), ("hop", &[12]), ("gone", &[last])],
    );
    let proposal =
        propose(pipeline(&Notes::default()).validated(), &machine, &Wishes::default()).expect("a core");
    checks.same("a proposal takes the isolated CPU", proposal.cpus, list(shape.isolated));
}

/// Takes the last CPU offline, under a running pipeline and before one.
fn offline(checks: &mut Checks, shape: &Shape) {
    let last = shape.cpus - 1;
    let (running, _) = start("*=*", DriverChoice::Thread);
    checks.same("every CPU has a partition", running.placement().partitions.len() as u32, shape.cpus);
    let file = format!("/sys/devices/system/cpu/cpu{last}/online");
    std::fs::write(&file, "0").expect("the kernel can take CPUs offline");
    let machine = machine();
    let displaced = running.placement().displaced(&machine.allowed());
    checks.same("the partition of a CPU that goes is told as displaced", displaced, vec![last as usize]);
    stop(checks, running);
    checks.same("the CPU is offline", machine.offline(), CpuList::from_iter([last]));
    checks.same("and not to be used", machine.allowed(), CpuList::first_n(last));
    let all: Vec<u32> = (0..last).collect();
    placed(checks, shape, "*=*", DriverChoice::Thread, &[("rent", &all), ("hop", &all), ("gone", &[0])]);
    let map: CoreMap = format!("*={last}").parse().expect("a core map");
    let refused = Engine::new(ExecutionOptions { core_map: map, ..ExecutionOptions::default() })
        .check(&pipeline(&Notes::default()));
    let said = refused.map(|_| ()).map_err(|error| error.to_string());
    let words = format!("CPUs {last} are offline");
    checks.holds(
        "a map that names it is refused",
        said.as_ref().is_err_and(|said| said.contains(&words)),
        &said,
    );
    std::fs::write(&file, "1").expect("and online");
}

/// In a cpuset of CPUs 2 to 5, with the memory of all nodes, or of node 0 only.
fn cpuset(checks: &mut Checks, shape: &Shape, mems: &str) {
    let machine = machine();
    checks.same("the cpuset", machine.cpuset.clone(), Some(list("2-5")));
    checks.same("the CPUs that may be used", machine.allowed(), list("2-5"));
    checks.same("the memory that may be used", machine.mems.clone(), Some(list(mems)));
    let expected: &Expected<'_> = &[("rent", &[2, 3, 4, 5]), ("hop", &[4]), ("gone", &[3])];
    let map = "read=0;rent=*;hop=2;*=1";
    if mems != "0" {
        return placed(checks, shape, map, DriverChoice::Thread, expected);
    }
    let (running, _) = start(&format!("{map};@memory=strict"), DriverChoice::Thread);
    let held = running.monitor().held_pages().expect("move_pages answers");
    let homes: BTreeSet<_> = held.iter().map(|held| held.home).collect();
    checks.same("without memory of its own a node has that of another", homes, BTreeSet::from([Some(0)]));
    let away: Vec<_> = held.iter().filter(|held| held.misplaced() > 0).collect();
    checks.holds("and all lies there", away.is_empty(), &away);
    stop(checks, running);
}

/// Rings made by one thread lie side by side, and are one area to the kernel until they are bound: a touch of one brings a huge page that others
/// are in too. Do they lie on their nodes all the same, and stay there?
fn huge(checks: &mut Checks, shape: &Shape) {
    const RINGS: u32 = 256;
    let made = || ring::<[u64; 8]>(1024).expect("there is memory").1;
    let mut consumers: Vec<_> = (0..RINGS).map(|_| made()).collect();
    consumers[RINGS as usize / 2].pretouch();
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").expect("/proc is mounted");
    let huge = smaps.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).map(str::trim);
    checks.holds("a touch brings a huge page", huge.is_some_and(|huge| huge != "0 kB"), &huge);
    let nodes = shape.cpus / shape.cpus_per_node;
    let home = |ring: u32| HomeNode { node: ring % nodes, locality: MemoryLocality::Local };
    let others = (0..RINGS).zip(&mut consumers).filter(|(ring, _)| *ring != RINGS / 2);
    let settled: Vec<_> =
        others.map(|(ring, consumer)| consumer.settle(home(ring)).expect("it is not strict")).collect();
    let elsewhere = settled.iter().filter(|ring| {
        let found = ring.look().expect("move_pages answers");
        found.nowhere > 0 || found.not_on(ring.home().node) > 0
    });
    checks.same("rings that lay in it and are not on their nodes", elsewhere.count(), 0);
}

/// Moves all shards of a fold from a core of one node to one of another, and back: does the state that has moved lie with its new core?
fn moves(checks: &mut Checks, shape: &Shape) {
    let (first, second) = (1, shape.cpus_per_node + 1);
    let map = format!("read=0;sum={first}/{second};*=2");
    println!(" {map}");
    let core_map: CoreMap = map.parse().expect("a core map");
    let (states, options) = (States::default(), ExecutionOptions { core_map, ..ExecutionOptions::default() });
    let running =
        Engine::new(options).start(folding(&states)).unwrap_or_else(|error| panic!("{map}: {error}"));
    let shards = || running.inspect("sum").and_then(|stage| stage.shards).expect("its shards can move");
    // Wherever they run: what does not keep to its CPU is to be found, not waited for.
    let folds = || states.lock().values().map(BTreeSet::len).sum::<usize>() > 300;
    let wait = |until: &dyn Fn() -> bool| {
        while !until() && !running.is_finished() {
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait(&folds);
    for (to, cpu) in [(1, second), (0, first), (1, second)] {
        let moves: Vec<ShardMove> = (0..shards().owners.len()).map(|shard| ShardMove { shard, to }).collect();
        running.move_shards("sum", &moves).expect("a move");
        wait(&|| !shards().moving);
        states.lock().clear();
        wait(&folds);
        let pages = states.lock().clone();
        checks.same("only the new owner folds", pages.keys().copied().collect(), vec![cpu]);
        let frames = Frames::read();
        let mut by_node = BTreeMap::<Option<u32>, u32>::new();
        pages.values().flatten().for_each(|page| *by_node.entry(frames.node_at(*page)).or_default() += 1);
        let what = format!("state that has moved lies on node {}", shape.node(cpu));
        checks.same(&what, by_node.keys().copied().collect(), vec![Some(shape.node(cpu))]);
    }
    stop(checks, running);
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [name, check @ ..] = &words[..] else { panic!("which machine?") };
    let (shape, mut checks) = (Shape::named(name), Checks::default());
    println!("{}", words.join(" "));
    match check {
        ["topology"] => topology(&mut checks, &shape),
        ["maps"] => maps(&mut checks, &shape),
        ["huge"] => huge(&mut checks, &shape),
        ["moves"] => moves(&mut checks, &shape),
        ["isolated"] => isolated(&mut checks, &shape),
        ["offline"] => offline(&mut checks, &shape),
        ["cpuset", mems] => cpuset(&mut checks, &shape, mems),
        other => panic!("no check {other:?}"),
    }
    if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
