//! Clocks that do what clocks do, and numbers that do not: faults 82 and 88 to 91.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::driver::{SimReport, Simulation};
use corelane::flow::{Collected, PipelineBuilder};
use corelane::model::{Envelope, Timestamp};
use corelane::observe::VirtualClock;
use corelane::policy::{AccumulatorPolicy, Parallelism, Watermarks};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError};
use corelane_stages::process::{KeyedProcess, OnKey, Process, Timer};
use corelane_stages::window::{KeyedWindows, Tumbling};

const MS: i64 = 1_000_000;
const HOUR: i64 = 3_600_000 * MS;
const SECOND: i64 = 1_000 * MS;

/// Gives item `n` at millisecond `n`.
struct EachMillisecond {
    next: u64,
    end: u64,
}

impl Source for EachMillisecond {
    type Item = u64;

    fn produce<C: Chain<u64>>(&mut self, out: &mut Emitter<'_, u64, C>) -> Result<Produced, StageError> {
        let due = self.next as i64 * MS;
        if self.next == self.end {
            Ok(Produced::End)
        } else if due > out.now().monotonic {
            Ok(Produced::Until(due))
        } else {
            if out.room() > 0 {
                out.emit(self.next);
                self.next += 1;
            }
            Ok(Produced::More)
        }
    }
}

/// Rings two milliseconds after each item of a key, then forgets it.
struct Alarms;

/// Key, items it had, and when it rang on the monotonic clock.
type Rung = (u64, u64, i64);

impl Process for Alarms {
    type In = u64;
    type Key = u64;
    type State = u64;
    type Out = Rung;

    fn init(&mut self, _key: &u64) -> u64 {
        0
    }
    fn process(&mut self, _item: u64, items: &mut u64, key: &mut OnKey<'_, u64, Rung>) {
        *items += 1;
        key.set_timer(Timer::Processing(key.now().monotonic + 2 * MS));
    }
    fn on_timer(&mut self, timer: Timer, items: &mut u64, key: &mut OnKey<'_, u64, Rung>) {
        let (id, now) = (*key.key(), key.now().monotonic);
        let Timer::Processing(at) = timer else { panic!("no such timer was set") };
        assert!(at <= now, "rang early");
        key.emit((id, *items, now));
        key.forget();
    }
}

/// A hundred items, each its own key, with an alarm each; `held_up` is called with every item.
fn alarms(
    simulation: &Simulation,
    held_up: impl FnMut(&u64) + Clone + Send + 'static,
) -> (SimReport, Vec<Rung>) {
    let p = PipelineBuilder::new("alarms");
    let rung = p
        .source("milliseconds", |_| Ok(EachMillisecond { next: 0, end: 100 }))
        .inspect("pause", held_up)
        .map("stamp", |n| Envelope::at(n, Timestamp(n as i64), n))
        .aged()
        .map("unwrap", |envelope| envelope.payload)
        .key_by(|n| *n)
        .process("alarms", AccumulatorPolicy::ttl(Duration::from_millis(50)), |_| Ok(Alarms))
        .collect("out");
    let report = simulation.run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    assert!(report.result.success, "{}", report.result.outcome);
    let stage = report.result.account.stages[&"alarms".parse().unwrap()];
    assert_eq!(stage.keys, 0);
    let mut rung = rung.take();
    rung.sort_unstable();
    (report, rung)
}

#[test]
fn fault_88_a_wall_clock_that_goes_back_or_ahead_or_stands_still_changes_nothing() {
    for seed in 0..10 {
        let simulation = || Simulation::new(seed).partitions(1 + seed as usize % 3);
        let (usual, rung) = alarms(&simulation(), |_| ());
        assert!(rung.len() >= 90, "seed {seed}: the last few are forgotten at the end, not {}", rung.len());
        let start = 1_700_000_000 * SECOND;
        let walls: [fn(i64) -> i64; 4] = [
            |now| if now < 30 * MS { 0 } else { -HOUR },
            |now| if now < 30 * MS { 0 } else { 10 * 365 * 24 * HOUR },
            |now| -now,
            |now| if now / MS % 2 == 0 { i64::MIN } else { i64::MAX },
        ];
        for wall in walls {
            let simulation = simulation().wall(move |now| Timestamp((start + now).saturating_add(wall(now))));
            let (report, other) = alarms(&simulation, |_| ());
            assert_eq!(other, rung, "seed {seed}");
            assert_eq!((report.steps, report.trace_hash), (usual.steps, usual.trace_hash), "seed {seed}");
        }
    }
}

#[test]
fn fault_89_after_an_hour_of_sleep_each_timer_that_was_due_rings_once() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed).partitions(1 + seed as usize % 3);
        let clock: VirtualClock = simulation.clock();
        let (report, rung) = alarms(&simulation, move |n| {
            if *n == 50 {
                clock.advance(Duration::from_secs(3_600));
            }
        });
        // Items behind the pause are all due at once then, and their alarms are not.
        let times: BTreeMap<u64, i64> = rung.iter().map(|(key, _, at)| (*key, *at)).collect();
        assert_eq!(times.len(), rung.len(), "seed {seed}: a key rang twice");
        // An alarm is set when its item has come: a partition that is not scheduled for a while takes it later than it was made.
        let awake = rung.iter().filter(|(key, ..)| *key < 45 && times[key] < HOUR).count();
        assert_eq!(awake, 45, "seed {seed}: what was due well before the pause rang before it");
        assert!(rung.iter().all(|(key, items, at)| *items == 1 && (*key < 51 || *at >= HOUR)), "seed {seed}");
        assert!(report.result.duration >= Duration::from_secs(3_600));
        let stage = report.result.account.stages[&"alarms".parse().unwrap()];
        // Rung, or forgotten at the end of the input.
        assert_eq!(stage.passed, 100, "seed {seed}");
    }
}

/// Counts of each second of `times`, in order.
fn seconds(times: Vec<i64>, watermarks: Watermarks, seed: u64) -> Vec<(i64, u64)> {
    let p = PipelineBuilder::new("seconds");
    let counts = p
        .items("times", times)
        .watermarks("time", watermarks, |at| Timestamp(*at))
        .key_by(|at| at % 3)
        .window_at(|at| Timestamp(*at), Tumbling::of(Duration::from_secs(1)))
        .aggregate("count", corelane_stages::window::Count)
        .collect("out");
    let result =
        Simulation::new(seed).partitions(1 + seed as usize % 3).run(p.build().unwrap()).unwrap().result;
    result.account.verify().unwrap();
    assert_eq!(result.account.stages.values().map(|stage| stage.late).sum::<u64>(), 0, "seed {seed}");
    let mut seconds = BTreeMap::new();
    for count in counts.take() {
        *seconds.entry(count.window.start.as_nanos() / SECOND).or_insert(0) += count.value;
    }
    seconds.into_iter().collect()
}

#[test]
fn fault_90_a_leap_second_counts_into_the_second_that_it_repeats() {
    let second = |of: i64| (0..1_000).map(move |ms| of * SECOND + ms * MS);
    let (before, last, next) = (1_483_228_798, 1_483_228_799, 1_483_228_800);
    // As POSIX has it: the last second of the day comes twice.
    let repeated = second(before).chain(second(last)).chain(second(last)).chain(second(next));
    // As some systems have it: the clock stands still for a second.
    let still = std::iter::repeat_n(last * SECOND + 999 * MS, 1_000);
    let stopped = second(before).chain(second(last)).chain(still).chain(second(next));
    for times in [repeated.collect::<Vec<_>>(), stopped.collect()] {
        for seed in 0..8 {
            for watermarks in [Watermarks::ascending(), Watermarks::bounded(Duration::from_secs(2))] {
                let counts = seconds(times.clone(), watermarks, seed);
                assert_eq!(counts, [(before, 1_000), (last, 2_000), (next, 1_000)], "seed {seed}");
            }
        }
    }
}

/// Rings at a time that all keys share.
struct Storm(Timer);

impl Process for Storm {
    type In = u64;
    type Key = u64;
    type State = ();
    type Out = u64;

    fn init(&mut self, _key: &u64) {}
    fn process(&mut self, _item: u64, _state: &mut (), key: &mut OnKey<'_, u64, u64>) {
        key.set_timer(self.0);
    }
    fn on_timer(&mut self, timer: Timer, _state: &mut (), key: &mut OnKey<'_, u64, u64>) {
        assert_eq!(timer, self.0);
        let id = *key.key();
        key.emit(id);
        key.forget();
    }
}

#[test]
fn fault_91_a_million_timers_that_are_due_at_once_ring_once_each_and_no_step_is_long() {
    const KEYS: u64 = 1_000_000;
    // Event time: the one item behind the others brings the watermark. Processing time: all are due before the end.
    for timer in [Timer::Event(Timestamp(1_000)), Timer::Processing(1)] {
        let p = PipelineBuilder::new("storm");
        let rung: Collected<(u64, u64)> = p
            .generate("keys", KEYS + 1, |n| n)
            .watermarks("time", Watermarks::ascending(), |n| Timestamp(if *n == KEYS { 1_000 } else { 0 }))
            .key_by(|n| *n)
            .process("storm", AccumulatorPolicy::until_end(), move |_| Ok(Storm(timer)))
            .fold("rung", (0, 0), |(count, sum), key: u64| (count + 1, sum + key));
        let report = Simulation::new(7).partitions(1).budgets(1_024..1_025).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        let stage = report.result.account.stages[&"storm".parse().unwrap()];
        assert_eq!((stage.keys, stage.passed), (0, KEYS + 1));
        let (count, sum) = rung.take()[0];
        // The last item's own timer may be set too late to ring.
        assert!(count == KEYS || count == KEYS + 1, "{timer:?}: {count}");
        assert_eq!(sum, (0..count).sum::<u64>(), "{timer:?}");
        // A step takes about a thousand items, and lets go of about a thousand keys.
        assert!(report.steps >= 2 * KEYS / 1_100, "{timer:?}: only {} steps", report.steps);
    }
}

#[test]
fn fault_82_sequence_numbers_that_repeat_have_gaps_or_wrap_lose_and_reorder_nothing() {
    let numbers = [0, 0, 1, 5, 5, 4, u64::MAX - 1, u64::MAX, 0, 1, 1 << 63, 2];
    let envelopes: Vec<_> =
        (0..600).map(|n| Envelope::at(n, Timestamp(n as i64), numbers[n as usize % numbers.len()])).collect();
    for seed in 0..12 {
        let p = PipelineBuilder::new("numbers");
        let [one, other] = p
            .items("in", envelopes.clone())
            .watermarks("time", Watermarks::ascending(), |e| e.timestamp)
            .broadcast("copies", ["ordered", "windows"]);
        let ordered =
            one.map("work", |e| e).parallel(Parallelism::CpuBound).map("order", |e| e).input_ordered();
        let ordered = ordered.parallel(Parallelism::Sequential).collect("ordered");
        let batches = other
            .key_by(|e| e.payload % 5)
            .window(Tumbling::of(Duration::from_nanos(100)))
            .batches("batches")
            .collect("batches-out");
        let result =
            Simulation::new(seed).partitions(1 + seed as usize % 4).run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        assert!(result.success, "seed {seed}: {}", result.outcome);
        let seen: Vec<_> = ordered.take().iter().map(|e| (e.payload, e.seq_id)).collect();
        let expected: Vec<_> = envelopes.iter().map(|e| (e.payload, e.seq_id)).collect();
        assert_eq!(seen, expected, "seed {seed}");
        let mut batches = batches.take();
        batches.sort_by_key(|batch| (batch.window.start, batch.key));
        assert_eq!(batches.len(), 6 * 5);
        for batch in batches {
            let items: Vec<_> = batch.value.items().iter().map(|e| (e.payload, e.seq_id)).collect();
            let of = |e: &&(u64, u64)| e.0 % 5 == batch.key && batch.window.covers(Timestamp(e.0 as i64));
            let expected: Vec<_> = expected.iter().filter(of).copied().collect();
            assert_eq!(items, expected, "seed {seed}");
        }
    }
}
