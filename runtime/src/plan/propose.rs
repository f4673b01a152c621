//! Proposes a core map, and says why.

use std::collections::{BTreeMap, BTreeSet};

use super::hops::Distance;
use super::{Carriage, PlanError, plan};
use crate::graph::ValidatedGraph;
use crate::model::{StageId, counted};
use crate::policy::{IdlePolicy, Parallelism};
use crate::topology::{CoreLinks, CoreMap, CoreMapErrors, Cores, CpuId, CpuList, Machine};

/// Of fewer cores than this none is kept free for the rest of the system.
const ENOUGH_TO_SPARE_ONE: usize = 4;
/// From so many cores on, stages with one instance have cores for themselves.
const ENOUGH_TO_DEDICATE: usize = 3;

/// How far a proposal may spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// Over the cores under one last-level cache.
    Cache,
    /// Over those of one NUMA node.
    #[default]
    Node,
    /// Over all.
    Machine,
}

/// What a proposal should keep to.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// How far to spread.
    pub span: Span,
    /// How many cores to use at most.
    pub cores: Option<usize>,
    /// What was measured between cores; without, nodes, caches and threads tell what is near.
    pub links: Option<CoreLinks>,
}

/// A core map, and why it is as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The map.
    pub map: CoreMap,
    /// The CPUs it uses.
    pub cpus: CpuList,
    /// Why, in the order in which it was decided.
    pub reasons: Vec<Reason>,
}

/// Why a proposal is as it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Some CPUs are kept free of everything else.
    #[error("CPUs {cpus} are isolated: nothing else runs there, so partitions may spin")]
    Isolated {
        /// These.
        cpus: CpuList,
    },
    /// There is nothing to choose.
    #[error("CPU {cpu} is the only one that this process may use")]
    OnlyOne {
        /// This one.
        cpu: CpuId,
    },
    /// Slow cores are left out.
    #[error(
        "CPUs {left_out} are left out: they are slower, and a stage that is spread evenly would wait for them"
    )]
    FastCores {
        /// The slower ones.
        left_out: CpuList,
    },
    /// One thread of each core.
    #[error(
        "CPUs {left_out} are left out: they are second threads of cores in use, and two partitions on one core slow each other down"
    )]
    OneThreadPerCore {
        /// The other threads.
        left_out: CpuList,
    },
    /// One group is enough.
    #[error("CPUs {cpus} are all in {group}: no ring leaves it ({others})")]
    OneGroup {
        /// The CPUs there.
        cpus: CpuList,
        /// `node 0` or `cache 2`.
        group: String,
        /// What would go beyond.
        others: &'static str,
    },
    /// A CPU is left to the rest of the system.
    #[error("CPU {cpu} is left to interrupts, to the kernel and to threads that read and write files")]
    Housekeeping {
        /// This one.
        cpu: CpuId,
    },
    /// A quota allows no more.
    #[error(
        "{}: a CPU quota of {quota} allows no more to run all the time, and partitions park so that none of it is burnt",
        counted(*.cores, "core")
    )]
    Quota {
        /// Cores used.
        cores: usize,
        /// CPUs allowed.
        quota: f64,
    },
    /// Nothing can be spread.
    #[error(
        "one core: every stage has one instance; there they fuse where the graph allows it, and nothing crosses"
    )]
    NothingToSpread,
    /// There are no more instances.
    #[error("{}: there are no more instances to place", counted(*.cores, "core"))]
    AsManyAsInstances {
        /// Cores used.
        cores: usize,
    },
    /// The nearest of the cores there are.
    #[error("CPUs {cpus} are those nearest to each other{}", if *.measured { ", as measured" } else { "" })]
    Nearest {
        /// These.
        cpus: CpuList,
        /// Whether by measurement.
        measured: bool,
    },
    /// Stages with one instance have cores for themselves.
    #[error("{} on core {core}: one instance is all they have, so they do not share it with stages that are spread", list(.stages))]
    Dedicated {
        /// The stages.
        stages: Vec<StageId>,
        /// Their core.
        core: u32,
    },
    /// Too few cores for that.
    #[error("{} on core {core}, which they share with a part of the stages that are spread: there are few cores", list(.stages))]
    Shared {
        /// The stages.
        stages: Vec<StageId>,
        /// Their core.
        core: u32,
    },
    /// The other stages.
    #[error("{} on cores {cores}: an instance on each, fused or ring to ring where they follow each other", list(.stages))]
    Spread {
        /// The stages.
        stages: Vec<StageId>,
        /// Their cores.
        cores: CpuList,
    },
    /// The graph cannot run on several cores.
    #[error("one core: on more of them {why}")]
    OneCoreOnly {
        /// What stands against it.
        why: String,
    },
}

fn list(stages: &[StageId]) -> String {
    stages.iter().map(StageId::as_str).collect::<Vec<_>>().join(", ")
}

/// Why there is no proposal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// The stages cannot be placed at all.
    #[error(transparent)]
    Placement(#[from] CoreMapErrors),
    /// The graph cannot run, not even on one core.
    #[error("the graph cannot run on one core: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Plan(Vec<PlanError>),
}

/// Proposes a map for `graph` on `machine`.
///
/// It goes by what is known without running anything: how many instances stages have, which of them fuse, and what is near to what.
/// It keeps to one node, one thread of each core and the fastest cores, leaves one core free where there are enough, keeps stages
/// with one instance off the cores of those with several, and puts every pair of cores that talk as near as it can.
///
/// Cost: grows with the cube of the number of cores.
///
/// # Errors
/// [`ProposeError`]: the graph runs on no machine.
pub fn propose(graph: &ValidatedGraph, machine: &Machine, wishes: &Wishes) -> Result<Proposal, ProposeError> {
    let stages = &graph.parallelism()[..];
    let planner = Planner { graph, stages, machine, wishes };
    let single = planner.chains()?;
    let (cpus, mut reasons) = planner.choose_cpus(single.len());
    let (map, why) = planner.assign(&cpus, &single);
    let stand = map.resolve(machine, stages)?;
    if let Err(errors) = plan(graph, &stand)
        && cpus.len() > 1
    {
        // An order that cannot be restored, or a deadlock, that only several instances bring about.
        let one: CpuList = cpus.first().into_iter().collect();
        let (map, _) = planner.assign(&one, &single);
        let why = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        reasons.push(Reason::OneCoreOnly { why });
        return Ok(Proposal { map, cpus: one, reasons });
    }
    reasons.extend(why);
    Ok(Proposal { map, cpus, reasons })
}

struct Planner<'a> {
    graph: &'a ValidatedGraph,
    stages: &'a [(StageId, Parallelism)],
    machine: &'a Machine,
    wishes: &'a Wishes,
}

impl Planner<'_> {
    /// The stages with one instance, those together that fuse where they are on one core; upstream first.
    fn chains(&self) -> Result<Vec<Vec<usize>>, ProposeError> {
        let on_one = CoreMap::default().resolve(&Machine::flat(1), self.stages)?;
        let planned = plan(self.graph, &on_one).map_err(ProposeError::Plan)?;
        let single = |stage: usize| self.stages.get(stage).is_some_and(|(_, p)| p.instances() == Some(1));
        let mut chain_of: BTreeMap<usize, usize> = BTreeMap::new();
        let mut chains: Vec<Vec<usize>> = Vec::new();
        for &stage in self.graph.order().iter().filter(|stage| single(**stage)) {
            let edges = self.graph.edges().iter().zip(&planned.edges);
            let fused = edges.filter(|(edge, p)| edge.to == stage && p.carriage == Carriage::Fused);
            let upstream = fused.filter_map(|(edge, _)| chain_of.get(&edge.from).copied()).next();
            let chain = upstream.unwrap_or(chains.len());
            if chain == chains.len() {
                chains.push(Vec::new());
            }
            chains[chain].push(stage);
            chain_of.insert(stage, chain);
        }
        Ok(chains)
    }

    fn choose_cpus(&self, chains: usize) -> (CpuList, Vec<Reason>) {
        let (machine, mut reasons) = (self.machine, Vec::new());
        let allowed = machine.allowed();
        let isolated = allowed.intersection(&machine.isolated);
        if let &[cpu] = allowed.as_slice() {
            reasons.push(Reason::OnlyOne { cpu });
        }
        let mut cpus = if isolated.is_empty() { allowed.clone() } else { isolated.clone() };
        if !isolated.is_empty() {
            reasons.push(Reason::Isolated { cpus: isolated });
        }
        let slower = machine.slower(&cpus);
        if !slower.is_empty() {
            cpus = cpus.difference(&slower);
            reasons.push(Reason::FastCores { left_out: slower });
        }
        let first = |cpu: CpuId| machine.cpu(cpu).and_then(|c| c.siblings.intersection(&cpus).first());
        let threads: CpuList = cpus.iter().filter(|cpu| first(*cpu) != Some(*cpu)).collect();
        if !threads.is_empty() {
            cpus = cpus.difference(&threads);
            reasons.push(Reason::OneThreadPerCore { left_out: threads });
        }
        cpus = self.one_group(cpus, &mut reasons);
        // A thread of another core, not one that shares a core with a partition.
        let taken: CpuList = cpus
            .iter()
            .filter_map(|cpu| machine.cpu(cpu))
            .flat_map(|cpu| cpu.siblings.as_slice().to_vec())
            .collect();
        if allowed.difference(&taken).is_empty()
            && cpus.len() >= ENOUGH_TO_SPARE_ONE
            && let Some(cpu) = cpus.first()
        {
            cpus = cpus.difference(&CpuList::from_iter([cpu]));
            reasons.push(Reason::Housekeeping { cpu });
        }
        let most = self.most_cores(chains, cpus.len(), &mut reasons);
        if most < cpus.len() {
            cpus = self.nearest(&cpus, most);
            reasons.push(Reason::Nearest { cpus: cpus.clone(), measured: self.wishes.links.is_some() });
        }
        (cpus, reasons)
    }

    /// The cores of the node or cache that has the most of them.
    fn one_group(&self, cpus: CpuList, reasons: &mut Vec<Reason>) -> CpuList {
        let group = |cpu: CpuId| match (self.machine.cpu(cpu), self.wishes.span) {
            (None, _) | (_, Span::Machine) => 0,
            (Some(cpu), Span::Node) => cpu.node,
            (Some(cpu), Span::Cache) => cpu.l3,
        };
        let mut groups = BTreeMap::<u32, Vec<CpuId>>::new();
        cpus.iter().for_each(|cpu| groups.entry(group(cpu)).or_default().push(cpu));
        let memory = |cpus: &[CpuId]| {
            let node = cpus.first().and_then(|cpu| self.machine.node(self.machine.cpu(*cpu)?.node));
            node.is_none_or(|node| node.memory != Some(0))
        };
        let several = groups.len() > 1;
        let order = |(id, cpus): &(u32, Vec<CpuId>)| (memory(cpus), cpus.len(), u32::MAX - id);
        let Some((id, best)) = groups.into_iter().max_by_key(order) else { return cpus };
        let best: CpuList = best.into_iter().collect();
        if several {
            let (group, others) = match self.wishes.span {
                Span::Cache => {
                    (format!("cache {id}"), "--within node would use those under other caches too")
                }
                _ => (format!("node {id}"), "--within machine would use those of other nodes too"),
            };
            reasons.push(Reason::OneGroup { cpus: best.clone(), group, others });
        }
        best
    }

    /// How many of `cpus` cores can be put to use.
    fn most_cores(&self, chains: usize, cpus: usize, reasons: &mut Vec<Reason>) -> usize {
        let mut most = cpus.min(self.wishes.cores.unwrap_or(cpus)).max(1);
        let asked: Vec<Option<u32>> = self.stages.iter().map(|(_, p)| p.instances()).collect();
        if asked.iter().all(|instances| *instances == Some(1)) {
            reasons.push(Reason::NothingToSpread);
            return 1;
        }
        if let Some(quota) = self.machine.quota().filter(|quota| *quota < most as f64) {
            most = (quota.floor() as usize).clamp(1, most);
            reasons.push(Reason::Quota { cores: most, quota });
        }
        let fixed = asked.iter().copied().collect::<Option<Vec<u32>>>().and_then(|all| all.into_iter().max());
        let needed = fixed.map_or(usize::MAX, |instances| instances as usize + dedicated(most, chains));
        if needed < most {
            most = needed;
            reasons.push(Reason::AsManyAsInstances { cores: most });
        }
        most
    }

    /// A number for how far apart two CPUs are: measured, or in the order of what they share.
    fn distance(&self, a: CpuId, b: CpuId) -> f64 {
        let measured = self.wishes.links.as_ref().and_then(|links| links.between(a, b));
        measured.unwrap_or_else(|| match Distance::between(self.machine, a, b) {
            Distance::Core => 0.0,
            Distance::Siblings => 20.0,
            Distance::Cache => 50.0,
            Distance::Node => 120.0,
            Distance::Nodes(distance) => 12.0 * f64::from(distance),
            Distance::Unknown => 1_000.0,
        })
    }

    /// `count` of `cpus` that are near to each other: around each of them the nearest are taken one by one, and the closest set wins.
    fn nearest(&self, cpus: &CpuList, count: usize) -> CpuList {
        let mut best: Option<(f64, CpuList)> = None;
        for seed in cpus.iter() {
            let (mut set, mut total) = (vec![seed], 0.0);
            // How far each of them is from all that are in the set.
            let mut far: Vec<(CpuId, f64)> = cpus.iter().map(|cpu| (cpu, self.distance(cpu, seed))).collect();
            while set.len() < count {
                let left = far.iter().filter(|(cpu, _)| !set.contains(cpu));
                let Some(&(next, distance)) = left.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
                total += distance;
                set.push(next);
                far.iter_mut().for_each(|(cpu, sum)| *sum += self.distance(*cpu, next));
            }
            if best.as_ref().is_none_or(|(least, _)| total < *least) {
                best = Some((total, set.into_iter().collect()));
            }
        }
        best.map_or_else(|| cpus.clone(), |(_, set)| set)
    }

    /// The map of these CPUs.
    fn assign(&self, cpus: &CpuList, chains: &[Vec<usize>]) -> (CoreMap, Vec<Reason>) {
        let mut reasons = Vec::new();
        let allowed = self.machine.allowed();
        let core = |cpu: CpuId| allowed.as_slice().binary_search(&cpu).unwrap_or(0) as u32;
        let own = dedicated(cpus.len(), chains.len());
        let central = self.most_central(cpus, own.max(1));
        let spread: CpuList = if own > 0 { cpus.difference(&central) } else { cpus.clone() };
        let spread: CpuList = spread.iter().map(core).collect();
        // Without cores for themselves, chains take turns on those there are.
        let seats: Vec<u32> = match own {
            0 => cpus.iter().map(core).collect(),
            _ => central.iter().map(core).collect(),
        };
        let mut load = vec![0; seats.len()];
        let mut on_core = BTreeMap::<u32, Vec<StageId>>::new();
        for chain in chains {
            let Some(seat) = (0..seats.len()).min_by_key(|seat| load[*seat]) else { break };
            load[seat] += chain.len();
            let stages = chain.iter().map(|&stage| self.graph.stages()[stage].id.clone());
            on_core.entry(seats[seat]).or_default().extend(stages);
        }
        let chained: BTreeSet<&StageId> = on_core.values().flatten().collect();
        let others: Vec<StageId> =
            self.stages.iter().map(|(id, _)| id).filter(|id| !chained.contains(id)).cloned().collect();
        let mut map = CoreMap::of_stages([]);
        for (core, stages) in &on_core {
            let cores = Cores::List(CpuList::from_iter([*core]));
            map = stages.iter().fold(map, |map, stage| map.stage(stage.clone(), cores.clone()));
            let (stages, core) = (stages.clone(), *core);
            match own {
                0 if cpus.len() == 1 => {}
                0 => reasons.push(Reason::Shared { stages, core }),
                _ => reasons.push(Reason::Dedicated { stages, core }),
            }
        }
        if cpus.len() == 1 {
            map = CoreMap::default().rest(Cores::List(cpus.iter().map(core).collect()));
        } else {
            reasons.push(Reason::Spread { stages: others, cores: spread.clone() });
            map = map.rest(Cores::List(spread));
        }
        (self.idle(map, cpus), reasons)
    }

    /// Spins where nothing else may run, parks where time is counted, and else leaves it to what adapts.
    fn idle(&self, map: CoreMap, cpus: &CpuList) -> CoreMap {
        let isolated = cpus.difference(&self.machine.isolated).is_empty();
        match self.machine.quota() {
            Some(_) => map.idle_rest(IdlePolicy::Park),
            None if isolated && !cpus.is_empty() => map.idle_rest(IdlePolicy::Spin),
            None => map,
        }
    }

    /// `count` of `cpus` with the shortest ways to all others.
    fn most_central(&self, cpus: &CpuList, count: usize) -> CpuList {
        let mut ranked: Vec<CpuId> = cpus.as_slice().to_vec();
        let far = |cpu: CpuId| cpus.iter().map(|other| self.distance(cpu, other)).sum::<f64>();
        ranked.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
        ranked.into_iter().take(count).collect()
    }
}

/// Cores that stages with one instance have for themselves, of `cores`.
fn dedicated(cores: usize, chains: usize) -> usize {
    if cores < ENOUGH_TO_DEDICATE { 0 } else { chains.min((cores / 4).max(1)) }
}
