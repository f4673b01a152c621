//! What an idle policy comes to on a given machine.

use std::fmt;

use crate::model::counted;
use crate::policy::IdlePolicy;

use super::{Machine, Placement};

/// The ways of waiting a partition may use, in this order, each for a bounded time but the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EffectiveIdle {
    /// Steps again at once.
    pub spin: bool,
    /// Gives the core away between empty steps.
    pub give_way: bool,
    /// Sleeps until woken, a timer is due, or a bounded time has passed.
    pub park: bool,
    /// Why an adaptive policy does not spin here.
    pub no_spin: Option<NoSpin>,
}

/// Why spinning would hurt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoSpin {
    /// The partitions would take every core, and nothing else could run.
    NoSpareCore {
        /// Cores this process may use.
        cores: usize,
        /// Partitions that run.
        partitions: usize,
    },
    /// A quota would be burnt by spinning, and the whole process then stopped.
    Quota {
        /// CPU time allowed, in CPUs.
        cpus: f64,
    },
}

/// `spins, yields, parks`, and why not where an adaptive policy does not spin.
impl fmt::Display for EffectiveIdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = [(self.spin, "spins"), (self.give_way, "yields"), (self.park, "parks")];
        let ways: Vec<&str> = ways.iter().filter(|(used, _)| *used).map(|(_, way)| *way).collect();
        f.write_str(&ways.join(", "))?;
        self.no_spin.iter().try_for_each(|why| write!(f, "; no spinning, because {why}"))
    }
}

impl fmt::Display for NoSpin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpareCore { cores, partitions } => {
                let (partitions, cores) = (counted(*partitions, "partition"), counted(*cores, "core"));
                write!(f, "no core is spare ({partitions}, {cores})")
            }
            Self::Quota { cpus } => write!(f, "a CPU quota of {cpus} is set"),
        }
    }
}

/// What `policy` comes to for the partitions of `placement` on `machine`.
///
/// Spin, yield and park mean what they say, even where that is unwise: they were asked for. Adaptive spins, gives
/// way, then parks; it leaves out spinning when there are no more allowed cores than partitions, or when a CPU quota
/// is set, because then a spinning partition takes time from one that has work.
pub fn effective_idle(policy: IdlePolicy, placement: &Placement, machine: &Machine) -> EffectiveIdle {
    let only = EffectiveIdle { spin: false, give_way: false, park: false, no_spin: None };
    match policy {
        IdlePolicy::Spin => EffectiveIdle { spin: true, ..only },
        IdlePolicy::Yield => EffectiveIdle { give_way: true, ..only },
        IdlePolicy::Park => EffectiveIdle { park: true, ..only },
        IdlePolicy::Adaptive => {
            let (cores, partitions) = (machine.allowed().len(), placement.partitions.len());
            let no_spin = match machine.quota() {
                Some(cpus) => Some(NoSpin::Quota { cpus }),
                None if cores <= partitions => Some(NoSpin::NoSpareCore { cores, partitions }),
                None => None,
            };
            EffectiveIdle { spin: no_spin.is_none(), give_way: true, park: true, no_spin }
        }
    }
}
