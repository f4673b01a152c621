//! The options of `corelane run trace-assembly`.

use std::path::PathBuf;

use clap::Args;

use super::values::{parse_share, parse_slow, parse_time};
use super::{Nanos, RunOptions, UsageError};
use crate::otlp::InputPath;
use crate::output::OutputPath;
use crate::trace::{AssemblyRules, SampleThreshold, SamplingRules};

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

    /// What the memory pool may take, in bytes; goes before limit-bytes of a configuration [default: a quarter of the
    /// memory budget]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub pool_limit: Option<u64>,

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

    /// How it runs.
    #[command(flatten)]
    pub run: RunOptions,
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
}
