//! How a job runs: what all of them have for options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use corelane::driver::DriverChoice;
use corelane::policy::IdlePolicy;

use super::values::parse_time;
use super::{Nanos, UsageError};
use crate::output::OutputPath;

/// The options that all jobs of `corelane run` have.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Stages to cores in one line, like "write=0;*=0-1"; numbers count the cores this process may use
    #[arg(long, value_name = "MAP", env = "CORELANE_CORES", conflicts_with = "core_map")]
    pub cores: Option<String>,

    /// Stages to cores from a TOML file
    #[arg(long, value_name = "FILE", env = "CORELANE_CORE_MAP")]
    pub core_map: Option<PathBuf>,

    /// Policies, core map and what differs at single stages, from a TOML file; may be given several times. --cores and
    /// --core-map go before its core map
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub config: Vec<PathBuf>,

    /// What rings, state and pool may take together, in bytes; goes before budget-bytes of a
    /// configuration
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory_budget: Option<u64>,

    /// What steps the partitions; auto is glommio where io_uring and locked memory allow it, else thread
    #[arg(long, value_enum, default_value_t = DriverArg::Auto, env = "CORELANE_DRIVER")]
    pub driver: DriverArg,

    /// What a core without work does [default: what the core map says, else adaptive]
    #[arg(long, value_enum, env = "CORELANE_IDLE")]
    pub idle: Option<IdleArg>,

    /// Items that a task moves in one step, more where steps are short; `corelane tune` says how many suit a pipeline [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub step_budget: Option<u32>,

    /// How long what is inside may take to flow out after the first SIGINT or SIGTERM, like 10s or 500ms; the second
    /// one stops at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub drain_deadline: Nanos,

    /// Print the pipeline instead of running it, to standard output
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub graph: Option<GraphArg>,

    /// What to print on standard error at the end
    #[arg(long, value_enum, default_value_t = SummaryArg::Text)]
    pub summary: SummaryArg,

    /// Write measurements in the Prometheus text format to FILE at the end, `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// Write them during the run too, this often, like 1s
    #[arg(long, value_name = "TIME", requires = "metrics", value_parser = parse_time)]
    pub metrics_interval: Option<Nanos>,

    /// Show progress on standard error; auto: if it is a terminal
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto)]
    pub progress: ProgressArg,

    /// The same as --progress never
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "progress")]
    pub no_progress: bool,

    /// Print nothing but errors: no summary, no progress
    #[arg(short, long, action = ArgAction::SetTrue, conflicts_with_all = ["summary", "progress"])]
    pub quiet: bool,
}

/// `--driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DriverArg {
    /// Probe, then glommio or thread
    Auto,
    /// One io_uring executor per core
    Glommio,
    /// One pinned thread per core
    Thread,
}

/// `--idle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdleArg {
    /// Keep polling: lowest latency, a full core
    Spin,
    /// Poll and offer the core to others
    Yield,
    /// Sleep until woken
    Park,
    /// Spin, then yield, then park
    Adaptive,
}

/// `--graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphArg {
    /// A table
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// A drawing
    Svg,
    /// As data
    Toml,
    /// As data
    Json,
}

/// `--summary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SummaryArg {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// Nothing
    None,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// If standard error is a terminal
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

impl From<DriverArg> for DriverChoice {
    fn from(driver: DriverArg) -> Self {
        match driver {
            DriverArg::Auto => DriverChoice::Auto,
            DriverArg::Glommio => DriverChoice::Glommio,
            DriverArg::Thread => DriverChoice::Thread,
        }
    }
}

impl From<IdleArg> for IdlePolicy {
    fn from(idle: IdleArg) -> Self {
        match idle {
            IdleArg::Spin => IdlePolicy::Spin,
            IdleArg::Yield => IdlePolicy::Yield,
            IdleArg::Park => IdlePolicy::Park,
            IdleArg::Adaptive => IdlePolicy::Adaptive,
        }
    }
}

impl RunOptions {
    /// Where measurements go, and how often before the end; `lines` is where the job's output goes.
    ///
    /// # Errors
    ///
    /// [`UsageError::SameOutput`] and [`UsageError::IntervalStdout`].
    pub fn metrics(
        &self,
        lines: Option<&OutputPath>,
    ) -> Result<Option<(OutputPath, Option<Duration>)>, UsageError> {
        let Some(path) = &self.metrics else { return Ok(None) };
        let output = OutputPath::new(path);
        let every = self.metrics_interval.map(|Nanos(nanos)| Duration::from_nanos(nanos));
        match output {
            output if Some(&output) == lines => Err(UsageError::SameOutput),
            OutputPath::Stdout if every.is_some() => Err(UsageError::IntervalStdout),
            output => Ok(Some((output, every))),
        }
    }

    /// What to print at the end, `--quiet` included.
    pub fn summary(&self) -> SummaryArg {
        if self.quiet { SummaryArg::None } else { self.summary }
    }

    /// When to show progress, `--quiet` and `--no-progress` included.
    pub fn progress(&self) -> ProgressArg {
        if self.quiet || self.no_progress { ProgressArg::Never } else { self.progress }
    }
}
