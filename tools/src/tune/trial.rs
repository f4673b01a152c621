//! One trial: a candidate under load, until its figure is known, and what the machine did meanwhile.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use corelane_bench::bracket::{Knee, SECOND_NS, find};
use corelane_bench::cpu_time::{CpuTime, Disturbance};
use corelane_bench::hiccup::Hiccups;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::{Load, LoadError, Schedule, Taken};
use super::objective::{Objective, Percentile, Rate};
use super::search::Outcome;
use super::space::Candidate;
use crate::clock::Clock;

/// Others took so much of all CPU time that a trial does not count: a share.
const DISTURBED: f64 = 0.05;
/// How long the machine is listened to before a trial, and after it.
const LISTENED: Duration = Duration::from_millis(3);
/// The longest that one load may send.
const LONGEST: Duration = Duration::from_secs(8);
/// The search for a rate goes by the time from an item to the one so many behind it: whole nanoseconds of one would be too coarse.
const PERIODS: u64 = 256;
/// The rates between which a first search looks, in items a second.
const RATES: (f64, f64) = (1_000.0, 200e6);
/// Around the rate that is expected a search looks so far.
const AROUND: (f64, f64) = (0.6, 4.0);
/// So many times the items that a percentile needs are sent: not each load has exactly its share.
const MARGIN: f64 = 1.2;
/// So often a load is sent again because too few latencies came of it.
const ATTEMPTS: usize = 3;
/// The shares at which latencies are told.
const CURVE: [f64; 9] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];

/// How long loads last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub measured: Duration,
}

/// One load of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// Items a second.
    pub rate: f64,
    /// The percentile that counts, in nanoseconds; `None` if the pipeline did not keep up.
    pub latency_ns: Option<f64>,
    /// How many latencies were measured.
    pub samples: u64,
    /// Shares and their latencies, as far as the samples bear them.
    pub curve: Vec<(f64, f64)>,
}

/// What a trial found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Items a second or nanoseconds, by the objective; `None` if it did not hold.
    pub figure: Option<f64>,
    /// Every load.
    pub probes: Vec<Probe>,
    /// Who else used the machine; `None` where it does not say.
    pub others: Option<Disturbance>,
    /// The longest that a spinning thread stood still before and after, in nanoseconds.
    pub hiccup_ns: u64,
    /// It has to be repeated.
    pub disturbed: bool,
    /// Why the pipeline could not run like this.
    pub refused: Option<String>,
    /// Everything included, in seconds.
    pub took_s: f64,
}

impl Found {
    /// For the search.
    pub fn outcome(&self, objective: &Objective) -> Outcome {
        Outcome {
            cost: self.figure.map(|figure| objective.cost(figure)),
            disturbed: self.disturbed,
            took: Duration::from_secs_f64(self.took_s),
        }
    }
}

/// Why a trial has no result.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Somebody wants an end.
    #[error("interrupted")]
    Interrupted,
    /// It cannot be loaded, and neither can any other candidate.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The percentile needs more samples than come.
    #[error(
        "{percentile} needs {needed} latencies, and {came} come in {LONGEST:?} at {rate}: ask for a lower percentile or a higher rate"
    )]
    TooFew {
        /// The percentile.
        percentile: Percentile,
        /// How many it needs.
        needed: u64,
        /// How many came.
        came: u64,
        /// The rate.
        rate: Rate,
    },
}

/// Runs trials.
pub struct Runner<'a> {
    load: &'a dyn Load,
    objective: Objective,
    timing: Timing,
    interrupted: &'a AtomicBool,
    /// Of how many items latencies come: a share, learned.
    share: f64,
}

impl<'a> Runner<'a> {
    /// Nothing has run.
    pub fn new(
        load: &'a dyn Load,
        objective: Objective,
        timing: Timing,
        interrupted: &'a AtomicBool,
    ) -> Self {
        Self { load, objective, timing, interrupted, share: load.measured_share() }
    }

    /// Tries `candidate`, beginning from the figure that is `expected`.
    ///
    /// # Errors
    /// [`TrialError`]. A pipeline that does not start with this candidate is no error: it may start with another one.
    pub fn run(&mut self, candidate: &Candidate, expected: Option<f64>) -> Result<Found, TrialError> {
        let clock = Clock::start();
        let mut hiccups = listen();
        let before = CpuTime::now();
        let mut probes = Vec::new();
        let mut refused = None;
        let figure = match self.figure(candidate, expected, &mut probes) {
            Ok(figure) => figure,
            Err(TrialError::Load(LoadError::Start(error))) => {
                refused = Some(error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        let others = before.and_then(|before| Some(CpuTime::now()?.since(before)));
        hiccups.merge(&listen());
        let disturbed = others.is_some_and(|others| others.steal + others.others > DISTURBED);
        let (hiccup_ns, took_s) = (hiccups.longest_ns, clock.elapsed().as_secs_f64());
        Ok(Found { figure, probes, others, hiccup_ns, disturbed, refused, took_s })
    }

    fn figure(
        &mut self,
        candidate: &Candidate,
        expected: Option<f64>,
        probes: &mut Vec<Probe>,
    ) -> Result<Option<f64>, TrialError> {
        match self.objective {
            Objective::MinLatency { rate, .. } => {
                let probe = self.probe(candidate, rate.0)?;
                let figure = probe.latency_ns;
                probes.push(probe);
                Ok(figure)
            }
            Objective::MaxRate { bound, .. } => self.knee(candidate, bound, expected, probes),
        }
    }

    /// The highest rate under the bound: near the one that is expected if it is there, else anywhere.
    fn knee(
        &mut self,
        candidate: &Candidate,
        bound: Duration,
        expected: Option<f64>,
        probes: &mut Vec<Probe>,
    ) -> Result<Option<f64>, TrialError> {
        // Below that the percentile cannot be told.
        let lowest = self.objective.percentile().samples() as f64 * MARGIN * MARGIN
            / self.share
            / LONGEST.as_secs_f64();
        let (lowest, highest) = (RATES.0.max(lowest), RATES.1);
        let (low, high) = match expected {
            Some(rate) => ((rate * AROUND.0).max(lowest), (rate * AROUND.1).min(highest)),
            None => (lowest, highest),
        };
        let knee = self.between(candidate, bound, (low, high), probes)?;
        let rate = |period: u64| (SECOND_NS * PERIODS) as f64 / period as f64;
        Ok(match knee {
            Knee { held: Some(held), broke: Some(_) } => Some(rate(held)),
            Knee { held: None, .. } if low > lowest => {
                self.between(candidate, bound, (lowest, low), probes)?.held.map(rate)
            }
            Knee { held: None, .. } => None,
            Knee { held: Some(held), broke: None } if high < highest => {
                let above = self.between(candidate, bound, (high, highest), probes)?;
                Some(rate(above.held.unwrap_or(held)))
            }
            Knee { held: Some(held), broke: None } => Some(rate(held)),
        })
    }

    fn between(
        &mut self,
        candidate: &Candidate,
        bound: Duration,
        rates: (f64, f64),
        probes: &mut Vec<Probe>,
    ) -> Result<Knee, TrialError> {
        let blocks = |rate: f64| ((rate / PERIODS as f64).round() as u64).max(1);
        find((blocks(rates.0), blocks(rates.1)), |period| {
            let rate = (SECOND_NS * PERIODS) as f64 / period as f64;
            // A rate has not broken before it has twice: once may be a hiccup.
            for _ in 0..2 {
                let probe = self.probe(candidate, rate)?;
                let holds = probe.latency_ns.is_some_and(|ns| ns <= bound.as_nanos() as f64);
                probes.push(probe);
                if holds {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// One load, as long as its percentile needs.
    fn probe(&mut self, candidate: &Candidate, rate: f64) -> Result<Probe, TrialError> {
        let percentile = self.objective.percentile();
        let needed = percentile.samples();
        let too_few = |came| Err(TrialError::TooFew { percentile, needed, came, rate: Rate(rate) });
        let (mut share, mut came) = (self.share, 0);
        for _ in 0..ATTEMPTS {
            let enough = needed as f64 * MARGIN / rate / share;
            if enough > LONGEST.as_secs_f64() {
                return too_few((rate * share * LONGEST.as_secs_f64()) as u64);
            }
            let measured = self.timing.measured.max(Duration::from_secs_f64(enough));
            let schedule = Schedule::at_rate(rate, self.timing.warm_up, measured);
            let latencies = match self.load.run(candidate.options(), schedule, self.interrupted)? {
                Taken::Interrupted => return Err(TrialError::Interrupted),
                Taken::TooMuch => return Ok(Probe { rate, latency_ns: None, samples: 0, curve: Vec::new() }),
                Taken::All(latencies) => latencies,
            };
            came = latencies.len();
            let seen = came as f64 / (rate * measured.as_secs_f64());
            self.share = self.share.max(seen / MARGIN);
            if came >= needed {
                return Ok(told(rate, &latencies, percentile));
            }
            share = (seen / MARGIN).clamp(1e-6, share / MARGIN);
        }
        too_few(came)
    }
}

fn told(rate: f64, latencies: &Histogram<u64>, percentile: Percentile) -> Probe {
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64;
    let samples = latencies.len();
    let borne = |quantile: &f64| samples as f64 * (1.0 - quantile) >= 10.0;
    let curve = CURVE.into_iter().filter(borne).map(|quantile| (quantile, at(quantile))).collect();
    Probe { rate, latency_ns: Some(at(percentile.quantile())), samples, curve }
}

/// What stands still while nothing of ours runs but this.
fn listen() -> Hiccups {
    let (clock, mut hiccups) = (Clock::start(), Hiccups::default());
    while clock.elapsed() < LISTENED {
        hiccups.observe(clock.nanos());
    }
    hiccups
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use corelane::driver::DriverChoice;
    use corelane::engine::{ExecutionOptions, StartError};
    use corelane::graph::ValidatedGraph;
    use corelane::policy::IdlePolicy;
    use corelane::topology::CoreMap;

    use super::*;

    /// Takes a microsecond for each item up to a rate, and does not keep up beyond; now and then it takes a second.
    struct Made {
        limit: f64,
        /// One load in so many has a hiccup.
        hiccup_every: u32,
        /// Of how many items it tells latencies.
        share: f64,
        loads: Cell<u32>,
        starts: bool,
    }

    impl Made {
        fn up_to(limit: f64) -> Self {
            Self { limit, hiccup_every: u32::MAX, share: 1.0, loads: Cell::new(0), starts: true }
        }
    }

    impl Load for Made {
        fn graph(&self) -> Result<ValidatedGraph, LoadError> {
            Err(LoadError::Empty)
        }

        fn items(&self) -> &'static str {
            "items"
        }

        fn measured_share(&self) -> f64 {
            self.share * 10.0
        }

        fn run(&self, _: ExecutionOptions, schedule: Schedule, _: &AtomicBool) -> Result<Taken, LoadError> {
            self.loads.set(self.loads.get() + 1);
            if !self.starts {
                return Err(LoadError::Start(StartError::Driver("not here".to_owned())));
            }
            let rate = 1e9 * 1_000.0 / (schedule.due_ns(1_000) - schedule.due_ns(0)) as f64;
            if rate > self.limit {
                return Ok(Taken::TooMuch);
            }
            let mut latencies = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
            let hiccup = self.loads.get().is_multiple_of(self.hiccup_every);
            let ns = if hiccup { 1_000_000_000 } else { 1_000 };
            latencies.record_n(ns, (schedule.items() as f64 * self.share) as u64).unwrap();
            Ok(Taken::All(latencies))
        }
    }

    fn candidate() -> Candidate {
        let (map, driver, idle) = (CoreMap::default(), DriverChoice::Thread, IdlePolicy::Park);
        let (name, rings) = ("a map".to_owned(), "x1".to_owned());
        Candidate { name, map, driver, idle, step_budget: 1024, rings }
    }

    fn found(load: &Made, objective: Objective, expected: Option<f64>) -> Result<Found, TrialError> {
        let timing = Timing { warm_up: Duration::ZERO, measured: Duration::from_millis(100) };
        Runner::new(load, objective, timing, &AtomicBool::new(false)).run(&candidate(), expected)
    }

    fn most(percentile: &str) -> Objective {
        Objective::MaxRate { percentile: percentile.parse().unwrap(), bound: Duration::from_micros(5) }
    }

    #[test]
    fn the_highest_rate_is_found_wherever_it_is_and_whatever_was_expected() {
        for limit in [20_000.0, 777_777.0, 50e6] {
            for expected in [None, Some(limit), Some(limit / 30.0), Some(limit * 30.0)] {
                let figure = found(&Made::up_to(limit), most("p99"), expected).unwrap().figure.unwrap();
                assert!((limit / 1.06..=limit * 1.001).contains(&figure), "{limit}, {expected:?}: {figure}");
            }
        }
    }

    #[test]
    fn a_rate_that_was_expected_takes_fewer_loads() {
        let loads = |expected| {
            let load = Made::up_to(1e6);
            found(&load, most("p99"), expected).unwrap();
            load.loads.get()
        };
        assert!(loads(Some(1e6)) + 5 < loads(None), "{} and {}", loads(Some(1e6)), loads(None));
    }

    #[test]
    fn a_single_hiccup_breaks_no_rate() {
        let load = Made { hiccup_every: 3, ..Made::up_to(1e6) };
        let figure = found(&load, most("p99"), Some(1e6)).unwrap().figure.unwrap();
        assert!(figure > 0.9e6, "{figure}");
    }

    #[test]
    fn loads_last_until_the_percentile_is_borne_or_it_is_said_that_they_cannot() {
        let at = |rate, percentile: &str, share| {
            let objective =
                Objective::MinLatency { percentile: percentile.parse().unwrap(), rate: Rate(rate) };
            found(&Made { share, ..Made::up_to(1e9) }, objective, None)
        };
        let probes = at(20_000.0, "p99.9", 0.1).unwrap().probes;
        assert!(probes[0].samples >= 10_000, "{probes:?}");
        assert_eq!(probes[0].latency_ns.map(|ns| (ns / 10.0).round()), Some(100.0));
        let error = at(100.0, "p99.9", 1.0).unwrap_err();
        assert!(error.to_string().contains("p99.9 needs 10000 latencies"), "{error}");
        assert!(at(1_000.0, "p99", 0.001).is_err());
    }

    #[test]
    fn a_candidate_that_does_not_start_or_keep_up_has_no_figure_and_the_next_one_has() {
        let objective = Objective::MinLatency { percentile: "p99".parse().unwrap(), rate: Rate(1e6) };
        let refused = found(&Made { starts: false, ..Made::up_to(1e9) }, objective, None).unwrap();
        assert_eq!(refused.figure, None);
        assert!(refused.refused.unwrap().contains("not here"));
        let slow = found(&Made::up_to(1e5), objective, None).unwrap();
        assert_eq!((slow.figure, slow.refused), (None, None));
        assert_eq!(slow.probes[0].latency_ns, None);
        assert_eq!(found(&Made::up_to(10.0), most("p99"), None).unwrap().figure, None);
    }
}
