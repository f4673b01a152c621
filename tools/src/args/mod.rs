//! The command line.

mod nexmark_q5;
mod run_options;
#[cfg(test)]
mod tests;
mod trace_assembly;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;
use crate::machine::MachineCommand;
use crate::tune::Tune;

pub use nexmark_q5::NexmarkQ5;
pub use run_options::{DriverArg, GraphArg, IdleArg, ProgressArg, RunOptions, SummaryArg};
pub use trace_assembly::TraceAssembly;
pub use values::Nanos;
pub(crate) use values::parse_time;

/// `corelane`: run ready-made pipelines on the cores of this machine.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, about, after_help = Exit::help(), max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `corelane`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job
    #[command(subcommand)]
    Run(Job),
    /// Check configuration files without running anything: policies, core map, and what they change in a job's graph
    #[command(after_help = Exit::help())]
    Check(Check),
    /// List, show and run again what a run wrote with --dead-letters
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Try core maps, drivers, idle policies, step budgets and ring sizes under load, and write the best core map
    #[command(after_help = Exit::help())]
    Tune(Box<Tune>),
    /// Look at the machine.
    #[command(flatten)]
    Machine(MachineCommand),
}

/// The subcommands of `corelane dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// One line for each dead letter, fields separated by tabs
    #[command(after_help = Exit::help())]
    List(LettersFile),
    /// All that is known of one dead letter, as JSON
    #[command(after_help = Exit::help())]
    Show(ShowLetter),
    /// Run the requests of dead letters through trace-assembly again
    #[command(after_help = Exit::help())]
    Replay(Replay),
}

/// The options of `corelane dead-letters list`.
#[derive(Debug, Clone, Args)]
pub struct LettersFile {
    /// A file written with --dead-letters
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The options of `corelane dead-letters show`.
#[derive(Debug, Clone, Args)]
pub struct ShowLetter {
    /// A file written with --dead-letters
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Its number, as `list` prints it
    #[arg(value_name = "N")]
    pub number: u64,

    /// Write the bytes of the item and nothing else
    #[arg(long)]
    pub payload: bool,
}

/// The options of `corelane dead-letters replay`.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// A file written with --dead-letters; it stays as it is
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only what this stage gave up
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,

    /// Options of `corelane run trace-assembly`, behind `--`: `-- --output traces.ndjson --dead-letters again.ndjson`
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

impl Replay {
    /// The job with the options given.
    ///
    /// # Errors
    ///
    /// [`UsageError::Replay`], also where the options ask for something that needs files.
    pub fn job(&self) -> Result<TraceAssembly, UsageError> {
        let refused = |message: &dyn std::fmt::Display| UsageError::Replay(message.to_string());
        // One file has to be named: the one that is replayed stands for it.
        let start = ["corelane", "run", "trace-assembly"].map(OsString::from);
        let words = start
            .into_iter()
            .chain(self.options.iter().cloned())
            .chain(["--".into(), self.file.clone().into()]);
        let command = Cli::try_parse_from(words).map_err(|error| refused(&error))?.command;
        let Command::Run(Job::TraceAssembly(job)) = command else {
            return Err(refused(&"not the options of a job"));
        };
        if job.files.len() > 1 || job.repeat > 1 || job.run.graph.is_some() {
            return Err(refused(&"more files, --repeat and --graph have no place here"));
        }
        Ok(*job)
    }
}

/// The options of `corelane check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Configuration files, taken together: TOML with tables policies, core-map, memory and stages
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The job whose stages they configure
    #[arg(long, value_enum, default_value_t = JobArg::TraceAssembly)]
    pub job: JobArg,
}

/// `--job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JobArg {
    /// Spans to traces
    TraceAssembly,
    /// Bids to the hottest auctions
    #[value(name = "nexmark-q5")]
    NexmarkQ5,
}

/// The jobs of `corelane run`.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Assemble OTLP spans into traces, keep errors, slow ones and a sample, write them as NDJSON
    #[command(after_help = Exit::help())]
    TraceAssembly(Box<TraceAssembly>),
    /// Query 5 of NEXMark: the auctions with the most bids in the last ten seconds, every two seconds, in a live table and
    /// as NDJSON
    #[command(name = "nexmark-q5", after_help = Exit::help())]
    NexmarkQ5(Box<NexmarkQ5>),
}

/// Options that contradict each other in a way the parser of the command line cannot see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// Standard input named twice.
    #[error("`-` (standard input) may be given only once")]
    StdinTwice,
    /// Standard input cannot be read again.
    #[error("--repeat needs files: `-` (standard input) can be read only once")]
    RepeatStdin,
    /// Lines and measurements in one stream.
    #[error("--metrics and --output name the same file")]
    SameOutput,
    /// Measurements on standard output, over and over.
    #[error("--metrics-interval needs a file for --metrics: `-` (standard output) is written once")]
    IntervalStdout,
    /// A share outside 0 to 1.
    #[error("--sample must be between 0 and 1")]
    Sample,
    /// The options behind `--` of a replay.
    #[error("the options behind `--`: {0}")]
    Replay(String),
}
