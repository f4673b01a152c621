//! Resolves a core map to a placement, and says what stands against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{ErrorList, StageId, nearest};
use crate::policy::Parallelism;

use super::{CoreMap, Cores, CpuId, CpuList, Machine, PartitionPlace, Placement, PlacementWarning};

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

fn unknown_stage_help(suggestion: Option<&StageId>, known: &[StageId]) -> String {
    let known: Vec<_> = known.iter().map(StageId::as_str).collect();
    match suggestion {
        Some(suggestion) => format!("; did you mean {suggestion}?"),
        None if known.is_empty() => "; the pipeline has no stages".to_owned(),
        None => format!("; there are {}", known.join(", ")),
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
}

impl Limits {
    pub(super) fn virtual_cores(cores: u32) -> Self {
        let none = CpuList::EMPTY;
        Self {
            cores,
            cpus: None,
            offline: none.clone(),
            outside_cpuset: none.clone(),
            outside_affinity: none,
        }
    }

    fn of(machine: &Machine) -> Self {
        let allowed = machine.allowed();
        let outside = |allowed: &CpuList| machine.online.difference(allowed);
        Self {
            cores: allowed.len() as u32,
            cpus: Some(allowed),
            offline: machine.offline(),
            outside_cpuset: machine.cpuset.as_ref().map(outside).unwrap_or_default(),
            outside_affinity: outside(&machine.affinity),
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
    /// A stage's instances go over its cores in turn: Sequential and IoBound have one instance, `Fixed(n)` has n,
    /// CpuBound has one per core. Instances may outnumber cores; [`Placement::warnings`] says so.
    ///
    /// # Errors
    /// Everything that stands against it: see [`CoreMapError`].
    pub fn resolve(
        &self,
        machine: &Machine,
        stages: &[(StageId, Parallelism)],
    ) -> Result<Placement, CoreMapErrors> {
        let available: Vec<_> = machine.allowed().iter().map(Some).collect();
        let mut placement = place(self, &available, &Limits::of(machine), stages)?;
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

/// Places `stages` on `available` cores (the CPU of each, where there is one).
pub(super) fn place(
    map: &CoreMap,
    available: &[Option<CpuId>],
    limits: &Limits,
    stages: &[(StageId, Parallelism)],
) -> Result<Placement, CoreMapErrors> {
    let all = CpuList::first_n(limits.cores);
    ErrorList::check(errors(map, &all, limits, stages), ())?;

    let mut warnings = Vec::new();
    let mut cores_of = BTreeMap::new();
    let rest = rest(map, &all);
    for (stage, parallelism) in stages {
        let named = map.stages.get(stage);
        let cores = named.map_or_else(|| rest.clone(), |cores| listed(cores, &all));
        let instances = instances(*parallelism, cores.len());
        warnings.extend(spread_warning(stage, instances, &cores, named.is_some()));
        let instance_cores: Vec<u32> = cores.iter().cycle().take(instances).collect();
        cores_of.insert(stage.clone(), instance_cores);
    }

    let used: CpuList = cores_of.values().flatten().copied().collect();
    let idle_only: CpuList = map.idle.keys().copied().filter(|&core| !used.contains(core)).collect();
    if !idle_only.is_empty() {
        warnings.push(PlacementWarning::IdleWithoutPartition { cores: idle_only });
    }
    let partition = |core| PartitionPlace {
        core,
        cpu: available.get(core as usize).copied().flatten(),
        idle: map.idle_of(core),
    };
    let index_of: BTreeMap<u32, usize> = used.iter().zip(0..).collect();
    let stages = cores_of
        .into_iter()
        .map(|(stage, cores)| (stage, cores.iter().map(|core| index_of[core]).collect()))
        .collect();
    Ok(Placement { partitions: used.iter().map(partition).collect(), stages, warnings })
}

fn instances(parallelism: Parallelism, cores: usize) -> usize {
    match parallelism {
        Parallelism::Sequential | Parallelism::IoBound => 1,
        Parallelism::Fixed(n) => n as usize,
        Parallelism::CpuBound => cores,
    }
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

fn listed(cores: &Cores, all: &CpuList) -> CpuList {
    match cores {
        Cores::All => all.clone(),
        Cores::List(list) => list.clone(),
    }
}

/// The cores of stages that the map does not name.
fn rest(map: &CoreMap, all: &CpuList) -> CpuList {
    match &map.rest {
        Some(cores) => listed(cores, all),
        None => map.stages.values().fold(CpuList::EMPTY, |sum, cores| sum.union(&listed(cores, all))),
    }
}

fn errors(
    map: &CoreMap,
    all: &CpuList,
    limits: &Limits,
    stages: &[(StageId, Parallelism)],
) -> Vec<CoreMapError> {
    let mut errors = Vec::new();
    let known: BTreeSet<&StageId> = stages.iter().map(|(stage, _)| stage).collect();
    for stage in map.stages.keys().filter(|stage| !known.contains(stage)) {
        errors.push(CoreMapError::UnknownStage {
            stage: stage.clone(),
            suggestion: nearest(stage.as_str(), known.iter().map(|stage| stage.as_str()))
                .and_then(|nearest| nearest.parse().ok()),
            known: known.iter().map(|&stage| stage.clone()).collect(),
        });
    }
    let named = map.stages.iter().map(|(stage, cores)| (stage.to_string(), cores));
    for (field, cores) in named.chain(map.rest.iter().map(|cores| ("*".to_owned(), cores))) {
        let cores = listed(cores, all);
        if cores.is_empty() {
            errors.push(CoreMapError::NoCores { field });
        } else {
            errors.extend(no_such_core(field, cores.difference(all), limits));
        }
    }
    let idle = map.idle.keys().filter(|core| !all.contains(**core));
    errors.extend(
        idle.filter_map(|core| no_such_core(format!("@{core}"), CpuList::from_iter([*core]), limits)),
    );
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

fn no_such_core(field: String, cores: CpuList, limits: &Limits) -> Option<CoreMapError> {
    let limits = Box::new(limits.clone());
    (!cores.is_empty()).then_some(CoreMapError::NoSuchCore { field, cores, limits })
}
