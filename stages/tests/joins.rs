//! Joins and keyed processes in whole pipelines: the same results on any number of shards and in any schedule.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::fmt::Debug;
use std::time::Duration;

use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Collected, Pipeline, PipelineBuilder};
use corelane::model::{Timed, Timestamp};
use corelane::observe::StageAccount;
use corelane::policy::{AccumulatorPolicy, Watermarks};
use corelane_stages::join::{Kept, KeyedJoin, Side, SidesJoin, Within};
use corelane_stages::process::{KeyedProcess, OnKey, Process, Timer};
use corelane_stages::window::{Sliding, Tumbling};

const fn nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

/// Key, time, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event(u32, i64, u64);

impl Timed for Event {
    fn timestamp(&self) -> Timestamp {
        Timestamp(self.1)
    }
}

fn events(count: u64, salt: u64) -> Vec<Event> {
    let event = |n: u64| {
        let mixed = (n + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Event((mixed >> 61) as u32, n as i64 * 3 - ((mixed >> 50) % 31) as i64, n)
    };
    (0..count).map(event).collect()
}

const DISORDER: Watermarks = Watermarks::bounded(Duration::from_nanos(33)).any_ahead();

/// Runs what `build` makes on one, two and eight shards in many schedules, and on threads.
fn everywhere<T: Ord + Debug + Send + 'static>(build: impl Fn() -> (Pipeline, Collected<T>), expected: &[T]) {
    for seed in 0..18 {
        let (pipeline, out) = build();
        let result =
            Simulation::new(seed).partitions([1, 2, 8][seed as usize % 3]).run(pipeline).unwrap().result;
        result.account.verify().unwrap();
        assert!(result.success, "seed {seed}: {}", result.outcome);
        let held = |stage: &StageAccount| stage.keys + stage.items_open;
        assert_eq!(result.account.stages.values().map(held).sum::<u64>(), 0);
        let mut got = out.take();
        got.sort();
        assert_eq!(got, expected, "seed {seed}");
    }
    for cores in [1, 2] {
        let (pipeline, out) = build();
        let driver = DriverChoice::Thread;
        let options = ExecutionOptions { driver, virtual_cores: Some(cores), ..ExecutionOptions::default() };
        let result = Engine::new(options).run(pipeline).unwrap();
        result.account.verify().unwrap();
        let mut got = out.take();
        got.sort();
        assert_eq!(got, expected, "{cores} cores");
    }
}

macro_rules! joined {
    ($left:ident, $right:ident, $join:expr) => {
        || {
            let p = PipelineBuilder::new("join");
            let side = |name: &str, salt| {
                p.items(name, events(300, salt))
                    .watermarks(&format!("{name}-time"), DISORDER, |event| Timestamp(event.1))
                    .key_by(|event| event.0)
            };
            let ($left, $right) = (side("left", 1), side("right", 77));
            let out = $join.collect("out");
            (p.build().unwrap(), out)
        }
    };
}

/// The same items in one stream.
macro_rules! joined_sides {
    ($sides:ident, $join:expr) => {
        || {
            let p = PipelineBuilder::new("join");
            let (left, right) = (events(300, 1), events(300, 77));
            let both = left.into_iter().zip(right).flat_map(|(l, r)| [Side::Left(l), Side::Right(r)]);
            let time = |side: &Side<Event, Event>| match side {
                Side::Left(event) | Side::Right(event) => Timestamp(event.1),
            };
            let $sides = p
                .items("both", both.collect::<Vec<_>>())
                .watermarks("time", DISORDER, time)
                .join_sides(|left| left.0, |right| right.0);
            let out = $join.collect("out");
            (p.build().unwrap(), out)
        }
    };
}

type Pair = (Option<u64>, Option<u64>);

/// All pairs for which `pairs` says how often, and each item of both sides without any.
fn all(pairs: impl Fn(&Event, &Event) -> usize) -> Vec<Pair> {
    let (left, right) = (events(300, 1), events(300, 77));
    let pairs = |l: &Event, r: &Event| if l.0 == r.0 { pairs(l, r) } else { 0 };
    let mut all = Vec::new();
    for l in &left {
        right.iter().for_each(|r| all.extend(std::iter::repeat_n((Some(l.2), Some(r.2)), pairs(l, r))));
        if right.iter().all(|r| pairs(l, r) == 0) {
            all.push((Some(l.2), None));
        }
    }
    for r in &right {
        if left.iter().all(|l| pairs(l, r) == 0) {
            all.push((None, Some(r.2)));
        }
    }
    all.sort();
    all
}

fn kind(all: &[Pair], left: bool, right: bool) -> Vec<Pair> {
    all.iter().filter(|pair| (pair.1.is_some() || left) && (pair.0.is_some() || right)).copied().collect()
}

#[test]
fn an_interval_join_pairs_times_that_are_near_each_other() {
    let near = |l: &Event, r: &Event| usize::from((-20..=35).contains(&(r.1 - l.1)));
    let all = all(near);
    let rule = Within::before(nanos(20)).after(nanos(35));
    assert!(all.iter().any(|pair| pair.0.is_none()) && all.iter().any(|pair| pair.1.is_none()));
    everywhere(
        joined!(left, right, left.join(right).on(rule).full("full", |l, r| (l.map(|l| l.2), r.map(|r| r.2)))),
        &all,
    );
    everywhere(
        joined!(left, right, left.join(right).on(rule).left("left-join", |l, r| (Some(l.2), r.map(|r| r.2)))),
        &kind(&all, true, false),
    );
    everywhere(
        joined!(left, right, left.join(right).on(rule).inner("inner", |l, r| (Some(l.2), Some(r.2)))),
        &kind(&all, false, false),
    );
}

#[test]
fn a_window_join_pairs_what_lies_in_one_window_once_for_each() {
    let tumbling = Tumbling::of(nanos(40));
    let same = |l: &Event, r: &Event| {
        usize::from(tumbling.window_of(l.timestamp()) == tumbling.window_of(r.timestamp()))
    };
    everywhere(
        joined!(
            left,
            right,
            left.join(right).on(tumbling).full("full", |l, r| (l.map(|l| l.2), r.map(|r| r.2)))
        ),
        &all(same),
    );
    let sliding = Sliding::of(nanos(60)).every(nanos(20));
    let common = |l: &Event, r: &Event| {
        sliding.windows_of(l.timestamp()).unwrap().filter(|window| window.covers(r.timestamp())).count()
    };
    everywhere(
        joined!(left, right, left.join(right).on(sliding).inner("inner", |l, r| (Some(l.2), Some(r.2)))),
        &kind(&all(common), false, false),
    );
}

#[test]
fn items_that_are_kept_for_long_pair_with_all_of_their_key() {
    let long = Kept::for_time(Duration::from_secs(3_600));
    everywhere(
        joined!(left, right, left.join(right).on(long).inner("kept", |l, r| (Some(l.2), Some(r.2)))),
        &kind(&all(|_, _| 1), false, false),
    );
}

#[test]
fn two_kinds_of_items_in_one_stream_join_as_two_streams_do() {
    let near = |l: &Event, r: &Event| usize::from((-20..=35).contains(&(r.1 - l.1)));
    let within = Within::before(nanos(20)).after(nanos(35));
    everywhere(
        joined_sides!(sides, sides.on(within).full("full", |l, r| (l.map(|l| l.2), r.map(|r| r.2)))),
        &all(near),
    );
    let tumbling = Tumbling::of(nanos(40));
    let same = |l: &Event, r: &Event| {
        usize::from(tumbling.window_of(l.timestamp()) == tumbling.window_of(r.timestamp()))
    };
    let shifted = |event: &Event| Timestamp(event.1 + 40);
    everywhere(
        joined_sides!(
            sides,
            sides.at(shifted, shifted).on(tumbling).left("left-join", |l, r| (Some(l.2), r.map(|r| r.2)))
        ),
        &kind(&all(same), true, false),
    );
    everywhere(
        joined_sides!(sides, sides.on(Kept::to_the_end()).inner("kept", |l, r| (Some(l.2), Some(r.2)))),
        &kind(&all(|_, _| 1), false, false),
    );
}

/// Left items for which `pairs` finds partners.
fn with_partners(pairs: impl Fn(&Event, &Event) -> usize) -> Vec<u64> {
    let mut left: Vec<_> = kind(&all(pairs), false, false).into_iter().filter_map(|pair| pair.0).collect();
    left.dedup();
    left
}

#[test]
fn a_semi_join_gives_each_left_item_with_partners_once() {
    let tumbling = Tumbling::of(nanos(15));
    let same = |l: &Event, r: &Event| {
        usize::from(tumbling.window_of(l.timestamp()) == tumbling.window_of(r.timestamp()))
    };
    let expected = with_partners(same);
    assert!(expected.len() < 290 && kind(&all(same), false, false).len() > expected.len());
    everywhere(joined!(left, right, left.join(right).on(tumbling).semi("semi", |l| l.2)), &expected);
    everywhere(joined_sides!(sides, sides.on(tumbling).semi("semi", |l| l.2)), &expected);

    let near = |l: &Event, r: &Event| usize::from((-5..=3).contains(&(r.1 - l.1)));
    let within = Within::before(nanos(5)).after(nanos(3));
    let expected = with_partners(near);
    everywhere(joined!(left, right, left.join(right).on(within).semi("semi", |l| l.2)), &expected);
    everywhere(joined_sides!(sides, sides.on(within).semi("semi", |l| l.2)), &expected);
}

#[test]
fn a_panic_in_the_result_of_a_semi_join_ends_the_pipeline_and_the_account_closes() {
    for (seed, bad) in (0..40).zip([3, 5, 8, 2_000].into_iter().cycle()) {
        let p = PipelineBuilder::new("panic");
        // All left items, then their partners: several results are made one after the other.
        let side = |n: u64| if n < 10 { Side::Left(n) } else { Side::Right(n - 10) };
        p.items("items", (0..20).map(side))
            .join_sides(|left| *left, |right| *right)
            .at(|_| Timestamp(1), |_| Timestamp(1))
            .on(Tumbling::of(Duration::from_nanos(100)))
            .semi("semi", move |left| if *left == bad { panic!("no {left}") } else { *left })
            .for_each("out", drop);
        let result =
            Simulation::new(seed).partitions(1 + seed as usize % 2).run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        assert_eq!(result.success, bad == 2_000, "seed {seed}");
    }
}

#[test]
fn each_item_gets_the_row_that_was_valid_at_its_time_whichever_came_first() {
    let rows = events(300, 77);
    let valid = |item: &Event| {
        // The last of the latest: rows of one time take effect in the order in which they came.
        rows.iter()
            .filter(|row| row.0 == item.0 && row.1 <= item.1)
            .max_by_key(|row| (row.1, row.2))
            .map(|row| row.2)
    };
    let mut expected: Vec<_> = events(300, 1).iter().map(|item| (item.2, valid(item))).collect();
    expected.sort();
    assert!(expected.iter().any(|pair| pair.1.is_none()));
    everywhere(
        joined!(left, right, left.join(right).as_of("as-of", |item, row| (item.2, row.map(|row| row.2)))),
        &expected,
    );
}

#[test]
fn an_item_that_leaves_an_inner_join_alone_counts_as_expired() {
    let build = joined!(
        left,
        right,
        left.join(right)
            .on(Within::before(nanos(20)).after(nanos(35)))
            .inner("inner", |l, r| (Some(l.2), Some(r.2)))
    );
    let near = |l: &Event, r: &Event| usize::from((-20..=35).contains(&(r.1 - l.1)));
    let alone = all(near).iter().filter(|pair| pair.0.is_none() || pair.1.is_none()).count() as u64;
    let result = Simulation::new(5).run(build().0).unwrap().result;
    let stage = result.account.stages[&"inner".parse().unwrap()];
    assert_eq!((stage.items_expired, stage.items_complete), (alone, 600 - alone));
}

#[test]
fn stops_and_drains_of_a_join_account_for_every_item() {
    for seed in 0..40 {
        let build = joined!(
            left,
            right,
            left.join(right)
                .on(Within::before(nanos(50)).after(nanos(50)))
                .full("full", |l, r| (l.map(|l| l.2), r.map(|r| r.2)))
        );
        let at = 2 + seed * 5;
        Simulation::new(seed)
            .partitions(3)
            .stop_at(at)
            .run(build().0)
            .unwrap()
            .result
            .account
            .verify()
            .unwrap();
        Simulation::new(seed)
            .partitions(3)
            .drain_at(at)
            .run(build().0)
            .unwrap()
            .result
            .account
            .verify()
            .unwrap();
    }
}

#[test]
fn a_length_that_cannot_be_is_an_error_at_the_start() {
    let build = joined!(
        left,
        right,
        left.join(right).on(Kept::for_time(Duration::ZERO)).inner("kept", |l, r| (Some(l.2), Some(r.2)))
    );
    let result = Simulation::new(1).run(build().0).unwrap().result;
    assert!(!result.success && result.outcome.to_string().contains("left is zero"), "{}", result.outcome);
}

/// Counts the items of a key until a watermark is 50 past the last one.
#[derive(Clone)]
struct Bursts;

impl Process for Bursts {
    type In = Event;
    type Key = u32;
    type State = (u64, i64);
    type Out = (u32, u64);

    fn init(&mut self, _key: &u32) -> (u64, i64) {
        (0, i64::MIN)
    }
    fn process(&mut self, event: Event, state: &mut (u64, i64), key: &mut OnKey<'_, u32, (u32, u64)>) {
        *state = (state.0 + 1, state.1.max(event.1));
        key.set_timer(Timer::Event(Timestamp(state.1 + 5_000)));
    }
    fn on_timer(&mut self, timer: Timer, state: &mut (u64, i64), key: &mut OnKey<'_, u32, (u32, u64)>) {
        assert_eq!(timer, Timer::Event(Timestamp(state.1 + 5_000)));
        assert!(key.watermark() >= Timestamp(state.1 + 5_000));
        let id = *key.key();
        key.emit((id, state.0));
        key.forget();
    }
    fn on_end(&mut self, state: (u64, i64), key: &mut OnKey<'_, u32, (u32, u64)>) {
        let id = *key.key();
        key.emit((id + 100, state.0));
    }
}

#[test]
fn event_timers_of_keys_fire_once_when_the_watermark_reaches_the_last_that_was_set() {
    // Two crowds of keys with a long pause between them: the second one brings the watermark that ends the first.
    let crowd = |from: i64, first: u32, ids: u32| {
        (0..200).map(move |n| Event(first + n % ids, from + i64::from(n), 0)).collect::<Vec<_>>()
    };
    let input = [crowd(0, 0, 7), crowd(20_000, 50, 3)].concat();
    let per_key = |n: u32, ids: u32| (0..200).filter(|i| i % ids == n).count() as u64;
    let mut expected: Vec<_> = (0..7).map(|key| (key, per_key(key, 7))).collect();
    expected.extend((0..3).map(|key| (key + 150, per_key(key, 3))));
    expected.sort();
    everywhere(
        || {
            let p = PipelineBuilder::new("bursts");
            let out = p
                .items("events", input.clone())
                .watermarks("time", Watermarks::ascending(), |event| Timestamp(event.1))
                .key_by(|event| event.0)
                .process("bursts", AccumulatorPolicy::until_end(), |_| Ok(Bursts))
                .collect("out");
            (p.build().unwrap(), out)
        },
        &expected,
    );
}

/// Numbers the items of a key, and says when a timer in processing time rings.
#[derive(Clone)]
struct Numbers;

impl Process for Numbers {
    type In = (u32, bool);
    type Key = u32;
    type State = u64;
    type Out = (u32, u64);

    fn init(&mut self, _key: &u32) -> u64 {
        0
    }
    fn process(&mut self, (_, alarm): (u32, bool), seen: &mut u64, key: &mut OnKey<'_, u32, (u32, u64)>) {
        *seen += 1;
        let (id, now) = (*key.key(), key.now().monotonic);
        key.emit((id, *seen));
        if alarm {
            key.set_timer(Timer::Processing(now + 1_000_000));
        }
    }
    fn on_timer(&mut self, timer: Timer, seen: &mut u64, key: &mut OnKey<'_, u32, (u32, u64)>) {
        let Timer::Processing(at) = timer else { panic!("an event timer was never set") };
        assert!(at <= key.now().monotonic, "never early");
        let id = *key.key();
        key.emit((id + 1_000, *seen));
    }
}

#[test]
fn a_state_is_forgotten_when_its_time_to_live_is_over_and_its_timer_rings_once() {
    use corelane::stage::{Chain, Emitter, Produced, Source, StageError};
    /// Gives each item at its time.
    struct Slow(Vec<(i64, (u32, bool))>);
    impl Source for Slow {
        type Item = (u32, bool);
        fn produce<C: Chain<Self::Item>>(
            &mut self,
            out: &mut Emitter<'_, Self::Item, C>,
        ) -> Result<Produced, StageError> {
            match self.0.first() {
                None => Ok(Produced::End),
                Some((at, _)) if *at > out.now().monotonic => Ok(Produced::Until(*at)),
                Some(_) => {
                    out.emit(self.0.remove(0).1);
                    Ok(Produced::More)
                }
            }
        }
    }
    let ms = 1_000_000;
    let script = vec![
        (0, (1, true)),
        (5 * ms, (1, false)),
        (9 * ms, (2, false)),
        // More than 10 ms after the last item of key 1, which may have been on its way for a while.
        (18 * ms, (1, false)),
        (18 * ms + ms / 2, (3, false)),
    ];
    for seed in 0..10 {
        let p = PipelineBuilder::new("ttl");
        let script = script.clone();
        let policy = AccumulatorPolicy::ttl(Duration::from_millis(10));
        let out = p
            .source("slow", move |_| Ok(Slow(script)))
            .key_by(|item| item.0)
            .process("numbers", policy, |_| Ok(Numbers))
            .collect("out");
        let result =
            Simulation::new(seed).partitions(1 + seed as usize % 3).run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        let mut out = out.take();
        out.sort_unstable();
        assert_eq!(out, [(1, 1), (1, 1), (1, 2), (2, 1), (3, 1), (1_001, 1)], "seed {seed}");
        let stage = result.account.stages[&"numbers".parse().unwrap()];
        // The others may have gone before the end too, when the schedule was slow.
        assert!((1..=3).contains(&stage.expired) && stage.keys == 0, "seed {seed}: {}", stage.expired);
    }
}
