//! The outcome of a core map on a machine.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::model::{StageId, counted};
use crate::policy::{IdlePolicy, MemoryLocality, Parallelism};

use super::resolve::{CoreMapErrors, place};
use super::select::Pool;
use super::{CoreMap, CpuId, CpuList, EdgeName};

/// Where one partition runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionPlace {
    /// Its core, numbered within the allowed set.
    pub core: u32,
    /// The CPU to pin its thread to; `None` leaves the thread to the scheduler.
    pub cpu: Option<CpuId>,
    /// How it idles.
    pub idle: IdlePolicy,
}

/// Partitions, where they run, and which of them holds each stage instance.
///
/// There is one partition for each core that at least one instance runs on, in ascending order of cores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placement {
    /// The partitions.
    pub partitions: Vec<PartitionPlace>,
    /// For each stage, the partition (an index into `partitions`) of each of its instances.
    pub stages: BTreeMap<StageId, Vec<usize>>,
    /// For edges that the map names, the items that each of their rings is to hold.
    pub rings: BTreeMap<EdgeName, u64>,
    /// How near to its partition memory is to lie.
    pub memory: MemoryLocality,
    /// What is allowed but probably not meant.
    pub warnings: Vec<PlacementWarning>,
}

/// Something allowed but probably not meant.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PlacementWarning {
    /// Some cores run more than one instance of the stage.
    #[error("stage {stage}: {instances} instances share {}", counted(*.cores, "core"))]
    InstancesShareCores {
        /// The stage.
        stage: StageId,
        /// Its instances.
        instances: usize,
        /// The cores it has.
        cores: usize,
    },
    /// The map gives the stage cores that none of its instances uses.
    #[error("stage {stage}: of its cores, {unused} are left unused by its {}", counted(*.instances, "instance"))]
    UnusedCores {
        /// The stage.
        stage: StageId,
        /// Its instances.
        instances: usize,
        /// Cores without an instance.
        unused: CpuList,
    },
    /// Some CPUs run more than one partition.
    #[error("{partitions} partitions share {}", counted(*.cpus, "CPU"))]
    PartitionsShareCpus {
        /// Partitions that are pinned.
        partitions: usize,
        /// CPUs they are pinned to.
        cpus: usize,
    },
    /// Partitions on CPUs of one physical core slow each other down.
    #[error("CPUs {cpus} are SMT siblings (one physical core) and each runs a partition")]
    SmtSiblings {
        /// The CPUs.
        cpus: CpuList,
    },
    /// The CPU quota is smaller than the partitions could use.
    #[error("a CPU quota of {quota} is less than {} can use", counted(*.partitions, "partition"))]
    QuotaBelowPartitions {
        /// CPU time allowed, in CPUs.
        quota: f64,
        /// Partitions.
        partitions: usize,
    },
    /// An idle policy is given for a core that runs nothing.
    #[error("cores {cores} have an idle policy but run no stage")]
    IdleWithoutPartition {
        /// The cores.
        cores: CpuList,
    },
}

impl Placement {
    /// A placement on `cores` made-up cores instead of those of a machine, for simulation and for running more
    /// partitions than there are CPUs.
    ///
    /// Core numbers in `map` run from 0 to `cores - 1`; there are no nodes and no caches. Partition threads are pinned to `cpus` in turn; when `cpus`
    /// is empty they are not pinned.
    ///
    /// ```
    /// use corelane::model::StageId;
    /// use corelane::policy::Parallelism;
    /// use corelane::topology::{CoreMap, CpuList, Placement};
    ///
    /// let stages = [(StageId::new("sum")?, Parallelism::CpuBound)];
    /// let placement = Placement::virtual_cores(8, &"0-1".parse()?, &CoreMap::default(), &stages)?;
    /// assert_eq!(placement.partitions.len(), 8);
    /// assert_eq!(placement.partitions[7].cpu, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`CoreMap::resolve`].
    pub fn virtual_cores(
        cores: u32,
        cpus: &CpuList,
        map: &CoreMap,
        stages: &[(StageId, Parallelism)],
    ) -> Result<Self, CoreMapErrors> {
        let cpu = |core: u32| cpus.get(core as usize % cpus.len().max(1));
        let available: Vec<_> = (0..cores).map(cpu).collect();
        let mut placement = place(map, &Pool::virtual_cores(available), stages)?;
        let pinned = placement.partitions.iter().filter(|p| p.cpu.is_some()).count();
        let cpus = placement.cpus().len();
        if pinned > cpus {
            let partitions = pinned;
            placement.warnings.push(PlacementWarning::PartitionsShareCpus { partitions, cpus });
        }
        Ok(placement)
    }

    /// The partition of each instance of a stage; empty for a stage that was not placed.
    pub fn instances(&self, stage: &StageId) -> &[usize] {
        self.stages.get(stage).map_or(&[], Vec::as_slice)
    }

    /// The CPUs that partitions are pinned to.
    pub fn cpus(&self) -> CpuList {
        self.partitions.iter().filter_map(|partition| partition.cpu).collect()
    }

    /// The partitions pinned to a CPU that is not in `allowed`: after affinity mask, cpuset or online CPUs changed
    /// under a running process, those whose threads the kernel has moved elsewhere.
    pub fn displaced(&self, allowed: &CpuList) -> Vec<usize> {
        let gone = |place: &PartitionPlace| place.cpu.is_some_and(|cpu| !allowed.contains(cpu));
        (0..self.partitions.len()).filter(|&p| gone(&self.partitions[p])).collect()
    }
}

/// One line a partition: its core, CPU, idle policy and stages.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PartitionPlace { core, cpu, idle }) in self.partitions.iter().enumerate() {
            let cpu = cpu.map_or_else(|| "not pinned".to_owned(), |cpu| format!("CPU {cpu}"));
            write!(f, "partition {index}: core {core}, {cpu}, idle {idle:?}:")?;
            for (stage, instances) in &self.stages {
                match instances.iter().filter(|&&partition| partition == index).count() {
                    0 => {}
                    1 => write!(f, " {stage}")?,
                    n => write!(f, " {stage} x{n}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
