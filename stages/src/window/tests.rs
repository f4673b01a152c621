//! Windows by hand: every item and watermark in an order the test chooses, every release in small pieces, against the
//! dumbest code that is right.

mod footprint;
mod model;
mod triggers;

use std::marker::PhantomData;
use std::time::Duration;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful};
use corelane::model::{Now, StageId, Timestamp};
use corelane::observe::StageAccount;
use corelane::stage::Pending;

use super::across::{Across, EachKey};
use super::aligned::AlignedWindows;
use super::logic::{Logic, Parts};
use super::session::SessionWindows;
use super::triggered::TriggeredWindows;
use super::{Aggregate, Fired, KeepLate, Sliding, ToVec, Trigger, Tumbling, Windowed};
use crate::testkit::drain;

/// Key, time, number.
pub(super) type Item = (u32, i64, u64);

/// The numbers of a window's items, in order.
pub(super) type Out = Fired<u32, Vec<Item>, Item>;

pub(super) const fn nanos(n: u64) -> Duration {
    Duration::from_nanos(n)
}

#[expect(clippy::type_complexity, reason = "all that the user's code is made of")]
pub(super) fn parts<A: Aggregate<Item>>(
    aggregate: A,
) -> Parts<u32, fn(&Item) -> u32, fn(&Item) -> Timestamp, A, KeepLate> {
    Parts { key: |item| item.0, time: |item| Timestamp(item.1), aggregate, late: KeepLate, of: PhantomData }
}

pub(super) fn sliding(
    size: u64,
    every: u64,
    origin: i64,
) -> AlignedWindows<Item, impl Logic<Item, Out = Out>> {
    sliding_of(ToVec, size, every, origin)
}

pub(super) fn sliding_of<A: Aggregate<Item, Out = Vec<Item>>>(
    aggregate: A,
    size: u64,
    every: u64,
    origin: i64,
) -> AlignedWindows<Item, impl Logic<Item, Out = Out>> {
    let frame = Sliding::of(nanos(size)).every(nanos(every)).aligned_to(Timestamp(origin)).frame();
    AlignedWindows::new(parts(aggregate), EachKey, frame.unwrap())
}

/// One result for all keys: the values that each would have had.
pub(super) fn across(
    size: u64,
    every: u64,
    origin: i64,
) -> impl Stateful<Item, Out = Windowed<(), Vec<Windowed<u32, Vec<Item>>>>> {
    let frame = Sliding::of(nanos(size)).every(nanos(every)).aligned_to(Timestamp(origin)).frame();
    AlignedWindows::new(parts(TakingOut), Across::new(ToVec), frame.unwrap())
}

/// All items, and can take them out again.
#[derive(Clone)]
pub(super) struct TakingOut;

impl Aggregate<Item> for TakingOut {
    type Acc = Vec<Item>;
    type Out = Vec<Item>;

    fn init(&self) -> Vec<Item> {
        Vec::new()
    }
    fn add(&self, acc: &mut Vec<Item>, item: &Item) {
        acc.push(*item);
    }
    fn merge(&self, acc: &mut Vec<Item>, other: &Vec<Item>) {
        acc.extend(other);
    }
    fn unmerge(&self, acc: &mut Vec<Item>, other: &Vec<Item>) -> bool {
        for item in other {
            let at = acc.iter().position(|there| there == item).expect("what is taken out was put in");
            acc.swap_remove(at);
        }
        true
    }
    fn result(&self, acc: &Vec<Item>) -> Vec<Item> {
        acc.clone()
    }
}

pub(super) fn triggered(
    size: u64,
    every: u64,
    trigger: Trigger,
) -> TriggeredWindows<Item, impl Logic<Item, Out = Out>> {
    let frame = Sliding::of(nanos(size)).every(nanos(every)).frame();
    TriggeredWindows::new(parts(ToVec), frame.unwrap(), trigger)
}

pub(super) fn sessions(gap: i64, trigger: Trigger) -> SessionWindows<Item, impl Logic<Item, Out = Out>> {
    SessionWindows::new(parts(ToVec), gap, trigger)
}

/// Gives items and time to a state, and keeps what comes out.
pub(super) struct Hand<S: Stateful<Item>> {
    pub(super) state: S,
    out: Pending<S::Out>,
    pub(super) watermark: i64,
    pub(super) now: i64,
    received: u64,
    rng: fastrand::Rng,
}

impl<S: Stateful<Item>> Hand<S> {
    pub(super) fn new(state: S) -> Self {
        let rng = fastrand::Rng::with_seed(1);
        Self { state, out: Pending::new(), watermark: i64::MIN, now: 0, received: 0, rng }
    }

    fn time(&self) -> CheckTime {
        let processing = Now { monotonic: self.now, wall: Timestamp(self.now) };
        CheckTime { processing, event: Timestamp(self.watermark) }
    }

    pub(super) fn give(&mut self, items: impl IntoIterator<Item = Item>) -> &mut Self {
        for item in items {
            self.received += 1;
            self.state.add(&mut std::iter::once(item), self.time(), &mut self.out);
        }
        self.check()
    }

    fn release(&mut self, which: Release) -> &mut Self {
        let mut rounds = 0;
        loop {
            let mut allowance =
                Allowance { room: self.out.len() + self.rng.usize(1..6), work: self.rng.usize(1..6) };
            let done = self.state.release(which, self.time(), &mut allowance, &mut self.out);
            self.check();
            if done {
                return self;
            }
            rounds += 1;
            assert!(rounds < 100_000, "a release does not come to its end");
        }
    }

    pub(super) fn watermark(&mut self, time: i64) -> &mut Self {
        self.watermark = self.watermark.max(time);
        if self.state.is_due(self.time()) {
            self.release(Release::Due);
        }
        assert!(!self.state.is_due(self.time()), "what was due has gone");
        self
    }

    pub(super) fn at(&mut self, now: i64) -> &mut Self {
        self.now = now;
        self.watermark(i64::MIN)
    }

    pub(super) fn end(&mut self) -> &mut Self {
        self.release(Release::All)
    }

    pub(super) fn account(&self) -> StageAccount {
        let mut account = StageAccount { received: self.received, ..StageAccount::default() };
        self.state.account(&mut account);
        account.verify(&StageId::new("window").unwrap()).unwrap();
        account
    }

    fn check(&mut self) -> &mut Self {
        self.account();
        self
    }

    /// What came out since the last call.
    pub(super) fn take(&mut self) -> Vec<S::Out> {
        drain(&mut self.out)
    }
}

/// Results and late items apart; the items of each result in order, and the results too.
pub(super) fn sorted(out: Vec<Out>) -> (Vec<Windowed<u32, Vec<Item>>>, Vec<Item>) {
    let (mut results, mut late) = (Vec::new(), Vec::new());
    for fired in out {
        match fired {
            Fired::Result(mut result) => {
                result.value.sort_unstable();
                results.push(result);
            }
            Fired::Late(item) => late.push(item),
        }
    }
    results.sort();
    (results, late)
}

#[test]
fn tumbling_windows_close_when_the_watermark_reaches_their_end_and_not_before() {
    let frame = Tumbling::of(nanos(10)).frame().unwrap();
    let mut hand = Hand::new(AlignedWindows::new(parts(ToVec), EachKey, frame));
    hand.give([(1, 0, 0), (1, 9, 1), (1, 10, 2), (2, -1, 3)]).watermark(9);
    let keys =
        |out: Vec<Out>| sorted(out).0.into_iter().map(|r| (r.key, r.window.start.0)).collect::<Vec<_>>();
    assert_eq!(keys(hand.take()), [(2, -10)]);
    assert_eq!(keys(hand.watermark(10).take()), [(1, 0)]);
    // Behind the watermark, in a window that is open: not late.
    assert_eq!(keys(hand.watermark(15).give([(3, 12, 4)]).take()), []);
    assert_eq!(hand.account().late, 0);
    assert_eq!(keys(hand.end().take()), [(1, 10), (3, 10)]);
    assert_eq!((hand.account().keys, hand.account().items_complete), (0, 5));
}

#[test]
fn case_81_times_at_the_ends_of_time_belong_to_no_window() {
    for time in [i64::MIN, i64::MAX, i64::MIN + 1] {
        let mut hand = Hand::new(sliding(10, 5, 0));
        hand.give([(1, time, 0), (1, 3, 1)]).watermark(20).end();
        assert_eq!(hand.account().filtered, 1);
        assert_eq!(sorted(hand.take()).0.len(), 2);
        let mut hand = Hand::new(sessions(10, Trigger::new()));
        hand.give([(1, time, 0), (1, 3, 1)]).end();
        assert_eq!((hand.account().filtered, sorted(hand.take()).0.len()), (1, 1));
    }
}
