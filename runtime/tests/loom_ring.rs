//! The ring and the doorbell under every interleaving and every weak-memory outcome that loom knows.
//!
//! Run with `RUSTFLAGS="--cfg corelane_loom" cargo test --release -p corelane --test loom_ring`.
#![cfg(corelane_loom)]
#![allow(clippy::unwrap_used, reason = "in tests")]

use std::sync::Arc;

use corelane::model::Signal;
use corelane::ring::{Consumer, Producer, ring};
use corelane::sync::Doorbell;
use loom::thread;

#[derive(Debug, PartialEq)]
enum Seen {
    Item(u64),
    Signal(Signal),
}

use Seen::Item;

/// Every schedule with at most three preemptions, where all schedules would take minutes.
fn bounded_model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(f);
}

/// What the consumer can take right now.
fn take(consumer: &mut Consumer<u64>, seen: &mut Vec<Seen>) {
    let mut chunk = consumer.read_run(usize::MAX);
    seen.extend(chunk.run().map(Item));
    assert_eq!(chunk.len(), 0, "all is in one run");
    drop(chunk);
    if let Some(signal) = consumer.next_signal() {
        seen.push(Seen::Signal(signal));
    }
}

/// All there is, until the producer is gone.
fn take_all(consumer: &mut Consumer<u64>) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let last = consumer.is_abandoned();
        take(consumer, &mut seen);
        if last && consumer.is_empty() {
            return seen;
        }
        thread::yield_now();
    }
}

fn push(producer: &mut Producer<u64>, item: u64) {
    while producer.push(item).is_err() {
        producer.publish();
        thread::yield_now();
    }
}

/// A bell that unparks the thread it is made on.
fn bell() -> Arc<Doorbell> {
    let bell = Arc::new(Doorbell::new());
    let owner = thread::current();
    bell.set_waker(move || owner.unpark());
    bell
}

/// Parks unless `ready`, the way a driver does. Never woken = deadlock, which loom reports.
fn park_unless(bell: &Doorbell, mut ready: impl FnMut() -> bool) {
    bell.announce();
    if !ready() {
        while !bell.is_rung() {
            thread::park();
        }
    }
    bell.retract();
}

#[test]
fn items_arrive_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let other = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            push(&mut producer, 2);
            push(&mut producer, 3);
        });
        assert_eq!(take_all(&mut consumer), [Item(1), Item(2), Item(3)]);
        other.join().unwrap();
    });
}

#[test]
fn items_and_signals_taken_one_at_a_time_arrive_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(1).unwrap();
        let other = thread::spawn(move || {
            push(&mut producer, 1);
            producer.signal(Signal::Barrier(1)).unwrap();
            push(&mut producer, 2);
        });
        let mut seen = Vec::new();
        while seen.len() < 3 {
            // A look in vain at items alone, and one at signals too.
            match consumer.pop() {
                Some(item) => seen.push(Item(item)),
                None => seen.extend(consumer.next_signal().map(Seen::Signal)),
            }
            thread::yield_now();
        }
        assert_eq!(seen, [Item(1), Seen::Signal(Signal::Barrier(1)), Item(2)]);
        assert_eq!(consumer.pop(), None);
        other.join().unwrap();
    });
}

#[test]
fn an_item_that_is_taken_is_not_evicted() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        consumer.allow_evictions();
        let other = thread::spawn(move || push_evicting(&mut producer));
        let mut seen: Vec<Seen> = consumer.pop().map(Item).into_iter().collect();
        seen.extend(take_all(&mut consumer));
        check_evicted(seen, &other.join().unwrap());
    });
}

#[test]
fn items_copied_in_and_read_in_place_arrive_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<u64>(2).unwrap();
        let other = thread::spawn(move || {
            // The second copy wraps; what it writes over must have been committed.
            let mut items = &[1, 2, 3][..];
            while !items.is_empty() {
                items = &items[producer.push_slice(items)..];
                producer.publish();
                if !items.is_empty() {
                    thread::yield_now();
                }
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let chunk = consumer.read(usize::MAX);
            let (first, second) = chunk.as_slices();
            seen.extend(first.iter().chain(second).copied());
            chunk.commit_all();
            thread::yield_now();
        }
        assert_eq!(seen, [1, 2, 3]);
        other.join().unwrap();
    });
}

/// In a ring of more than two slots items are gathered by twos, from the second publication on.
#[test]
fn items_that_are_gathered_arrive_once_and_in_order() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(4).unwrap();
        let other = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            // What is copied comes behind what is gathered; the last two wrap.
            push(&mut producer, 2);
            push(&mut producer, 3);
            while producer.push_slice(&[4]) == 0 {
                thread::yield_now();
            }
            push(&mut producer, 5);
            push(&mut producer, 6);
        });
        assert_eq!(take_all(&mut consumer), (1..=6).map(Item).collect::<Vec<_>>());
        other.join().unwrap();
    });
}

#[test]
fn an_item_that_is_gathered_is_read_or_evicted() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring::<u64>(4).unwrap();
        consumer.allow_evictions();
        let other = thread::spawn(move || {
            push(&mut producer, 1);
            producer.publish();
            let mut evicted = Vec::new();
            for item in 2..=6 {
                while producer.push(item).is_err() {
                    match producer.evict_oldest() {
                        Some(item) => evicted.push(item),
                        None => thread::yield_now(),
                    }
                }
            }
            evicted
        });
        let mut all: Vec<u64> = take_all(&mut consumer)
            .into_iter()
            .map(|seen| match seen {
                Item(item) => item,
                Seen::Signal(signal) => panic!("{signal:?}"),
            })
            .collect();
        assert!(all.is_sorted(), "{all:?}");
        all.extend(other.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_signal_is_seen_after_the_items_before_it_and_before_those_behind() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let other = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.publish();
            producer.signal(Signal::Barrier(1)).unwrap();
            producer.push(2).unwrap();
            producer.publish();
            producer.signal(Signal::End).unwrap();
        });
        let expected = [Item(1), Seen::Signal(Signal::Barrier(1)), Item(2), Seen::Signal(Signal::End)];
        assert_eq!(take_all(&mut consumer), expected);
        other.join().unwrap();
    });
}

#[test]
fn a_slot_of_the_signal_ring_is_reused_only_after_it_was_read() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<u64>(1).unwrap();
        let other = thread::spawn(move || {
            for barrier in 1..=3 {
                while producer.signal(Signal::Barrier(barrier)).is_err() {
                    producer.publish();
                    thread::yield_now();
                }
            }
        });
        let seen = take_all(&mut consumer);
        assert_eq!(seen, [1, 2, 3].map(|barrier| Seen::Signal(Signal::Barrier(barrier))));
        other.join().unwrap();
    });
}

/// Items 1 to 3 through a ring of 2 whose producer evicts what the consumer does not take in time; what it evicted.
fn push_evicting(producer: &mut Producer<u64>) -> Vec<u64> {
    producer.push(1).unwrap();
    producer.signal(Signal::Barrier(1)).unwrap();
    producer.push(2).unwrap();
    producer.publish();
    let mut evicted = Vec::new();
    while producer.push(3).is_err() {
        match producer.evict_oldest() {
            Some(item) => evicted.push(item),
            // The consumer has claimed both, or does not claim yet.
            None => thread::yield_now(),
        }
    }
    evicted
}

/// Each of the three was seen or evicted, not both, in order; the barrier behind item 1, whatever became of that.
fn check_evicted(seen: Vec<Seen>, evicted: &[u64]) {
    let barrier = Seen::Signal(Signal::Barrier(1));
    let at = seen.iter().position(|s| *s == barrier).unwrap();
    assert!(
        seen[..at].iter().all(|s| *s == Item(1)) && seen[at + 1..].iter().all(|s| *s != Item(1)),
        "{seen:?}"
    );
    let mut all: Vec<u64> =
        seen.iter().filter_map(|s| if let Item(x) = s { Some(*x) } else { None }).collect();
    assert!(all.is_sorted() && evicted.is_sorted(), "{seen:?}, {evicted:?} evicted");
    all.extend(evicted);
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3], "{seen:?}, {evicted:?} evicted");
}

#[test]
fn an_item_is_read_or_evicted_and_signals_stay() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        consumer.allow_evictions();
        let other = thread::spawn(move || push_evicting(&mut producer));
        let seen = take_all(&mut consumer);
        let evicted = other.join().unwrap();
        assert_eq!(consumer.evicted(), evicted.len() as u64);
        check_evicted(seen, &evicted);
    });
}

#[test]
fn an_item_that_is_looked_at_is_not_evicted_and_its_slot_not_reused() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        consumer.allow_evictions();
        let other = thread::spawn(move || push_evicting(&mut producer));
        let mut seen = Vec::new();
        let looked_at = consumer.peek().copied();
        if looked_at.is_some() {
            thread::yield_now();
            assert_eq!(consumer.peek().copied(), looked_at);
            assert_eq!(consumer.read(2).next(), looked_at);
        }
        seen.extend(looked_at.map(Item));
        seen.extend(take_all(&mut consumer));
        check_evicted(seen, &other.join().unwrap());
    });
}

#[test]
fn evictions_may_be_allowed_while_the_producer_runs() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let other = thread::spawn(move || push_evicting(&mut producer));
        let mut seen = Vec::new();
        seen.extend(consumer.read(1).map(Item));
        consumer.allow_evictions();
        seen.extend(take_all(&mut consumer));
        check_evicted(seen, &other.join().unwrap());
    });
}

#[test]
fn what_is_evicted_and_what_is_left_is_dropped_once_when_both_ends_go() {
    bounded_model(|| {
        let kept = Arc::new(());
        let (mut producer, mut consumer) = ring(2).unwrap();
        consumer.allow_evictions();
        let item = Arc::clone(&kept);
        let other = thread::spawn(move || {
            producer.push(Arc::clone(&item)).unwrap();
            producer.push(item).unwrap();
            producer.publish();
            drop(producer.evict_oldest());
        });
        let _ = consumer.peek().is_some();
        drop(consumer);
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
    });
}

#[test]
fn touching_the_slots_never_meets_an_item() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let other = thread::spawn(move || {
            push(&mut producer, 1);
            push(&mut producer, 2);
        });
        consumer.pretouch();
        assert_eq!(take_all(&mut consumer), [Item(1), Item(2)]);
        other.join().unwrap();
    });
}

#[test]
fn a_parked_consumer_is_woken_by_publish() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let bell = bell();
        producer.attach_doorbell(Arc::clone(&bell));
        let other = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.publish();
            // Stays alive: the bell of its drop must not be what wakes the consumer.
            producer
        });
        while consumer.is_empty() {
            park_unless(&bell, || !consumer.is_empty());
        }
        assert_eq!(consumer.read(2).next(), Some(1));
        drop(other.join().unwrap());
    });
}

#[test]
fn a_parked_consumer_is_woken_by_a_signal_and_by_the_end_of_the_producer() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<u64>(2).unwrap();
        let bell = bell();
        producer.attach_doorbell(Arc::clone(&bell));
        let other = thread::spawn(move || {
            producer.signal(Signal::Idle).unwrap();
            producer.publish();
        });
        while consumer.is_empty() {
            park_unless(&bell, || !consumer.is_empty());
        }
        assert_eq!(consumer.next_signal(), Some(Signal::Idle));
        while !consumer.is_abandoned() {
            park_unless(&bell, || consumer.is_abandoned());
        }
        other.join().unwrap();
    });
}

#[test]
fn a_parked_producer_is_woken_when_there_is_room() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(1).unwrap();
        let bell = bell();
        consumer.attach_doorbell(Arc::clone(&bell));
        producer.push(1).unwrap();
        producer.publish();
        let other = thread::spawn(move || {
            assert_eq!(consumer.read(1).next(), Some(1));
            consumer
        });
        while producer.push(2).is_err() {
            park_unless(&bell, || producer.free_for(1) > 0);
        }
        drop(other.join().unwrap());
    });
}

#[test]
fn a_parked_producer_is_woken_by_a_grant() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2).unwrap();
        let bell = bell();
        consumer.attach_doorbell(Arc::clone(&bell));
        consumer.grant(0);
        let other = thread::spawn(move || {
            consumer.grant(1);
            consumer
        });
        while producer.push(1).is_err() {
            park_unless(&bell, || producer.free_for(1) > 0);
        }
        assert_eq!(producer.push(2), Err(2));
        drop(other.join().unwrap());
    });
}

#[test]
fn a_parked_producer_is_woken_again_and_again() {
    bounded_model(|| {
        let (mut producer, mut consumer) = ring(1).unwrap();
        let bell = bell();
        consumer.attach_doorbell(Arc::clone(&bell));
        producer.push(1).unwrap();
        producer.publish();
        let other = thread::spawn(move || {
            let mut next = 1;
            while next <= 2 {
                match consumer.pop() {
                    Some(item) => {
                        assert_eq!(item, next);
                        next += 1;
                    }
                    None => thread::yield_now(),
                }
            }
            consumer
        });
        for item in 2..=3 {
            while producer.push(item).is_err() {
                park_unless(&bell, || producer.free_for(1) > 0);
            }
            producer.publish();
        }
        drop(other.join().unwrap());
    });
}

#[test]
fn a_parked_producer_is_woken_when_there_is_room_for_a_signal() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<u64>(1).unwrap();
        let bell = bell();
        consumer.attach_doorbell(Arc::clone(&bell));
        while producer.signal(Signal::Idle).is_ok() {}
        producer.publish();
        let other = thread::spawn(move || {
            assert_eq!(consumer.next_signal(), Some(Signal::Idle));
            consumer
        });
        while producer.signal(Signal::End).is_err() {
            park_unless(&bell, || producer.signal_room() > 0);
        }
        drop(other.join().unwrap());
    });
}

#[test]
fn a_waker_runs_at_most_once_per_announcement() {
    loom::model(|| {
        let woken = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let bell = Arc::new(Doorbell::new());
        let count = Arc::clone(&woken);
        bell.set_waker(move || {
            count.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
        });
        bell.announce();
        let ringers = [Arc::clone(&bell), Arc::clone(&bell)].map(|bell| thread::spawn(move || bell.ring()));
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
        assert!(bell.is_rung());
        assert_eq!(woken.load(loom::sync::atomic::Ordering::Relaxed), 1);
    });
}
