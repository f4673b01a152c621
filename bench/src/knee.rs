//! The knee: the highest rate of an open loop at which a percentile of latency stays under a target.

use std::io::{self, Write};
use std::time::Duration;

pub use crate::bracket::{Knee, find};

use crate::bracket::SECOND_NS;
use crate::case::{BenchError, Case, Metric, Setup};
use crate::harness::{self, Rounds};
use crate::link::Link;
use crate::stats;
use crate::workload::latency::{self, Schedule};

/// What the machine does by itself, in the cases of latency.
const FLOOR: &str = "noise-floor";

/// What to look for, and where.
#[derive(Clone, Debug)]
pub struct Search {
    /// The percentile that counts.
    pub percentile: Metric,
    /// What it must stay under.
    pub target: Duration,
    /// The lowest rate to try, in items a second, and the highest.
    pub rates: (u64, u64),
    /// How long each run sends, longer if the percentile needs more samples.
    pub duration: Duration,
    /// Runs at each rate, of which the median counts.
    pub rounds: Rounds,
    /// The systems, as in the workload `latency`.
    pub systems: Vec<String>,
}

/// One rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Nanoseconds from one intended time to the next.
    pub period_ns: u64,
    /// The median of the percentile; `None` if no run could say it.
    pub found_ns: Option<f64>,
    /// How far apart the cores were.
    pub link: Link,
}

impl Probe {
    /// Items a second.
    pub fn rate(&self) -> f64 {
        SECOND_NS as f64 / self.period_ns as f64
    }
}

impl Search {
    /// Searches for each system and writes what it does to `table`; returns lines of JSON, one for each knee that was found.
    ///
    /// # Errors
    /// A system that does not run or computes something wrong, or nothing can be written.
    pub fn run(&self, setup: &Setup, table: &mut dyn Write) -> Result<Vec<String>, SearchError> {
        let (name, target) = (self.percentile.name(), self.target);
        writeln!(
            table,
            "knee: the highest rate with {name} under {target:?}, median of {}",
            self.rounds.repetitions
        )?;
        let floor = self.probe(FLOOR, SECOND_NS / self.rates.0.max(1), setup)?;
        writeln!(table, "  {FLOOR:<12} {}", self.told(&floor))?;
        if !self.holds(&floor) {
            writeln!(table, "  the machine alone is over the target: what follows tells about the machine")?;
        }
        let mut lines = Vec::new();
        for system in &self.systems {
            let mut probes = Vec::new();
            let knee = find(self.rates, |period| -> Result<bool, SearchError> {
                let probe = self.probe(system, period, setup)?;
                let verdict = if self.holds(&probe) { "holds" } else { "does not" };
                writeln!(table, "  {system:<12} {} {verdict}", self.told(&probe))?;
                probes.push(probe);
                Ok(self.holds(&probe))
            })?;
            writeln!(table, "  {system:<12} {}", summary(knee, &probes))?;
            lines.extend(knee.held.map(|period| self.line(system, period)));
        }
        Ok(lines)
    }

    fn holds(&self, probe: &Probe) -> bool {
        probe.found_ns.is_some_and(|found| found <= self.target.as_nanos() as f64)
    }

    fn told(&self, probe: &Probe) -> String {
        let found = probe.found_ns.map_or_else(|| "unknown".to_owned(), |ns| format!("{:.1} us", ns / 1e3));
        let rate = probe.rate() / 1e3;
        format!("{rate:>10.1} k/s  {} {found:>12}  {:<6}", self.percentile.name(), probe.link.name())
    }

    /// The line of JSON of a knee, in the form of all others.
    fn line(&self, system: &str, period: u64) -> String {
        let value = SECOND_NS as f64 / period as f64;
        let (percentile, under) = (self.percentile.name(), self.target.as_nanos() as u64);
        serde_json::json!({
            "workload": "latency", "variant": "knee", "system": system, "cores": 2, "metric": "items_per_s",
            "value": value, "percentile": percentile, "under_ns": under,
        })
        .to_string()
    }

    fn probe(&self, system: &str, period_ns: u64, setup: &Setup) -> Result<Probe, SearchError> {
        let mut schedule = Schedule::at_rate(SECOND_NS / period_ns, 0);
        schedule.period_ns = period_ns;
        schedule.items = self.items(period_ns);
        let mut case = latency::case("knee", schedule);
        case.systems.retain(|one| one.name == system);
        if case.systems.is_empty() {
            return Err(SearchError::NoSuchSystem(system.to_owned()));
        }
        let results = harness::run(&Case { references: Vec::new(), ..case }, setup, self.rounds)?;
        let values = results.runs.iter().flat_map(|runs| runs.values(self.percentile, results.judged));
        let found_ns = stats::median(&values.collect::<Vec<_>>());
        Ok(Probe { period_ns, found_ns, link: results.judged })
    }

    /// As many as are sent in the time, and enough for the percentile to be borne with a margin.
    fn items(&self, period_ns: u64) -> u64 {
        let beyond = 1.0 - self.percentile.quantile().unwrap_or(0.5);
        let needed = (2.0 * crate::case::SAMPLES_BEYOND / beyond).round() as u64;
        (self.duration.as_nanos() as u64 / period_ns).max(needed)
    }
}

fn summary(knee: Knee, probes: &[Probe]) -> String {
    let rate = |period: u64| SECOND_NS as f64 / period as f64 / 1e3;
    let mut links: Vec<_> = probes.iter().map(|probe| probe.link.name()).collect();
    links.sort_unstable();
    links.dedup();
    let links = links.join(" and ");
    match knee {
        Knee { held: None, broke } => format!("not even at {:.1} k/s ({links})", broke.map_or(0.0, rate)),
        Knee { held: Some(held), broke: None } => {
            format!("at least {:.1} k/s: no higher rate was asked for ({links})", rate(held))
        }
        Knee { held: Some(held), broke: Some(broke) } => {
            format!("{:.1} k/s; {:.1} k/s is too much ({links})", rate(held), rate(broke))
        }
    }
}

/// Why a search ended early.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The workload has no such system in this build.
    #[error("there is no system `{0}` in the workload latency")]
    NoSuchSystem(String),
    /// A run failed.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The table could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Driver;

    #[test]
    fn a_knee_above_the_highest_rate_is_told_as_such() {
        let knee = Knee { held: Some(333), broke: None };
        let told = summary(knee, &[Probe { period_ns: 333, found_ns: None, link: Link::Near }]);
        assert_eq!(told, "at least 3003.0 k/s: no higher rate was asked for (near)");
    }

    fn search(system: &str, target: Duration) -> Search {
        Search {
            percentile: Metric::P99,
            target,
            rates: (50_000, 100_000),
            duration: Duration::from_millis(1),
            rounds: Rounds::exactly(1),
            systems: vec![system.to_owned()],
        }
    }

    #[test]
    fn a_search_runs_enough_items_for_its_percentile() {
        let items = |percentile| Search { percentile, ..search("hand", Duration::ZERO) }.items(1_000);
        assert_eq!([Metric::P50, Metric::P99, Metric::P9999].map(items), [1_000, 2_000, 200_000]);
    }

    #[test]
    fn a_search_finds_what_a_target_allows_and_says_so_in_json() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        let setup = Setup { cores, driver: Driver::Thread, quick: true, nexmark: Default::default() };
        let run = |target| {
            let mut table = Vec::new();
            let lines = search("hand", target).run(&setup, &mut table).unwrap();
            (lines, String::from_utf8(table).unwrap())
        };
        let (lines, table) = run(Duration::from_secs(3_600));
        assert!(lines[0].contains("\"value\":100000.0"), "{lines:?}");
        assert!(table.contains("at least 100.0 k/s"), "{table}");
        let (lines, table) = run(Duration::from_nanos(1));
        assert!(lines.is_empty() && table.contains("not even at 50.0 k/s"), "{table}");
        let wrong = search("nobody", Duration::ZERO).run(&setup, &mut Vec::new());
        assert!(matches!(wrong, Err(SearchError::NoSuchSystem(_))));
    }
}
