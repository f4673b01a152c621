//! window: counts per key of the last ten seconds, every ten milliseconds, while a million events a second come in; and what an item
//! costs in windows that slide, beside windows that do not.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::case::{Case, Setup};
use crate::lane;
use crate::stats::splitmix;
use crate::workload::latency::{self, Clock, KEYS, Schedule, histogram};

/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(10);
/// How often one begins.
pub const EVERY: Duration = Duration::from_millis(10);

const RATE: u64 = 1_000_000;
const SECONDS: u64 = 12;
/// Items of the comparison of costs.
const ITEMS: u64 = 30_000_000;

/// What came out, and how long after the end of its window.
#[derive(Clone)]
pub struct Delays {
    /// From the end of a window to its result. Windows that the end of the input closed are not in it.
    pub histogram: Histogram<u64>,
    /// Over all results.
    pub checksum: u64,
    /// The last intended time.
    last: u64,
}

impl Delays {
    /// Nothing came out yet.
    pub fn new(schedule: Schedule) -> Self {
        let last = schedule.intended_ns(schedule.items.saturating_sub(1));
        Self { histogram: histogram(), checksum: 0, last }
    }

    /// Takes the count of a key in the window that ended at `end`.
    #[inline]
    pub fn take(&mut self, key: u64, end: i64, count: u64, clock: Clock) {
        self.checksum = self.checksum.wrapping_add(mixed(key, end, count));
        let end = end.unsigned_abs();
        if end <= self.last {
            self.histogram.saturating_record(clock.ns().saturating_sub(end));
        }
    }
}

fn mixed(key: u64, end: i64, count: u64) -> u64 {
    splitmix(splitmix(splitmix(key) ^ end.cast_unsigned()).wrapping_add(count))
}

/// The right checksum: counts in an array, added up for each window.
pub fn expected(schedule: Schedule) -> u64 {
    let every = EVERY.as_nanos() as u64;
    let per_window = (SIZE.as_nanos() / EVERY.as_nanos()) as usize;
    let pane_of = |index: u64| schedule.item(index).intended_ns / every;
    let (first, last) = (pane_of(0), pane_of(schedule.items.saturating_sub(1)));
    let panes = (last - first + 1) as usize;
    let mut counts = vec![[0u64; KEYS as usize]; panes];
    for index in 0..schedule.items {
        let item = schedule.item(index);
        counts[(item.intended_ns / every - first) as usize][item.key as usize] += 1;
    }
    let mut sum = 0u64;
    let mut window = [0u64; KEYS as usize];
    // The window that ends behind pane `at`; the last ones have no new pane.
    for at in 0..panes + per_window - 1 {
        for key in 0..KEYS as usize {
            window[key] += counts.get(at).map_or(0, |pane| pane[key]);
            window[key] -= at.checked_sub(per_window).map_or(0, |gone| counts[gone][key]);
            if window[key] > 0 {
                let end = (first + at as u64 + 1) * every;
                sum = sum.wrapping_add(mixed(key as u64, end.cast_signed(), window[key]));
            }
        }
    }
    sum
}

/// The comparisons.
pub fn cases(setup: &Setup) -> Vec<Case> {
    // A quick run does not fill its windows; the results are right all the same.
    let schedule = Schedule::at_rate(RATE, RATE * if setup.quick { SECONDS / 4 } else { SECONDS });
    let items = setup.scaled(ITEMS);
    let right_counts = expected(schedule);
    let delay = Case::new("window", "sliding", 2, right_counts)
        .work(format!("{} M events at 1 M/s, windows of 10 s by 10 ms", schedule.items / RATE))
        .try_system("corelane", move |setup| lane::window::sliding(schedule, setup))
        .system("noise-floor", latency::noise_floor(schedule, right_counts));
    let cost = Case::new("window", "cost", 1, items)
        .work(format!("{} M events, {KEYS} keys", items / 1_000_000))
        .reference("tumbling")
        .try_system("tumbling", move |setup| lane::window::cost(items, EVERY, EVERY, setup))
        .try_system("sliding", move |setup| lane::window::cost(items, SIZE, EVERY, setup));
    vec![delay, cost]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Driver;

    fn setup() -> Setup {
        let cores = crate::pin::allowed();
        Setup { cores, driver: Driver::Thread, quick: true, nexmark: Default::default() }
    }

    #[test]
    fn windows_under_an_open_loop_count_what_an_array_counts() {
        let setup = setup();
        if setup.cores.len() < 2 {
            return;
        }
        let schedule = Schedule::at_rate(RATE, RATE / 5);
        let run = lane::window::sliding(schedule, &setup).unwrap();
        assert_eq!(run.checksum, expected(schedule));
        // Nineteen windows ended before the last event; a key may have none in the first.
        assert!(run.histogram.len() >= 18 * KEYS, "{}", run.histogram.len());
    }

    #[test]
    fn every_item_is_counted_once_in_each_of_its_windows() {
        for (size, every) in [(EVERY, EVERY), (SIZE, EVERY), (10 * EVERY, EVERY)] {
            let run = lane::window::cost(50_000, size, every, &setup()).unwrap();
            assert_eq!(run.checksum, 50_000, "{size:?} by {every:?}");
        }
    }
}
