//! Resolves a core map to a placement, and says what stands against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{ErrorList, StageId, counted, nearest};
use crate::policy::Parallelism;

use super::select::{Choice, Pool, Selection};
use super::{CoreMap, CpuList, Machine, PartitionPlace, Placement, PlacementWarning};

/// More instances of one stage than this are taken for a mistake.
const MAX_INSTANCES: u32 = 65_536;

/// All that stands against a core map on a machine.
pub type CoreMapErrors = ErrorList<CoreMapError>;

/// One thing that stands against a core map.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreMapError {
    /// The map names a stage that the pipeline does not have.
    #[error("core map: there is no stage {stage}{}", unknown_stage_help(.suggestion.as_ref(), .known))]
    UnknownStage {
        /// The name in the map.
        stage: StageId,
        /// The stage that was probably meant.
        suggestion: Option<StageId>,
        /// The stages there are.
        known: Vec<StageId>,
    },
    /// The map names cores that this process may not use.
    #[error("core map: {field}: {}: {limits}", no_such_cores(.cores))]
    NoSuchCore {
        /// The stage, `*`, or `@` and the core.
        field: String,
        /// The cores outside of the allowed set.
        cores: CpuList,
        /// What there is, and what keeps the rest away.
        limits: Box<Limits>,
    },
    /// A stage is given an empty set of cores.
    #[error("core map: {field}: an empty set of cores; name at least one")]
    NoCores {
        /// The stage or `*`.
        field: String,
    },
    /// The map names nodes or caches without any core that this process may use.
    #[error("core map: {field}: {}", no_such_group(*.kind, .groups, .known))]
    NoSuchGroup {
        /// The stage or `*`.
        field: String,
        /// What sort of group.
        kind: GroupKind,
        /// The groups without a core.
        groups: CpuList,
        /// The groups with cores.
        known: CpuList,
    },
    /// Stages that are each to be on the cores of another one of them.
    #[error("core map: {}: each is to be where another of them is, and none says where", list(.stages))]
    Circle {
        /// The stages.
        stages: Vec<StageId>,
    },
    /// A set of cores for each instance, and another number of instances.
    #[error("core map: {stage}: {sets} sets of cores for its {}", counted(*.instances, "instance"))]
    InstanceCount {
        /// The stage.
        stage: StageId,
        /// The sets of cores.
        sets: usize,
        /// The instances it has.
        instances: usize,
    },
    /// A stage with no instance, or with more than 65 536.
    #[error("stage {stage}: {instances} instances; there must be 1 to {MAX_INSTANCES}")]
    Instances {
        /// The stage.
        stage: StageId,
        /// The instances asked for.
        instances: u32,
    },
    /// The same stage twice in the list of stages to place.
    #[error("stage {stage} is there twice")]
    DuplicateStage {
        /// The stage.
        stage: StageId,
    },
}

impl CoreMapError {
    /// The entry of the map that it is about: a stage, `*`, or `@` and a core; `None` where it is about the pipeline.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NoSuchCore { field, .. } | Self::NoCores { field } | Self::NoSuchGroup { field, .. } => {
                Some(field)
            }
            Self::UnknownStage { stage, .. } | Self::InstanceCount { stage, .. } => Some(stage.as_str()),
            Self::Circle { stages } => stages.first().map(StageId::as_str),
            Self::Instances { .. } | Self::DuplicateStage { .. } => None,
        }
    }
}

/// A group of cores that a core map can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// A NUMA node.
    Node,
    /// The cores under one last-level cache.
    Cache,
}

fn no_such_group(kind: GroupKind, groups: &CpuList, known: &CpuList) -> String {
    let kind = match kind {
        GroupKind::Node => "node",
        GroupKind::Cache => "last-level cache",
    };
    if known.is_empty() {
        return format!("virtual cores have no {kind}");
    }
    format!("no core of {kind} {groups} can be used; there are cores of {kind} {known}")
}

pub(super) fn unknown_stage(stage: &StageId, known: &BTreeSet<&StageId>) -> CoreMapError {
    CoreMapError::UnknownStage {
        stage: stage.clone(),
        suggestion: nearest(stage.as_str(), known.iter().map(|stage| stage.as_str()))
            .and_then(|nearest| nearest.parse().ok()),
        known: known.iter().map(|&stage| stage.clone()).collect(),
    }
}

fn list(stages: &[StageId]) -> String {
    stages.iter().map(StageId::as_str).collect::<Vec<_>>().join(", ")
}

fn unknown_stage_help(suggestion: Option<&StageId>, known: &[StageId]) -> String {
    match suggestion {
        Some(suggestion) => format!("; did you mean {suggestion}?"),
        None if known.is_empty() => "; the pipeline has no stages".to_owned(),
        None => format!("; there are {}", list(known)),
    }
}

fn no_such_cores(cores: &CpuList) -> String {
    match cores.len() {
        1 => format!("core {cores} does not exist"),
        _ => format!("cores {cores} do not exist"),
    }
}

/// The cores there are to choose from, and what keeps other CPUs away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many cores there are; they are numbered from 0.
    pub cores: u32,
    /// The CPUs behind them, in the same order; `None` for virtual cores.
    pub cpus: Option<CpuList>,
    /// CPUs that are built in but do not run.
    pub offline: CpuList,
    /// CPUs that run but are left out by the cgroup cpuset.
    pub outside_cpuset: CpuList,
    /// CPUs that run but are left out by the affinity mask.
    pub outside_affinity: CpuList,
    /// CPUs that a thread could not be pinned to when it was tried.
    pub refused: CpuList,
}

impl Limits {
    pub(super) fn virtual_cores(cores: u32) -> Self {
        let none = CpuList::EMPTY;
        Self {
            cores,
            cpus: None,
            offline: none.clone(),
            outside_cpuset: none.clone(),
            outside_affinity: none.clone(),
            refused: none,
        }
    }

    pub(super) fn of(machine: &Machine) -> Self {
        let allowed = machine.allowed();
        let outside = |allowed: &CpuList| machine.online.difference(allowed);
        Self {
            cores: allowed.len() as u32,
            cpus: Some(allowed),
            offline: machine.offline(),
            outside_cpuset: machine.cpuset.as_ref().map(outside).unwrap_or_default(),
            outside_affinity: outside(&machine.affinity),
            refused: machine.refused.clone(),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cores, &self.cpus) {
            (1, None) => write!(f, "there is one virtual core, core 0")?,
            (n, None) => write!(f, "there are {n} virtual cores, 0-{}", n.saturating_sub(1))?,
            (1, Some(cpus)) => write!(f, "this process may use one core: core 0 is CPU {cpus}")?,
            (n, Some(cpus)) => {
                write!(f, "this process may use cores 0-{}, which are CPUs {cpus}", n.saturating_sub(1))?;
            }
        }
        let reasons = [
            (&self.offline, "offline"),
            (&self.outside_cpuset, "outside the cgroup cpuset of this process"),
            (&self.outside_affinity, "outside its affinity mask (see taskset)"),
            (&self.refused, "refused when a thread is pinned to them"),
        ];
        for (cpus, reason) in reasons.into_iter().filter(|(cpus, _)| !cpus.is_empty()) {
            write!(f, "; CPUs {cpus} are {reason}")?;
        }
        Ok(())
    }
}

impl CoreMap {
    /// Places `stages` on the allowed cores of `machine`, one partition per core in use.
    ///
    /// A stage's instances go over its cores in turn, unless the map gives each a set of its own: Sequential and IoBound have one
    /// instance, `Fixed(n)` has n, CpuBound has one per core or set. Instances may outnumber cores; [`Placement::warnings`] says so.
    ///
    /// # Errors
    /// Everything that stands against it: see [`CoreMapError`].
    pub fn resolve(
        &self,
        machine: &Machine,
        stages: &[(StageId, Parallelism)],
    ) -> Result<Placement, CoreMapErrors> {
        let mut placement = place(self, &Pool::of(machine), stages)?;
        let used = placement.cpus();
        let groups: BTreeSet<_> = used
            .iter()
            .filter_map(|cpu| Some(machine.cpu(cpu)?.siblings.intersection(&used)))
            .filter(|siblings| siblings.len() > 1)
            .collect();
        let smt = groups.into_iter().map(|cpus| PlacementWarning::SmtSiblings { cpus });
        placement.warnings.extend(smt);
        let partitions = placement.partitions.len();
        if let Some(quota) = machine.quota().filter(|quota| *quota < partitions as f64) {
            placement.warnings.push(PlacementWarning::QuotaBelowPartitions { quota, partitions });
        }
        Ok(placement)
    }
}

/// Places `stages` on the cores of `pool`.
pub(super) fn place(
    map: &CoreMap,
    pool: &Pool,
    stages: &[(StageId, Parallelism)],
) -> Result<Placement, CoreMapErrors> {
    let selection = Selection::new(map, pool, stages);
    ErrorList::check(errors(map, pool, &selection, stages), ())?;

    let mut warnings = Vec::new();
    let mut cores_of = BTreeMap::new();
    for (stage, parallelism) in stages {
        let choice = selection.choice(stage);
        let cores = choice.instances(*parallelism);
        if let Choice::InTurn(all) = &choice {
            let named = map.stages.contains_key(stage);
            warnings.extend(spread_warning(stage, cores.len(), all, named));
        }
        cores_of.insert(stage.clone(), cores);
    }

    let used: CpuList = cores_of.values().flatten().copied().collect();
    let idle_only: CpuList = map.idle.keys().copied().filter(|&core| !used.contains(core)).collect();
    if !idle_only.is_empty() {
        warnings.push(PlacementWarning::IdleWithoutPartition { cores: idle_only });
    }
    let partition = |core| PartitionPlace {
        core,
        cpu: pool.cpus.get(core as usize).copied().flatten(),
        idle: map.idle_of(core),
    };
    let index_of: BTreeMap<u32, usize> = used.iter().zip(0..).collect();
    let stages = cores_of
        .into_iter()
        .map(|(stage, cores)| (stage, cores.iter().map(|core| index_of[core]).collect()))
        .collect();
    let partitions = used.iter().map(partition).collect();
    let memory = map.memory.unwrap_or_default();
    Ok(Placement { partitions, stages, rings: map.rings.clone(), memory, warnings })
}

fn spread_warning(
    stage: &StageId,
    instances: usize,
    cores: &CpuList,
    named: bool,
) -> Option<PlacementWarning> {
    let stage = stage.clone();
    if instances > cores.len() {
        return Some(PlacementWarning::InstancesShareCores { stage, instances, cores: cores.len() });
    }
    // Only where the user gave the stage these cores by name: `*` is rarely meant to be used up by each stage.
    let unused: CpuList = cores.iter().skip(instances).collect();
    (named && !unused.is_empty()).then_some(PlacementWarning::UnusedCores { stage, instances, unused })
}

fn errors(
    map: &CoreMap,
    pool: &Pool,
    selection: &Selection<'_>,
    stages: &[(StageId, Parallelism)],
) -> Vec<CoreMapError> {
    let mut errors = selection.errors(stages);
    let idle = map.idle.keys();
    errors.extend(idle.filter_map(|core| pool.no_such_core(format!("@{core}"), CpuList::from_iter([*core]))));
    let mut seen = BTreeSet::new();
    for (stage, parallelism) in stages {
        if !seen.insert(stage) {
            errors.push(CoreMapError::DuplicateStage { stage: stage.clone() });
        }
        match *parallelism {
            Parallelism::Fixed(instances) if !(1..=MAX_INSTANCES).contains(&instances) => {
                errors.push(CoreMapError::Instances { stage: stage.clone(), instances });
            }
            _ => {}
        }
    }
    errors
}
