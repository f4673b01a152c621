//! Keys that move from one accumulator to another with their shard.

use std::sync::Arc;
use std::time::Duration;

use super::super::testkit::{Bench, Event, site};
use super::super::{AccumulateOp, Accumulator, CheckTime, FlushReason, StateOf};
use crate::model::{Completeness, Signal, Timestamp};
use crate::observe::StageAccount;
use crate::policy::{AccumulatorPolicy, RebalancePolicy, TimeDomain};
use crate::shard::{ShardControl, ShardMove, seats};
use crate::stage::StageSite;
use crate::sync::Doorbell;

/// A key, an event time, and what counts.
type Item = (u32, i64, u64);

/// Adds up; complete with the sum of 100.
#[derive(Clone)]
struct Sum;

impl Accumulator<Item> for Sum {
    type Key = u32;
    type State = u64;
    type Out = (u32, u64);

    fn key(&self, item: &Item) -> u32 {
        item.0
    }

    fn timestamp(&self, item: &Item, _time: CheckTime) -> Timestamp {
        Timestamp(item.1)
    }

    fn init(&mut self, _key: &u32, _first: &Item) -> u64 {
        0
    }

    fn update(&mut self, of: &mut StateOf<Item, Self>, item: Item) {
        of.state += item.2;
    }

    fn check(&mut self, of: &mut StateOf<Item, Self>, _time: CheckTime) -> Completeness<(u32, u64)> {
        if of.state == 100 { Completeness::Complete((of.key, 100)) } else { Completeness::Incomplete }
    }

    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, _reason: FlushReason) -> Option<(u32, u64)> {
        Some((of.key, of.state))
    }
}

const KEYS: u32 = 40;

struct Pair {
    control: Arc<ShardControl>,
    from: Bench<Item, AccumulateOp<Item, Sum>>,
    to: Bench<Item, AccumulateOp<Item, Sum>>,
}

impl Pair {
    fn new(clock: TimeDomain) -> Self {
        let control = Arc::new(ShardControl::new(RebalancePolicy::default(), 2, Vec::new()));
        let bells = [(); 2].map(|()| Arc::new(Doorbell::new()));
        let shards = seats(&control, &bells).unwrap();
        let policy = AccumulatorPolicy {
            completeness_ttl: Some(Duration::from_nanos(1_000)),
            partial_flush: true,
            clock,
            ..AccumulatorPolicy::default()
        };
        let op = |instance: usize| {
            let site = StageSite { shards: shards.get(instance).cloned(), ..site() };
            Bench::new(AccumulateOp::new(Sum, policy.clone(), &site).movable(&site))
        };
        Self { control, from: op(0), to: op(1) }
    }

    /// All shards of the first to the second; every key is with the first, though its hash may say otherwise.
    fn begin(&mut self) -> u64 {
        let all = 0..self.control.state().owners.len();
        self.control.move_shards(&all.map(|shard| ShardMove { shard, to: 1 }).collect::<Vec<_>>()).unwrap()
    }

    fn move_all(&mut self) {
        let version = self.begin();
        self.to.signal(Signal::Barrier(version));
        assert_eq!(self.to.op_room(), 0, "nothing is taken before the state has come");
        self.from.signal(Signal::Barrier(version));
        self.from.settle();
        self.to.settle();
        assert!(!self.control.state().moving && self.to.op_room() > 0 && self.from.op_room() > 0);
    }

    fn sum(&self) -> StageAccount {
        let mut sum = self.from.account();
        sum.add(&self.to.account());
        sum
    }
}

/// The keys whose shard was the first instance's: those that move.
fn of_the_first(pair: &Pair) -> Vec<u32> {
    let table = pair.control.assignment().before;
    (0..KEYS).filter(|key| table.owner(super::super::hash_key(key)) == 0).collect()
}

#[test]
fn a_key_that_has_moved_goes_on_where_it_was_and_keeps_its_deadline() {
    let mut pair = Pair::new(TimeDomain::Processing);
    let keys = of_the_first(&pair);
    assert!(keys.len() > 10);
    for (at, key) in keys.iter().enumerate() {
        pair.from.at(at as i64 * 10).give([(*key, 0, 60)]);
    }
    pair.from.now = 500;
    pair.to.now = 500;
    pair.move_all();
    let account = pair.from.account();
    assert_eq!((account.keys, account.items_open, account.handed_over), (0, 0, keys.len() as u64));
    let account = pair.to.account();
    assert_eq!(
        (account.keys, account.items_open, account.taken_over),
        (keys.len() as u64, account.taken_over, account.handed_over + keys.len() as u64)
    );
    // 40 more completes the first key.
    pair.to.give([(keys[0], 0, 40)]);
    assert_eq!(pair.to.take(), [(keys[0], 100)]);
    // The second came at 10: it is due at 1 010, and not before.
    assert_eq!(pair.to.op_deadline().map(|deadline| deadline <= 1_010), Some(true));
    assert_eq!(pair.to.at(1_009).take().len(), 1);
    assert_eq!(pair.to.at(1_010).take()[1..], [(keys[1], 60)]);
    // The first instance has nothing left that could fire.
    assert!(pair.from.at(10_000).take().is_empty());
    pair.to.at(10_000);
    assert_eq!(pair.to.take().len(), keys.len());
    assert_eq!(pair.sum().items_open, 0);
}

#[test]
fn a_key_that_comes_behind_the_watermark_is_let_go_of_at_once() {
    let mut pair = Pair::new(TimeDomain::Event);
    let keys = of_the_first(&pair);
    pair.from.give([(keys[0], 100, 7), (keys[1], 5_000, 8)]);
    // The inputs of the second have been idle in another way: it is ahead.
    pair.to.watermark(2_000);
    pair.move_all();
    let results = |pair: &mut Pair| pair.to.take();
    assert_eq!(results(&mut pair), [(keys[0], 7)]);
    pair.to.watermark(6_000);
    assert_eq!(results(&mut pair), [(keys[0], 7), (keys[1], 8)]);
    assert_eq!(pair.to.down.events.last(), Some(&Event::Signal(Signal::Watermark(Timestamp(6_000)))));
}

#[test]
fn a_stop_while_keys_are_on_their_way_counts_each_item_once() {
    let mut pair = Pair::new(TimeDomain::Processing);
    let keys = of_the_first(&pair);
    pair.from.give(keys.iter().map(|key| (*key, 0, 1)));
    let version = pair.begin();
    pair.from.signal(Signal::Barrier(version));
    pair.from.settle();
    assert_eq!(pair.from.account().handed_over, keys.len() as u64, "it is on its way");
    pair.from.close();
    pair.to.close();
    let sum = pair.sum();
    assert_eq!(
        (sum.discarded, sum.handed_over, sum.taken_over),
        (keys.len() as u64, sum.taken_over, sum.handed_over)
    );
}

#[test]
fn a_barrier_of_another_kind_is_passed_on() {
    let mut pair = Pair::new(TimeDomain::Processing);
    pair.from.signal(Signal::Barrier(77));
    assert_eq!(pair.from.down.events, [Event::Signal(Signal::Barrier(77))]);
}
