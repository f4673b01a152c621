//! Drivers decide where and when partitions are stepped: the only code that knows threads, clocks and `io_uring`.
//!
//! | driver | what it is |
//! |---|---|
//! | `thread` | one pinned std thread per partition; works wherever threads do |
//! | `glommio` | one pinned glommio executor per partition, `io_uring` beside the step loop |
//! | `sim` | one thread, a seeded scheduler and a virtual clock: [`Simulation`] |
//!
//! All three give the same results on the same graph.

mod clock;
mod disk_dir;
mod disk_glommio;
mod disk_sim;
mod disk_thread;
mod edges;
mod exposition;
mod glommio;
mod idler;
mod launch;
mod locality;
mod pages;
mod pin;
mod price;
mod reading;
mod rebalance;
mod rendezvous;
mod resources;
mod sim;
mod stepper;
mod stride;
mod thread;
mod worker;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use disk_dir::SpillDirError;
pub use disk_sim::{DiskFaults, SimDisks};
pub use edges::{EdgeRef, SetPolicyError};
pub use launch::{Environment, LaunchError, Monitor};
pub use locality::MemoryBinding;
pub use pin::{PinError, current_affinity, pin_current_thread, refused_cpus};
pub use price::{ParkPrice, ParkProbe, measure_park, process_cpu_time};
pub use rebalance::{MoveShardsError, NotMovable};
pub use resources::MemoryTooSmall;
pub use sim::{SimError, SimReport, SimStep, Simulation};

pub(crate) use clock::Clock;
pub(crate) use launch::{check, prepare};
pub(crate) use resources::Means;
pub(crate) use stride::most_in_a_step;
pub(crate) use worker::{Meeting, Worker};

use crate::partition::Control;
use crate::sync::HomeNode;
use crate::topology::{CpuId, EffectiveIdle};

/// Which driver runs a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverChoice {
    /// `glommio` where a start-up probe finds that `io_uring` and locked memory can be used, else `thread`.
    #[default]
    Auto,
    /// `glommio`; an error where it cannot run.
    Glommio,
    /// `thread`.
    Thread,
}

/// The driver that a choice comes to on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// One pinned glommio executor per partition.
    Glommio,
    /// One pinned std thread per partition.
    Thread {
        /// Why not glommio, where the choice was automatic.
        instead_of_glommio: Option<String>,
    },
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glommio => f.write_str("glommio"),
            Self::Thread { instead_of_glommio: None } => f.write_str("thread"),
            Self::Thread { instead_of_glommio: Some(why) } => write!(f, "thread (not glommio: {why})"),
        }
    }
}

impl DriverChoice {
    /// What the choice comes to here.
    ///
    /// # Errors
    /// `glommio` was asked for and cannot run here; the reason in one line.
    pub fn resolve(self) -> Result<Driver, String> {
        match self {
            Self::Thread => Ok(Driver::Thread { instead_of_glommio: None }),
            Self::Glommio => glommio::probe().map(|()| Driver::Glommio),
            Self::Auto => Ok(match glommio::probe() {
                Ok(()) => Driver::Glommio,
                Err(why) => Driver::Thread { instead_of_glommio: Some(why) },
            }),
        }
    }
}

impl Driver {
    pub(crate) fn spawn(&self, workers: Vec<Worker>, control: &Arc<Control>) -> std::io::Result<()> {
        match self {
            Self::Glommio => glommio::spawn(workers, control),
            Self::Thread { .. } => thread::spawn(workers, control),
        }
    }
}

/// Where and how one partition is driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seat {
    /// The CPU it is pinned to; `None` leaves that to the operating system.
    pub cpu: Option<CpuId>,
    /// What happens between empty steps.
    pub idle: EffectiveIdle,
    /// Items per task and step, usually.
    pub budget: usize,
    /// The same at most, where steps are short.
    pub most: usize,
    /// Where its memory is to lie, if that is known.
    pub home: Option<HomeNode>,
}
