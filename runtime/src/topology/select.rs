//! From the sets of cores that a core map names to the core of each instance.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::StageId;
use crate::policy::Parallelism;

use super::resolve::{CoreMapError, GroupKind, Limits, unknown_stage};
use super::{CoreMap, Cores, CpuId, CpuList, Machine};

/// The cores there are to choose from.
pub(super) struct Pool {
    /// The CPU of each core, where there is one.
    pub(super) cpus: Vec<Option<CpuId>>,
    pub(super) limits: Limits,
    /// All cores.
    all: CpuList,
    /// The cores of each NUMA node that has any.
    nodes: BTreeMap<u32, CpuList>,
    /// The cores under each last-level cache that has any.
    caches: BTreeMap<u32, CpuList>,
}

impl Pool {
    pub(super) fn of(machine: &Machine) -> Self {
        let allowed = machine.allowed();
        let grouped = |group: &dyn Fn(&super::Cpu) -> u32| {
            let mut groups = BTreeMap::<u32, Vec<u32>>::new();
            for (core, id) in (0..).zip(allowed.iter()) {
                if let Some(cpu) = machine.cpu(id) {
                    groups.entry(group(cpu)).or_default().push(core);
                }
            }
            groups.into_iter().map(|(id, cores)| (id, cores.into_iter().collect())).collect()
        };
        Self {
            cpus: allowed.iter().map(Some).collect(),
            limits: Limits::of(machine),
            all: CpuList::first_n(allowed.len() as u32),
            nodes: grouped(&|cpu| cpu.node),
            caches: grouped(&|cpu| cpu.l3),
        }
    }

    /// Made-up cores, which are in no node and under no cache.
    pub(super) fn virtual_cores(cpus: Vec<Option<CpuId>>) -> Self {
        let cores = cpus.len() as u32;
        let (nodes, caches) = (BTreeMap::new(), BTreeMap::new());
        Self { cpus, limits: Limits::virtual_cores(cores), all: CpuList::first_n(cores), nodes, caches }
    }

    /// The cores of a set that says them itself; what is not there is left out.
    fn listed(&self, cores: &Cores) -> CpuList {
        let grouped = |groups: &BTreeMap<u32, CpuList>, ids: &CpuList| {
            ids.iter().filter_map(|id| groups.get(&id)).flat_map(CpuList::iter).collect()
        };
        match cores {
            Cores::List(list) => list.clone(),
            Cores::Nodes(nodes) => grouped(&self.nodes, nodes),
            Cores::Caches(caches) => grouped(&self.caches, caches),
            Cores::Each(sets) => sets.iter().flat_map(|set| self.listed(set).as_slice().to_vec()).collect(),
            Cores::All | Cores::SameAs(_) => self.all.clone(),
        }
    }

    /// What of `cores` is not there, for the field that names them.
    fn missing(&self, field: &str, cores: &Cores) -> Vec<CoreMapError> {
        let field = || field.to_owned();
        let group = |kind, groups: &BTreeMap<u32, CpuList>, ids: &CpuList| {
            let known: CpuList = groups.keys().copied().collect();
            let missing = ids.difference(&known);
            (!missing.is_empty()).then(|| CoreMapError::NoSuchGroup {
                field: field(),
                kind,
                groups: missing,
                known,
            })
        };
        let error = match cores {
            Cores::Each(sets) => return sets.iter().flat_map(|set| self.missing(&field(), set)).collect(),
            Cores::SameAs(_) => None,
            Cores::Nodes(nodes) => group(GroupKind::Node, &self.nodes, nodes),
            Cores::Caches(caches) => group(GroupKind::Cache, &self.caches, caches),
            Cores::All | Cores::List(_) if self.listed(cores).is_empty() => {
                Some(CoreMapError::NoCores { field: field() })
            }
            Cores::All | Cores::List(_) => self.no_such_core(field(), self.listed(cores)),
        };
        error.into_iter().collect()
    }

    pub(super) fn no_such_core(&self, field: String, cores: CpuList) -> Option<CoreMapError> {
        let (cores, limits) = (cores.difference(&self.all), Box::new(self.limits.clone()));
        (!cores.is_empty()).then_some(CoreMapError::NoSuchCore { field, cores, limits })
    }
}

/// The cores of one stage.
#[derive(Clone)]
pub(super) enum Choice {
    /// Instances go over them in turn.
    InTurn(CpuList),
    /// Each instance has a set of its own.
    Each(Vec<CpuList>),
}

impl Choice {
    /// The core of each instance.
    pub(super) fn instances(&self, parallelism: Parallelism) -> Vec<u32> {
        match self {
            Self::InTurn(cores) => cores.iter().cycle().take(instances(parallelism, cores.len())).collect(),
            Self::Each(sets) => {
                let mut used = BTreeMap::<u32, usize>::new();
                let mut chosen = Vec::with_capacity(sets.len());
                for set in sets {
                    let least = set.iter().min_by_key(|core| used.get(core).copied().unwrap_or(0));
                    if let Some(core) = least {
                        *used.entry(core).or_default() += 1;
                        chosen.push(core);
                    }
                }
                chosen
            }
        }
    }

    /// What stands against it for a stage of this parallelism.
    fn wrong_count(&self, stage: &StageId, parallelism: Parallelism) -> Option<CoreMapError> {
        let Self::Each(sets) = self else { return None };
        let (sets, stage) = (sets.len(), stage.clone());
        let instances = instances(parallelism, sets);
        (instances != sets).then_some(CoreMapError::InstanceCount { stage, sets, instances })
    }
}

fn instances(parallelism: Parallelism, cores: usize) -> usize {
    parallelism.instances().map_or(cores, |instances| instances as usize)
}

/// What a map says of the stages of a pipeline.
pub(super) struct Selection<'a> {
    map: &'a CoreMap,
    pool: &'a Pool,
    known: BTreeSet<&'a StageId>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(map: &'a CoreMap, pool: &'a Pool, stages: &'a [(StageId, Parallelism)]) -> Self {
        Self { map, pool, known: stages.iter().map(|(stage, _)| stage).collect() }
    }

    /// Everything that stands against it.
    pub(super) fn errors(&self, stages: &[(StageId, Parallelism)]) -> Vec<CoreMapError> {
        let named = self.map.stages.keys();
        let targets = self.fields().filter_map(|(_, cores)| match cores {
            Cores::SameAs(stage) => Some(stage),
            _ => None,
        });
        let unknown: BTreeSet<&StageId> =
            named.chain(targets).filter(|id| !self.known.contains(id)).collect();
        let mut errors: Vec<CoreMapError> = unknown.iter().map(|id| unknown_stage(id, &self.known)).collect();
        for (field, cores) in self.fields() {
            errors.extend(self.pool.missing(&field, cores));
        }
        errors.extend(self.circles());
        for (stage, parallelism) in stages {
            errors.extend(self.choice(stage).wrong_count(stage, *parallelism));
        }
        errors
    }

    /// Each set of cores that the map gives, with the stage it is for.
    fn fields(&self) -> impl Iterator<Item = (String, &'a Cores)> {
        let named = self.map.stages.iter().map(|(stage, cores)| (stage.to_string(), cores));
        named.chain(self.map.rest.iter().map(|cores| ("*".to_owned(), cores)))
    }

    /// The cores of a stage; all of them where the map goes round in a circle.
    pub(super) fn choice(&self, stage: &StageId) -> Choice {
        let (cores, _) = self.follow(stage);
        match cores {
            Some(Cores::Each(sets)) => Choice::Each(sets.iter().map(|set| self.pool.listed(set)).collect()),
            Some(cores) => Choice::InTurn(self.pool.listed(cores)),
            None => Choice::InTurn(self.of_all_named()),
        }
    }

    /// The cores that every stage without any of its own has where there is no `*`.
    fn of_all_named(&self) -> CpuList {
        let own = self.map.stages.values().filter(|cores| !matches!(cores, Cores::SameAs(_)));
        own.fold(CpuList::EMPTY, |sum, cores| sum.union(&self.pool.listed(cores)))
    }

    /// The set that says where a stage is, behind any number of "same as"; `None` for the stages that nothing is said of. With the
    /// stages on the way there, of which the last stands in it before if they go round in a circle.
    fn follow(&self, stage: &'a StageId) -> (Option<&'a Cores>, Vec<&'a StageId>) {
        let mut way = vec![stage];
        loop {
            let at = way[way.len() - 1];
            match self.map.stages.get(at).or(self.map.rest.as_ref()) {
                Some(Cores::SameAs(next)) => {
                    let circle = way.contains(&next);
                    way.push(next);
                    if circle {
                        return (Some(&Cores::All), way);
                    }
                }
                found => return (found, way),
            }
        }
    }

    /// Stages each of which is on the cores of the next.
    fn circles(&self) -> Vec<CoreMapError> {
        let mut found = BTreeSet::new();
        for stage in &self.known {
            let (_, way) = self.follow(stage);
            if let Some((last, before)) = way.split_last()
                && let Some(start) = before.iter().position(|at| at == last)
            {
                found.insert(before[start..].iter().copied().cloned().collect::<BTreeSet<StageId>>());
            }
        }
        found
            .into_iter()
            .map(|stages| CoreMapError::Circle { stages: stages.into_iter().collect() })
            .collect()
    }
}
