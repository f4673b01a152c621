//! How costs grow: with the number of items, of shards, and of stages.

use std::fs;
use std::time::Duration;

use corelane::model::columns;
use serde::Serialize;

use crate::case::{Measured, Setup};
use crate::cpu_time::{CpuTime, Disturbance};
use crate::lane;
use crate::stats;
use crate::workload::{chain, keyed};

/// The time per item may differ by this much between a short run and a long one.
const FLAT: f64 = 1.15;
const MILLION: u64 = 1_000_000;
const SIZES: &[u64] = &[MILLION, 3 * MILLION, 10 * MILLION, 30 * MILLION, 100 * MILLION];
const SHARDS: &[u32] = &[1, 2, 4, 8, 16];
/// Items of the tables over shards and over stages.
const ITEMS: u64 = 20 * MILLION;
const KEYS: u64 = 1_000;

/// What a table is made of: a cost for each step, in nanoseconds per item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// What grows.
    pub what: &'static str,
    /// What was run.
    pub system: &'static str,
    /// For each step its size and what it took, in the order of the sizes.
    pub steps: Vec<Step>,
    /// Who else used the CPUs meanwhile; `None` where the system does not tell.
    pub disturbance: Option<Disturbance>,
}

/// One size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// How many items, shards or stages.
    pub size: u64,
    /// Nanoseconds per item, the median of the repetitions.
    pub ns_per_item: f64,
    /// The most memory that the process held meanwhile, in bytes, the largest of the repetitions; `None` where the system does not tell.
    pub peak_bytes: Option<u64>,
}

impl Growth {
    /// The longest time per item over the shortest.
    pub fn spread(&self) -> f64 {
        let times = || self.steps.iter().map(|step| step.ns_per_item);
        times().fold(0.0, f64::max) / times().fold(f64::MAX, f64::min)
    }

    /// What each step adds to the time per item for each unit of size, in nanoseconds; the first has nothing before it.
    pub fn added(&self) -> Vec<f64> {
        let added = |pair: &[Step]| {
            (pair[1].ns_per_item - pair[0].ns_per_item) / (pair[1].size - pair[0].size) as f64
        };
        self.steps.windows(2).map(added).collect()
    }

    /// As a table. Time per item over items says whether it is flat.
    pub fn table(&self) -> String {
        let mut cells = vec![[self.what, "ns/item", "M items/s", "added each", "peak MB"].map(str::to_owned)];
        let added = self.added();
        for (place, step) in self.steps.iter().enumerate() {
            let each =
                place.checked_sub(1).map_or_else(String::new, |before| format!("{:+.3}", added[before]));
            let peak =
                step.peak_bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
            let (time, rate) = (format!("{:.3}", step.ns_per_item), format!("{:.1}", 1e3 / step.ns_per_item));
            cells.push([
                step.size.to_string(),
                time,
                rate,
                if self.what == "items" { String::new() } else { each },
                peak,
            ]);
        }
        let mut text = format!("{}\n{}", self.system, columns("  ", &cells, 0..5));
        if let Some(seen) = self.disturbance {
            text.push_str(&format!("  {seen}\n"));
        }
        if self.what == "items" {
            let spread = self.spread();
            let verdict = if spread <= FLAT { "flat" } else { "NOT flat" };
            text.push_str(&format!("  longest over shortest: {spread:.2} ({FLAT} allowed): {verdict}\n"));
        }
        text
    }
}

type Program = Box<dyn Fn(u64, &Setup) -> Result<Measured, String>>;
/// A system, how it is run, and the right result.
type OverItems = (&'static str, Program, fn(u64) -> u64);

/// Runs `program` at each size in turn, all sizes in each round, so that a slow moment of the machine does not fall on one size alone.
/// `items` says how many items a size comes to, `expected` the right result.
///
/// # Errors
/// A run failed, or its result is wrong.
fn grown(
    what: &'static str,
    system: &'static str,
    sizes: &[u64],
    repetitions: usize,
    run: impl Fn(u64) -> Result<(Measured, u64), String>,
) -> Result<Growth, String> {
    let mut times = vec![Vec::new(); sizes.len()];
    let mut peaks = vec![None; sizes.len()];
    let before = CpuTime::now();
    for _ in 0..repetitions {
        for (place, &size) in sizes.iter().enumerate() {
            let watched = forget_peak();
            let (measured, expected) = run(size)?;
            if measured.checksum != expected {
                return Err(format!("{system} with {size} {what} computed something wrong"));
            }
            times[place].push(measured.elapsed.as_secs_f64() * 1e9 / measured.items.max(1) as f64);
            peaks[place] = peaks[place].max(watched.then(peak_bytes).flatten());
        }
    }
    let step = |((&size, times), peak): ((&u64, &Vec<f64>), &Option<u64>)| {
        Some(Step { size, ns_per_item: stats::median(times)?, peak_bytes: *peak })
    };
    let steps = sizes.iter().zip(&times).zip(&peaks).filter_map(step).collect();
    let disturbance = before.and_then(|before| Some(CpuTime::now()?.since(before)));
    Ok(Growth { what, system, steps, disturbance })
}

/// Lets the kernel forget the most memory that this process has held so far. Whether it did.
fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The most memory that this process has held, in bytes.
fn peak_bytes() -> Option<u64> {
    parse_peak(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1_024)
}

/// All tables, each given to `tell` as soon as it stands: time per item over items, over shards, and over stages.
///
/// # Errors
/// The first run that failed or was wrong, or what `tell` says.
pub fn run(
    setup: &Setup,
    repetitions: usize,
    mut tell: impl FnMut(&Growth) -> Result<(), String>,
) -> Result<(), String> {
    let sizes = if setup.quick { &SIZES[..3] } else { SIZES };
    let two = setup.cores.len() >= 2;
    let mut over_items: Vec<OverItems> = vec![
        ("chain/bare", Box::new(lane::chain::bare), chain::expected_bare),
        ("chain/envelope", Box::new(lane::chain::envelope), chain::expected_envelope),
        ("window, tumbling", Box::new(tumbling), |items| items),
    ];
    if two {
        let exchange = |items, setup: &Setup| lane::keyed::exchange(items, KEYS, None, setup);
        over_items.push(("keyed/k1000", Box::new(exchange), |items| keyed::expected(items, KEYS).checksum()));
    }
    for (system, program, expected) in over_items {
        let expected: Vec<(u64, u64)> = sizes.iter().map(|&size| (size, expected(size))).collect();
        let right = |size| expected.iter().find(|one| one.0 == size).map_or(0, |one| one.1);
        let run = |size| Ok((program(size, setup)?, right(size)));
        tell(&grown("items", system, sizes, repetitions, run)?)?;
    }
    let items = setup.scaled(ITEMS);
    if two {
        let expected = keyed::expected(items, KEYS).checksum();
        let run = |shards: u64| Ok((lane::keyed::sharded(items, KEYS, shards as u32, setup)?, expected));
        let shards: Vec<u64> = SHARDS.iter().map(|shards| u64::from(*shards)).collect();
        tell(&grown("shards", "keyed/k1000 on the allowed cores", &shards, repetitions, run)?)?;
    }
    for (system, cut) in [("stages fused", false), ("stages with a ring before each, on one core", true)] {
        let run = |stages: u64| {
            let measured = lane::growth::stages(items, stages, cut, setup)?;
            Ok((measured, lane::growth::expected(items, stages)))
        };
        tell(&grown("stages", system, lane::growth::STAGES, repetitions, run)?)?;
    }
    Ok(())
}

fn tumbling(items: u64, setup: &Setup) -> Result<Measured, String> {
    const SIZE: Duration = crate::workload::window::EVERY;
    lane::window::cost(items, SIZE, SIZE, setup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(items: u64, ns: u64) -> Measured {
        Measured { items, elapsed: Duration::from_nanos(ns), checksum: 7 }
    }

    fn growth(what: &'static str, times: &[(u64, f64)]) -> Growth {
        let step =
            |&(size, ns_per_item): &(u64, f64)| Step { size, ns_per_item, peak_bytes: Some(5_000_000) };
        let disturbance = Some(Disturbance { steal: 0.25, others: 0.5 });
        Growth { what, system: "made up", steps: times.iter().map(step).collect(), disturbance }
    }

    #[test]
    fn a_time_per_item_is_flat_within_fifteen_percent() {
        assert!(growth("items", &[(1, 1.0), (10, 1.15), (100, 1.05)]).table().contains(": flat"));
        assert!(growth("items", &[(1, 1.0), (10, 1.3), (100, 1.0)]).table().contains(": NOT flat"));
    }

    #[test]
    fn a_table_tells_who_else_used_the_cpus() {
        let table = growth("items", &[(1, 1.0)]).table();
        assert!(table.contains("steal 25.00 %, other processes 50 % of all CPU time"), "{table}");
    }

    #[test]
    fn what_a_step_adds_is_told_for_each_unit() {
        let stages = growth("stages", &[(1, 2.0), (2, 2.5), (4, 4.5)]);
        assert_eq!(stages.added(), [0.5, 1.0]);
        assert!(stages.table().contains("+1.000") && !stages.table().contains("flat"), "{}", stages.table());
    }

    #[test]
    fn sizes_are_run_in_turn_and_the_median_counts() {
        let order = std::cell::RefCell::new(Vec::new());
        let run = |size: u64| {
            order.borrow_mut().push(size);
            // The second round is a slow one.
            Ok((measured(size, if (order.borrow().len() - 1) / 2 == 1 { 90 * size } else { 2 * size }), 7))
        };
        let growth = grown("items", "made up", &[1, 10], 3, run).unwrap();
        assert_eq!(*order.borrow(), [1, 10, 1, 10, 1, 10]);
        assert_eq!(growth.steps.iter().map(|step| step.ns_per_item).collect::<Vec<_>>(), [2.0, 2.0]);
    }

    #[test]
    fn a_wrong_result_ends_the_table() {
        let error = grown("items", "made up", &[1], 1, |size| Ok((measured(size, 1), 8))).unwrap_err();
        assert_eq!(error, "made up with 1 items computed something wrong");
    }

    #[test]
    fn the_peak_of_memory_is_read_in_bytes() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS: 1 kB\n"), Some(2_097_152));
        assert_eq!(parse_peak("VmRSS: 1 kB\n"), None);
    }

    #[test]
    fn stages_and_shards_compute_the_same_however_many_they_are() {
        let cores = crate::pin::allowed();
        let setup =
            Setup { cores, driver: crate::case::Driver::Thread, quick: true, nexmark: Default::default() };
        for &stages in lane::growth::STAGES {
            for cut in [false, true] {
                let run = lane::growth::stages(3_001, stages, cut, &setup).unwrap();
                assert_eq!(
                    run.checksum,
                    lane::growth::expected(3_001, stages),
                    "{stages} stages, cut: {cut}"
                );
            }
        }
        for shards in [1, 3] {
            let run = lane::keyed::sharded(30_011, 100, shards, &setup).unwrap();
            assert_eq!(run.checksum, keyed::expected(30_011, 100).checksum(), "{shards} shards");
        }
    }
}
