//! `corelane c2c`: what it costs to hand an item from one core to another, measured through the rings that pipelines use.

mod draw;
mod measure;
mod memory;

use std::path::PathBuf;

use clap::Args;
use corelane::driver::PinError;
use corelane::engine::this_machine;
use corelane::pool::RentError;
use corelane::ring::RingError;
use corelane::topology::{CoreLinks, CpuList};

use crate::config::{ConfigError, read_config};
use crate::exit::Exit;
use crate::machine::LookError;
use crate::output::print;

/// The options of `corelane c2c`.
#[derive(Debug, Clone, Args)]
pub struct CoreToCore {
    /// Measure between these CPUs only, by the kernel's numbers, like 0-3,8
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<CpuList>,

    /// Go through all pairs this many times; the median of each pair counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub passes: u32,

    /// Show what was measured before, as --json printed it to FILE, and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cpus", "passes"])]
    pub from: Option<PathBuf>,

    /// Measure what reads of the memory of each NUMA node cost from each node instead
    #[arg(long, conflicts_with_all = ["cpus", "from", "svg"])]
    pub memory: bool,

    /// As JSON, for `corelane map plan --links`
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,

    /// As a drawing: the darker, the longer
    #[arg(long)]
    pub svg: bool,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreToCoreError {
    /// The machine or the output.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The file of `--from`.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// CPUs that this process may not use.
    #[error("--cpus: this process may not use CPUs {0}")]
    NotAllowed(CpuList),
    /// A CPU turned out not to be usable.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// No memory for a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// No memory on a node.
    #[error(transparent)]
    Pool(#[from] RentError),
    /// Memory held something that was not written.
    #[error("internal error: memory on node {0} was read wrong")]
    WrongMemory(u32),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A ring gave out something that was not put in.
    #[error("internal error: between CPUs {0} and {1} an item came out changed")]
    Wrong(u32, u32),
    /// A thread panicked.
    #[error("internal error: a measuring thread panicked")]
    Panicked,
}

impl From<&CoreToCoreError> for Exit {
    fn from(error: &CoreToCoreError) -> Self {
        match error {
            CoreToCoreError::Look(error) => error.into(),
            CoreToCoreError::File(error) => error.into(),
            CoreToCoreError::NotAllowed(_) => Exit::Placement,
            CoreToCoreError::Pin(_)
            | CoreToCoreError::Ring(_)
            | CoreToCoreError::Pool(_)
            | CoreToCoreError::Thread(_) => Exit::Environment,
            CoreToCoreError::Wrong(..) | CoreToCoreError::WrongMemory(_) | CoreToCoreError::Panicked => {
                Exit::Internal
            }
        }
    }
}

/// Measures, or reads what was measured, and prints it to standard output.
///
/// # Errors
/// [`CoreToCoreError`].
pub fn core_to_core(options: &CoreToCore) -> Result<(), CoreToCoreError> {
    if options.memory {
        let machine = this_machine().map_err(LookError::from)?;
        let reads = memory::reads(&machine, options.passes as usize)?;
        let json = || serde_json::to_string(&reads).map(|json| format!("{json}\n"));
        let text = if options.json { json().map_err(LookError::from)? } else { memory::tables(&reads) };
        return Ok(print(&text).map_err(LookError::from)?);
    }
    let links = match &options.from {
        Some(path) => stored(path)?,
        None => measure(options)?,
    };
    let text = match options {
        CoreToCore { json: true, .. } => {
            format!("{}\n", serde_json::to_string(&links).map_err(LookError::from)?)
        }
        CoreToCore { svg: true, .. } => draw::heat_map(&links),
        _ => draw::tables(&links),
    };
    Ok(print(&text).map_err(LookError::from)?)
}

/// What an earlier run wrote.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn stored(path: &std::path::Path) -> Result<CoreLinks, ConfigError> {
    let text = read_config(path)?;
    let invalid = |message: String| ConfigError::Invalid { path: path.to_path_buf(), message };
    let links: CoreLinks = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    links.check().map_err(|error| invalid(error.to_string()))?;
    Ok(links)
}

fn measure(options: &CoreToCore) -> Result<CoreLinks, CoreToCoreError> {
    let allowed = this_machine().map_err(LookError::from)?.allowed();
    let cpus = options.cpus.clone().unwrap_or_else(|| allowed.clone());
    let outside = cpus.difference(&allowed);
    if !outside.is_empty() {
        return Err(CoreToCoreError::NotAllowed(outside));
    }
    measure::links(&cpus, options.passes as usize)
}
