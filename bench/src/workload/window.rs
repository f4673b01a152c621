//! window: counts per key of the last ten seconds, every ten milliseconds, while a million events a second come in; and what an item
//! costs in windows that slide, beside windows that do not.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::case::{Case, Setup};
use crate::lane;
use crate::stats::splitmix;
use crate::workload::latency::{Clock, KEYS, Schedule, histogram};

/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(10);
/// How often one begins.
pub const EVERY: Duration = Duration::from_millis(10);

const RATE: u64 = 1_000_000;
/// How often the query is run: a stall of the machine of 100 ms, which takes part in p99.99 and in p99.9, comes in every tenth second or so. In more
/// than half of many short runs there is none.
const REPETITIONS: usize = 25;
/// Items of the comparison of costs.
const ITEMS: u64 = 30_000_000;

/// A run of the query: of a history that is there at once, and then live.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// All of it.
    pub schedule: Schedule,
    /// What the clock shows when the run begins: so long a history is due then.
    history: Duration,
    /// Windows that end later than this are measured, in nanoseconds of the clock.
    from_ns: u64,
}

impl Run {
    /// A million events a second: those of `history`, which are due when the run begins, those of `settling`, in which it has to catch up with them,
    /// and those of `measured`.
    pub fn of(history: Duration, settling: Duration, measured: Duration) -> Self {
        let micros = (history + settling + measured).as_micros() as u64;
        let schedule = Schedule::at_rate(RATE, micros * RATE / 1_000_000);
        Self { schedule, history, from_ns: schedule.first_ns + (history + settling).as_nanos() as u64 }
    }

    fn full() -> Self {
        Self::of(SIZE, Duration::from_millis(1_500), Duration::from_secs(2))
    }

    /// Its windows are not full; the results are right all the same.
    fn quick() -> Self {
        Self::of(Duration::from_millis(500), Duration::from_millis(250), Duration::from_millis(250))
    }

    /// A clock for a run that begins now.
    pub fn clock(&self) -> Clock {
        let now = Instant::now();
        Clock::since(now.checked_sub(self.history).unwrap_or(now))
    }

    /// The last intended time. Windows that end later are closed by the end of the input.
    fn last_ns(&self) -> u64 {
        self.schedule.intended_ns(self.schedule.items.saturating_sub(1))
    }

    /// The ends of the windows that are measured, in order.
    fn ends(self) -> impl Iterator<Item = u64> {
        let every = EVERY.as_nanos() as u64;
        (self.from_ns / every + 1..=self.last_ns() / every).map(move |number| number * every)
    }
}

/// What came out, and how long after the end of its window.
#[derive(Clone)]
pub struct Delays {
    /// From the end of a window to its result, of those that are measured.
    pub histogram: Histogram<u64>,
    /// Over all results.
    pub checksum: u64,
    from_ns: u64,
    last_ns: u64,
}

impl Delays {
    /// Nothing came out yet.
    pub fn new(run: Run) -> Self {
        Self { histogram: histogram(), checksum: 0, from_ns: run.from_ns, last_ns: run.last_ns() }
    }

    /// Takes the count of a key in the window that ended at `end`.
    #[inline]
    pub fn take(&mut self, key: u64, end: i64, count: u64, clock: Clock) {
        self.checksum = self.checksum.wrapping_add(mixed(key, end, count));
        let end = end.unsigned_abs();
        if end > self.from_ns && end <= self.last_ns {
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

/// The noise floor, by hand.
pub mod hand {
    use std::sync::atomic::{AtomicU64, Ordering};

    use core_affinity::CoreId;
    use crossbeam::utils::CachePadded;

    use super::Run;
    use crate::case::Latencies;
    use crate::hiccup::Hiccups;
    use crate::pin::{self, Gate};
    use crate::workload::latency::{KEYS, histogram, latencies};

    /// What one core says to the other when there is nothing more.
    const OVER: u64 = u64::MAX;

    /// The first core looks at the clock and says in one word which window has ended, the second notes when it hears of it, once for each key: as
    /// late as a result that costs nothing is. The checksum is the number of windows that it heard of in order.
    pub fn relay(run: Run, cores: &[CoreId]) -> Latencies {
        let clock = run.clock();
        let word = &CachePadded::new(AtomicU64::new(0));
        let tell = move |gate: &Gate| {
            let mut hiccups = Hiccups::default();
            gate.wait();
            for end in run.ends() {
                clock.watch_until(end, &mut hiccups);
                word.store(end, Ordering::Release);
            }
            word.store(OVER, Ordering::Release);
            hiccups
        };
        let hear = move |gate: &Gate| {
            let (mut hiccups, mut heard, mut histogram) = (Hiccups::default(), 0, histogram());
            let mut ends = run.ends().peekable();
            gate.wait();
            while ends.peek().is_some() {
                let (told, now) = (word.load(Ordering::Acquire), clock.ns());
                hiccups.observe(now);
                // More than one, if either core stood still.
                while let Some(end) = ends.next_if(|end| *end <= told) {
                    histogram.saturating_record_n(now.saturating_sub(end), KEYS);
                    heard += u64::from(now >= end);
                }
            }
            (histogram, heard, hiccups)
        };
        let (mut hiccups, (histogram, heard, others)) = pin::on_two(cores, tell, hear);
        hiccups.merge(&others);
        Latencies { hiccups: Some(hiccups), ..latencies(histogram, heard) }
    }
}

/// The comparisons.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let run = if setup.quick { Run::quick() } else { Run::full() };
    let items = setup.scaled(ITEMS);
    let (right, ends) = (expected(run.schedule), run.ends().count());
    let delay = Case::new("window", "sliding", 2, right)
        .work(format!("{ends} ends of windows of 10 s by 10 ms, 1 M events/s, {KEYS} keys"))
        .repetitions(REPETITIONS)
        .try_system("corelane", move |setup| lane::window::sliding(run, setup))
        .system("noise-floor", move |setup| hand::relay(run, &setup.cores).standing_for(ends as u64, right));
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
        let millis = Duration::from_millis;
        let timed = Run::of(millis(60), millis(40), millis(100));
        let run = lane::window::sliding(timed, &setup).unwrap();
        assert_eq!(run.checksum, expected(timed.schedule));
        // From 150 ms of the clock on, with a last event just before 250 ms: nine windows ended, and every key is in each.
        assert_eq!(run.histogram.len(), 9 * KEYS);
        let floor = hand::relay(timed, &setup.cores);
        assert_eq!((floor.checksum, floor.histogram.len()), (9, 9 * KEYS));
    }

    #[test]
    fn a_history_is_due_when_the_run_begins() {
        let run = Run::of(Duration::from_millis(60), Duration::from_millis(40), Duration::from_millis(100));
        assert_eq!(run.schedule.items, 200_000);
        assert!(run.clock().ns() >= 60_000_000);
        let ends: Vec<u64> = run.ends().collect();
        assert_eq!((ends.first(), ends.last()), (Some(&160_000_000), Some(&240_000_000)));
    }

    #[test]
    fn every_item_is_counted_once_in_each_of_its_windows() {
        for (size, every) in [(EVERY, EVERY), (SIZE, EVERY), (10 * EVERY, EVERY)] {
            let run = lane::window::cost(50_000, size, every, &setup()).unwrap();
            assert_eq!(run.checksum, 50_000, "{size:?} by {every:?}");
        }
    }
}
