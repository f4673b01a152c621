//! How event time comes about, and how several inputs share it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::driver::Simulation;
use corelane::flow::PipelineBuilder;
use corelane::model::{Signal, Timestamp};
use corelane::observe::StageAccount;
use corelane::partition::MergePolicy;
use corelane::policy::{ErrorPolicy, Watermarks};
use corelane::stage::{Chain, Emitter, EventTime, Operator, Produced, Source, StageError, StepCx};
use corelane::testing::StageTest;
use proptest::prelude::*;

/// Nanoseconds between two moments of a script: long for the simulator, where a step takes at most 2 us.
const MOMENT: i64 = 1_000_000;

/// What a scripted input says at a moment, and what came out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Say {
    Item(i64),
    Watermark(i64),
    Idle,
}
use Say::{Idle, Item, Watermark};

/// Says what stands in its script, each at its moment.
struct Scripted {
    script: Vec<(i64, Say)>,
    at: usize,
}

impl Source for Scripted {
    type Item = i64;

    fn produce<C: Chain<i64>>(&mut self, out: &mut Emitter<'_, i64, C>) -> Result<Produced, StageError> {
        while let Some(&(moment, say)) = self.script.get(self.at) {
            if moment * MOMENT > out.now().monotonic {
                return Ok(Produced::Until(moment * MOMENT));
            }
            match say {
                Item(time) => out.emit(time),
                Watermark(time) => assert!(out.watermark(Timestamp(time))),
                Idle => assert!(out.idle()),
            }
            self.at += 1;
        }
        Ok(Produced::End)
    }
}

type Log = Arc<Mutex<Vec<Say>>>;

/// Passes everything on and writes down what it was.
struct Record(Log, u64);

impl Operator<i64> for Record {
    type Out = i64;

    fn run<I: Iterator<Item = i64>, D: Chain<i64>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self(log, count) = self;
        down.run(
            items.inspect(|time| {
                *count += 1;
                log.lock().unwrap().push(Item(*time));
            }),
            cx,
        );
    }

    fn signal<D: Chain<i64>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        match signal {
            Signal::Watermark(time) => self.0.lock().unwrap().push(Watermark(time.as_nanos())),
            Signal::Idle => self.0.lock().unwrap().push(Idle),
            _ => {}
        }
        down.signal(signal, cx);
    }

    fn account(&self, account: &mut StageAccount) {
        (account.passed, account.emitted) = (self.1, self.1);
    }
}

/// Runs `inputs` into a merge: entry `n` of the script stands at moment `n` and names its input. What came out of the
/// merge, items left out.
fn merged(inputs: usize, script: &[(usize, Say)]) -> Vec<Say> {
    let mut outcomes = (0..4).map(|seed| {
        let p = PipelineBuilder::new("valve");
        let log = Log::default();
        // Every input lives to the end, so that none leaves by ending.
        let last = script.len() as i64 + 1;
        let streams = (0..inputs).map(|input| {
            let own = script.iter().enumerate().filter(|(_, (i, _))| *i == input);
            let mut own: Vec<_> = own.map(|(n, (_, say))| (n as i64 + 1, *say)).collect();
            own.push((last, Item(-1)));
            p.source(&format!("in-{input}"), move |_| Ok(Scripted { script: own, at: 0 })).into_input()
        });
        let streams: Vec<_> = streams.collect();
        let kept = Arc::clone(&log);
        p.merge("merge", MergePolicy::Fair, streams)
            .operator("record", move |_| Ok(Record(kept, 0)))
            .for_each("out", drop);
        let report = Simulation::new(seed).partitions(1 + seed as usize % 2).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        let mut log = log.lock().unwrap().clone();
        log.truncate(log.iter().position(|say| *say == Item(-1)).unwrap());
        log.retain(|say| !matches!(say, Item(_)));
        log
    });
    let first = outcomes.next().unwrap();
    for other in outcomes {
        assert_eq!(first, other, "the seed makes a difference");
    }
    first
}

#[test]
fn one_input_passes_its_watermarks_and_never_back() {
    let script =
        [(0, Watermark(0)), (0, Watermark(25)), (0, Watermark(18)), (0, Watermark(42)), (0, Watermark(42))];
    assert_eq!(merged(1, &script), [Watermark(0), Watermark(25), Watermark(42)]);
}

#[test]
fn one_input_that_is_idle_and_comes_back_goes_on_where_it_was() {
    let script =
        [(0, Watermark(25)), (0, Idle), (0, Idle), (0, Watermark(18)), (0, Watermark(27)), (0, Idle)];
    assert_eq!(merged(1, &script), [Watermark(25), Idle, Watermark(27), Idle]);
}

#[test]
fn several_inputs_give_the_least_of_their_watermarks() {
    let script = [
        (0, Watermark(0)),
        (1, Watermark(0)),
        // The first one goes out when every input has said something.
        (2, Watermark(0)),
        (0, Watermark(12)),
        (2, Watermark(8)),
        (2, Watermark(10)),
        (1, Watermark(15)),
        (2, Watermark(17)),
        (0, Watermark(20)),
    ];
    assert_eq!(merged(3, &script), [Watermark(0), Watermark(10), Watermark(12), Watermark(15)]);
}

#[test]
fn of_several_inputs_one_that_goes_back_changes_nothing() {
    let script = [
        (0, Watermark(25)),
        (1, Watermark(10)),
        (2, Watermark(17)), // 10
        (0, Watermark(12)),
        (1, Watermark(8)),
        (2, Watermark(15)),
        (1, Watermark(20)), // 17: the third has not gone back
    ];
    assert_eq!(merged(3, &script), [Watermark(10), Watermark(17)]);
}

#[test]
fn an_input_that_goes_idle_no_longer_holds_the_others_back() {
    let script = [
        (0, Watermark(25)),
        (1, Watermark(10)),
        (2, Watermark(17)),
        (1, Idle),
        (2, Idle),
        (0, Watermark(30)),
    ];
    assert_eq!(merged(3, &script), [Watermark(10), Watermark(17), Watermark(25), Watermark(30)]);
}

#[test]
fn an_idle_input_is_left_out_until_it_is_back() {
    let script = [
        (2, Idle),
        (0, Watermark(15)),
        (1, Watermark(10)),
        (2, Watermark(10)),
        (0, Watermark(18)),
        (1, Watermark(17)),
        (2, Watermark(20)),
    ];
    assert_eq!(merged(3, &script), [Watermark(10), Watermark(17)]);
}

#[test]
fn an_input_that_comes_back_behind_counts_again_once_it_has_caught_up() {
    let script = [
        (0, Watermark(10)),
        (1, Watermark(5)),
        (1, Idle),    // 10 goes out
        (1, Item(6)), // back, behind: not counted
        (0, Watermark(12)),
        (1, Watermark(8)),
        (0, Watermark(15)),
        (1, Watermark(15)), // caught up: counts from here on
        (0, Watermark(20)),
        (1, Watermark(18)),
    ];
    assert_eq!(
        merged(2, &script),
        [Watermark(5), Watermark(10), Watermark(12), Watermark(15), Watermark(18)]
    );
}

#[test]
fn an_input_that_is_idle_again_before_it_has_caught_up_changes_nothing() {
    let script = [
        (0, Watermark(10)),
        (1, Watermark(20)), // 10
        (0, Idle),          // 20
        (0, Item(11)),      // back, behind: not counted
        (1, Watermark(25)),
        (0, Idle),
        (1, Watermark(30)),
    ];
    assert_eq!(merged(2, &script), [10, 20, 25, 30].map(Watermark));
}

#[test]
fn inputs_that_are_all_back_and_behind_give_nothing_until_one_has_caught_up() {
    let script = [
        (0, Watermark(10)),
        (1, Watermark(20)),
        (0, Idle), // 20
        (1, Idle), // idle
        (0, Item(11)),
        (0, Watermark(19)),
        (0, Watermark(21)),
    ];
    assert_eq!(merged(2, &script), [Watermark(10), Watermark(20), Idle, Watermark(21)]);
}

#[test]
fn when_all_are_idle_the_latest_watermark_goes_out_and_then_idleness_once() {
    let script = [
        (0, Watermark(10)),
        (1, Watermark(5)),
        (2, Watermark(3)), // 3
        (0, Idle),
        (1, Idle),
        (2, Idle), // flushes 10
        (0, Idle),
        (2, Watermark(4)), // back, far behind
        (2, Idle),
        (1, Watermark(11)),
    ];
    assert_eq!(merged(3, &script), [Watermark(3), Watermark(10), Idle, Idle, Watermark(11)]);
}

#[test]
fn an_input_that_ends_no_longer_counts() {
    let p = PipelineBuilder::new("ended");
    let log = Log::default();
    let kept = Arc::clone(&log);
    let short = vec![(1, Watermark(5))];
    let long = vec![(1, Watermark(10)), (3, Watermark(12)), (4, Idle)];
    let inputs = [("short", short), ("long", long)]
        .map(|(name, script)| p.source(name, move |_| Ok(Scripted { script, at: 0 })).into_input());
    p.merge("merge", MergePolicy::Fair, inputs)
        .operator("record", move |_| Ok(Record(kept, 0)))
        .for_each("out", drop);
    Simulation::new(1).run(p.build().unwrap()).unwrap().result.account.verify().unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.last(), Some(&Idle));
    assert_eq!(log[log.len() - 2], Watermark(12));
}

/// What comes out of a watermark stage fed by `script`, the stage's account, and the whole run's.
fn stage<E: Into<EventTime> + 'static>(
    strategy: Watermarks,
    script: Vec<(i64, Say)>,
    time: impl FnMut(&i64) -> E + Clone + Send + 'static,
) -> (Vec<Say>, StageAccount) {
    let p = PipelineBuilder::new("time");
    let log = Log::default();
    let kept = Arc::clone(&log);
    p.source("in", move |_| Ok(Scripted { script, at: 0 }))
        .watermarks("time", strategy, time)
        .on_error(ErrorPolicy::Ignore)
        .operator("record", move |_| Ok(Record(kept, 0)))
        .for_each("out", drop);
    let report = Simulation::new(7).partitions(1).run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    assert!(report.result.success);
    let log = log.lock().unwrap().clone();
    (log, report.result.account.stages[&"time".parse().unwrap()])
}

/// Items one after the other, each in its own batch.
fn items(times: impl IntoIterator<Item = i64>) -> Vec<(i64, Say)> {
    times.into_iter().enumerate().map(|(n, time)| (n as i64 + 1, Item(time))).collect()
}

fn marks(log: &[Say]) -> Vec<i64> {
    log.iter().filter_map(|say| if let Watermark(time) = say { Some(*time) } else { None }).collect()
}

#[test]
fn bounded_disorder_stays_behind_the_latest_and_never_goes_back() {
    let strategy = Watermarks::bounded(Duration::from_nanos(5)).any_ahead();
    let (log, _) = stage(strategy, items([10, 12, 7, 12, 20, 1]), |time| Timestamp(*time));
    let expected =
        [Item(10), Watermark(5), Item(12), Watermark(7), Item(7), Item(12), Item(20), Watermark(15), Item(1)];
    assert_eq!(log, expected);
}

#[test]
fn items_that_are_emitted_one_by_one_share_a_watermark_where_they_go_out_together() {
    let script = vec![(1, Item(10)), (1, Item(12)), (1, Item(11)), (2, Item(20)), (2, Idle), (3, Item(30))];
    let (log, _) = stage(Watermarks::ascending().any_ahead(), script, |time| Timestamp(*time));
    let expected = [
        Item(10),
        Item(12),
        Item(11),
        Watermark(12),
        Item(20),
        Watermark(20), // before idleness, which it would be the end of
        Idle,
        Item(30),
        Watermark(30),
    ];
    assert_eq!(log, expected);
}

#[test]
fn ascending_times_are_their_own_watermarks_also_before_1970_and_at_both_ends() {
    let times = [i64::MIN, -20, -20, -1, 0, i64::MAX];
    let (log, _) = stage(Watermarks::ascending().any_ahead(), items(times), |time| Timestamp(*time));
    // The earliest time of all says nothing.
    assert_eq!(marks(&log), [-20, -1, 0, i64::MAX]);
    // A lag below the earliest time ends there.
    let lag = Watermarks::bounded(Duration::MAX).any_ahead();
    let (log, _) = stage(lag, items([i64::MIN, 5]), |time| Timestamp(*time));
    assert_eq!(marks(&log), [5 - i64::MAX]);
}

#[test]
fn watermarks_at_whole_spans_pass_each_multiple_once_when_time_has_come_to_it() {
    let every = |strategy: Watermarks| strategy.any_ahead().every(Duration::from_nanos(10));
    let times = [i64::MIN, -25, -21, -20, -1, 0, 9, 10, 11, 55, 54];
    let (log, _) = stage(every(Watermarks::ascending()), items(times), |time| Timestamp(*time));
    assert_eq!(marks(&log), [-30, -20, -10, 0, 10, 50]);
    let (log, _) = stage(every(Watermarks::bounded(Duration::from_nanos(5))), items([14, 15, 16]), |time| {
        Timestamp(*time)
    });
    assert_eq!(marks(&log), [0, 10], "the lag counts first");
    let none = Watermarks::ascending().any_ahead().every(Duration::ZERO);
    let (log, _) = stage(none, items([3, 4]), |time| Timestamp(*time));
    assert_eq!(marks(&log), [3, 4]);
}

#[test]
fn punctuated_watermarks_come_from_marks_only() {
    let strategy = Watermarks::punctuated().any_ahead();
    let (log, _) = stage(strategy, items([10, 13, 20, 26, 30]), |time| {
        let at = EventTime::at(Timestamp(*time));
        if time % 13 == 0 { at.marking(Timestamp(time / 2)) } else { at }
    });
    assert_eq!(marks(&log), [6, 13]);
}

#[test]
fn of_several_sources_the_slowest_counts_and_an_idle_one_does_not() {
    let strategy = Watermarks::ascending().any_ahead().sources(2);
    let by_parity = |time: &i64| EventTime::at(Timestamp(*time)).from_source((*time % 2) as u32);
    let (log, _) = stage(strategy, items([10, 3, 20, 5, 31]), by_parity);
    assert_eq!(marks(&log), [3, 5, 20]);

    // Source 1 falls silent for 5 moments, and comes back behind.
    let strategy = strategy.idle_after(Duration::from_nanos(5 * MOMENT as u64));
    let script = vec![
        (1, Item(10)),
        (2, Item(3)),
        (4, Item(20)),
        (6, Item(30)),
        (9, Item(40)),
        (10, Item(5)),
        (11, Item(50)),
        (12, Item(51)),
        (13, Item(60)),
    ];
    let (log, _) = stage(strategy, script, by_parity);
    assert_eq!(marks(&log), [3, 30, 40, 50, 51]);
    assert!(!log.contains(&Idle), "one source was active all the time");
}

#[test]
fn a_silent_stream_becomes_idle_by_itself_and_its_next_item_takes_that_back() {
    let strategy = Watermarks::ascending().any_ahead().idle_after(Duration::from_nanos(3 * MOMENT as u64));
    let script = vec![(1, Item(1)), (2, Item(2)), (20, Item(9)), (30, Item(10)), (32, Item(11))];
    let (log, _) = stage(strategy, script, |time| Timestamp(*time));
    let expected = [
        Item(1),
        Watermark(1),
        Item(2),
        Watermark(2),
        Idle,
        Item(9),
        Watermark(9),
        Idle,
        Item(10),
        Watermark(10),
        Item(11),
        Watermark(11),
    ];
    assert_eq!(log, expected);
}

#[test]
fn case_81_one_poisoned_time_moves_no_watermark_and_is_counted() {
    let strategy = Watermarks::bounded(Duration::from_nanos(2)).max_ahead(Duration::from_nanos(100));
    let time = |time: &i64| Timestamp(*time);
    for poison in [i64::MAX, 1_000, 161] {
        for at in 0..6 {
            let mut times = vec![10, 20, 30, 40, 60];
            times.insert(at, poison);
            let (log, account) = stage(strategy, items(times), time);
            assert!(marks(&log).iter().all(|mark| *mark <= 58), "{poison} at {at}: {log:?}");
            assert_eq!(marks(&log).last(), Some(&58), "{poison} at {at}: {log:?}");
            assert_eq!((account.ahead, account.passed), (1, 6), "{poison} at {at}");
        }
    }
    // The earliest time, equal times and negative ones are not ahead of anything.
    let (log, account) = stage(strategy, items([-5, -5, i64::MIN, -5, 3]), time);
    assert_eq!((account.ahead, marks(&log).last()), (0, Some(&1)));
    // Nor does the earliest time keep event time from starting.
    let (log, _) = stage(strategy, items([i64::MIN, -5, -5, 3]), time);
    assert_eq!(marks(&log), [-7, 1]);
}

#[test]
fn a_jump_that_enough_items_confirm_is_believed_by_the_earliest_of_them() {
    let strategy = Watermarks::ascending().max_ahead(Duration::from_nanos(100));
    let jump = |n: u32| (0..i64::from(n)).map(|i| 5_000 + (i - 3).abs());
    let (log, account) = stage(strategy, items([1, 2].into_iter().chain(jump(31))), |time| Timestamp(*time));
    assert_eq!((marks(&log).last(), account.ahead), (Some(&2), 31));
    let times = [1, 2].into_iter().chain(jump(Watermarks::CONFIRMATIONS)).chain([5_050]);
    let (log, account) = stage(strategy, items(times), |time| Timestamp(*time));
    assert_eq!((&marks(&log)[1..], account.ahead), (&[5_000, 5_050][..], 32));
}

#[test]
fn a_time_function_that_panics_loses_its_item_by_the_error_policy() {
    let strategy = Watermarks::ascending().any_ahead();
    let (log, account) = stage(strategy, items([1, 2, 3]), |time| {
        assert!(*time != 2, "told to");
        Timestamp(*time)
    });
    assert_eq!(log, [Item(1), Watermark(1), Item(3), Watermark(3)]);
    assert_eq!((account.ignored, account.panics), (1, 1));
}

#[test]
fn a_watermark_stage_passes_the_testing_kit() {
    let times: Vec<i64> = (0..200).map(|n| n * 7 % 90).collect();
    let strategy = Watermarks::bounded(Duration::from_nanos(20)).idle_after(Duration::from_nanos(50));
    StageTest::new(times.clone(), times)
        .verify(|input| input.watermarks("time", strategy, |time| Timestamp(*time)))
        .unwrap();
}

/// An item so large that few of them are gone over at once.
type Wide = [i64; 64];

/// Emits items that lie in memory, as a slice or one by one.
struct InMemory {
    items: Vec<Wide>,
    at: usize,
    as_slice: bool,
}

impl Source for InMemory {
    type Item = Wide;

    fn produce<C: Chain<Wide>>(&mut self, out: &mut Emitter<'_, Wide, C>) -> Result<Produced, StageError> {
        let rest = &self.items[self.at..];
        self.at += if self.as_slice { out.emit_slice(rest) } else { out.emit_all(&mut rest.iter().copied()) };
        Ok(if self.at == self.items.len() { Produced::End } else { Produced::More })
    }
}

/// What comes out of a watermark stage behind a source of `times`, and the stage's account. Times of which `panics` says so panic.
fn of_memory(
    strategy: Watermarks,
    times: &[i64],
    panics: fn(i64) -> bool,
    as_slice: bool,
) -> (Vec<Say>, StageAccount) {
    let p = PipelineBuilder::new("memory");
    let (log, items) = (Log::default(), times.iter().map(|time| [*time; 64]).collect());
    let kept = Arc::clone(&log);
    p.source("in", move |_| Ok(InMemory { items, at: 0, as_slice }))
        .watermarks("time", strategy, move |item: &Wide| {
            assert!(!panics(item[0]), "a time that cannot be told");
            Timestamp(item[0])
        })
        .on_error(ErrorPolicy::Ignore)
        .map("first", |item| item[0])
        .operator("record", move |_| Ok(Record(kept, 0)))
        .for_each("out", drop);
    let report = Simulation::new(7).partitions(1).run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    let log = log.lock().unwrap().clone();
    (log, report.result.account.stages[&"time".parse().unwrap()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Times are looked at several at once there: with some far ahead, once or until they are believed, and some that panic.
    #[test]
    fn items_in_memory_make_the_watermarks_that_they_make_one_by_one(
        parts in prop::collection::vec((0i64..5_000, prop::collection::vec(0i64..60, 1..70)), 1..12),
        every in 1u64..50,
        trusting: bool,
    ) {
        let times: Vec<_> = parts.iter().flat_map(|(base, part)| part.iter().map(move |time| base + time)).collect();
        let strategy = Watermarks::bounded(Duration::from_nanos(7)).every(Duration::from_nanos(every));
        let strategy =
            if trusting { strategy.any_ahead() } else { strategy.max_ahead(Duration::from_nanos(100)) };
        for panics in [|_| false, |time| time % 97 == 0] as [fn(i64) -> bool; 2] {
            let [slice, single] = [true, false].map(|as_slice| of_memory(strategy, &times, panics, as_slice));
            prop_assert_eq!(slice, single);
        }
    }

    /// C10 over a whole graph: two sources with their own watermarks, parallel stages and rings between them.
    #[test]
    fn no_item_comes_behind_a_watermark_when_the_disorder_is_bounded(
        a in prop::collection::vec(0i64..50, 1..80),
        b in prop::collection::vec(0i64..50, 1..80),
        seed: u64,
        partitions in 1usize..5,
    ) {
        let p = PipelineBuilder::new("c10");
        let log = Log::default();
        let kept = Arc::clone(&log);
        let strategy = Watermarks::bounded(Duration::from_nanos(50)).any_ahead();
        let inputs = [("a", a.clone()), ("b", b.clone())].map(|(name, jitter)| {
            let times: Vec<_> = jitter.into_iter().enumerate().map(|(n, jitter)| n as i64 * 10 - jitter).collect();
            p.items(name, times)
                .watermarks(&format!("{name}-time"), strategy, |time| Timestamp(*time))
                .map(&format!("{name}-work"), |time| time)
                .parallel(corelane::policy::Parallelism::CpuBound)
                .into_input()
        });
        p.merge("merge", MergePolicy::Fair, inputs)
            .operator("record", move |_| Ok(Record(kept, 0)))
            .for_each("out", drop);
        let report = Simulation::new(seed).partitions(partitions).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        let mut watermark = i64::MIN;
        for say in log.lock().unwrap().iter() {
            match *say {
                Watermark(time) => {
                    prop_assert!(time > watermark);
                    watermark = time;
                }
                Item(time) => prop_assert!(time >= watermark, "{time} came behind {watermark}"),
                Idle => {}
            }
        }
    }
}
