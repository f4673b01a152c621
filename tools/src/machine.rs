//! The machine that `topology`, `map`, `doctor` and `c2c` look at: this one, or a tree of files of another one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use corelane::engine::{StartError, this_machine};
use corelane::topology::{Machine, MachineError};

use crate::c2c::{self, CoreToCore};
use crate::doctor::{self, Doctor};
use crate::exit::{Exit, told};
use crate::idle::{self, Idle};
use crate::map::{self, MapCommand};
use crate::output::OutputError;
use crate::topology::{self, Topology};

/// The commands that look at the machine.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Show what this process may run on: nodes, caches, cores, and what limits it
    #[command(after_help = Exit::help())]
    Topology(Topology),
    /// Propose, check, explain, compare and draw core maps
    #[command(subcommand)]
    Map(MapCommand),
    /// Say what on this machine keeps pipelines slow or from starting, with a remedy for each finding
    #[command(after_help = Exit::help())]
    Doctor(Doctor),
    /// Measure what it costs to hand an item from one core to another
    #[command(after_help = Exit::help())]
    C2c(CoreToCore),
    /// Measure what each idle policy costs while nothing comes in, and how late it notices what does
    #[command(after_help = Exit::help())]
    Idle(Idle),
}

/// Whose files are read.
#[derive(Debug, Clone, Args)]
pub struct Tree {
    /// Read the kernel's files under DIR instead of those of this machine: sys/, proc/ and so on, copied from another one
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Why a command that looks at the machine says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// This machine cannot be read.
    #[error(transparent)]
    Machine(#[from] StartError),
    /// `--root` is no directory.
    #[error("--root {}: is not a directory", .0.display())]
    NoTree(PathBuf),
    /// The tree shows no machine.
    #[error("--root {}: {source}", root.display())]
    Tree {
        /// The tree.
        root: PathBuf,
        /// What is wrong with it.
        source: MachineError,
    },
    /// It cannot be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The output.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<&LookError> for Exit {
    fn from(error: &LookError) -> Self {
        match error {
            LookError::Machine(error) => error.into(),
            LookError::NoTree(_) | LookError::Tree { .. } => Exit::Input,
            LookError::Json(_) => Exit::Internal,
            LookError::Output(error) => error.into(),
        }
    }
}

impl Tree {
    /// The machine: of this process, with a trial pin to each CPU, or of the tree, as far as files tell.
    ///
    /// # Errors
    /// [`LookError`] of reading.
    pub fn machine(&self) -> Result<Machine, LookError> {
        match &self.root {
            None => Ok(this_machine()?),
            Some(root) if !root.is_dir() => Err(LookError::NoTree(root.clone())),
            Some(root) => {
                Machine::of_tree(root).map_err(|source| LookError::Tree { root: root.clone(), source })
            }
        }
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }
}

/// Runs one of the commands.
///
/// # Errors
/// The exit code and what to say.
pub fn run(command: &MachineCommand) -> Result<(), (Exit, String)> {
    match command {
        MachineCommand::Map(command) => map::map(command).map_err(told),
        MachineCommand::Doctor(options) => doctor::doctor(options).map_err(told),
        MachineCommand::C2c(options) => c2c::core_to_core(options).map_err(told),
        MachineCommand::Idle(options) => idle::idle(options).map_err(told),
        MachineCommand::Topology(options) => topology::topology(options).map_err(told),
    }
}
