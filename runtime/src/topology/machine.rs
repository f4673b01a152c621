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
    /// The kernel's number of its physical core; unique only within the package.
    pub core: u32,
    /// The online CPUs of the same physical core, itself included.
    pub siblings: CpuList,
    /// Its NUMA node.
    pub node: u32,
    /// Its last-level cache, numbered from 0 in the order of the lowest CPU of each; the package where the machine
    /// does not say.
    pub l3: u32,
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
    /// CPUs the cgroup allows; `None` when there is no such limit.
    pub cpuset: Option<CpuList>,
    /// CPUs the affinity mask (taskset) allows.
    pub affinity: CpuList,
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
        let machine = read::read(root, affinity);
        if machine.allowed().is_empty() {
            let Self { online, cpuset, affinity, .. } = machine;
            return Err(MachineError::NothingAllowed { online, cpuset, affinity });
        }
        Ok(machine)
    }

    /// A machine of `cpus` equal CPUs: one package, one node, one cache, no SMT, no limits. For tests and plans.
    pub fn flat(cpus: u32) -> Self {
        let all = CpuList::first_n(cpus);
        let cpu = |id| Cpu { id, package: 0, core: id, siblings: CpuList::from_iter([id]), node: 0, l3: 0 };
        Self {
            online: all.clone(),
            present: all.clone(),
            isolated: CpuList::EMPTY,
            cpuset: None,
            affinity: all.clone(),
            quota: None,
            cpus: all.iter().map(cpu).collect(),
            nodes: vec![NumaNode { id: 0, cpus: all, memory: None, distances: vec![10] }],
            notes: Vec::new(),
        }
    }

    /// The CPUs this process may use, in ascending order: online, in the cpuset, in the affinity mask. Core `n` of a
    /// core map is the `n`-th of them.
    pub fn allowed(&self) -> CpuList {
        let allowed = self.online.intersection(&self.affinity);
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

    /// What is known of an online CPU. Logarithmic.
    pub fn cpu(&self, id: CpuId) -> Option<&Cpu> {
        self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok().map(|at| &self.cpus[at])
    }
}
