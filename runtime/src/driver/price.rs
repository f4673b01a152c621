//! What it costs to sleep and to be woken, measured in some milliseconds before a pipeline starts.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::{self, Builder, Thread};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::clock::Clock;
use super::idler::LONGEST_PARK_NANOS;
use super::pin_current_thread;
use crate::topology::CpuId;

/// Parks that nobody ends, and how long they are.
const PARKS: u32 = 5;
const PARK: Duration = Duration::from_millis(1);
/// Longer waits count as this: a minute.
const LONGEST_NANOS: u64 = 60_000_000_000;

/// What parking costs on this machine: a partition that parks is woken late, and whoever wakes it pays for the call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ParkPrice {
    /// From the call that wakes a parked thread to its first instruction: the median.
    pub wake: Duration,
    /// As `wake`: what one in twenty takes at least.
    pub wake_p95: Duration,
    /// What that call takes the thread that makes it: the median.
    pub ring: Duration,
    /// The share of a core that a parked partition takes, because it looks around every five milliseconds.
    pub parked_share: f64,
}

/// How a sleeper is woken to find out what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkProbe {
    /// How often.
    pub wakes: u32,
    /// How long it sleeps before each time at least. The longer, the deeper the sleep of its core, and the longer it takes to wake up.
    pub rest: Duration,
}

impl Default for ParkProbe {
    /// 48 times after 100 microseconds: takes about 15 milliseconds.
    fn default() -> Self {
        Self { wakes: 48, rest: Duration::from_micros(100) }
    }
}

/// CPU time that this process has taken, all its threads together. One system call.
pub fn process_cpu_time() -> Duration {
    cpu_time(ClockId::ProcessCPUTime)
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Measures what it costs that a thread on CPU `waker` wakes one that is parked on CPU `sleeper`. Both sleep most of the time.
///
/// # Errors
/// No thread, or a CPU that no thread can be pinned to.
pub fn measure_park(sleeper: CpuId, waker: CpuId, probe: ParkProbe) -> io::Result<ParkPrice> {
    let wakes = u64::from(probe.wakes);
    let scene = Scene::default();
    let (scene, mut times) = (&scene, Times::new()?);
    thread::scope(|scope| {
        let builder = |name: &str| Builder::new().name(format!("corelane-{name}"));
        // Both take their part also where they could not be pinned: each counts on the other.
        let sleeping = builder("sleeper").spawn_scoped(scope, move || {
            let pinned = pin_current_thread(sleeper);
            let parked = parked_share();
            (1..=wakes).for_each(|round| scene.sleep(round));
            pinned.map(|()| parked)
        })?;
        let there = sleeping.thread().clone();
        let waking = builder("waker").spawn_scoped(scope, move || {
            let pinned = pin_current_thread(waker);
            (1..=wakes).for_each(|round| scene.wake(round, probe.rest, &there, &mut times));
            pinned.map(|()| times)
        });
        if waking.is_err() {
            scene.woken.store(u64::MAX, Ordering::Release);
            sleeping.thread().unpark();
        }
        let panicked = |_| io::Error::other("a measuring thread panicked");
        let times = waking?.join().map_err(panicked)?.map_err(io::Error::other)?;
        let parked_share = sleeping.join().map_err(panicked)?.map_err(io::Error::other)?;
        Ok(times.price(parked_share))
    })
}

/// The share of a core that this thread takes when it only looks around.
fn parked_share() -> f64 {
    let before = cpu_time(ClockId::ThreadCPUTime);
    (0..PARKS).for_each(|_| thread::park_timeout(PARK));
    let taken = cpu_time(ClockId::ThreadCPUTime).saturating_sub(before);
    taken.as_nanos() as f64 / f64::from(PARKS) / LONGEST_PARK_NANOS as f64
}

/// Nanoseconds of all rounds.
struct Times {
    wake: Histogram<u64>,
    ring: Histogram<u64>,
}

impl Times {
    fn new() -> io::Result<Self> {
        let empty = || Histogram::new_with_max(LONGEST_NANOS, 3).map_err(io::Error::other);
        Ok(Self { wake: empty()?, ring: empty()? })
    }

    fn record(&mut self, wake: i64, ring: i64) {
        let nanos = |time: i64| u64::try_from(time).unwrap_or(0);
        self.wake.saturating_record(nanos(wake));
        self.ring.saturating_record(nanos(ring));
    }

    fn price(&self, parked_share: f64) -> ParkPrice {
        let wake = |share| Duration::from_nanos(self.wake.value_at_quantile(share));
        let ring = Duration::from_nanos(self.ring.value_at_quantile(0.5));
        ParkPrice { wake: wake(0.5), wake_p95: wake(0.95), ring, parked_share }
    }
}

/// What sleeper and waker share. Rounds count from 1.
struct Scene {
    clock: Clock,
    /// The round that the sleeper is about to sleep in.
    asleep: AtomicU64,
    /// The round that it may wake up in.
    woken: AtomicU64,
    /// The round that it was awake in, and when.
    awake: AtomicU64,
    awake_at: AtomicI64,
}

impl Default for Scene {
    fn default() -> Self {
        let round = AtomicU64::default;
        Self {
            clock: Clock::new(),
            asleep: round(),
            woken: round(),
            awake: round(),
            awake_at: AtomicI64::default(),
        }
    }
}

impl Scene {
    fn sleep(&self, round: u64) {
        self.asleep.store(round, Ordering::Release);
        while self.woken.load(Ordering::Acquire) < round {
            thread::park();
        }
        self.awake_at.store(self.clock.monotonic(), Ordering::Relaxed);
        self.awake.store(round, Ordering::Release);
    }

    fn wake(&self, round: u64, rest: Duration, sleeper: &Thread, times: &mut Times) {
        while self.asleep.load(Ordering::Acquire) < round {
            thread::yield_now();
        }
        thread::park_timeout(rest);
        let from = self.clock.monotonic();
        self.woken.store(round, Ordering::Release);
        sleeper.unpark();
        let rung = self.clock.monotonic();
        while self.awake.load(Ordering::Acquire) < round {
            thread::yield_now();
        }
        times.record(self.awake_at.load(Ordering::Relaxed) - from, rung - from);
    }
}

#[cfg(test)]
mod tests {
    use super::super::current_affinity;
    use super::*;

    #[test]
    fn a_price_has_a_wake_a_ring_and_a_share_of_a_core() {
        let cpus = current_affinity().unwrap();
        let (first, last) = (cpus.as_slice()[0], cpus.as_slice()[cpus.len() - 1]);
        for (sleeper, waker) in [(last, first), (first, first)] {
            let price = measure_park(sleeper, waker, ParkProbe::default()).unwrap();
            assert!(price.wake > Duration::ZERO && price.wake_p95 >= price.wake, "{price:?}");
            assert!(price.parked_share > 0.0 && price.parked_share < 1.0, "{price:?}");
        }
    }

    #[test]
    fn a_price_is_what_was_measured_to_a_thousandth() {
        let mut times = Times::new().unwrap();
        (1..=100).for_each(|tens| times.record(tens * 10_000, tens));
        let price = times.price(0.5);
        for (found, expected) in [(price.wake, 500_000.0), (price.wake_p95, 950_000.0), (price.ring, 50.0)] {
            let found = found.as_nanos() as f64;
            assert!((found - expected).abs() <= expected / 1_000.0, "{found} for {expected}");
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_and_nobody_waits_for_it() {
        let here = current_affinity().unwrap().first().unwrap();
        assert!(measure_park(65_535, here, ParkProbe::default()).is_err());
        assert!(measure_park(here, 65_535, ParkProbe::default()).is_err());
    }

    #[test]
    fn the_time_of_the_process_goes_on_while_it_works() {
        let before = process_cpu_time();
        while process_cpu_time() == before {
            std::hint::spin_loop();
        }
    }
}
