//! The vocabulary of a comparison: what is run, what it returns, and what it is held against.

use std::rc::Rc;
use std::time::Duration;

use core_affinity::CoreId;
use corelane::driver::DriverChoice;
use hdrhistogram::Histogram;

use crate::hiccup::Hiccups;
use crate::workload::nexmark;

/// How many samples must lie beyond a percentile before it is printed.
pub const SAMPLES_BEYOND: f64 = 10.0;
/// Comparable repetitions of a case for which nothing else is said.
const REPETITIONS: usize = 7;

/// Which driver corelane's systems run on. The hand-written programs are pinned threads whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// What corelane itself would choose.
    Auto,
    /// One glommio executor per core.
    Glommio,
    /// One pinned thread per core.
    Thread,
}

impl From<Driver> for DriverChoice {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Auto => Self::Auto,
            Driver::Glommio => Self::Glommio,
            Driver::Thread => Self::Thread,
        }
    }
}

/// What every system of a run is given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The cores to use, in order. One-core workloads use the first, two-core workloads the first two.
    pub cores: Vec<CoreId>,
    /// The driver for corelane's systems.
    pub driver: Driver,
    /// A tenth of the work, for a first look.
    pub quick: bool,
    /// What of NEXMark to run.
    pub nexmark: nexmark::Choice,
}

impl Setup {
    /// `full` items, or a tenth of them for a quick run.
    pub fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }
}

/// A figure that is reported. The names are part of the output's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Items a second; more is better.
    ItemsPerSecond,
    /// Nanoseconds for each pair of taking and giving back; less is better.
    NsPerPair,
    /// Median, nanoseconds; this and the following: less is better.
    P50,
    /// 90th percentile, nanoseconds.
    P90,
    /// 99th percentile, nanoseconds.
    P99,
    /// 99.9th percentile, nanoseconds.
    P999,
    /// 99.99th percentile, nanoseconds.
    P9999,
}

impl Metric {
    /// The name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ItemsPerSecond => "items_per_s",
            Self::NsPerPair => "ns_per_pair",
            Self::P50 => "ns_p50",
            Self::P90 => "ns_p90",
            Self::P99 => "ns_p99",
            Self::P999 => "ns_p999",
            Self::P9999 => "ns_p9999",
        }
    }

    /// Whether a larger figure is a better one.
    pub fn more_is_better(self) -> bool {
        self == Self::ItemsPerSecond
    }

    /// The quantile, of those that are one: 0 to 1.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::ItemsPerSecond | Self::NsPerPair => None,
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::P9999 => Some(0.9999),
        }
    }
}

/// What a throughput run returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How many items went in.
    pub items: u64,
    /// From the first item's start to the last item's end, set-up excluded.
    pub elapsed: Duration,
    /// What the run computed; compared with the case's expected value.
    pub checksum: u64,
}

impl Measured {
    /// A run over other work than the case's as one of its systems: right, as `expected` says, if what it computed is `right`.
    pub fn standing_for(self, right: u64, expected: u64) -> Self {
        let checksum = if self.checksum == right { expected } else { !expected };
        Self { checksum, ..self }
    }
}

/// What a latency run returns.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// One value per sample, in units of `unit_ns`.
    pub histogram: Histogram<u64>,
    /// Nanoseconds per unit of the histogram: 1 for plain nanoseconds.
    pub unit_ns: f64,
    /// The percentiles this run speaks about; those its sample count cannot bear are refused.
    pub percentiles: &'static [Metric],
    /// What the run computed; compared with the case's expected value.
    pub checksum: u64,
    /// Stalls of the machine that were seen meanwhile, if the run looked for them.
    pub hiccups: Option<Hiccups>,
    /// The share of its time for which the sender waited for its core, if that was watched: 0 to 1.
    pub sender_waited: Option<f64>,
}

/// How long things took: a histogram and its unit.
#[derive(Clone, Debug)]
pub struct Spread {
    /// One value per sample, in units of `unit_ns`.
    pub histogram: Histogram<u64>,
    /// Nanoseconds per unit of the histogram.
    pub unit_ns: f64,
}

impl Spread {
    /// The value at `quantile` (0 to 1), in nanoseconds.
    pub fn ns_at(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 * self.unit_ns
    }

    /// Whether [`SAMPLES_BEYOND`] samples lie beyond `quantile`.
    pub fn bears(&self, quantile: f64) -> bool {
        self.histogram.len() as f64 * (1.0 - quantile) + 1e-6 >= SAMPLES_BEYOND
    }
}

/// One repetition's result, ready to be compared.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was computed.
    pub checksum: u64,
    /// The figures.
    pub figures: Vec<(Metric, f64)>,
    /// Remarks for the table, such as the configuration chosen or a percentile refused. Equal ones print once.
    pub notes: Vec<String>,
    /// Stalls that were seen meanwhile.
    pub hiccups: Option<Hiccups>,
    /// The share of its time for which the sender waited for its core, if that was watched.
    pub sender_waited: Option<f64>,
    /// All samples, of a latency run.
    pub spread: Option<Rc<Spread>>,
}

impl Outcome {
    /// Adds a remark.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
}

impl From<Measured> for Outcome {
    fn from(run: Measured) -> Self {
        let rate = run.items as f64 / run.elapsed.as_secs_f64();
        Self { checksum: run.checksum, figures: vec![(Metric::ItemsPerSecond, rate)], ..Self::default() }
    }
}

impl From<Latencies> for Outcome {
    fn from(run: Latencies) -> Self {
        let Latencies { histogram, unit_ns, percentiles, checksum, hiccups, sender_waited } = run;
        let mut outcome = Self { checksum, hiccups, sender_waited, ..Self::default() };
        let spread = Spread { histogram, unit_ns };
        for &metric in percentiles {
            let Some(quantile) = metric.quantile() else { continue };
            if spread.bears(quantile) {
                outcome.figures.push((metric, spread.ns_at(quantile)));
            } else {
                let samples = spread.histogram.len();
                outcome.notes.push(format!("{} refused: {samples} samples cannot bear it", metric.name()));
            }
        }
        outcome.spread = Some(Rc::new(spread));
        outcome
    }
}

/// Why a run did not give a result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A system computed something else than the oracle.
    #[error("{system} computed {got:#018x} where {expected:#018x} is right")]
    WrongResult {
        /// Which system.
        system: String,
        /// What the oracle says.
        expected: u64,
        /// What the system said.
        got: u64,
    },
    /// A system could not run at all.
    #[error("{system} did not run: {reason}")]
    DidNotRun {
        /// Which system.
        system: String,
        /// Why not.
        reason: String,
    },
}

/// How a system is run once.
pub type Run = Box<dyn Fn(&Setup) -> Result<Outcome, String>>;

/// One program that does a case's work.
pub struct System {
    /// Its name in the output.
    pub name: &'static str,
    /// Does the work once and returns what it measured.
    pub run: Run,
}

/// One workload variant: the systems, what they are held against, and the right answer.
pub struct Case {
    /// The workload's name in the output.
    pub workload: &'static str,
    /// The variant's name in the output.
    pub variant: &'static str,
    /// Cores the work needs: 1 or 2.
    pub cores: usize,
    /// One line on the amount of work.
    pub work: String,
    /// What every run must compute.
    pub expected: u64,
    /// Comparable repetitions of each system, unless asked for another number.
    pub repetitions: usize,
    /// The systems that ratios are taken to, in order of weight.
    pub references: Vec<&'static str>,
    /// The systems, in the order in which they alternate.
    pub systems: Vec<System>,
}

impl Case {
    /// A case without systems yet.
    pub fn new(workload: &'static str, variant: &'static str, cores: usize, expected: u64) -> Self {
        let (references, systems) = (Vec::new(), Vec::new());
        let (work, repetitions) = (String::new(), REPETITIONS);
        Self { workload, variant, cores, work, expected, repetitions, references, systems }
    }

    /// Repeats each system so often.
    pub fn repetitions(mut self, repetitions: usize) -> Self {
        self.repetitions = repetitions;
        self
    }

    /// Describes the amount of work.
    pub fn work(mut self, text: impl Into<String>) -> Self {
        self.work = text.into();
        self
    }

    /// Takes ratios to the system called `name`.
    pub fn reference(mut self, name: &'static str) -> Self {
        self.references.push(name);
        self
    }

    /// Adds a system that always runs.
    pub fn system<O: Into<Outcome>>(self, name: &'static str, run: impl Fn(&Setup) -> O + 'static) -> Self {
        self.try_system(name, move |setup| Ok::<O, std::convert::Infallible>(run(setup)))
    }

    /// Adds a system that may fail to run.
    pub fn try_system<O: Into<Outcome>, E: std::fmt::Display>(
        mut self,
        name: &'static str,
        run: impl Fn(&Setup) -> Result<O, E> + 'static,
    ) -> Self {
        let run: Run = Box::new(move |setup| run(setup).map(Into::into).map_err(|error| error.to_string()));
        self.systems.push(System { name, run });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u64) -> Latencies {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1..=count).for_each(|value| histogram.record(value).unwrap());
        let percentiles = &[Metric::P50, Metric::P99, Metric::P9999];
        Latencies { histogram, unit_ns: 1.0, percentiles, checksum: 7, hiccups: None, sender_waited: None }
    }

    #[test]
    fn a_percentile_without_ten_samples_beyond_it_is_refused_and_named() {
        let outcome = Outcome::from(samples(1_000));
        let metrics: Vec<_> = outcome.figures.iter().map(|figure| figure.0).collect();
        assert_eq!(metrics, [Metric::P50, Metric::P99]);
        assert!(outcome.notes.iter().any(|note| note.contains("ns_p9999 refused: 1000 samples")));
        assert_eq!(Outcome::from(samples(999)).figures.len(), 1);
        assert_eq!(Outcome::from(samples(100_000)).figures.len(), 3);
    }

    #[test]
    fn a_latency_is_in_nanoseconds_whatever_the_unit_of_its_histogram() {
        let mut run = samples(1_000);
        run.unit_ns = 0.5;
        assert_eq!(Outcome::from(run).figures[0], (Metric::P50, 250.0));
    }

    #[test]
    fn a_rate_is_items_over_elapsed() {
        let run = Measured { items: 500, elapsed: Duration::from_millis(250), checksum: 9 };
        let outcome = Outcome::from(run);
        assert_eq!((outcome.checksum, outcome.figures), (9, vec![(Metric::ItemsPerSecond, 2_000.0)]));
    }
}
