//! Reads a [`Machine`] from files.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{Fact, FileProblem, Files};
use super::machine::FULL_CAPACITY;
use super::{Cpu, CpuId, CpuList, Machine, NumaNode, cgroup};

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// Deepest cache index looked at.
const CACHE_INDICES: u32 = 16;

/// Without an affinity mask, that of `proc/self` is taken, or every online CPU.
pub(super) fn read(root: &Path, affinity: Option<&CpuList>) -> Machine {
    let mut files = Files::new(root);
    let told = affinity.cloned().or_else(|| of_status(&files, "Cpus_allowed_list:"));
    let (online, present) = online_and_present(&mut files, &told.clone().unwrap_or_default());
    let affinity = told.unwrap_or_else(|| online.clone());
    let isolated = files.list(&format!("{CPUS}/isolated")).unwrap_or_else(|problem| {
        files.note(Fact::IsolatedCpus, &format!("{CPUS}/isolated"), problem, "no CPU is taken as isolated");
        CpuList::EMPTY
    });
    // A kernel without the feature has no such file, and some say "(null)" where nothing was asked for.
    let nohz_full = files.list(&format!("{CPUS}/nohz_full")).unwrap_or_default();
    let nodes = nodes(&mut files, &online);
    let cpus = cpus(&mut files, &online, &nodes);
    let limits = cgroup::read(&mut files);
    let mems = of_status(&files, "Mems_allowed_list:");
    Machine {
        online,
        present,
        isolated,
        nohz_full,
        cpuset: limits.cpuset,
        affinity,
        mems,
        refused: CpuList::EMPTY,
        quota: limits.quota,
        cpus,
        nodes,
        notes: files.notes,
    }
}

/// A list in the status of the process that `proc/self` is about.
fn of_status(files: &Files<'_>, name: &str) -> Option<CpuList> {
    let status = files.text("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix(name))?;
    CpuList::from_kernel(list.trim()).ok()
}

/// Each stands in for the other, the affinity mask for both.
fn online_and_present(files: &mut Files<'_>, affinity: &CpuList) -> (CpuList, CpuList) {
    let mut list = |fact, name: &str| {
        let path = format!("{CPUS}/{name}");
        let problem = match files.list(&path) {
            Ok(cpus) if !cpus.is_empty() => return Some(cpus),
            Ok(_) => FileProblem::malformed(""),
            Err(problem) => problem,
        };
        let fallback = match fact {
            Fact::OnlineCpus => "the present CPUs are taken, or those of the affinity mask",
            _ => "the online CPUs are taken",
        };
        files.note(fact, &path, problem, fallback);
        None
    };
    match (list(Fact::OnlineCpus, "online"), list(Fact::PresentCpus, "present")) {
        (Some(online), Some(present)) => (online.clone(), present.union(&online)),
        (Some(cpus), None) | (None, Some(cpus)) => (cpus.clone(), cpus),
        (None, None) => (affinity.clone(), affinity.clone()),
    }
}

fn nodes(files: &mut Files<'_>, online: &CpuList) -> Vec<NumaNode> {
    let ids = files.numbered(NODES, "node").unwrap_or_else(|problem| {
        files.note(Fact::NumaNodes, NODES, problem, "one node with all CPUs is taken");
        Vec::new()
    });
    let mut nodes = Vec::new();
    for id in ids {
        let path = format!("{NODES}/node{id}/cpulist");
        match files.list(&path) {
            Ok(cpus) => nodes.push(NumaNode {
                id,
                cpus: cpus.intersection(online),
                memory: memory(files, id),
                distances: distances(files, id),
            }),
            Err(problem) => {
                files.note(Fact::NumaNodes, &path, problem, format!("node {id} is left out"));
            }
        }
    }
    let placed = nodes.iter().fold(CpuList::EMPTY, |all, node| all.union(&node.cpus));
    let homeless = online.difference(&placed);
    match nodes.first_mut() {
        None => nodes.push(NumaNode { id: 0, cpus: online.clone(), memory: None, distances: Vec::new() }),
        Some(first) if !homeless.is_empty() => {
            first.cpus = first.cpus.union(&homeless);
            let fallback = format!("CPUs {homeless} are taken to be in node {}", first.id);
            files.note(Fact::NumaNodes, NODES, FileProblem::Missing, fallback);
        }
        Some(_) => {}
    }
    nodes
}

/// Bytes, from the line `Node 0 MemTotal:  16384 kB`.
fn memory(files: &Files<'_>, node: u32) -> Option<u64> {
    let text = files.text(&format!("{NODES}/node{node}/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.split_once("MemTotal:"))?.1;
    total.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn distances(files: &Files<'_>, node: u32) -> Vec<u32> {
    let text = files.text(&format!("{NODES}/node{node}/distance")).unwrap_or_default();
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// Collects the CPUs a fact is unknown for, so that a machine of 256 CPUs gives one note and not 256.
#[derive(Default)]
struct Unknown(BTreeMap<Fact, (String, FileProblem, Vec<CpuId>)>);

impl Unknown {
    fn or_note<T>(&mut self, fact: Fact, cpu: CpuId, path: &str, read: Result<T, FileProblem>) -> Option<T> {
        let problem = match read {
            Ok(value) => return Some(value),
            Err(problem) => problem,
        };
        self.0.entry(fact).or_insert_with(|| (path.to_owned(), problem, Vec::new())).2.push(cpu);
        None
    }

    fn write_to(self, files: &mut Files<'_>) {
        for (fact, (path, problem, cpus)) in self.0 {
            let fallback = match fact {
                Fact::Package => "taken to be in package 0",
                Fact::Core => "each taken as a core of its own",
                Fact::SmtSiblings => "taken to have no SMT siblings",
                _ => "taken to share a cache with their package",
            };
            let cpus: CpuList = cpus.into_iter().collect();
            files.note(fact, &path, problem, format!("CPUs {cpus} are {fallback}"));
        }
    }
}

fn cpus(files: &mut Files<'_>, online: &CpuList, nodes: &[NumaNode]) -> Vec<Cpu> {
    let mut unknown = Unknown::default();
    let mut caches = Vec::new();
    let mut cpus = Vec::with_capacity(online.len());
    for id in online.iter() {
        let topology = format!("{CPUS}/cpu{id}/topology");
        let mut number = |fact, name| {
            let path = format!("{topology}/{name}");
            unknown.or_note(fact, id, &path, files.number(&path))
        };
        let package = number(Fact::Package, "physical_package_id").unwrap_or(0);
        let core = number(Fact::Core, "core_id").unwrap_or(id);
        let siblings = siblings(files, &mut unknown, &topology, id, online);
        // Kernels before 5.2 name no die, and only machines with unequal CPUs give their capacity.
        let die = files.number(&format!("{topology}/die_id")).unwrap_or(0);
        let capacity = files.number(&format!("{CPUS}/cpu{id}/cpu_capacity")).unwrap_or(FULL_CAPACITY);
        let cache = format!("{CPUS}/cpu{id}/cache");
        caches.push(unknown.or_note(Fact::L3Group, id, &cache, last_level_cpus(files, &cache, &siblings)));
        let node = nodes.iter().find(|node| node.cpus.contains(id)).map_or(0, |node| node.id);
        cpus.push(Cpu { id, package, die, core, siblings, node, l3: 0, capacity });
    }
    number_caches(&mut cpus, &caches);
    unknown.write_to(files);
    cpus
}

fn siblings(
    files: &Files<'_>,
    unknown: &mut Unknown,
    topology: &str,
    id: CpuId,
    online: &CpuList,
) -> CpuList {
    let path = format!("{topology}/core_cpus_list");
    // Kernels before 5.3 know the same list by its older name only.
    let read = files.list(&path).or_else(|_| files.list(&format!("{topology}/thread_siblings_list")));
    let read = read.and_then(|list| {
        if list.contains(id) { Ok(list) } else { Err(FileProblem::malformed(&list.to_string())) }
    });
    unknown
        .or_note(Fact::SmtSiblings, id, &path, read)
        .map_or_else(|| CpuList::from_iter([id]), |list| list.intersection(online))
}

/// The CPUs that share the level 3 cache of a CPU, or where there is none, a cache of level 2 that is shared by several cores.
fn last_level_cpus(files: &Files<'_>, cache: &str, siblings: &CpuList) -> Result<CpuList, FileProblem> {
    let mut cluster = None;
    for index in 0..CACHE_INDICES {
        let level = match files.number(&format!("{cache}/index{index}/level")) {
            Ok(level) => level,
            Err(FileProblem::Missing) => break,
            Err(problem) => return Err(problem),
        };
        let shared = || files.list(&format!("{cache}/index{index}/shared_cpu_list"));
        match level {
            3 => return shared(),
            2 => cluster = Some(shared()?),
            _ => {}
        }
    }
    cluster.filter(|cpus| !cpus.difference(siblings).is_empty()).ok_or(FileProblem::Missing)
}

/// Numbers the caches in the order of the CPUs; CPUs without one share theirs with their package.
fn number_caches(cpus: &mut [Cpu], caches: &[Option<CpuList>]) {
    #[derive(PartialEq)]
    enum Key<'a> {
        Cache(&'a CpuList),
        Package(u32),
    }
    let mut seen: Vec<Key<'_>> = Vec::new();
    for (cpu, cache) in cpus.iter_mut().zip(caches) {
        let key = cache.as_ref().map_or(Key::Package(cpu.package), Key::Cache);
        let at = seen.iter().position(|other| *other == key).unwrap_or_else(|| {
            seen.push(key);
            seen.len() - 1
        });
        // At most one cache per CPU, and CPU numbers end at 65 535.
        cpu.l3 = at as u32;
    }
}
