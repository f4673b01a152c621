//! Two threads use everything a ring has, and the result is checked: a target for ThreadSanitizer.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!     cargo run --target x86_64-unknown-linux-gnu -p corelane --example tsan_ring
//! ```
#![allow(clippy::disallowed_methods, reason = "a program of its own, not part of the runtime")]

use std::sync::Arc;
use std::thread;

use corelane::model::Signal;
use corelane::policy::MemoryLocality;
use corelane::ring::{Consumer, Producer, ring};
use corelane::sync::{Doorbell, HomeNode};

const ITEMS: u64 = 60_000;
/// Items between two signals.
const STRIDE: u64 = 1000;

/// On the heap, so that a slot read too early or too late is a race on the item's memory as well.
type Item = Box<u64>;

fn bell_of_this_thread() -> Arc<Doorbell> {
    let bell = Arc::new(Doorbell::new());
    let owner = thread::current();
    bell.set_waker(move || owner.unpark());
    bell
}

fn park_unless(bell: &Doorbell, mut ready: impl FnMut() -> bool) {
    bell.announce();
    if !ready() {
        while !bell.is_rung() {
            thread::park();
        }
    }
    bell.retract();
}

/// How many it evicted.
fn produce(mut producer: Producer<Item>, bell: &Doorbell, evict: bool) -> u64 {
    let (mut next, mut evicted) = (0, 0);
    while next < ITEMS {
        let mut items = (next..(next / STRIDE + 1) * STRIDE).map(Box::new);
        next += if next % 3 == 0 {
            producer.extend(&mut items) as u64
        } else {
            // Alone, or as many as are gathered.
            let many = if next % 3 == 1 { 300 } else { 1 };
            items.take(many).map_while(|item| producer.push(item).ok()).count() as u64
        };
        if evict && next % 7 == 0 {
            evicted +=
                (0..2).filter_map(|_| producer.evict_oldest()).filter(|item| **item < next).count() as u64;
        }
        if next % STRIDE == 0 {
            signal(&mut producer, bell, Signal::Barrier(next));
        }
        producer.publish();
        if producer.free_for(1) == 0 {
            park_unless(bell, || producer.free_for(1) > 0);
        }
    }
    signal(&mut producer, bell, Signal::End);
    evicted
}

fn signal(producer: &mut Producer<Item>, bell: &Doorbell, signal: Signal) {
    while producer.signal_room() == 0 {
        park_unless(bell, || producer.signal_room() > 0);
    }
    let _ = producer.signal(signal);
    producer.publish();
}

fn consume(mut consumer: Consumer<Item>, bell: &Doorbell) -> Consumer<Item> {
    let (mut next, mut barrier, mut taken) = (0, 0, 0);
    loop {
        if consumer.is_empty() {
            park_unless(bell, || !consumer.is_empty());
        }
        if barrier % (3 * STRIDE) == 0
            && let Some(first) = consumer.peek()
        {
            assert!(next <= **first);
        }
        let one = taken % 7 == 0;
        let mut take = |item: &Item| {
            assert!(next <= **item && barrier <= **item, "{item} after {next} and barrier {barrier}");
            next = **item + 1;
            taken += 1;
        };
        if one && let Some(item) = consumer.pop() {
            take(&item);
        }
        let mut chunk = consumer.read(64);
        if chunk.len().is_multiple_of(3) {
            chunk.run().for_each(|item| take(&item));
            drop(chunk);
        } else if chunk.len().is_multiple_of(2) {
            chunk.for_each(|item| take(&item));
        } else {
            let (first, second) = chunk.as_slices();
            first.iter().chain(second).for_each(take);
            chunk.commit_all();
        }
        match consumer.next_signal() {
            Some(Signal::Barrier(at)) => {
                assert!(next <= at, "the barrier at {at} came after {next}");
                assert_eq!(consumer.popped() + consumer.evicted(), at);
                barrier = at;
            }
            Some(_) => break,
            None => {}
        }
    }
    assert_eq!(consumer.popped(), taken);
    assert_eq!(consumer.popped() + consumer.evicted(), ITEMS);
    consumer
}

/// Copied in and read in place, by whole slices.
fn copies(capacity: usize) {
    let (mut producer, mut consumer) = ring::<u64>(capacity).expect("a small ring");
    let items: Vec<u64> = (0..ITEMS).collect();
    let other = thread::spawn(move || {
        let mut left = &items[..];
        while !left.is_empty() {
            let part = &left[..left.len().min(7)];
            left = &left[producer.push_slice(part)..];
            producer.publish();
            thread::yield_now();
        }
    });
    let mut next = 0;
    while next < ITEMS {
        let chunk = consumer.read(64);
        let (first, second) = chunk.as_slices();
        for item in first.iter().chain(second) {
            assert_eq!(*item, next);
            next += 1;
        }
        chunk.commit_all();
        thread::yield_now();
    }
    other.join().expect("the producer does not panic");
    println!("capacity {capacity}: copied {next}");
}

fn main() {
    [1, 2, 64].into_iter().for_each(copies);
    for (capacity, evict) in [(1, false), (2, true), (64, false), (64, true), (4096, false), (4096, true)] {
        let (mut producer, mut consumer) = ring(capacity).expect("a small ring");
        let main_bell = bell_of_this_thread();
        producer.attach_doorbell(Arc::clone(&main_bell));
        let (send_bell, receive_bell) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            let bell = bell_of_this_thread();
            send_bell.send(Arc::clone(&bell)).expect("main waits for it");
            produce(producer, &bell, evict)
        });
        consumer.attach_doorbell(receive_bell.recv().expect("the producer sends it"));
        // Of these slots the largest have pages of their own.
        let home = HomeNode { node: 0, locality: MemoryLocality::Local };
        let pages = consumer.settle(home).expect("a wish that is not strict");
        if evict {
            consumer.allow_evictions();
        }
        let consumer = consume(consumer, &main_bell);
        let evicted = other.join().expect("the producer does not panic");
        println!(
            "capacity {capacity}: popped {} + evicted {evicted}, {:?}",
            consumer.popped(),
            pages.look().ok()
        );
        assert_eq!(consumer.evicted(), evicted);
        assert_eq!(evict, evicted > 0);
    }
    println!("ok");
}
