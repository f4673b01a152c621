//! The options of `corelane tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::load::{KeyedLoad, Load, TraceLoad};
use super::objective::{Objective, Percentile, Rate, parse_bound};
use super::report::Report;
use super::space::{Choices, Space};
use super::trial::Timing;
use super::{TuneError, page};
use crate::args::{DriverArg, IdleArg, Nanos, parse_time};
use crate::map::GivenMap;
use crate::otlp::InputPath;
use crate::output::{LineWriter, OutputPath, check_appendable};
use crate::trace::AssemblyRules;
use corelane::driver::DriverChoice;
use corelane::topology::Machine;

/// How long a search may take, in full and with `--quick`.
const TIME: [Duration; 2] = [Duration::from_secs(600), Duration::from_secs(60)];
/// How long a load is measured, in full and with `--quick`.
const MEASURED: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(150)];
const WARM_UP: Duration = Duration::from_millis(100);

/// The options of `corelane tune`.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("objective").required(true).args(["max_rate_at", "min_latency_at"]))]
pub struct Tune {
    /// What is tuned
    #[arg(value_enum, value_name = "PIPELINE")]
    pub pipeline: Pipeline,

    /// OTLP trace files for trace-assembly; they are read into memory and sent over and over
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Find the highest rate at which a percentile of latency stays under a bound, like p99.9=200us
    #[arg(long, value_name = "PERCENTILE=TIME", value_parser = parse_bound)]
    pub max_rate_at: Option<(Percentile, Duration)>,

    /// Find the lowest latency at a rate, like 500k/s: pairs of keyed, spans of trace-assembly
    #[arg(long, value_name = "RATE")]
    pub min_latency_at: Option<Rate>,

    /// The percentile that is to be low at that rate
    #[arg(long, value_name = "PERCENTILE", default_value = "p99", conflicts_with = "max_rate_at")]
    pub percentile: Percentile,

    /// How long trials may take together, like 10m [default: 10m, with --quick 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Nanos>,

    /// Short trials: for a first look
    #[arg(long)]
    pub quick: bool,

    /// Try everything in every round and drop nothing: for small spaces
    #[arg(long)]
    pub exhaustive: bool,

    /// A difference of so many percent does not matter
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = parse_percent)]
    pub resolution: f64,

    /// Of the order in which candidates are tried
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Try these drivers only [default: all that run here]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "DRIVER")]
    pub driver: Vec<DriverArg>,

    /// Try these idle policies only [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "IDLE")]
    pub idle: Vec<IdleArg>,

    /// Try these step budgets only, in items [default: 1024,256,64,4096]
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub step_budget: Vec<u32>,

    /// Leave rings as long as they are
    #[arg(long)]
    pub rings_as_planned: bool,

    /// Try this core map too: a TOML file, or one line; may be given several times
    #[arg(long, value_name = "MAP")]
    pub map: Vec<String>,

    /// Try no core maps but those of --map
    #[arg(long, requires = "map")]
    pub only_maps: bool,

    /// Distinct keys of keyed
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub keys: u64,

    /// Where the best core map goes, as TOML for `corelane run --core-map`, `-` for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Write a page with candidates, trials and plots to this file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Write all of it as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// What can be tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pipeline {
    /// Pairs exchanged by key, summed and counted where the key lives
    Keyed,
    /// Spans to traces
    TraceAssembly,
}

impl Pipeline {
    /// Its name in the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyed => "keyed",
            Self::TraceAssembly => "trace-assembly",
        }
    }
}

/// Options that contradict each other in a way the parser of the command line cannot see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongOptions {
    /// No objective.
    #[error("one of --max-rate-at and --min-latency-at is needed")]
    NoObjective,
    /// Nothing to send.
    #[error("trace-assembly needs FILE: what is sent")]
    NoFile,
    /// Something to send where it is made up.
    #[error("keyed makes its own input: FILE has no place here")]
    File,
    /// Two outputs in one file.
    #[error("--output, --report and --json need files of their own")]
    SameOutput,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| "must be between 0.1 and 100".to_owned())
}

impl Tune {
    /// What is to be had.
    ///
    /// # Errors
    /// [`WrongOptions::NoObjective`].
    pub fn objective(&self) -> Result<Objective, WrongOptions> {
        match (self.max_rate_at, self.min_latency_at) {
            (Some((percentile, bound)), _) => Ok(Objective::MaxRate { percentile, bound }),
            (None, Some(rate)) => Ok(Objective::MinLatency { percentile: self.percentile, rate }),
            (None, None) => Err(WrongOptions::NoObjective),
        }
    }

    pub(super) fn time(&self) -> Duration {
        let asked = self.time.map(|Nanos(nanos)| Duration::from_nanos(nanos));
        asked.unwrap_or(TIME[usize::from(self.quick)])
    }

    pub(super) fn timing(&self) -> Timing {
        Timing { warm_up: WARM_UP, measured: MEASURED[usize::from(self.quick)] }
    }

    /// The pipeline with what it is given; for trace-assembly as `corelane run` has it without options.
    pub(super) fn load(&self) -> Result<Box<dyn Load>, TuneError> {
        match self.pipeline {
            Pipeline::Keyed if !self.files.is_empty() => Err(WrongOptions::File.into()),
            Pipeline::Keyed => Ok(Box::new(KeyedLoad { keys: self.keys })),
            Pipeline::TraceAssembly if self.files.is_empty() => Err(WrongOptions::NoFile.into()),
            Pipeline::TraceAssembly => {
                let inputs = self.files.iter().map(|path| InputPath::new(path)).collect();
                Ok(Box::new(TraceLoad::read(inputs, AssemblyRules::default())?))
            }
        }
    }

    pub(super) fn space(&self, load: &dyn Load, machine: &Machine) -> Result<Space, TuneError> {
        let drivers: Vec<DriverChoice> = self.driver.iter().map(|driver| (*driver).into()).collect();
        for driver in &drivers {
            driver.resolve().map_err(|why| TuneError::Driver(*driver, why))?;
        }
        let given = |text: &String| Ok((text.clone(), GivenMap::new(text)?.map));
        let choices = Choices {
            drivers,
            idle: self.idle.iter().map(|idle| (*idle).into()).collect(),
            budgets: self.step_budget.iter().filter_map(|budget| usize::try_from(*budget).ok()).collect(),
            maps: self.map.iter().map(given).collect::<Result<_, TuneError>>()?,
            only_maps: self.only_maps,
            rings_as_planned: self.rings_as_planned,
        };
        Ok(Space::new(&load.graph()?, machine, &choices))
    }

    /// Finds what keeps the outputs from being written. Nothing of them is changed.
    pub(super) fn check_outputs(&self) -> Result<(), TuneError> {
        let output = OutputPath::new(&self.output);
        let files = [&self.report, &self.json].into_iter().flatten();
        let map = Some(&self.output).filter(|_| output != OutputPath::Stdout);
        let all: Vec<&PathBuf> = files.chain(map).collect();
        if (1..all.len()).any(|at| all[..at].contains(&all[at])) {
            return Err(WrongOptions::SameOutput.into());
        }
        let inputs: Vec<InputPath> = self.files.iter().map(|path| InputPath::new(path)).collect();
        all.into_iter().try_for_each(|path| check_appendable(path, &inputs, &OutputPath::Stdout))?;
        Ok(())
    }

    pub(super) fn write(&self, report: &Report) -> Result<(), TuneError> {
        write(&OutputPath::new(&self.output), &report.core_map())?;
        if let Some(path) = &self.report {
            write(&OutputPath::new(path), &page::page(report))?;
        }
        if let Some(path) = &self.json {
            write(&OutputPath::new(path), &format!("{}\n", serde_json::to_string_pretty(report)?))?;
        }
        Ok(())
    }
}

fn write(output: &OutputPath, text: &str) -> Result<(), TuneError> {
    let mut writer = LineWriter::open(output, &[])?;
    writer.write(text.as_bytes())?;
    Ok(writer.finish().map(drop)?)
}
