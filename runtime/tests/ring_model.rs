//! The ring against the dumbest thing that is right: one `VecDeque` in which items and signals stand in order.
#![allow(clippy::unwrap_used, reason = "in tests")]

use corelane::model::{Signal, Timestamp};
use corelane::observe::PageNodes;
use corelane::policy::MemoryLocality;
use corelane::ring::{Consumer, MAX_CAPACITY, Producer, RingError, SIGNAL_CAPACITY, ring};
use corelane::sync::{BindError, HomeNode};
use proptest::prelude::*;

mod ring_kit;

use ring_kit::{Entry, Model, gone, items};

#[derive(Clone, Copy, Debug)]
enum Op {
    Push,
    PushReady,
    ForgetRoom,
    Extend(usize),
    PushSlice(usize),
    Publish,
    Signal(i64),
    SignalRoom,
    FreeFor(usize),
    Evict(usize),
    AllowEvictions,
    Available,
    /// Read a chunk of at most `max` and take at most `take` of each of its runs, one by one.
    ReadRuns {
        max: usize,
        take: usize,
    },
    /// Read a run of at most `max` and take at most `take` of it, one by one.
    ReadRun {
        max: usize,
        take: usize,
    },
    /// Read a chunk of at most `max` and take at most `take` of it one by one, or all of it by `for_each`.
    Read {
        max: usize,
        take: usize,
        whole: bool,
    },
    /// Read a chunk of at most `max`, take `take` of it one by one, look at the rest in place, and take that or leave it.
    ReadSlices {
        max: usize,
        take: usize,
        commit: bool,
    },
    Peek,
    Pop,
    NextSignal,
    IsEmpty,
    /// The producer may have this many more than have been taken; any number, if `None`.
    Grant(Option<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Push),
        3 => Just(Op::PushReady),
        1 => Just(Op::ForgetRoom),
        3 => (0..12usize).prop_map(Op::Extend),
        3 => (0..12usize).prop_map(Op::PushSlice),
        4 => Just(Op::Publish),
        2 => any::<i64>().prop_map(Op::Signal),
        1 => Just(Op::SignalRoom),
        2 => (0..12usize).prop_map(Op::FreeFor),
        3 => (0..6usize).prop_map(Op::Evict),
        1 => Just(Op::AllowEvictions),
        1 => Just(Op::Available),
        6 => (0..12usize, 0..12usize, any::<bool>()).prop_map(|(max, take, whole)| Op::Read { max, take, whole }),
        3 => (0..12usize, 0..12usize).prop_map(|(max, take)| Op::ReadRuns { max, take }),
        3 => (0..12usize, 0..12usize).prop_map(|(max, take)| Op::ReadRun { max, take }),
        3 => (0..12usize, 0..4usize, any::<bool>())
            .prop_map(|(max, take, commit)| Op::ReadSlices { max, take, commit }),
        1 => Just(Op::Peek),
        2 => Just(Op::Pop),
        3 => Just(Op::NextSignal),
        2 => prop::option::of(0..9u64).prop_map(Op::Grant),
        1 => Just(Op::IsEmpty),
    ]
}

struct Pair {
    producer: Producer<u64>,
    consumer: Consumer<u64>,
    model: Model,
    next: u64,
}

impl Pair {
    fn new(capacity: usize) -> Self {
        let (producer, consumer) = ring(capacity).unwrap();
        let model = Model { capacity: capacity.next_power_of_two(), ..Model::default() };
        Self { producer, consumer, model, next: 0 }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Push
            | Op::PushReady
            | Op::ForgetRoom
            | Op::Extend(_)
            | Op::PushSlice(_)
            | Op::Publish
            | Op::FreeFor(_) => self.write(op),
            Op::Signal(_) | Op::SignalRoom | Op::Evict(_) | Op::AllowEvictions | Op::Grant(_) => {
                self.steer(op)
            }
            _ => {
                self.model.settle();
                self.take(op);
            }
        }
        let (model, consumer) = (&self.model, &self.consumer);
        assert_eq!(self.producer.pushed(), model.pushed);
        assert_eq!((consumer.popped(), consumer.evicted()), (model.popped, model.passed));
        assert_eq!(consumer.len(), items(&model.published));
        assert!(consumer.len() <= model.capacity);
        let (pending, gone) = (items(&model.pending), gone(&model.published) as u64);
        assert_eq!(consumer.position(), model.popped + model.passed);
        assert_eq!(consumer.published(), consumer.position() + gone + consumer.len() as u64);
        assert!(consumer.known() as u64 <= gone + consumer.len() as u64);
        assert_eq!(self.producer.released(), consumer.position() + if model.owned > 0 { 0 } else { gone });
        assert_eq!(self.producer.may_evict(), model.evictable);
        assert!(!model.evictable || self.producer.waiting() == consumer.len() - model.owned + pending);
        assert_eq!(model.pushed, model.popped + model.evicted + (consumer.len() + pending) as u64);
    }

    fn write(&mut self, op: Op) {
        let (producer, model) = (&mut self.producer, &mut self.model);
        let free = model.free();
        match op {
            Op::Push => {
                let pushed = producer.push(self.next);
                assert_eq!(pushed, if free > 0 { Ok(()) } else { Err(self.next) });
                if pushed.is_ok() {
                    model.push(self.next);
                    self.next += 1;
                }
            }
            Op::PushReady => {
                let pushed = producer.push_ready(self.next);
                assert!(pushed == Err(self.next) || free > 0);
                if pushed.is_ok() {
                    model.push(self.next);
                    self.next += 1;
                }
            }
            Op::ForgetRoom => {
                producer.forget_room();
                assert_eq!(producer.push_ready(self.next), Err(self.next));
            }
            Op::Extend(n) => {
                let mut values = self.next..self.next + n as u64;
                let written = producer.extend(&mut values);
                assert_eq!(written, n.min(free));
                (self.next..values.start).for_each(|value| model.push(value));
                assert_eq!(values.start - self.next, written as u64, "an item was pulled and lost");
                self.next = values.start;
            }
            Op::PushSlice(n) => {
                let values: Vec<u64> = (self.next..self.next + n as u64).collect();
                let written = producer.push_slice(&values);
                assert_eq!(written, n.min(free));
                values[..written].iter().for_each(|value| model.push(*value));
                self.next += written as u64;
            }
            Op::FreeFor(wanted) => {
                let seen = producer.free_for(wanted);
                assert!(
                    seen == free || (wanted <= seen && seen < free),
                    "{seen} of {free} free, {wanted} wanted"
                );
            }
            _ => {
                producer.publish();
                model.published.append(&mut model.pending);
            }
        }
    }

    fn steer(&mut self, op: Op) {
        let (producer, model) = (&mut self.producer, &mut self.model);
        match op {
            Op::Signal(time) => {
                let signal = Signal::Watermark(Timestamp::from_nanos(time));
                let room = model.signal_room() > 0;
                assert_eq!(producer.signal(signal), if room { Ok(()) } else { Err(signal) });
                if room {
                    model.pending.push_back(Entry::Signal(signal));
                }
            }
            Op::SignalRoom => {
                let (seen, room) = (producer.signal_room(), model.signal_room());
                assert!(seen == room || (0 < seen && seen < room));
            }
            Op::Evict(n) => (0..n).for_each(|_| assert_eq!(producer.evict_oldest(), model.evict())),
            Op::AllowEvictions => {
                self.consumer.allow_evictions();
                model.evictable = true;
            }
            Op::Grant(more) => {
                let granted = more.map(|more| self.consumer.popped() + more);
                self.consumer.grant(granted.unwrap_or(u64::MAX));
                if granted < model.granted.or(Some(u64::MAX)) && granted.is_some() {
                    producer.recheck();
                }
                model.granted = granted;
            }
            _ => unreachable!(),
        }
    }

    fn take(&mut self, op: Op) {
        let (consumer, model) = (&mut self.consumer, &mut self.model);
        let readable = model.readable();
        match op {
            Op::Available => {
                let seen = consumer.available();
                assert!(seen <= readable.len() && (seen > 0 || readable.is_empty()));
                assert!(consumer.known() >= seen);
            }
            Op::Peek => {
                assert_eq!(consumer.peek(), readable.first());
                model.take(readable.len().min(1), 0);
            }
            Op::Pop => {
                assert_eq!(consumer.pop(), readable.first().copied());
                let taken = readable.len().min(1);
                model.take(taken, taken);
            }
            Op::IsEmpty => assert_eq!(consumer.is_empty(), model.published.is_empty()),
            Op::NextSignal => {
                let expected = match model.published.front() {
                    Some(Entry::Signal(signal)) => Some(*signal),
                    _ => None,
                };
                assert_eq!(consumer.next_signal(), expected);
                if expected.is_some() {
                    model.published.pop_front();
                }
            }
            Op::Read { max, take, whole } => {
                let mut chunk = consumer.read(max);
                let n = chunk.len();
                assert!(n <= max.min(readable.len()) && (n > 0 || max == 0 || readable.is_empty()));
                let mut taken: Vec<u64> = chunk.by_ref().take(take).collect();
                assert_eq!(chunk.len(), n - taken.len());
                if whole {
                    chunk.for_each(|value| taken.push(value));
                    assert_eq!(taken.len(), n);
                }
                assert_eq!(taken, readable[..taken.len()]);
                model.take(n, taken.len());
            }
            Op::ReadRuns { max, take } => {
                let mut chunk = consumer.read(max);
                let n = chunk.len();
                let mut taken = Vec::new();
                while chunk.len() > 0 {
                    let (before, mut run) = (chunk.len(), chunk.run());
                    let there = run.len();
                    assert!(there > 0 && there <= before, "a run of {there} in a chunk of {before}");
                    taken.extend(run.by_ref().take(take));
                    let left = run.len();
                    drop(run);
                    assert_eq!(chunk.len(), before - there.min(take));
                    if left > 0 {
                        break;
                    }
                }
                drop(chunk);
                assert_eq!(taken, readable[..taken.len()]);
                assert!(take <= n || taken.len() == n);
                model.take(n, taken.len());
            }
            Op::ReadRun { max, take } => {
                let mut chunk = consumer.read_run(max);
                let n = chunk.len();
                assert!(n <= max.min(readable.len()) && (n > 0 || max == 0 || readable.is_empty()));
                let mut run = chunk.run();
                assert_eq!(run.len(), n, "all is in one run");
                let taken: Vec<u64> = run.by_ref().take(take).collect();
                drop(run);
                assert_eq!(chunk.len(), n - taken.len());
                drop(chunk);
                assert_eq!(taken, readable[..taken.len()]);
                model.take(n, taken.len());
            }
            Op::ReadSlices { max, take, commit } => {
                let mut chunk = consumer.read(max);
                let n = chunk.len();
                let mut taken: Vec<u64> = chunk.by_ref().take(take).collect();
                let (first, second) = chunk.as_slices();
                let rest = [first, second].concat();
                assert_eq!((taken.len() + rest.len(), rest.len()), (n, chunk.len()));
                assert_eq!([&taken[..], &rest].concat(), readable[..n]);
                if commit {
                    chunk.commit_all();
                    taken.extend(rest);
                }
                model.take(n, taken.len());
            }
            _ => unreachable!(),
        }
    }

    /// Publishes and reads until nothing is left.
    fn drain(&mut self) {
        self.run(Op::Publish);
        while self.model.published.iter().any(|e| *e != Entry::Gone) {
            self.run(Op::Read { max: usize::MAX, take: 0, whole: true });
            self.run(Op::NextSignal);
        }
        self.run(Op::IsEmpty);
        assert_eq!(self.consumer.len(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_gives_what_a_deque_gives(
        capacity in prop_oneof![Just(1usize), Just(2), Just(3), Just(8)],
        pretouch in any::<bool>(),
        evictable in any::<bool>(),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut pair = Pair::new(capacity);
        if evictable {
            pair.run(Op::AllowEvictions);
        }
        if pretouch {
            pair.consumer.pretouch();
        }
        ops.into_iter().for_each(|op| pair.run(op));
        pair.drain();
    }

    /// As many slots as fill a page have pages of their own. Nearly full, and about to wrap.
    #[test]
    fn slots_with_pages_of_their_own_give_the_same(
        moved in 0..SLOTS_OF_A_PAGE,
        free in 0..12usize,
        settle_at in 0..200usize,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut pair = Pair::new(SLOTS_OF_A_PAGE);
        for part in [moved, SLOTS_OF_A_PAGE] {
            pair.run(Op::Extend(part));
            pair.run(Op::Publish);
            pair.run(Op::Read { max: part, take: 0, whole: true });
        }
        pair.run(Op::Extend(SLOTS_OF_A_PAGE - free));
        for (at, op) in ops.into_iter().enumerate() {
            if at == settle_at {
                // Pages may be moved under what is in them.
                let home = HomeNode { node: 0, locality: MemoryLocality::Local };
                prop_assert_eq!(pair.consumer.settle(home).unwrap().small_bytes(), 0);
            }
            pair.run(op);
        }
        pair.drain();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where much is pushed from one publication to the next, items are gathered in blocks of 256 before they are moved to their slots.
    #[test]
    fn items_that_are_gathered_give_the_same(
        slots in prop_oneof![Just(512usize), Just(1_024)],
        evictable in any::<bool>(),
        ops in prop::collection::vec((op(), 1..200usize, 0..600usize), 0..60),
    ) {
        let mut pair = Pair::new(slots);
        if evictable {
            pair.run(Op::AllowEvictions);
        }
        for (op, times, many) in ops {
            match op {
                Op::Push | Op::PushReady => (0..times).for_each(|_| pair.run(op)),
                Op::Extend(_) => pair.run(Op::Extend(many)),
                Op::PushSlice(_) => pair.run(Op::PushSlice(many)),
                Op::Read { whole, .. } => pair.run(Op::Read { max: many, take: times, whole }),
                other => pair.run(other),
            }
        }
        pair.drain();
    }
}

const SLOTS_OF_A_PAGE: usize = 4096 / size_of::<u64>();

/// Items are gathered in blocks of 2 048 bytes: no room is less for that, and at most one item of each block goes the long way.
#[test]
fn all_room_that_was_found_is_there_and_most_of_it_ready() {
    fn fill<T: Clone + PartialEq + std::fmt::Debug>(capacity: usize, item: &T) {
        let (mut producer, mut consumer) = ring::<T>(capacity).unwrap();
        for taken in [0, 1, capacity / 2 + 1, capacity] {
            // Where it wraps is elsewhere each time.
            let mut left = taken;
            while left > 0 {
                left -= consumer.read(left).count();
            }
            let room = producer.free_for(capacity);
            assert_eq!(room, if taken == 0 { capacity } else { taken });
            let mut ready = 0;
            for _ in 0..room {
                let refused = producer.push_ready(item.clone());
                ready += usize::from(refused.is_ok());
                assert_eq!(refused.or_else(|item| producer.push(item)), Ok(()));
            }
            // A block is a power of two of items, so that it may be half as long.
            let blocks = 2 + room * size_of::<T>() / 1_024;
            assert!(ready + blocks >= room, "{ready} of {room} of {} bytes", size_of::<T>());
            assert_eq!(producer.push_ready(item.clone()), Err(item.clone()));
            assert_eq!(producer.push(item.clone()), Err(item.clone()));
            producer.publish();
        }
        assert_eq!(consumer.read(usize::MAX).filter(|read| read == item).count(), capacity);
    }
    for capacity in [1, 2, 64, 1 << 10, 1 << 16] {
        fill(capacity, &());
        fill(capacity, &7u8);
        fill(capacity, &7u64);
        fill(capacity, &[7u64; 3]);
        fill(capacity.min(1 << 10), &[7u64; 100]);
    }
}

#[test]
fn signals_beyond_their_room_come_back() {
    let mut pair = Pair::new(1);
    (0..SIGNAL_CAPACITY as i64 + 3).for_each(|time| pair.run(Op::Signal(time)));
    pair.run(Op::SignalRoom);
    pair.run(Op::Publish);
    pair.run(Op::NextSignal);
    (0..3).for_each(|time| pair.run(Op::Signal(time)));
    pair.drain();
}

#[test]
fn a_capacity_that_cannot_be_is_an_error() {
    assert_eq!(ring::<u64>(0).unwrap_err(), RingError::ZeroCapacity);
    let capacity = MAX_CAPACITY + 1;
    assert_eq!(ring::<u8>(capacity).unwrap_err(), RingError::TooManySlots { capacity });
    assert_eq!(ring::<()>(usize::MAX).unwrap_err(), RingError::TooManySlots { capacity: usize::MAX });
    let item_bytes = 1 << 40;
    let expected = RingError::TooManyBytes { capacity: MAX_CAPACITY, item_bytes };
    assert_eq!(ring::<[u8; 1 << 40]>(MAX_CAPACITY - 1).unwrap_err(), expected);
    // Half of a 64-bit address space: more than any machine maps.
    assert_eq!(ring::<[u8; 1 << 31]>(MAX_CAPACITY).unwrap_err(), RingError::OutOfMemory { bytes: 1 << 62 });
}

#[test]
fn pretouch_leaves_items_alone() {
    let (mut producer, mut consumer) = ring::<u64>(4096).unwrap();
    producer.extend(&mut (1..=4096));
    consumer.pretouch();
    producer.publish();
    consumer.pretouch();
    assert_eq!(consumer.read(usize::MAX).sum::<u64>(), 4096 * 4097 / 2);
}

#[test]
fn settling_touches_the_pages_of_large_rings_and_says_where_they_lie_until_the_ring_is_gone() {
    let home = HomeNode { node: 0, locality: MemoryLocality::Local };
    let (_producer, mut consumer) = ring::<u64>(SLOTS_OF_A_PAGE / 2).unwrap();
    let pages = consumer.settle(home).unwrap();
    assert_eq!((pages.small_bytes(), pages.home()), (2048, home));
    assert_eq!(pages.look().unwrap(), PageNodes::default(), "nothing to look for");

    let (producer, mut consumer) = ring::<u64>(4 * SLOTS_OF_A_PAGE).unwrap();
    let pages = consumer.settle(home).unwrap();
    let found = match pages.look() {
        Ok(found) => found,
        Err(error) => return println!("left out: the system does not say where pages lie: {error}"),
    };
    assert_eq!((found.nowhere, found.nodes.values().sum::<u64>()), (0, 4));
    drop((producer, consumer));
    assert_eq!(pages.look().unwrap(), found, "what was seen last");
}

#[test]
fn a_strict_home_that_is_not_there_is_an_error_and_the_ring_works_all_the_same() {
    for (locality, slots, refused) in [
        (MemoryLocality::Strict, SLOTS_OF_A_PAGE, true),
        (MemoryLocality::Local, SLOTS_OF_A_PAGE, false),
        (MemoryLocality::Any, SLOTS_OF_A_PAGE, false),
        // Nothing that could be bound.
        (MemoryLocality::Strict, 1, false),
    ] {
        let (mut producer, mut consumer) = ring::<u64>(slots).unwrap();
        let settled = consumer.settle(HomeNode { node: u32::MAX, locality });
        let error = settled.err();
        assert_eq!(error, refused.then_some(BindError::NoMemory { node: u32::MAX }), "{locality} {slots}");
        producer.push(7).unwrap();
        producer.publish();
        assert_eq!(consumer.read(1).next(), Some(7));
    }
}

#[test]
fn each_end_sees_that_the_other_is_gone() {
    let (mut producer, mut consumer) = ring::<u8>(2).unwrap();
    assert!(!consumer.is_abandoned() && !producer.is_abandoned());
    producer.push(7).unwrap();
    drop(producer);
    assert!(
        consumer.is_abandoned() && !consumer.is_empty(),
        "what was pushed is published at the latest by drop"
    );
    assert_eq!(consumer.read(1).next(), Some(7));
    assert!(consumer.is_empty());

    let (producer, consumer) = ring::<u8>(2).unwrap();
    drop(consumer);
    assert!(producer.is_abandoned());
}

/// Two threads: every item arrives once and in order or is evicted, never both, and every signal stands where it was.
#[test]
fn two_threads_lose_nothing() {
    const ITEMS: u64 = 200_000;
    for (capacity, evict) in [(1, false), (1, true), (8, true), (1024, false), (64, true)] {
        let (mut producer, mut consumer) = ring::<u64>(capacity).unwrap();
        if evict {
            consumer.allow_evictions();
        }
        // Moved in, so that a failed assertion drops the consumer and the producer does not wait for it forever.
        std::thread::scope(move |scope| {
            let mut consumer = consumer;
            let producer = scope.spawn(move || {
                let mut values = 0..ITEMS;
                let mut evicted = Vec::new();
                while !values.is_empty() && !producer.is_abandoned() {
                    let upto = (values.start / 100 + 1) * 100;
                    let mut part = values.start..upto;
                    producer.extend(&mut part);
                    values.start = part.start;
                    producer.publish();
                    if part.is_empty() {
                        while producer.signal(Signal::Barrier(upto)).is_err() && !producer.is_abandoned() {
                            std::thread::yield_now();
                        }
                    } else if evict {
                        evicted.extend((0..3).map_while(|_| producer.evict_oldest()));
                    }
                    std::thread::yield_now();
                }
                while producer.signal(Signal::End).is_err() && !producer.is_abandoned() {
                    std::thread::yield_now();
                }
                evicted
            });
            let (mut all, mut last, mut barriers) = (Vec::new(), None, 0);
            loop {
                if barriers % 300 == 0
                    && let Some(&next) = consumer.peek()
                {
                    assert_eq!(consumer.read(1).next(), Some(next), "what was looked at stays");
                    all.push(next);
                    last = Some(next);
                }
                consumer.read(usize::MAX).for_each(|value| {
                    assert!(last < Some(value), "{last:?} then {value}");
                    assert!(barriers <= value && value < barriers + 100, "{value} after barrier {barriers}");
                    all.push(value);
                    last = Some(value);
                });
                match consumer.next_signal() {
                    Some(Signal::Barrier(upto)) => {
                        assert_eq!(upto, barriers + 100);
                        barriers = upto;
                        assert_eq!(consumer.popped() + consumer.evicted(), upto);
                    }
                    Some(_) => break,
                    None => std::thread::yield_now(),
                }
            }
            let evicted = producer.join().unwrap();
            assert_eq!((consumer.popped(), consumer.evicted()), (all.len() as u64, evicted.len() as u64));
            assert!(evicted.is_sorted() && evict != evicted.is_empty());
            all.extend(evicted);
            all.sort_unstable();
            assert!(all.into_iter().eq(0..ITEMS));
        });
    }
}
