//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use corelane::driver::DriverChoice;
use corelane::policy::IdlePolicy;

use crate::exit::Exit;
use crate::machine::MachineCommand;
use crate::otlp::InputPath;
use crate::output::OutputPath;
use crate::trace::{AssemblyRules, SampleThreshold, SamplingRules};

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
        if job.files.len() > 1 || job.repeat > 1 || job.graph.is_some() {
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
}

/// The jobs of `corelane run`.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Assemble OTLP spans into traces, keep errors, slow ones and a sample, write them as NDJSON
    #[command(after_help = Exit::help())]
    TraceAssembly(Box<TraceAssembly>),
}

/// The options of `corelane run trace-assembly`.
#[derive(Debug, Clone, Args)]
pub struct TraceAssembly {
    /// OTLP trace files, `-` for standard input: protobuf (length-prefixed or one request) or JSON, plain, gzip or
    /// zstd, told by content
    #[arg(required_unless_present = "graph", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Where assembled traces go, `-` for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Write requests that cannot be decoded to this file, as lines of JSON, and go on; without, the first one ends the
    /// run. The file is appended to; see `corelane dead-letters`
    #[arg(long, value_name = "FILE")]
    pub dead_letters: Option<PathBuf>,

    /// Stages to cores in one line, like "decode=0;traces=0-1"; numbers count the cores this process may use
    #[arg(long, value_name = "MAP", env = "CORELANE_CORES", conflicts_with = "core_map")]
    pub cores: Option<String>,

    /// Stages to cores from a TOML file
    #[arg(long, value_name = "FILE", env = "CORELANE_CORE_MAP")]
    pub core_map: Option<PathBuf>,

    /// Policies, core map and what differs at single stages, from a TOML file; may be given several times. --cores and
    /// --core-map go before its core map
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub config: Vec<PathBuf>,

    /// What rings, state and pool may take together, in bytes; a quarter of it is for the pool, unless its limit is given. Goes
    /// before budget-bytes of a configuration
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory_budget: Option<u64>,

    /// What the memory pool may take, in bytes; goes before limit-bytes of a configuration
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub pool_limit: Option<u64>,

    /// What steps the partitions; auto is glommio where io_uring and locked memory allow it, else thread
    #[arg(long, value_enum, default_value_t = DriverArg::Auto, env = "CORELANE_DRIVER")]
    pub driver: DriverArg,

    /// What a core without work does [default: what the core map says, else adaptive]
    #[arg(long, value_enum, env = "CORELANE_IDLE")]
    pub idle: Option<IdleArg>,

    /// Keep traces that took at least this long, in milliseconds
    #[arg(long, value_name = "MS", default_value = "250", value_parser = parse_slow)]
    pub slow_ms: Nanos,

    /// Share of the other traces to keep, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = parse_share)]
    pub sample: f64,

    /// Event time an incomplete trace waits for its missing spans, like 30s or 500ms
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub ttl: Nanos,

    /// How far the watermark stays behind the latest span, like 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub lag: Nanos,

    /// Go through the files this many times, each time with fresh ids and later times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub repeat: u32,

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

/// A time span of the command line, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nanos(pub u64);

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

impl TraceAssembly {
    /// The inputs, in order.
    ///
    /// # Errors
    ///
    /// [`UsageError::StdinTwice`] and [`UsageError::RepeatStdin`].
    pub fn inputs(&self) -> Result<Vec<InputPath>, UsageError> {
        let inputs: Vec<InputPath> = self.files.iter().map(|path| InputPath::new(path)).collect();
        match inputs.iter().filter(|input| **input == InputPath::Stdin).count() {
            0 => Ok(inputs),
            1 if self.repeat == 1 => Ok(inputs),
            1 => Err(UsageError::RepeatStdin),
            _ => Err(UsageError::StdinTwice),
        }
    }

    /// Where lines go.
    pub fn output(&self) -> OutputPath {
        OutputPath::new(&self.output)
    }

    /// Where measurements go, and how often before the end.
    ///
    /// # Errors
    ///
    /// [`UsageError::SameOutput`] and [`UsageError::IntervalStdout`].
    pub fn metrics(&self) -> Result<Option<(OutputPath, Option<Duration>)>, UsageError> {
        let Some(path) = &self.metrics else { return Ok(None) };
        let output = OutputPath::new(path);
        let every = self.metrics_interval.map(|Nanos(nanos)| Duration::from_nanos(nanos));
        match output {
            output if output == self.output() => Err(UsageError::SameOutput),
            OutputPath::Stdout if every.is_some() => Err(UsageError::IntervalStdout),
            output => Ok(Some((output, every))),
        }
    }

    /// The options that decide what comes out.
    ///
    /// # Errors
    ///
    /// [`UsageError::Sample`], only when the value did not come from the command line, which checks it.
    pub fn rules(&self) -> Result<AssemblyRules, UsageError> {
        let sample = SampleThreshold::new(self.sample).ok_or(UsageError::Sample)?;
        Ok(AssemblyRules {
            sampling: SamplingRules { slow_ns: self.slow_ms.0, sample },
            ttl_ns: self.ttl.0,
            lag_ns: self.lag.0,
        })
    }

    /// What to print at the end, `--quiet` included.
    pub fn summary(&self) -> SummaryArg {
        if self.quiet { SummaryArg::None } else { self.summary }
    }

    /// When to show progress, `--quiet` included.
    pub fn progress(&self) -> ProgressArg {
        if self.quiet { ProgressArg::Never } else { self.progress }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must be between 0 and 1".to_owned()),
        Err(_) => Err("not a number; must be between 0 and 1".to_owned()),
    }
}

fn parse_slow(text: &str) -> Result<Nanos, String> {
    parse_decimal(text, 1_000_000)
}

fn parse_time(text: &str) -> Result<Nanos, String> {
    const UNITS: [(&str, u64); 5] =
        [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    match UNITS.iter().find(|(unit, _)| *unit == &text[digits.len()..]) {
        Some((_, nanos)) => parse_decimal(digits, *nanos),
        None => Err("needs a unit: ns, us, ms, s or m, like 30s".to_owned()),
    }
}

/// A decimal number of units as whole nanoseconds, exactly: no detour over floating point.
fn parse_decimal(text: &str, unit_ns: u64) -> Result<Nanos, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || text.ends_with('.') {
        return Err("not a number of 0 or more, like 250 or 0.5".to_owned());
    }
    let too_large = || "too large".to_owned();
    let mut nanos = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit_ns));
    let mut scale = unit_ns;
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        if digit != 0 && !scale.is_multiple_of(10) {
            return Err("finer than a nanosecond".to_owned());
        }
        scale /= 10;
        nanos = nanos.and_then(|nanos| nanos.checked_add(digit * scale));
    }
    nanos.map(Nanos).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(options: &[&str]) -> Result<TraceAssembly, clap::Error> {
        let command = ["corelane", "run", "trace-assembly"];
        match Cli::try_parse_from(command.iter().chain(options))?.command {
            Command::Run(Job::TraceAssembly(job)) => Ok(*job),
            other => panic!("{other:?}"),
        }
    }

    fn refused(options: &[&str]) -> (ErrorKind, String) {
        let error = parse(options).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_command_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let job = parse(&["file"]).unwrap();
        let rules = job.rules().unwrap();
        assert_eq!(rules.sampling.slow_ns, 250_000_000);
        assert_eq!(Some(rules.sampling.sample), SampleThreshold::new(0.1));
        assert_eq!((rules.ttl_ns, rules.lag_ns), (30_000_000_000, 5_000_000_000));
        assert_eq!((job.output(), job.repeat), (OutputPath::Stdout, 1));
        assert_eq!(job.inputs().unwrap(), [InputPath::File("file".into())]);
    }

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        assert_eq!(parse_time("30s"), Ok(Nanos(30_000_000_000)));
        assert_eq!(parse_time("1.5ms"), Ok(Nanos(1_500_000)));
        assert_eq!(parse_time("2m"), Ok(Nanos(120_000_000_000)));
        assert_eq!(parse_time("0.1m"), Ok(Nanos(6_000_000_000)));
        assert_eq!(parse_time("0.000000001s"), Ok(Nanos(1)));
        assert_eq!(parse_slow("0.1"), Ok(Nanos(100_000)));
        assert_eq!(parse_slow("18446744073709.551615"), Ok(Nanos(u64::MAX)));
    }

    #[test]
    fn malformed_times_are_refused_fault_42() {
        for text in
            ["", "30", "s", "-1s", "+1s", "1e9s", "nans", "infs", "1.s", ".5s", "1 s", "1h", "0.5ns", "٣s"]
        {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(parse_time("18446744073710s"), Err("too large".to_owned()));
        assert_eq!(parse_slow("99999999999999999999"), Err("too large".to_owned()));
        assert_eq!(parse_slow("18446744073709.551616"), Err("too large".to_owned()));
    }

    #[test]
    fn a_share_outside_0_to_1_is_refused_by_name_fault_42() {
        for text in ["1.1", "nan", "1e999", "inf", "half", ""] {
            let (kind, message) = refused(&["f", "--sample", text]);
            assert_eq!(kind, ErrorKind::ValueValidation, "{text}");
            assert!(message.contains("--sample") && message.contains("between 0 and 1"), "{message}");
        }
        assert!(parse(&["f", "--sample=-0.1"]).is_err());
        assert_eq!(parse(&["f", "--sample", "1"]).unwrap().sample, 1.0);
    }

    #[test]
    fn unknown_repeated_and_valueless_options_are_refused_fault_44() {
        assert_eq!(refused(&["f", "--nope"]).0, ErrorKind::UnknownArgument);
        assert_eq!(refused(&["f", "--lag", "1s", "--lag", "2s"]).0, ErrorKind::ArgumentConflict);
        assert_eq!(refused(&["f", "--output"]).0, ErrorKind::InvalidValue);
        assert_eq!(refused(&["f", "--driver", "tokio"]).0, ErrorKind::InvalidValue);
        assert_eq!(refused(&[]).0, ErrorKind::MissingRequiredArgument);
        assert_eq!(refused(&["f", "--repeat", "0"]).0, ErrorKind::ValueValidation);
        assert_eq!(refused(&["f", "--repeat", "4294967297"]).0, ErrorKind::ValueValidation);
        assert_eq!(refused(&["f", "--cores", "a=0", "--core-map", "m"]).0, ErrorKind::ArgumentConflict);
        assert_eq!(refused(&["f", "-q", "--summary", "json"]).0, ErrorKind::ArgumentConflict);
    }

    #[test]
    fn names_that_are_not_utf8_work_as_paths_and_are_refused_elsewhere_fault_44() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"tr\xffces");
        let with = |last: &[&OsStr]| {
            let start = ["corelane", "run", "trace-assembly"].map(OsStr::new);
            Cli::try_parse_from(start.iter().chain(last))
        };
        assert!(with(&[name]).is_ok());
        assert_eq!(
            with(&[OsStr::new("f"), OsStr::new("--cores"), name]).unwrap_err().kind(),
            ErrorKind::InvalidUtf8
        );
    }

    #[test]
    fn standard_input_is_read_only_once() {
        assert_eq!(parse(&["-", "a", "-"]).unwrap().inputs(), Err(UsageError::StdinTwice));
        assert_eq!(parse(&["-", "--repeat", "2"]).unwrap().inputs(), Err(UsageError::RepeatStdin));
        assert_eq!(parse(&["-", "./-"]).unwrap().inputs().unwrap().len(), 2);
    }

    #[test]
    fn measurements_go_somewhere_else_than_lines() {
        let of = |options: &[&str]| parse(options).unwrap().metrics();
        assert_eq!(of(&["f"]), Ok(None));
        assert_eq!(of(&["f", "--metrics", "-"]), Err(UsageError::SameOutput));
        assert_eq!(of(&["f", "-o", "x", "--metrics", "x"]), Err(UsageError::SameOutput));
        assert_eq!(of(&["f", "-o", "x", "--metrics", "-"]), Ok(Some((OutputPath::Stdout, None))));
        let every = &["f", "-o", "x", "--metrics", "-", "--metrics-interval", "1s"];
        assert_eq!(of(every), Err(UsageError::IntervalStdout));
        assert_eq!(refused(&["f", "--metrics-interval", "1s"]).0, ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn quiet_turns_summary_and_progress_off() {
        let job = parse(&["f", "--quiet"]).unwrap();
        assert_eq!((job.summary(), job.progress()), (SummaryArg::None, ProgressArg::Never));
    }
}
