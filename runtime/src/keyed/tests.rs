//! What accumulators promise.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::testkit::{Bench, Event, site};
use super::*;
use crate::model::{AccumulatorState, Completeness, Cost, ProgressWeights, Signal, Timestamp};
use crate::policy::{AccumulatorPolicy, TimeDomain};

mod model;
mod moves;
mod spill;

/// What an item does to its key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Add,
    Complete,
    Expire,
    ExpireSilently,
    Panic,
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    key: u8,
    id: u64,
    time: i64,
    act: Act,
}

fn item(key: u8, id: u64, time: i64) -> Item {
    Item { key, id, time, act: Act::Add }
}

fn act(key: u8, id: u64, act: Act) -> Item {
    Item { key, id, time: 0, act }
}

/// Why a result came: `None` when the check said so.
type Result = (u8, Option<FlushReason>, Vec<u64>);

/// Keeps the ids of its items.
struct Ids {
    panic_in_flush: bool,
    panic_in_close: bool,
    /// Complete at the first check at or after this time.
    complete_at: i64,
}

const IDS: Ids = Ids { panic_in_flush: false, panic_in_close: false, complete_at: 1 << 62 };

impl Accumulator<Item> for Ids {
    type Key = u8;
    type State = (Vec<u64>, Act);
    type Out = Result;

    fn key(&self, item: &Item) -> u8 {
        item.key
    }
    fn timestamp(&self, item: &Item, _: CheckTime) -> Timestamp {
        Timestamp(item.time)
    }
    fn cost(&self, _: &Item) -> Cost {
        Cost::of_bytes(10)
    }
    fn init(&mut self, _: &u8, first: &Item) -> Self::State {
        (Vec::new(), first.act)
    }
    fn update(&mut self, of: &mut StateOf<Item, Self>, item: Item) {
        assert!(item.act != Act::Panic, "told to");
        assert_eq!(of.size_items, of.state.0.len() as u64);
        of.state.0.push(item.id);
        of.state.1 = item.act;
    }
    fn progress(&self, of: &StateOf<Item, Self>, weights: &ProgressWeights) -> f64 {
        weights.score(["a", "b"].into_iter().take(of.state.0.len()))
    }
    fn check(&mut self, of: &mut StateOf<Item, Self>, time: CheckTime) -> Completeness<Result> {
        let out = (of.key, None, of.state.0.clone());
        match of.state.1 {
            Act::Complete => Completeness::Complete(out),
            Act::Expire => Completeness::Expired(Some(out)),
            Act::ExpireSilently => Completeness::Expired(None),
            _ if time.processing.monotonic >= self.complete_at => Completeness::Complete(out),
            _ => Completeness::Incomplete,
        }
    }
    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, reason: FlushReason) -> Option<Result> {
        assert!(!self.panic_in_flush, "told to");
        Some((of.key, Some(reason), of.state.0.clone()))
    }
    fn close(&mut self) {
        assert!(!self.panic_in_close, "told to");
    }
}

type Op<A = Ids> = Bench<Item, AccumulateOp<Item, A>>;

fn bench(policy: AccumulatorPolicy) -> Op {
    Bench::new(AccumulateOp::new(IDS, policy, &site()))
}

fn partial() -> AccumulatorPolicy {
    AccumulatorPolicy::until_end()
}

fn ttl(nanos: u64) -> AccumulatorPolicy {
    AccumulatorPolicy::ttl(Duration::from_nanos(nanos))
}

fn latency(nanos: u64) -> AccumulatorPolicy {
    AccumulatorPolicy { max_latency: Some(Duration::from_nanos(nanos)), ..partial() }
}

#[test]
fn a_key_stays_until_its_check_closes_it_and_then_begins_anew() {
    let mut b = bench(partial());
    b.give([act(1, 0, Act::Add), act(1, 1, Act::Complete), act(1, 2, Act::Add), act(1, 3, Act::Complete)]);
    assert_eq!(b.take(), [(1, None, vec![0, 1]), (1, None, vec![2, 3])]);
    b.give([
        act(2, 4, Act::Expire),
        act(3, 5, Act::Add),
        act(3, 6, Act::ExpireSilently),
        act(4, 7, Act::Add),
    ]);
    assert_eq!(b.take().last(), Some(&(2, None, vec![4])));
    let a = b.account();
    assert_eq!((a.absorbed, a.items_open, a.keys), (8, 1, 1));
    assert_eq!((a.items_complete, a.items_partial, a.items_expired), (4, 1, 2));
    assert_eq!((a.results_complete, a.results_expired, a.expired), (2, 1, 2));
}

#[test]
fn a_forced_flush_comes_with_the_item_that_reaches_a_limit() {
    let bytes = AccumulatorPolicy { max_bytes: Some(25), ..partial() };
    for (policy, reason) in
        [(partial().max_items(3), FlushReason::MaxItems), (bytes.clone(), FlushReason::MaxBytes)]
    {
        let mut b = bench(policy);
        b.give((0..7).map(|id| item(1, id, 0)));
        assert_eq!(b.take(), [(1, Some(reason), vec![0, 1, 2]), (1, Some(reason), vec![3, 4, 5])]);
        let a = b.account();
        assert_eq!((a.items_partial, a.results_partial, a.expired, a.items_open), (6, 2, 0, 1));
    }
    // What completes with the last item that fits is complete.
    let mut b = bench(partial().max_items(2));
    b.give([act(1, 0, Act::Add), act(1, 1, Act::Complete)]);
    assert_eq!(b.take(), [(1, None, vec![0, 1])]);
}

#[test]
fn without_partial_flush_a_forced_key_emits_nothing_and_its_items_count_as_expired() {
    let policies = [partial().max_items(2), latency(10), ttl(10), partial()];
    for policy in policies {
        let mut b = bench(AccumulatorPolicy { partial_flush: false, ..policy });
        b.give([item(1, 0, 0), item(1, 1, 0)]);
        b.at(10).end();
        let a = b.account();
        assert_eq!((b.take(), a.items_expired, a.expired, a.keys), (vec![], 2, 1, 0));
    }
}

#[test]
fn a_deadline_fires_in_the_first_step_at_or_after_it_without_another_item() {
    for (policy, reason) in [(latency(100), FlushReason::MaxLatency), (ttl(100), FlushReason::Ttl)] {
        let mut b = bench(policy);
        b.at(50).give([item(1, 0, 0)]);
        b.at(60).give([item(1, 1, 0), item(2, 2, 0)]);
        assert_eq!(b.op_deadline(), Some(150));
        assert_eq!(b.at(149).take(), []);
        assert_eq!(b.at(150).take(), [(1, Some(reason), vec![0, 1])]);
        assert_eq!(b.op_deadline(), Some(160));
        assert_eq!(b.at(1_000).take()[1..], [(2, Some(reason), vec![2])]);
        assert_eq!(b.op_deadline(), None);
        assert_eq!(b.at(10_000).take().len(), 2);
        let a = b.account();
        let expired = if reason == FlushReason::Ttl { 2 } else { 0 };
        assert_eq!((a.items_partial, a.results_expired, a.expired), (3, expired, expired));
        assert_eq!(a.results_partial, 2 - expired);
    }
}

#[test]
fn the_shorter_of_two_limits_of_time_counts() {
    for (latency, ttl, reason) in
        [(5, 9, FlushReason::MaxLatency), (9, 5, FlushReason::Ttl), (5, 5, FlushReason::Ttl)]
    {
        let limit = |nanos| Some(Duration::from_nanos(nanos));
        let mut b = bench(AccumulatorPolicy {
            max_latency: limit(latency),
            completeness_ttl: limit(ttl),
            ..partial()
        });
        b.give([item(1, 0, 0)]);
        assert_eq!(b.at(5).take(), [(1, Some(reason), vec![0])]);
        assert_eq!(b.at(9).take().len(), 1);
    }
}

#[test]
fn a_key_that_is_complete_by_the_time_its_deadline_fires_is_complete() {
    let ids = Ids { complete_at: 10, ..IDS };
    let mut b: Op = Bench::new(AccumulateOp::new(ids, ttl(10), &site()));
    b.give([item(1, 0, 0)]);
    assert_eq!(b.at(10).take(), [(1, None, vec![0])]);
    assert_eq!(b.account().items_complete, 1);
}

#[test]
fn no_item_joins_a_key_whose_deadline_has_passed() {
    let mut b = bench(ttl(10));
    b.give([item(1, 0, 0)]);
    // No tick between: the step gives items first.
    b.now = 10;
    b.give([item(1, 1, 0)]);
    assert_eq!(b.take(), [(1, Some(FlushReason::Ttl), vec![0])]);
    assert_eq!(b.at(20).take().len(), 2);
}

#[test]
fn event_time_deadlines_fire_before_the_watermark_that_reaches_them_whatever_the_clock_says() {
    let mut b = bench(ttl(100).in_event_time());
    b.give([item(1, 0, 50), item(2, 1, 30), item(3, 2, 200)]);
    b.at(1 << 61);
    b.watermark(129);
    assert_eq!(b.take(), []);
    // An item that happened before the first to arrive brings the deadline of its key forward.
    b.give([item(3, 3, 129)]);
    b.watermark(229);
    let out: Vec<_> = b.down.events.drain(..).collect();
    let ttl = |key, ids: &[u64]| Event::Item((key, Some(FlushReason::Ttl), ids.to_vec()));
    let mark = |time| Event::Signal(Signal::Watermark(Timestamp(time)));
    assert_eq!(out, [mark(129), ttl(2, &[1]), ttl(1, &[0]), ttl(3, &[2, 3]), mark(229)]);
}

#[test]
fn items_behind_the_watermark_are_counted_as_late_and_go_with_the_next_one() {
    let mut b = bench(ttl(10).in_event_time());
    b.watermark(100);
    b.give([item(1, 0, 99), item(1, 1, 20), item(2, 2, 100)]);
    assert_eq!((b.take().len(), b.account().late), (0, 2));
    b.watermark(101);
    assert_eq!(b.take(), [(1, Some(FlushReason::Ttl), vec![0, 1])]);
}

#[test]
fn the_end_lets_go_of_every_key_in_the_order_of_opening_and_then_passes() {
    let mut b = bench(partial());
    b.give([9, 3, 7, 3, 1, 9].into_iter().zip(0..).map(|(key, id)| item(key, id, 0)));
    b.give([act(7, 6, Act::Complete)]);
    b.give([item(7, 7, 0)]);
    b.end();
    let ends = [(9, vec![0, 5]), (3, vec![1, 3]), (1, vec![4]), (7, vec![7])];
    let ends = ends.map(|(key, ids)| (key, Some(FlushReason::End), ids));
    assert_eq!(b.take()[1..], ends);
    assert_eq!(b.down.events.last(), Some(&Event::Signal(Signal::End)));
    assert_eq!(b.account().results_partial, 4);
}

#[test]
fn many_keys_are_let_go_in_bounded_batches_and_no_input_is_taken_meanwhile() {
    for room in [1, 100, usize::MAX] {
        for by_end in [true, false] {
            let mut b = Bench::new(AccumulateOp::new(Sum, ttl(10), &site()));
            b.give((0..5_000).map(|key| (key, 1)));
            b.room = room;
            let batch = room.min(1024);
            let mut before = 0;
            if by_end {
                b.signal(Signal::End);
            } else {
                b.now = 10;
                b.tick();
            }
            let mut steps = 1;
            while b.account().keys > 0 {
                assert!(!by_end || b.op_room() == 0, "no input while the end waits");
                let now = b.down.items;
                assert!(now - before <= batch, "{} at once", now - before);
                before = now;
                assert!(b.tick(), "the driver is told to come back");
                steps += 1;
            }
            b.settle();
            assert!(steps >= 5_000 / batch, "{steps}");
            assert_eq!(b.take(), (0..5_000).map(|key| (key, 1)).collect::<Vec<_>>());
            assert_eq!(b.down.events.last() == Some(&Event::Signal(Signal::End)), by_end);
        }
    }
}

#[test]
fn without_room_nothing_is_lost_and_no_deadline_is_announced() {
    let mut b = bench(ttl(10));
    b.give([item(1, 0, 0), item(2, 1, 0)]);
    b.room = 0;
    assert!(!b.at(50).tick());
    assert_eq!((b.op_deadline(), b.op_room()), (None, 0));
    b.room = 1;
    assert!(b.tick() && b.tick());
    assert_eq!(b.take().len(), 2);
}

#[test]
fn other_signals_pass_at_their_place() {
    let mut b = bench(ttl(10));
    let signals = [Signal::Watermark(Timestamp(1_000)), Signal::Idle, Signal::Barrier(7), Signal::Turn];
    b.give([item(1, 0, 0)]);
    for signal in signals {
        b.signal(signal);
    }
    assert_eq!(b.down.events, signals.map(Event::Signal));
    assert_eq!(b.account().keys, 1);
}

#[test]
fn a_panic_in_user_code_ends_the_pipeline_and_the_account_still_closes() {
    let mut b = bench(partial());
    b.give([act(1, 0, Act::Add), act(1, 1, Act::Panic), act(1, 2, Act::Complete)]);
    assert!(b.failure.as_ref().unwrap().contains("told to"));
    let a = b.account();
    assert_eq!((a.absorbed, a.failed, a.discarded, a.panics, a.emitted), (1, 1, 1, 1, 0));
    assert_eq!((b.op_room(), b.tick()), (0, false));
    b.close();
    let a = b.account();
    assert_eq!((a.absorbed, a.failed, a.discarded), (0, 1, 2));

    for by_limit in [true, false] {
        let ids = Ids { panic_in_flush: true, ..IDS };
        let mut b: Op = Bench::new(AccumulateOp::new(ids, partial().max_items(3), &site()));
        b.give([act(1, 0, Act::Complete), act(2, 1, Act::Add), act(2, 2, Act::Add)]);
        if by_limit {
            b.give([act(2, 3, Act::Add)])
        } else {
            b.end()
        }
        assert!(b.failure.is_some());
        assert!(!b.down.events.contains(&Event::Signal(Signal::End)), "a failed end is not passed on");
        b.close();
        let a = b.account();
        let of_the_key = if by_limit { 3 } else { 2 };
        assert_eq!((a.absorbed, a.failed, a.discarded, a.panics), (1, 0, of_the_key, 1));
    }
}

#[test]
fn a_panic_in_close_is_counted_and_judged_by_the_error_policy() {
    use crate::policy::ErrorPolicy;
    for (policy, fails) in
        [(ErrorPolicy::Fail, true), (ErrorPolicy::Ignore, false), (ErrorPolicy::DeadLetter, false)]
    {
        let site = crate::stage::StageSite { error_policy: policy, ..site() };
        let ids = Ids { panic_in_close: true, ..IDS };
        let mut b: Op = Bench::new(AccumulateOp::new(ids, partial(), &site));
        b.give([item(1, 0, 0)]);
        b.close();
        assert_eq!(b.failure.as_deref(), fails.then_some("panic: told to"), "{policy:?}");
        let a = b.account();
        assert_eq!(
            (a.discarded, a.errors, a.panics, a.failed),
            (1, 1, 1, 0),
            "what it held is counted all the same"
        );
    }
}

#[test]
fn a_stop_counts_open_items_as_discarded_and_results_without_room_as_unsent() {
    let mut b = bench(partial());
    b.give([item(1, 0, 0), item(2, 1, 0)]);
    b.close();
    let a = b.account();
    assert_eq!((a.absorbed, a.discarded, a.keys), (0, 2, 0));
}

#[test]
fn a_hundred_thousand_keys_come_and_go_and_leave_nothing() {
    const AT_ONCE: u64 = 100;
    for policy in [ttl(1_000_000_000), ttl(1_000_000_000).in_event_time()] {
        let mut b = Bench::new(AccumulateOp::new(Sum, policy, &site()));
        for key in 0..100_000u64 {
            b.now += 1_000;
            // The second item of a key completes it, a hundred keys later.
            b.give([(key, 1)]);
            if let Some(older) = key.checked_sub(AT_ONCE) {
                b.give([(older, COMPLETE)]);
            }
        }
        let (keys, places, timers) = b.op.footprint();
        assert_eq!(keys, AT_ONCE as usize);
        assert!(places <= AT_ONCE as usize + 1, "{places} places");
        assert!(timers <= places, "{timers} timers");
        b.end();
        assert_eq!(b.op.footprint(), (0, 0, 0));
        assert_eq!(b.take().len(), 100_000);
    }
}

#[test]
fn the_score_comes_from_the_weights_and_is_a_number_from_0_to_1() {
    struct Score(f64);
    impl Accumulator<u64> for Score {
        type Key = ();
        type State = ();
        type Out = f64;
        fn key(&self, _: &u64) {}
        fn init(&mut self, (): &(), _: &u64) {}
        fn update(&mut self, _: &mut StateOf<u64, Self>, _: u64) {}
        fn progress(&self, _: &StateOf<u64, Self>, weights: &ProgressWeights) -> f64 {
            weights.score(["root"]) * self.0
        }
        fn check(&mut self, of: &mut StateOf<u64, Self>, _: CheckTime) -> Completeness<f64> {
            Completeness::Complete(of.completeness_score)
        }
        fn flush_forced(&mut self, _: &mut StateOf<u64, Self>, _: FlushReason) -> Option<f64> {
            None
        }
    }
    let cases = [(1.0, 0.75), (f64::NAN, 0.0), (f64::INFINITY, 1.0), (-1.0, 0.0)];
    for (factor, score) in cases {
        let weights = ProgressWeights::new([("root", 3.0), ("leaf", 1.0)]).unwrap();
        let op = AccumulateOp::new(Score(factor), partial(), &site()).with_weights(weights);
        let mut b = Bench::new(op);
        b.give([0]);
        assert_eq!(b.take(), [score]);
    }
}

#[test]
fn spilling_is_refused_until_an_accumulator_implements_it() {
    let state = AccumulatorState::new(1, (vec![], Act::Add));
    assert!(matches!(IDS.serialize_spill(&state, &mut Vec::new()), Err(SpillError::Unsupported)));
    assert!(matches!(IDS.deserialize_spill(&[]), Err(SpillError::Unsupported)));
}

const COMPLETE: u64 = 1 << 32;

/// Adds up; a big number completes. Has defaults for all that has one.
struct Sum;

impl Accumulator<(u64, u64)> for Sum {
    type Key = u64;
    type State = u64;
    type Out = (u64, u64);
    fn key(&self, item: &(u64, u64)) -> u64 {
        item.0
    }
    fn init(&mut self, _: &u64, _: &(u64, u64)) -> u64 {
        0
    }
    fn update(&mut self, of: &mut StateOf<(u64, u64), Self>, item: (u64, u64)) {
        of.state += item.1;
    }
    fn check(&mut self, of: &mut StateOf<(u64, u64), Self>, _: CheckTime) -> Completeness<(u64, u64)> {
        if of.state < COMPLETE {
            Completeness::Incomplete
        } else {
            Completeness::Complete((of.key, of.state))
        }
    }
    fn flush_forced(&mut self, of: &mut StateOf<(u64, u64), Self>, _: FlushReason) -> Option<(u64, u64)> {
        Some((of.key, of.state))
    }
}
