//! The knee: the highest rate of an open loop at which a percentile of latency stays under a target.

use std::io::{self, Write};
use std::time::Duration;

use crate::case::{BenchError, Case, Metric, Setup};
use crate::harness;
use crate::link::Link;
use crate::stats;
use crate::workload::latency::{self, Schedule};

/// A rate that holds and one that does not are close enough when the one is at most so many times the other.
const CLOSE: f64 = 1.05;
const SECOND_NS: u64 = 1_000_000_000;
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
    /// Comparable runs at each rate, of which the median counts.
    pub repetitions: usize,
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

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knee {
    /// The shortest period that held; `None` if not even the longest did.
    pub held: Option<u64>,
    /// The longest period that did not hold; `None` if even the shortest held.
    pub broke: Option<u64>,
}

/// Halves the period from that of the lowest rate on until it no longer holds, then looks between the two until they are close, or
/// neighbours: periods are whole nanoseconds. It takes for granted that what holds at one rate holds at every lower one.
///
/// # Errors
/// What `holds` says.
pub fn find<E>(rates: (u64, u64), mut holds: impl FnMut(u64) -> Result<bool, E>) -> Result<Knee, E> {
    let period = |rate: u64| (SECOND_NS / rate.max(1)).max(1);
    let (longest, shortest) = (period(rates.0), period(rates.1).min(period(rates.0)));
    let (mut held, mut next) = (None, longest);
    let mut broke = loop {
        if !holds(next)? {
            break next;
        }
        held = Some(next);
        if next == shortest {
            return Ok(Knee { held, broke: None });
        }
        next = (next / 2).max(shortest);
    };
    while let Some(long) = held
        && long > broke + 1
        && long as f64 > broke as f64 * CLOSE
    {
        // In the middle of the rates, which is below that of the periods.
        let middle = ((long as f64 * broke as f64).sqrt() as u64).clamp(broke + 1, long - 1);
        if holds(middle)? {
            held = Some(middle);
        } else {
            broke = middle;
        }
    }
    Ok(Knee { held, broke: Some(broke) })
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
            self.repetitions
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
        let results = harness::run(&Case { references: Vec::new(), ..case }, setup, self.repetitions)?;
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
    use std::convert::Infallible;

    use super::*;
    use crate::case::Driver;

    /// Searches a made-up system that holds up to `limit` items a second.
    fn searched(rates: (u64, u64), limit: f64) -> (Knee, usize) {
        let mut tried = 0;
        let knee = find(rates, |period| {
            tried += 1;
            Ok::<_, Infallible>(1e9 / period as f64 <= limit)
        });
        (knee.unwrap(), tried)
    }

    #[test]
    fn the_knee_lies_between_a_rate_that_holds_and_a_close_one_that_does_not() {
        for limit in [120_000.0, 777_000.0, 1_000_000.0, 3_210_000.0] {
            let (knee, tried) = searched((100_000, 10_000_000), limit);
            let (held, broke) = (knee.held.unwrap(), knee.broke.unwrap());
            assert!(1e9 / held as f64 <= limit && 1e9 / broke as f64 > limit, "{limit}: {knee:?}");
            assert!(held as f64 <= broke as f64 * CLOSE || held == broke + 1, "{limit}: {knee:?}");
            assert!(tried <= 13, "{limit}: {tried} rates tried");
        }
    }

    #[test]
    fn periods_are_whole_nanoseconds_so_neighbours_end_the_search() {
        let (knee, _) = searched((1_000_000, 1_000_000_000), 260_000_000.0);
        assert_eq!(knee, Knee { held: Some(4), broke: Some(3) });
    }

    #[test]
    fn a_knee_outside_the_range_is_not_made_up() {
        assert_eq!(searched((1_000, 1_000_000), 10.0), (Knee { held: None, broke: Some(1_000_000) }, 1));
        let (knee, _) = searched((1_000, 3_000_000), 1e9);
        assert_eq!(knee, Knee { held: Some(333), broke: None });
        let told = summary(knee, &[Probe { period_ns: 333, found_ns: None, link: Link::Near }]);
        assert_eq!(told, "at least 3003.0 k/s: no higher rate was asked for (near)");
    }

    fn search(system: &str, target: Duration) -> Search {
        Search {
            percentile: Metric::P99,
            target,
            rates: (50_000, 100_000),
            duration: Duration::from_millis(1),
            repetitions: 1,
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
