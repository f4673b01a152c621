//! What the edges of a plan cross, and what may be regretted about a placement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Carriage, Plan};
use crate::graph::ValidatedGraph;
use crate::policy::IdlePolicy;
use crate::topology::{CoreLinks, Cpu, CpuId, CpuList, Machine, Placement};

/// How far apart the two ends of a ring are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distance {
    /// The same core.
    Core,
    /// Two threads of one physical core.
    Siblings,
    /// Two cores under one last-level cache.
    Cache,
    /// Two caches of one NUMA node.
    Node,
    /// Two NUMA nodes, so far apart (10 is local).
    Nodes(u32),
    /// Not known: a partition that is not pinned.
    Unknown,
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core => f.write_str("on one core"),
            Self::Siblings => f.write_str("between SMT siblings"),
            Self::Cache => f.write_str("within a cache"),
            Self::Node => f.write_str("between caches"),
            Self::Nodes(distance) => write!(f, "between nodes (distance {distance})"),
            Self::Unknown => f.write_str("between cores that are not pinned"),
        }
    }
}

impl Distance {
    /// How far two CPUs of `machine` are apart.
    pub fn between(machine: &Machine, a: CpuId, b: CpuId) -> Self {
        let far = |a: &Cpu, b: &Cpu| match () {
            () if a.id == b.id => Self::Core,
            () if a.siblings.contains(b.id) => Self::Siblings,
            () if a.node != b.node => Self::Nodes(machine.node_distance(a.node, b.node)),
            () if a.l3 != b.l3 => Self::Node,
            () => Self::Cache,
        };
        machine.cpu(a).zip(machine.cpu(b)).map_or(Self::Unknown, |(a, b)| far(a, b))
    }
}

/// What one edge of a plan crosses.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeHops {
    /// The edge, by its position in the graph.
    pub edge: usize,
    /// How many of its rings are how long; empty for a fused edge.
    pub rings: BTreeMap<Distance, usize>,
    /// Nanoseconds of the longest one, where that was measured.
    pub longest_ns: Option<f64>,
}

impl EdgeHops {
    /// The farthest that one of its rings reaches.
    pub fn farthest(&self) -> Option<Distance> {
        self.rings.keys().next_back().copied()
    }
}

impl Plan {
    /// The partitions at both ends of each ring of edge `edge`, which has none where it is fused.
    ///
    /// # Panics
    /// `edge` is no edge of `graph`, or the plan is that of another graph.
    pub fn rings(&self, graph: &ValidatedGraph, edge: usize) -> Vec<(usize, usize)> {
        let ends = &graph.edges()[edge];
        let (from, to) = (&self.instances[ends.from], &self.instances[ends.to]);
        match self.edges[edge].carriage {
            Carriage::Fused => Vec::new(),
            Carriage::Forward if from.len() == to.len() => {
                from.iter().copied().zip(to.iter().copied()).collect()
            }
            _ => from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to))).collect(),
        }
    }

    /// For each partition the fewest slots that the items of one step go to or come from, over the edges that it has an end of; `None` if it
    /// has none. Those are the slots of one ring. Of an exchange by key an instance with several rings has twice as many: its items are spread
    /// over all of them, however unevenly.
    ///
    /// # Panics
    /// The plan is that of another graph than `graph`.
    pub fn slots_of_a_step(&self, graph: &ValidatedGraph) -> Vec<Option<u64>> {
        let mut fewest: Vec<Option<u64>> = vec![None; self.partitions];
        for ((edge, plan), ends) in self.edges.iter().enumerate().zip(graph.edges()) {
            let slots = |others: usize| match plan.carriage {
                Carriage::Exchange if self.instances[others].len() > 1 => plan.capacity.saturating_mul(2),
                _ => plan.capacity,
            };
            for (from, to) in self.rings(graph, edge) {
                for (at, slots) in [(from, slots(ends.to)), (to, slots(ends.from))] {
                    fewest[at] = Some(fewest[at].map_or(slots, |least| least.min(slots)));
                }
            }
        }
        fewest
    }
}

/// The hops of each edge, in the order of the graph.
pub fn hops(
    graph: &ValidatedGraph,
    plan: &Plan,
    placement: &Placement,
    machine: &Machine,
    links: Option<&CoreLinks>,
) -> Vec<EdgeHops> {
    let cpu = |partition: usize| placement.partitions.get(partition).and_then(|place| place.cpu);
    let mut all = Vec::with_capacity(plan.edges.len());
    for edge in 0..plan.edges.len() {
        let mut hops = EdgeHops { edge, rings: BTreeMap::new(), longest_ns: None };
        for (from, to) in plan.rings(graph, edge) {
            let distance = match (cpu(from), cpu(to)) {
                _ if from == to => Distance::Core,
                (Some(a), Some(b)) => {
                    let ns = links.and_then(|links| links.between(a, b));
                    hops.longest_ns = ns.into_iter().chain(hops.longest_ns).reduce(f64::max);
                    Distance::between(machine, a, b)
                }
                _ => Distance::Unknown,
            };
            *hops.rings.entry(distance).or_default() += 1;
        }
        all.push(hops);
    }
    all
}

/// Something that will cost on this machine, though it is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// A partition that never sleeps, beside another one on the same physical core.
    #[error(
        "CPUs {cpus} are threads of one core and one of them spins: it takes half of the core from the others"
    )]
    SpinningSiblings {
        /// The CPUs in use.
        cpus: CpuList,
    },
    /// A partition that never sleeps under a CPU quota.
    #[error("core {core} spins under a CPU quota of {quota}: what it burns, the whole process pays for")]
    SpinsUnderQuota {
        /// The core.
        core: u32,
        /// CPUs allowed.
        quota: f64,
    },
    /// Nothing is left for the kernel and for other threads.
    #[error("all {cores} allowed cores run partitions: interrupts and other threads take turns with them")]
    NoHousekeepingCore {
        /// The cores allowed.
        cores: usize,
    },
    /// Stages with one instance have their core not for themselves.
    #[error("core {core}: {stages} (one instance each) and instances of {others} take turns")]
    SharedCore {
        /// The core.
        core: u32,
        /// The stages with one instance.
        stages: String,
        /// The stages with several instances that are there too.
        others: String,
    },
    /// Cores slower than the fastest ones in use.
    #[error("CPUs {cpus} are slower than others in use: a stage that is spread evenly waits for them")]
    UnequalCores {
        /// The slower CPUs.
        cpus: CpuList,
    },
    /// Every key crosses nodes with the share of a node.
    #[error("edge {edge} is an exchange between all instances and {rings} of its rings cross NUMA nodes")]
    ExchangeAcrossNodes {
        /// The edge.
        edge: String,
        /// Its rings that cross.
        rings: usize,
    },
    /// All memory of the partitions there is on another node.
    #[error("node {node} has no memory: whatever CPUs {cpus} touch is remote")]
    NodeWithoutMemory {
        /// The node.
        node: u32,
        /// The CPUs in use there.
        cpus: CpuList,
    },
}

/// What may be regretted about a placement, beyond its own warnings.
pub fn conflicts(
    graph: &ValidatedGraph,
    plan: &Plan,
    placement: &Placement,
    machine: &Machine,
) -> Vec<Conflict> {
    let mut found = of_cores(placement, machine);
    found.extend(shared_cores(graph, plan, placement));
    for hops in hops(graph, plan, placement, machine, None) {
        let crossing = hops.rings.iter().filter(|(distance, _)| matches!(distance, Distance::Nodes(_)));
        let rings: usize = crossing.map(|(_, rings)| rings).sum();
        if rings > 0 && plan.edges[hops.edge].carriage == Carriage::Exchange {
            let ends = &graph.graph().edges[hops.edge];
            found
                .push(Conflict::ExchangeAcrossNodes { edge: format!("{} -> {}", ends.from, ends.to), rings });
        }
    }
    found
}

fn of_cores(placement: &Placement, machine: &Machine) -> Vec<Conflict> {
    let used = placement.cpus();
    let mut found = Vec::new();
    let spinning: Vec<_> = placement.partitions.iter().filter(|p| p.idle == IdlePolicy::Spin).collect();
    let siblings = |cpu: CpuId| machine.cpu(cpu).map(|cpu| cpu.siblings.intersection(&used));
    let shared: BTreeSet<CpuList> = spinning
        .iter()
        .filter_map(|partition| siblings(partition.cpu?))
        .filter(|cpus| cpus.len() > 1)
        .collect();
    found.extend(shared.into_iter().map(|cpus| Conflict::SpinningSiblings { cpus }));
    if let Some(quota) = machine.quota() {
        found.extend(spinning.iter().map(|p| Conflict::SpinsUnderQuota { core: p.core, quota }));
    }
    let allowed = machine.allowed();
    if allowed.len() > 1 && used == allowed {
        found.push(Conflict::NoHousekeepingCore { cores: allowed.len() });
    }
    let slower = machine.slower(&used);
    if !slower.is_empty() {
        found.push(Conflict::UnequalCores { cpus: slower });
    }
    for node in machine.nodes.iter().filter(|node| node.memory == Some(0)) {
        let cpus = node.cpus.intersection(&used);
        if !cpus.is_empty() {
            found.push(Conflict::NodeWithoutMemory { node: node.id, cpus });
        }
    }
    found
}

fn shared_cores(graph: &ValidatedGraph, plan: &Plan, placement: &Placement) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (at, place) in placement.partitions.iter().enumerate() {
        let here = |several: bool| -> Vec<&str> {
            let stages = graph.stages().iter().zip(&plan.instances);
            let here = stages.filter(|(_, on)| on.contains(&at) && (on.len() > 1) == several);
            here.map(|(stage, _)| stage.id.as_str()).collect()
        };
        let (single, others) = (here(false), here(true));
        if !single.is_empty() && !others.is_empty() {
            let (core, stages, others) = (place.core, single.join(", "), others.join(", "));
            found.push(Conflict::SharedCore { core, stages, others });
        }
    }
    found
}
