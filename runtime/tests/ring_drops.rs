//! Every item is dropped exactly once, whatever panics.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use corelane::model::Signal;
use corelane::ring::{Consumer, Producer, ring};

/// How often each item was dropped.
#[derive(Clone, Default)]
struct Drops(Rc<RefCell<Vec<u32>>>);

struct Item {
    id: usize,
    panics: bool,
    drops: Drops,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.drops.0.borrow_mut()[self.id] += 1;
        assert!(!self.panics, "an item's drop panics");
    }
}

impl Drops {
    fn item(&self) -> Item {
        let mut drops = self.0.borrow_mut();
        drops.push(0);
        Item { id: drops.len() - 1, panics: false, drops: self.clone() }
    }

    fn items(&self, n: usize) -> impl Iterator<Item = Item> {
        (0..n).map(|_| self.item())
    }

    fn assert_each_once(&self) {
        let drops = self.0.borrow();
        assert!(drops.iter().all(|&n| n == 1), "{drops:?}");
    }

    /// A ring of 4 whose positions have moved on by `moved`, so that the next items wrap.
    fn ring(&self, moved: usize) -> (Producer<Item>, Consumer<Item>) {
        let (mut producer, mut consumer) = ring(4).unwrap();
        for item in self.items(moved) {
            producer.push(item).ok().unwrap();
            producer.publish();
            drop(consumer.pop());
        }
        (producer, consumer)
    }
}

fn panics(f: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "this was to panic");
}

fn drop_ends(producer: Producer<Item>, consumer: Consumer<Item>, producer_first: bool) {
    if producer_first {
        drop(producer);
        drop(consumer);
    } else {
        drop(consumer);
        drop(producer);
    }
}

#[test]
fn an_evicted_item_is_the_producers_and_the_ring_drops_the_others() {
    for (moved, n) in (0..4).flat_map(|moved| (0..=4).map(move |n| (moved, n))) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        consumer.allow_evictions();
        producer.extend(&mut drops.items(4));
        let held: Vec<Item> = (0..n).map_while(|_| producer.evict_oldest()).collect();
        assert_eq!(
            held.iter().map(|item| item.id).collect::<Vec<_>>(),
            (moved..moved + n).collect::<Vec<_>>()
        );
        assert_eq!(producer.extend(&mut drops.items(9)), n, "their slots are free at once");
        drop(consumer);
        drop((producer, held));
        drops.assert_each_once();
    }
}

#[test]
fn what_the_consumer_has_claimed_is_not_evicted_and_is_dropped_with_the_ring() {
    for (moved, claimed, evicted, taken) in (0..4).flat_map(|moved| {
        let each = (1..4).flat_map(|claimed| (0..4).map(move |evicted| (claimed, evicted)));
        each.flat_map(move |(claimed, evicted)| {
            (0..=claimed).map(move |taken| (moved, claimed, evicted, taken))
        })
    }) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        consumer.allow_evictions();
        producer.extend(&mut drops.items(4));
        producer.publish();
        assert_eq!(consumer.read(claimed).by_ref().take(taken).count(), taken);
        let held: Vec<Item> = (0..evicted).map_while(|_| producer.evict_oldest()).collect();
        assert_eq!(held.len(), evicted.min(4 - claimed));
        assert!(held.first().is_none_or(|item| item.id == moved + claimed));
        // Slots behind one that is still claimed are not free.
        let free = taken + if taken == claimed { held.len() } else { 0 };
        assert_eq!(producer.extend(&mut drops.items(9)), free);
        if moved % 2 == 0 {
            drop(consumer);
            drop((producer, held));
        } else {
            drop((producer, held));
            drop(consumer);
        }
        drops.assert_each_once();
    }
}

#[test]
fn items_left_in_the_ring_are_dropped_with_it() {
    for (moved, n) in (0..4).flat_map(|moved| (0..=4).map(move |n| (moved, n))) {
        for (taken, producer_first) in (0..=n).flat_map(|taken| [(taken, true), (taken, false)]) {
            let drops = Drops::default();
            let (mut producer, mut consumer) = drops.ring(moved);
            producer.extend(&mut drops.items(n));
            if n < 3 {
                producer.publish();
            }
            consumer.read(taken).for_each(drop);
            drop_ends(producer, consumer, producer_first);
            drops.assert_each_once();
        }
    }
}

#[test]
fn an_item_given_back_by_a_full_ring_is_the_callers() {
    let drops = Drops::default();
    let (mut producer, _consumer) = drops.ring(0);
    assert_eq!(producer.extend(&mut drops.items(9)), 4);
    let refused = producer.push(drops.item()).unwrap_err();
    assert_eq!(drops.0.borrow().iter().sum::<u32>(), 0);
    drop(refused);
    drop((producer, _consumer));
    drops.assert_each_once();
    assert_eq!(drops.0.borrow().len(), 5, "extend pulled an item it could not store");
}

#[test]
fn a_panic_in_for_each_takes_the_items_it_was_given() {
    for (moved, n) in (0..4).flat_map(|moved| (1..=4).map(move |n| (moved, n))) {
        for at in 0..n {
            let drops = Drops::default();
            let (mut producer, mut consumer) = drops.ring(moved);
            producer.extend(&mut drops.items(n));
            producer.publish();
            panics(|| consumer.read(n).for_each(|item| assert!(item.id < moved + at, "the stage panics")));
            assert_eq!(consumer.popped(), (moved + at + 1) as u64);
            assert_eq!(consumer.len(), n - at - 1);
            assert_eq!(producer.free_for(4), 4 - consumer.len(), "what was taken is free");
            if let Some(next) = consumer.peek() {
                assert_eq!(next.id, moved + at + 1);
            }
            drop((producer, consumer));
            drops.assert_each_once();
        }
    }
}

#[test]
fn a_panic_over_a_run_takes_the_items_it_was_given() {
    for (moved, at) in (0..4).flat_map(|moved| (0..4).map(move |at| (moved, at))) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        producer.extend(&mut drops.items(4));
        producer.publish();
        panics(|| {
            let mut chunk = consumer.read(4);
            while chunk.len() > 0 {
                chunk.run().for_each(|item| assert!(item.id < moved + at, "the stage panics"));
            }
        });
        assert_eq!((consumer.popped(), consumer.len()), ((moved + at + 1) as u64, 3 - at));
        drop((producer, consumer));
        drops.assert_each_once();
    }
}

#[test]
fn a_panic_in_the_iterator_of_extend_keeps_the_items_before() {
    for (moved, at) in (0..4).flat_map(|moved| (0..4).map(move |at| (moved, at))) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        let mut items = drops.items(4).inspect(|item| assert!(item.id < moved + at, "the source panics"));
        panics(|| {
            producer.extend(&mut items);
        });
        drop(items);
        assert_eq!(producer.pushed(), (moved + at) as u64);
        producer.publish();
        assert_eq!(
            consumer.read(4).map(|item| item.id).collect::<Vec<_>>(),
            (moved..moved + at).collect::<Vec<_>>()
        );
        assert_eq!(producer.extend(&mut drops.items(9)), 4, "the ring goes on");
        drop((producer, consumer));
        drops.assert_each_once();
    }
}

#[test]
fn evictions_leave_the_signals_around_them() {
    for moved in 0..4 {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        consumer.allow_evictions();
        producer.extend(&mut drops.items(2));
        producer.signal(Signal::Barrier(1)).unwrap();
        producer.extend(&mut drops.items(2));
        producer.publish();
        assert_eq!((0..3).filter_map(|_| producer.evict_oldest()).map(drop).count(), 3);
        assert_eq!((consumer.available(), consumer.len()), (0, 1));
        assert_eq!(consumer.evicted(), 2, "no further than the signal");
        assert_eq!(consumer.next_signal(), Some(Signal::Barrier(1)));
        assert_eq!(consumer.read(4).map(|item| item.id).collect::<Vec<_>>(), [moved + 3]);
        assert_eq!((consumer.evicted(), consumer.popped()), (3, moved as u64 + 1));
        drop((producer, consumer));
        drops.assert_each_once();
    }
}

#[test]
fn a_panic_in_an_items_drop_loses_no_other_item() {
    for (moved, at) in (0..4).flat_map(|moved| (0..4).map(move |at| (moved, at))) {
        for (claimed, evicted) in [(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)] {
            let drops = Drops::default();
            let (mut producer, mut consumer) = drops.ring(moved);
            consumer.allow_evictions();
            producer.extend(&mut drops.items(4).map(|mut item| {
                item.panics = item.id == moved + at;
                item
            }));
            producer.publish();
            drop(consumer.read(claimed));
            let held: Vec<Item> = (0..evicted).filter_map(|_| producer.evict_oldest()).collect();
            assert_eq!(held.len(), evicted);
            panics(|| drop((held, producer, consumer)));
            drops.assert_each_once();
        }
    }
}

#[test]
fn items_not_taken_from_a_chunk_stay() {
    let drops = Drops::default();
    let (mut producer, mut consumer) = drops.ring(3);
    producer.extend(&mut drops.items(4));
    producer.publish();
    drop(consumer.read(4));
    let mut chunk = consumer.read(3);
    assert_eq!(chunk.next().map(|item| item.id), Some(3));
    assert_eq!(chunk.len(), 2);
    drop(chunk);
    assert_eq!(consumer.popped(), 4);
    assert_eq!(consumer.read(4).map(|item| item.id).collect::<Vec<_>>(), [4, 5, 6]);
    drop((producer, consumer));
    drops.assert_each_once();
}

#[test]
fn items_not_taken_from_a_run_stay_in_the_chunk() {
    let drops = Drops::default();
    let (mut producer, mut consumer) = drops.ring(2);
    producer.extend(&mut drops.items(4));
    producer.publish();
    let mut chunk = consumer.read(4);
    assert_eq!(chunk.run().len(), 2, "up to the wrap");
    assert_eq!(chunk.run().next().map(|item| item.id), Some(2));
    assert_eq!(chunk.run().len(), 1);
    assert_eq!(chunk.len(), 3);
    assert_eq!(chunk.run().map(|item| item.id).collect::<Vec<_>>(), [3]);
    assert_eq!(chunk.run().len(), 2, "behind it");
    drop(chunk);
    assert_eq!((consumer.popped(), producer.free_for(4)), (4, 2));
    drop((producer, consumer));
    drops.assert_each_once();
}

#[test]
fn items_seen_in_place_are_dropped_once_whether_taken_or_left() {
    for (moved, taken) in (0..4).flat_map(|moved| (0..3).map(move |taken| (moved, taken))) {
        for commit in [false, true] {
            let drops = Drops::default();
            let (mut producer, mut consumer) = drops.ring(moved);
            producer.extend(&mut drops.items(4));
            producer.publish();
            let mut chunk = consumer.read(3);
            chunk.by_ref().take(taken).for_each(drop);
            let (first, second) = chunk.as_slices();
            let seen: Vec<_> = first.iter().chain(second).map(|item| item.id).collect();
            assert_eq!(seen, (moved + taken..moved + 3).collect::<Vec<_>>());
            if commit {
                chunk.commit_all();
            } else {
                drop(chunk);
            }
            let gone = if commit { 3 } else { taken };
            assert_eq!(consumer.popped(), (moved + gone) as u64);
            assert_eq!(producer.free_for(4), gone, "what was taken is free, and nothing else");
            assert_eq!(consumer.peek().map(|item| item.id), Some(moved + gone));
            drop((producer, consumer));
            drops.assert_each_once();
        }
    }
}

#[test]
fn a_panic_in_the_drop_of_an_item_committed_in_place_loses_no_other() {
    for (moved, at) in (0..4).flat_map(|moved| (0..3).map(move |at| (moved, at))) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = drops.ring(moved);
        producer.extend(&mut drops.items(4).map(|mut item| {
            item.panics = item.id == moved + at;
            item
        }));
        producer.publish();
        panics(|| consumer.read(3).commit_all());
        assert_eq!((consumer.popped(), consumer.len()), (moved as u64 + 3, 1));
        drop((producer, consumer));
        drops.assert_each_once();
    }
}

#[test]
fn a_leaked_chunk_leaks_its_items_and_drops_none_twice() {
    let drops = Drops::default();
    let (mut producer, mut consumer) = drops.ring(0);
    producer.extend(&mut drops.items(4));
    producer.publish();
    let mut chunk = consumer.read(3);
    drop(chunk.next());
    std::mem::forget(chunk);
    assert_eq!(consumer.read(4).map(|item| item.id).collect::<Vec<_>>(), [3]);
    assert_eq!(producer.extend(&mut drops.items(9)), 4);
    drop((producer, consumer));
    assert_eq!(*drops.0.borrow(), [1, 0, 0, 1, 1, 1, 1, 1]);
}

#[test]
fn a_leaked_run_leaks_its_items_and_drops_none_twice() {
    let drops = Drops::default();
    let (mut producer, mut consumer) = drops.ring(0);
    producer.extend(&mut drops.items(4));
    producer.publish();
    let mut chunk = consumer.read(3);
    let mut run = chunk.run();
    drop(run.next());
    std::mem::forget(run);
    drop(chunk);
    assert_eq!(consumer.read(4).map(|item| item.id).collect::<Vec<_>>(), [3]);
    drop((producer, consumer));
    assert_eq!(*drops.0.borrow(), [1, 0, 0, 1]);
}

#[test]
fn what_is_left_in_slots_with_pages_of_their_own_is_dropped_once_before_the_pages_go() {
    const SLOTS: usize = 512;
    const { assert!(SLOTS * size_of::<Item>() >= 4096) };
    let drops = Drops::default();
    let (mut producer, mut consumer) = ring(SLOTS).unwrap();
    for _ in 0..3 {
        assert_eq!(producer.extend(&mut drops.items(SLOTS / 2)), SLOTS / 2);
        producer.publish();
        consumer.read(SLOTS / 4).for_each(drop);
    }
    drop(producer);
    drop(consumer);
    drops.assert_each_once();
}

/// Of so many items between two publications most are gathered before they are moved to their slots.
#[test]
fn items_that_are_gathered_are_dropped_once_wherever_they_are_when_the_ends_go() {
    const SLOTS: usize = 512;
    for (count, producer_first) in (0..SLOTS).step_by(37).flat_map(|count| [(count, true), (count, false)]) {
        let drops = Drops::default();
        let (mut producer, mut consumer) = ring(SLOTS).unwrap();
        for item in drops.items(count) {
            producer.push(item).ok().unwrap();
        }
        let mut rest = drops.items(SLOTS).inspect(|item| assert!(item.id < count + 20, "the source panics"));
        panics(|| assert_eq!(producer.extend(&mut rest), SLOTS - count));
        drop(rest);
        assert_eq!(producer.pushed(), (count + 20) as u64);
        producer.publish();
        let seen: Vec<usize> = consumer.read(count / 2).map(|item| item.id).collect();
        assert_eq!(seen, (0..count / 2).collect::<Vec<_>>());
        for item in drops.items(count / 2) {
            producer.push(item).ok().unwrap();
        }
        drop_ends(producer, consumer, producer_first);
        drops.assert_each_once();
    }
}

#[test]
fn items_of_no_size_are_counted_and_dropped() {
    thread_local!(static DROPPED: RefCell<u32> = const { RefCell::new(0) });
    struct Token;
    impl Drop for Token {
        fn drop(&mut self) {
            DROPPED.with_borrow_mut(|n| *n += 1);
        }
    }
    let dropped = || DROPPED.with_borrow(|n| *n);
    let (mut producer, mut consumer) = ring::<Token>(3).unwrap();
    consumer.pretouch();
    assert_eq!(producer.extend(&mut std::iter::repeat_with(|| Token)), 4);
    producer.publish();
    assert_eq!(consumer.read(1).count(), 1);
    assert_eq!(dropped(), 1);
    consumer.allow_evictions();
    drop(producer.evict_oldest());
    assert_eq!((consumer.available(), dropped()), (2, 2));
    drop((producer, consumer));
    assert_eq!(dropped(), 4);
}
