//! What this process may run on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CpuId, CpuList, MachineNote, read};

/// One CPU that is online.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The kernel's number.
    pub id: CpuId,
    /// The package (socket) it sits in.
    pub package: u32,
    /// The kernel's number of its die; unique only within the package. 0 where the machine does not say.
    #[serde(default)]
    pub die: u32,
    /// The kernel's number of its physical core; unique only within the package.
    pub core: u32,
    /// The online CPUs of the same physical core, itself included.
    pub siblings: CpuList,
    /// Its NUMA node.
    pub node: u32,
    /// Its last-level cache, numbered from 0 in the order of the lowest CPU of each; the package where the machine
    /// does not say.
    pub l3: u32,
    /// How fast it is, the fastest ones of the machine being 1 024; all are where the machine does not say.
    #[serde(default = "full_capacity")]
    pub capacity: u32,
}

/// The capacity of the fastest CPUs.
pub const FULL_CAPACITY: u32 = 1024;

fn full_capacity() -> u32 {
    FULL_CAPACITY
}

/// One NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// Its online CPUs; empty for a node of memory only.
    pub cpus: CpuList,
    /// Its memory in bytes, 0 for a node without memory; `None` where the machine does not say.
    pub memory: Option<u64>,
    /// The distance to each node, in the order of [`Machine::nodes`] (10 is local); empty where unknown.
    pub distances: Vec<u32>,
}

/// Why there is no machine to run on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// No CPU is said to be online.
    #[error("no CPU is online: sys/devices/system/cpu/online is missing, cannot be read, or names none")]
    NothingOnline,
    /// Online CPUs, cpuset and affinity mask have nothing in common.
    #[error(
        "no CPU is allowed: online are {online}, the cgroup cpuset allows {}, the affinity mask allows {affinity}",
        .cpuset.as_ref().map_or_else(|| "all".to_owned(), CpuList::to_string)
    )]
    NothingAllowed {
        /// CPUs that run.
        online: CpuList,
        /// CPUs the cgroup allows; `None` when there is no such limit.
        cpuset: Option<CpuList>,
        /// CPUs the affinity mask allows.
        affinity: CpuList,
    },
    /// No thread can be pinned to any CPU that files and mask allow.
    #[error("no CPU can be used: pinning to each of the allowed CPUs {refused} was refused")]
    EveryPinRefused {
        /// The CPUs tried.
        refused: CpuList,
    },
}

/// The machine as this process sees it, at the moment it was read.
///
/// Fields are public so that a plan can be drawn for a machine that is elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// CPUs that run.
    pub online: CpuList,
    /// CPUs that are built in, running or not.
    pub present: CpuList,
    /// CPUs kept free of the general scheduler (`isolcpus`); pinning to them works.
    pub isolated: CpuList,
    /// CPUs whose timer tick stops while they run one thread (`nohz_full`).
    #[serde(default)]
    pub nohz_full: CpuList,
    /// CPUs the cgroup allows; `None` when there is no such limit.
    pub cpuset: Option<CpuList>,
    /// CPUs the affinity mask (taskset) allows.
    pub affinity: CpuList,
    /// NUMA nodes whose memory the process may use; `None` where the machine does not say.
    #[serde(default)]
    pub mems: Option<CpuList>,
    /// CPUs that a thread could not be pinned to when it was tried, whatever the files say.
    #[serde(default)]
    pub refused: CpuList,
    /// CPU time the cgroup allows, in CPUs; `None` when there is no such limit.
    pub quota: Option<f64>,
    /// The online CPUs in ascending order.
    pub cpus: Vec<Cpu>,
    /// The NUMA nodes in ascending order; at least one.
    pub nodes: Vec<NumaNode>,
    /// Files that could not be used and what was taken instead.
    pub notes: Vec<MachineNote>,
}

impl Machine {
    /// Reads sysfs, procfs and cgroup files under `root` (`/` for the machine itself). `affinity` is the mask of the
    /// calling thread.
    ///
    /// A file that is missing, unreadable or senseless is replaced by a fallback, which [`Machine::notes`] states.
    /// Costs a handful of small files per CPU: for start-up, not for a data path.
    ///
    /// # Errors
    /// [`MachineError::NothingAllowed`] when no online CPU is allowed.
    pub fn read(root: &Path, affinity: &CpuList) -> Result<Self, MachineError> {
        read::read(root, Some(affinity)).if_any_allowed()
    }

    /// As [`read`](Self::read), as the process that `proc/self` of the tree is about sees it, with the affinity mask that stands
    /// there; where none does, every online CPU is in it. For trees of other machines.
    ///
    /// # Errors
    /// As there; [`MachineError::NothingOnline`] when the tree says of no CPU that it is online.
    pub fn of_tree(root: &Path) -> Result<Self, MachineError> {
        read::read(root, None).if_any_allowed()
    }

    fn if_any_allowed(self) -> Result<Self, MachineError> {
        if self.online.is_empty() {
            return Err(MachineError::NothingOnline);
        }
        if self.allowed().is_empty() {
            let Self { online, cpuset, affinity, .. } = self;
            return Err(MachineError::NothingAllowed { online, cpuset, affinity });
        }
        Ok(self)
    }

    /// A machine of `cpus` equal CPUs: one package, one node, one cache, no SMT, no limits. For tests and plans.
    pub fn flat(cpus: u32) -> Self {
        let all = CpuList::first_n(cpus);
        let cpu = |id| Cpu {
            id,
            package: 0,
            die: 0,
            core: id,
            siblings: CpuList::from_iter([id]),
            node: 0,
            l3: 0,
            capacity: FULL_CAPACITY,
        };
        Self {
            online: all.clone(),
            present: all.clone(),
            isolated: CpuList::EMPTY,
            nohz_full: CpuList::EMPTY,
            cpuset: None,
            affinity: all.clone(),
            mems: None,
            refused: CpuList::EMPTY,
            quota: None,
            cpus: all.iter().map(cpu).collect(),
            nodes: vec![NumaNode { id: 0, cpus: all, memory: None, distances: vec![10] }],
            notes: Vec::new(),
        }
    }

    /// The same machine after a trial: without the CPUs that no thread could be pinned to.
    ///
    /// # Errors
    /// [`MachineError::EveryPinRefused`] when no CPU is left.
    pub fn without(mut self, refused: CpuList) -> Result<Self, MachineError> {
        self.refused = refused;
        if self.allowed().is_empty() {
            return Err(MachineError::EveryPinRefused { refused: self.refused });
        }
        Ok(self)
    }

    /// The CPUs this process may use, in ascending order: online, in the cpuset, in the affinity mask, and not refused when
    /// it was tried. Core `n` of a core map is the `n`-th of them.
    pub fn allowed(&self) -> CpuList {
        let allowed = self.online.intersection(&self.affinity).difference(&self.refused);
        match &self.cpuset {
            Some(cpuset) => allowed.intersection(cpuset),
            None => allowed,
        }
    }

    /// CPU time this process may use, in CPUs (1.5 is one and a half); `None` when there is no quota.
    pub fn quota(&self) -> Option<f64> {
        self.quota
    }

    /// CPUs that are built in but do not run.
    pub fn offline(&self) -> CpuList {
        self.present.difference(&self.online)
    }

    /// The online CPUs of the same last-level cache.
    pub fn l3_group(&self, l3: u32) -> CpuList {
        self.cpus.iter().filter(|cpu| cpu.l3 == l3).map(|cpu| cpu.id).collect()
    }

    /// Those of `cpus` that are slower than the fastest of them.
    pub fn slower(&self, cpus: &CpuList) -> CpuList {
        let capacity = |cpu: CpuId| self.cpu(cpu).map_or(FULL_CAPACITY, |cpu| cpu.capacity);
        let fastest = cpus.iter().map(capacity).max().unwrap_or(FULL_CAPACITY);
        cpus.iter().filter(|cpu| capacity(*cpu) < fastest).collect()
    }

    /// The node of that number.
    pub fn node(&self, id: u32) -> Option<&NumaNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// How far the memory of node `to` is from CPUs of node `from`, 10 being local; 20 where the machine does not say.
    pub fn node_distance(&self, from: u32, to: u32) -> u32 {
        let known = self.nodes.iter().position(|node| node.id == to);
        let told = self.node(from).zip(known).and_then(|(node, at)| node.distances.get(at).copied());
        told.unwrap_or(if from == to { 10 } else { 20 })
    }

    /// What is known of an online CPU. Logarithmic.
    pub fn cpu(&self, id: CpuId) -> Option<&Cpu> {
        self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok().map(|at| &self.cpus[at])
    }
}
