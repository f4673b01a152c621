//! latency: an open loop at a fixed rate from one core, a running sum per key on the other.
//!
//! Every item has an *intended* send time, fixed before the run. Latency is the time from there until the running
//! sum has taken the item in: a late sender or a full ring counts, nothing is omitted, and nothing is corrected.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::case::{Case, Latencies, Metric, Setup};
use crate::harness::ENOUGH_FOR_A_SPREAD;
use crate::hiccup::Hiccups;
use crate::lane;
use crate::share::Watch;
use crate::stats::{below, splitmix};

/// Keys of the running sum.
pub const KEYS: u64 = 1_000;
/// The percentiles a latency run speaks about.
pub const PERCENTILES: &[Metric] = &[Metric::P50, Metric::P90, Metric::P99, Metric::P999, Metric::P9999];
/// As few as 100 000 items a second need for their p99.99: the longer a repetition, the more often cores change places within it, and then it cannot
/// be compared.
const FULL_SECONDS: u64 = 1;

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "peers", derive(serde::Serialize, serde::Deserialize))]
pub struct Item {
    /// When it should be sent, in nanoseconds of the run's [`Clock`].
    pub intended_ns: u64,
    /// Below [`KEYS`].
    pub key: u64,
    /// What is summed.
    pub value: u64,
}

/// When which item is sent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// How many items.
    pub items: u64,
    /// Nanoseconds from one intended time to the next.
    pub period_ns: u64,
    /// The first intended time, in nanoseconds of the run's [`Clock`]: when all set-up is over.
    pub first_ns: u64,
}

impl Schedule {
    /// `rate` items a second, as many as asked for, beginning 50 ms from the clock's origin.
    pub fn at_rate(rate: u64, items: u64) -> Self {
        Self { items, period_ns: 1_000_000_000 / rate, first_ns: 50_000_000 }
    }

    /// When item `index` should be sent, in nanoseconds of the run's [`Clock`].
    #[inline]
    pub fn intended_ns(&self, index: u64) -> u64 {
        self.first_ns + index * self.period_ns
    }

    /// Item `index`.
    #[inline]
    pub fn item(&self, index: u64) -> Item {
        let random = splitmix(index);
        Item { intended_ns: self.intended_ns(index), key: below(random, KEYS), value: random & 0xFFFF }
    }
}

/// The one clock of a run, read on both cores: the system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// A clock that is zero at `origin`.
    pub fn since(origin: Instant) -> Self {
        Self(origin)
    }

    /// When it shows `ns` nanoseconds.
    pub fn at(&self, ns: u64) -> Instant {
        self.0 + Duration::from_nanos(ns)
    }

    /// Nanoseconds since zero.
    #[inline]
    pub fn ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// Spins until it shows `ns` nanoseconds, and shows each reading to `hiccups`.
    #[inline]
    pub fn watch_until(&self, ns: u64, hiccups: &mut Hiccups) {
        loop {
            let now = self.ns();
            hiccups.observe(now);
            if now >= ns {
                break;
            }
        }
    }
}

/// A histogram up to a minute, in nanoseconds, to three digits. It does not allocate once it stands.
///
/// # Panics
/// Never: the bounds are valid.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

/// The checksum of a run: over every running sum after its every change, in order. It tells loss, duplication,
/// reordering within a key, and a wrong sum.
#[inline]
pub fn observe_sum(checksum: u64, key: u64, sum: u64) -> u64 {
    // Added, not chained: items of different keys may change places.
    checksum.wrapping_add(splitmix(sum ^ (key << 48)))
}

/// The right checksum, by one array.
pub fn expected(schedule: Schedule) -> u64 {
    let mut sums = [0_u64; KEYS as usize];
    (0..schedule.items).map(|index| schedule.item(index)).fold(0, |checksum, item| {
        let sum = &mut sums[item.key as usize];
        *sum += item.value;
        observe_sum(checksum, item.key, *sum)
    })
}

/// The programs written by hand.
pub mod hand {
    use core_affinity::CoreId;
    use hashbrown::HashMap;
    use hdrhistogram::Histogram;
    use rtrb::RingBuffer;

    use super::{Clock, Item, KEYS, Schedule, histogram, latencies, observe_sum};
    use crate::case::Latencies;
    use crate::hiccup::Hiccups;
    use crate::pin::{self, Gate};
    use crate::share::Watch;

    /// Slots of the ring.
    pub const SLOTS: usize = 4_096;

    /// The receiving side: a running sum per key, and the time it took to get there.
    #[derive(Clone)]
    pub struct Receiver {
        sums: HashMap<u64, u64, ahash::RandomState>,
        /// Of every item taken.
        pub histogram: Histogram<u64>,
        /// Over every running sum.
        pub checksum: u64,
    }

    impl Receiver {
        /// Nothing taken yet.
        #[expect(clippy::new_without_default, reason = "it allocates")]
        pub fn new() -> Self {
            let sums = HashMap::with_capacity_and_hasher(KEYS as usize, crate::workload::keyed::hasher());
            Self { sums, histogram: histogram(), checksum: 0 }
        }

        /// Takes an item in, and its latency.
        #[inline]
        pub fn take(&mut self, item: Item, clock: Clock) {
            let sum = self.sums.entry(item.key).or_insert(0);
            *sum += item.value;
            self.checksum = observe_sum(self.checksum, item.key, *sum);
            self.histogram.saturating_record(clock.ns().saturating_sub(item.intended_ns));
        }

        fn result(self) -> Latencies {
            latencies(self.histogram, self.checksum)
        }
    }

    /// Sends from the first core by busy-poll over a single-item SPSC ring to the second, which polls too.
    pub fn busy_poll(schedule: Schedule, cores: &[CoreId]) -> Latencies {
        let (mut out, mut inward) = RingBuffer::<Item>::new(SLOTS);
        polled(schedule, cores, move |item| out.push(item).is_ok(), move || inward.pop().ok())
    }

    /// The same over any `push`, which tells whether it took the item, and `pop`.
    pub fn polled(
        schedule: Schedule,
        cores: &[CoreId],
        mut push: impl FnMut(Item) -> bool + Send,
        mut pop: impl FnMut() -> Option<Item> + Send,
    ) -> Latencies {
        let (clock, watch) = (Clock::start(), Watch::default());
        let mut sender = watch.clone();
        let send = move |gate: &Gate| {
            gate.wait();
            sender.begin();
            for index in 0..schedule.items {
                let item = schedule.item(index);
                while clock.ns() < item.intended_ns {}
                while !push(item) {}
            }
            sender.end();
        };
        let receive = move |gate: &Gate| {
            let mut receiver = Receiver::new();
            gate.wait();
            let mut taken = 0;
            while taken < schedule.items {
                if let Some(item) = pop() {
                    receiver.take(item, clock);
                    taken += 1;
                }
            }
            receiver
        };
        let ((), receiver) = pin::on_two(cores, send, receive);
        receiver.result().watched(&watch)
    }

    /// The noise floor: both cores run the whole schedule at the same time, each for itself, with nothing between
    /// sending and summing. What is left is the clock, the sum, and the machine's own stalls, seen from both cores.
    /// If the two do not agree on the result, the checksum is zero.
    pub fn same_thread(schedule: Schedule, cores: &[CoreId]) -> Latencies {
        let clock = Clock::start();
        let alone = move |gate: &Gate| {
            let (mut receiver, mut hiccups) = (Receiver::new(), Hiccups::default());
            gate.wait();
            for index in 0..schedule.items {
                let item = schedule.item(index);
                clock.watch_until(item.intended_ns, &mut hiccups);
                receiver.take(item, clock);
            }
            (receiver, hiccups)
        };
        let ((mut one, mut hiccups), (two, others)) = pin::on_two(cores, alone, alone);
        hiccups.merge(&others);
        one.histogram.add(&two.histogram).expect("both histograms have the same bounds");
        one.checksum = if one.checksum == two.checksum { one.checksum } else { 0 };
        Latencies { hiccups: Some(hiccups), ..one.result() }
    }
}

/// The schedule of a case.
pub fn schedule(rate: u64, setup: &Setup) -> Schedule {
    Schedule::at_rate(rate, setup.scaled(FULL_SECONDS * rate))
}

/// The comparisons: corelane's systems are added beside `hand`.
pub fn cases(setup: &Setup) -> Vec<Case> {
    vec![case("rate100k", schedule(100_000, setup)), case("rate1m", schedule(1_000_000, setup))]
}

/// The comparison over `schedule`, peers included if there are any in this build.
pub fn case(variant: &'static str, schedule: Schedule) -> Case {
    let duration = Duration::from_nanos(schedule.items * schedule.period_ns);
    let case = Case::new("latency", variant, 2, expected(schedule))
        .work(format!("{} items, one each {} ns, {duration:?}", schedule.items, schedule.period_ns))
        .repetitions(ENOUGH_FOR_A_SPREAD)
        .reference("hand")
        .system("hand", move |setup| hand::busy_poll(schedule, &setup.cores))
        .try_system("corelane", move |setup| lane::latency::scheduled(schedule, setup))
        .system("noise-floor", move |setup| hand::same_thread(schedule, &setup.cores));
    #[cfg(feature = "peers")]
    let case = crate::peers::of_latency(case, schedule);
    case
}

/// The noise floor as a system of another workload, whose right checksum is `right`: what the machine does to a loop that only sums, at the
/// same rate. Its checksum is that one if its own result is right, and another if not.
pub fn noise_floor(schedule: Schedule, right: u64) -> impl Fn(&Setup) -> Latencies {
    let expected = expected(schedule);
    move |setup| hand::same_thread(schedule, &setup.cores).standing_for(expected, right)
}

/// What a run that is not written by hand returns: its histogram and checksum.
pub fn latencies(histogram: Histogram<u64>, checksum: u64) -> Latencies {
    Latencies {
        histogram,
        unit_ns: 1.0,
        percentiles: PERCENTILES,
        checksum,
        hiccups: None,
        sender_waited: None,
    }
}

impl Latencies {
    /// As a system of a case whose right checksum is `right`: it has that one if its own is `expected`, and another if not.
    pub fn standing_for(self, expected: u64, right: u64) -> Self {
        Self { checksum: if self.checksum == expected { right } else { !right }, ..self }
    }

    /// With what was seen of the sender.
    pub fn watched(self, watch: &Watch) -> Self {
        Self { sender_waited: watch.waited(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_times_are_fixed_before_the_run() {
        let schedule = Schedule::at_rate(1_000_000, 10);
        assert_eq!(schedule.item(3).intended_ns - schedule.item(0).intended_ns, 3_000);
    }

    #[test]
    fn both_programs_sum_what_the_oracle_does_and_sample_every_item() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        let schedule = Schedule::at_rate(1_000_000, 5_000);
        let run = hand::busy_poll(schedule, &cores);
        assert_eq!((run.checksum, run.histogram.len()), (expected(schedule), 5_000));
        let floor = hand::same_thread(schedule, &cores);
        assert_eq!((floor.checksum, floor.histogram.len()), (expected(schedule), 10_000));
    }

    #[test]
    fn a_sender_that_falls_behind_is_not_forgiven() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        // Every intended time is the clock's origin: each latency is then at least that of the item before it.
        let schedule = Schedule { items: 20_000, period_ns: 0, first_ns: 0 };
        let run = hand::busy_poll(schedule, &cores).histogram;
        assert!(run.value_at_quantile(0.1) < run.value_at_quantile(0.9));
    }

    #[test]
    fn the_checksum_tells_order_within_a_key_but_not_between_keys() {
        let fold = |sums: &[(u64, u64)]| sums.iter().fold(0, |all, &(key, sum)| observe_sum(all, key, sum));
        assert_eq!(fold(&[(1, 5), (2, 6)]), fold(&[(2, 6), (1, 5)]));
        // The items 5 then 3 of one key, or 3 then 5.
        assert_ne!(fold(&[(1, 5), (1, 8)]), fold(&[(1, 3), (1, 8)]));
        assert_ne!(fold(&[(1, 5), (2, 6)]), fold(&[(2, 5), (1, 6)]));
    }
}
