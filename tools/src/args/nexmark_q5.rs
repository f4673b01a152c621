//! The options of `corelane run nexmark-q5`.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use corelane_bench::nexmark::{Pace, Settings};

use super::RunOptions;
use crate::output::OutputPath;

/// The options of `corelane run nexmark-q5`.
#[derive(Debug, Clone, Args)]
pub struct NexmarkQ5 {
    /// How many events happen in the auction house; 46 of 50 are bids
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub events: u64,

    /// How many of them happen in a second
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub per_second: u32,

    /// Take as long as they do: a second of theirs is a second. Without, they are made as fast as the cores can
    #[arg(long, action = ArgAction::SetTrue)]
    pub live: bool,

    /// Where the answer goes, a line for each window and auction, `-` for standard output [default: standard output, or
    /// nowhere while the table is shown there]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How it runs.
    #[command(flatten)]
    pub run: RunOptions,
}

impl NexmarkQ5 {
    /// Where lines go, if `on_screen` says whether standard output is a terminal with the table on it; `None` for nowhere.
    pub fn output(&self, on_screen: bool) -> Option<OutputPath> {
        match &self.output {
            Some(path) => Some(OutputPath::new(path)),
            None => (!on_screen).then_some(OutputPath::Stdout),
        }
    }

    /// The events.
    pub fn settings(&self) -> Settings {
        let events = usize::try_from(self.events).unwrap_or(usize::MAX);
        Settings { events, per_second: self.per_second as usize, ..Settings::default() }
    }

    /// How fast they are made.
    pub fn pace(&self) -> Pace {
        if self.live { Pace::AsTheyHappen } else { Pace::Free }
    }
}
