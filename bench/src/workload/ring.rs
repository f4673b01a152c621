//! ring: one core hands `u64` to another, by chunks (throughput) and one at a time there and back (ping-pong).

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use core_affinity::CoreId;
use corelane::ring::RingError;

use crate::case::{Case, Latencies, Measured, Outcome, Setup};
use crate::lane;
use crate::link::{self, Link, Mailbox};
use crate::pin::{Gate, Span};
use crate::tuning::Tuning;

/// Items of a full throughput run.
pub const ITEMS: u64 = 500_000_000;
/// How often it is run: two rings that are alike differ by less than their repetitions do.
const REPETITIONS: usize = 25;
/// Batches of [`link::BATCH`] round trips of a full ping-pong run.
pub const BATCHES: u64 = 15_000;

/// What the consumer makes of the items: their sum, and whether each stood where it belongs. Loss, duplication and
/// reordering all show. Every system's consumer uses this, over slices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    position: u64,
    sum: u64,
    misplaced: u64,
}

impl Tally {
    /// Takes the next items.
    #[inline]
    pub fn take(&mut self, items: &[u64]) {
        let (mut sum, mut misplaced) = (self.sum, self.misplaced);
        for (item, position) in items.iter().zip(self.position..) {
            sum = sum.wrapping_add(*item);
            misplaced |= *item ^ position;
        }
        (self.sum, self.misplaced) = (sum, misplaced);
        self.position += items.len() as u64;
    }

    /// Items taken so far.
    pub fn count(&self) -> u64 {
        self.position
    }

    /// The checksum of a run: the sum, or its complement if anything was misplaced.
    pub fn checksum(&self) -> u64 {
        if self.misplaced == 0 { self.sum } else { !self.sum }
    }
}

/// The right checksum of the items `0..items`.
pub fn expected(items: u64) -> u64 {
    let sum = u128::from(items) * u128::from(items.saturating_sub(1)) / 2;
    sum as u64
}

/// How a producer gets its items into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// From an iterator into the slots.
    Iterator,
    /// Into slots that were filled with default values before.
    InPlace,
    /// Into a buffer, which is copied.
    Copy,
}

/// How items go over a ring by chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    /// Slots of the ring.
    pub capacity: usize,
    /// Items published at once.
    pub chunk: usize,
    /// How they are written.
    pub write: Write,
}

impl Chunked {
    /// Every configuration that is tried of a ring that can be written so.
    fn all(writes: &[Write]) -> Vec<Self> {
        let mut all = Vec::new();
        // The largest does not fit in the private cache of a core: what is read comes from the cache that they share, if they do.
        for capacity in [4_096, 16_384, 65_536, 262_144] {
            for chunk in [512, 1_024, 2_048, 4_096].into_iter().filter(|chunk| 2 * chunk <= capacity) {
                all.extend(writes.iter().map(|&write| Self { capacity, chunk, write }));
            }
        }
        all
    }
}

/// Sends the items `0..items` by chunks, over whatever ring: `write` is given each as a range, with a buffer of as many items, until it says that
/// there was room.
#[inline(always)]
pub fn send(
    items: u64,
    how: Chunked,
    gate: &Gate,
    mut write: impl FnMut(&mut [u64], Range<u64>) -> bool,
) -> Span {
    let mut buffer = vec![0; how.chunk];
    let start = gate.wait();
    let mut next = 0;
    while next < items {
        let chunk = next..items.min(next + how.chunk as u64);
        let end = chunk.end;
        if write(&mut buffer[..(end - next) as usize], chunk) {
            next = end;
        }
    }
    Span::since(start)
}

/// The programs over published rings, and the least that safe code can do.
pub mod hand {
    use std::sync::atomic::{AtomicU64, Ordering};

    use core_affinity::CoreId;
    use crossbeam::utils::CachePadded;
    use rtrb::chunks::ChunkError;
    use rtrb::{Consumer, Producer, RingBuffer};

    use super::{Chunked, Tally, Write, send};
    use crate::case::{Latencies, Measured};
    use crate::link::{self, Duplex};
    use crate::pin::{self, Gate, Span};

    /// Moves `items` over rtrb by chunks.
    pub fn rtrb_chunks(items: u64, how: Chunked, cores: &[CoreId]) -> Measured {
        let (producer, consumer) = RingBuffer::new(how.capacity);
        let produce = move |gate: &Gate| produce(producer, items, how, gate);
        let consume = move |gate: &Gate| consume(consumer, items, how.chunk, gate);
        let (sent, (received, tally)) = pin::on_two(cores, produce, consume);
        Measured { items, elapsed: sent.union(received), checksum: tally.checksum() }
    }

    fn produce(mut ring: Producer<u64>, items: u64, how: Chunked, gate: &Gate) -> Span {
        send(items, how, gate, |buffer, chunk| {
            let written = match how.write {
                Write::Iterator => ring.write_chunk_uninit(buffer.len()).map(|slots| {
                    slots.fill_from_iter(chunk);
                }),
                Write::InPlace => ring.write_chunk(buffer.len()).map(|mut slots| {
                    let (first, second) = slots.as_mut_slices();
                    first.iter_mut().chain(second).zip(chunk).for_each(|(slot, item)| *slot = item);
                    slots.commit_all();
                }),
                Write::Copy => {
                    buffer.iter_mut().zip(chunk).for_each(|(slot, item)| *slot = item);
                    push_all(&mut ring, buffer)
                }
            };
            written.is_ok()
        })
    }

    fn push_all(ring: &mut Producer<u64>, items: &[u64]) -> Result<(), ChunkError> {
        while ring.push_entire_slice(items).is_err() {}
        Ok(())
    }

    fn consume(mut ring: Consumer<u64>, items: u64, chunk: usize, gate: &Gate) -> (Span, Tally) {
        let mut tally = Tally::default();
        let start = gate.wait();
        while tally.count() < items {
            let available = ring.slots().min(chunk);
            if let Ok(chunk) = ring.read_chunk(available) {
                let (first, second) = chunk.as_slices();
                tally.take(first);
                tally.take(second);
                chunk.commit_all();
            }
        }
        (Span::since(start), tally)
    }

    struct RtrbEnd<const PAUSES: u32> {
        out: Producer<u64>,
        inward: Consumer<u64>,
    }

    impl<const PAUSES: u32> Duplex for RtrbEnd<PAUSES> {
        #[inline]
        fn send(&mut self, value: u64) {
            while self.out.push(value).is_err() {}
        }

        #[inline]
        fn receive(&mut self) -> u64 {
            loop {
                if let Ok(value) = self.inward.pop() {
                    return value;
                }
                link::pause::<PAUSES>();
            }
        }
    }

    /// Slots of the rings that play ping-pong.
    pub const PING_PONG_SLOTS: usize = 1_024;

    /// Round trips over two rtrb rings.
    pub fn rtrb_ping_pong<const PAUSES: u32>(batches: u64, cores: &[CoreId]) -> Latencies {
        let (there, arriving) = RingBuffer::new(PING_PONG_SLOTS);
        let (back, returning) = RingBuffer::new(PING_PONG_SLOTS);
        let asking = move || RtrbEnd::<PAUSES> { out: there, inward: returning };
        let answering = move || RtrbEnd::<PAUSES> { out: back, inward: arriving };
        link::ping_pong(cores, batches, asking, answering)
    }

    /// A plain bounded SPSC ring: two padded indices and the slots, each side keeping its own index and a copy of
    /// the other's. Slots are atomics only because this crate is all safe code; they are read and written relaxed,
    /// which costs what a plain access costs.
    pub struct RawRing {
        tail: CachePadded<AtomicU64>,
        head: CachePadded<AtomicU64>,
        slots: Box<[AtomicU64]>,
    }

    impl RawRing {
        /// An empty ring of `capacity` slots, a power of two.
        pub fn new(capacity: usize) -> Self {
            assert!(capacity.is_power_of_two(), "the capacity is not a power of two");
            let slots = (0..capacity).map(|_| AtomicU64::new(0)).collect();
            Self { tail: CachePadded::default(), head: CachePadded::default(), slots }
        }

        #[inline]
        fn slot(&self, position: u64) -> &AtomicU64 {
            &self.slots[position as usize & (self.slots.len() - 1)]
        }
    }

    /// One end of two raw rings.
    pub struct RawEnd<'a, const PAUSES: u32> {
        out: &'a RawRing,
        sent: u64,
        consumed: u64,
        inward: &'a RawRing,
        taken: u64,
        published: u64,
    }

    impl<'a, const PAUSES: u32> RawEnd<'a, PAUSES> {
        /// The end that sends over `out` and receives over `inward`.
        pub fn new(out: &'a RawRing, inward: &'a RawRing) -> Self {
            Self { out, sent: 0, consumed: 0, inward, taken: 0, published: 0 }
        }
    }

    impl<const PAUSES: u32> Duplex for RawEnd<'_, PAUSES> {
        #[inline]
        fn send(&mut self, value: u64) {
            while self.sent - self.consumed == self.out.slots.len() as u64 {
                self.consumed = self.out.head.load(Ordering::Acquire);
            }
            self.out.slot(self.sent).store(value, Ordering::Relaxed);
            self.sent += 1;
            self.out.tail.store(self.sent, Ordering::Release);
        }

        #[inline]
        fn receive(&mut self) -> u64 {
            while self.published == self.taken {
                self.published = self.inward.tail.load(Ordering::Acquire);
                if self.published == self.taken {
                    link::pause::<PAUSES>();
                }
            }
            let value = self.inward.slot(self.taken).load(Ordering::Relaxed);
            self.taken += 1;
            self.inward.head.store(self.taken, Ordering::Release);
            value
        }
    }

    /// Round trips over two raw rings.
    pub fn raw_ping_pong<const PAUSES: u32>(batches: u64, cores: &[CoreId]) -> Latencies {
        let (there, back) = (RawRing::new(PING_PONG_SLOTS), RawRing::new(PING_PONG_SLOTS));
        let asking = || RawEnd::<PAUSES>::new(&there, &back);
        link::ping_pong(cores, batches, asking, || RawEnd::<PAUSES>::new(&back, &there))
    }
}

/// The rings that are compared by chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Rtrb,
    Corelane,
}

impl Ring {
    fn writes(self) -> &'static [Write] {
        match self {
            Self::Rtrb => &[Write::Iterator, Write::InPlace, Write::Copy],
            Self::Corelane => &[Write::Iterator, Write::Copy],
        }
    }

    fn run(self, items: u64, how: Chunked, cores: &[CoreId]) -> Result<Measured, RingError> {
        match self {
            Self::Rtrb => Ok(hand::rtrb_chunks(items, how, cores)),
            Self::Corelane => lane::ring::chunks(items, how, cores),
        }
    }
}

/// What plays ping-pong, how often it pauses between two looks, and how it is run: over so many batches.
#[derive(Clone, Copy)]
struct Player {
    ring: &'static str,
    pauses: u32,
    play: fn(u64, &[CoreId]) -> Result<Latencies, RingError>,
}

impl Player {
    /// Every ring with every number of pauses that is tried. One that looks again at once takes the line that it looks at from the producer again and
    /// again, just when that wants to write to it.
    fn all() -> Vec<Self> {
        [Self::pausing::<0>(), Self::pausing::<1>(), Self::pausing::<2>(), Self::pausing::<4>()].concat()
    }

    fn pausing<const PAUSES: u32>() -> [Self; 3] {
        let player = |ring, play| Self { ring, pauses: PAUSES, play };
        [
            player("rtrb", |batches, cores| Ok(hand::rtrb_ping_pong::<PAUSES>(batches, cores))),
            player("raw", |batches, cores| Ok(hand::raw_ping_pong::<PAUSES>(batches, cores))),
            player("corelane", lane::ring::ping_pong::<PAUSES>),
        ]
    }
}

/// What part of the items of a run each configuration is tried with. A fiftieth is over before a large ring has been gone round often enough: near, what
/// is best then is not what is best in a run.
const TRIED: u64 = 10;

/// The best of the `eligible` candidates for cores that are as far apart as these are now, and where it was found to be that. The first call tries
/// `all`, in turn.
fn best<C: Copy>(
    tuning: &OnceCell<Tuning<C>>,
    all: impl FnOnce() -> Vec<C>,
    eligible: impl Fn(C) -> bool,
    cores: &[CoreId],
    run: impl FnMut(C) -> Result<Duration, RingError>,
) -> Result<(C, Link), RingError> {
    let tuning = match tuning.get() {
        Some(tuning) => tuning,
        None => {
            let found = Tuning::run(all(), || link::round_trip_ns(cores), run)?;
            tuning.get_or_init(|| found)
        }
    };
    let now_ns = link::round_trip_ns(cores);
    Ok(tuning.best(Link::classify(now_ns, now_ns), eligible).expect("all were run"))
}

/// Moves `items` over `ring` with its best configuration.
fn tuned(
    tuning: &OnceCell<Tuning<(Ring, Chunked)>>,
    ring: Ring,
    items: u64,
    cores: &[CoreId],
) -> Result<Outcome, RingError> {
    let of = |ring: Ring| Chunked::all(ring.writes()).into_iter().map(move |how| (ring, how));
    let all = || of(Ring::Rtrb).chain(of(Ring::Corelane)).collect();
    let run = |(ring, how): (Ring, Chunked)| Ok(ring.run(items / TRIED, how, cores)?.elapsed);
    let ((_, how), link) = best(tuning, all, |one| one.0 == ring, cores, run)?;
    Ok(Outcome::from(ring.run(items, how, cores)?)
        .note(format!("best of those tried {}: {how:?}", link.name())))
}

/// Plays `batches` over `ring` with the number of pauses that is best for it.
fn paused(
    tuning: &OnceCell<Tuning<Player>>,
    ring: &str,
    batches: u64,
    cores: &[CoreId],
) -> Result<Outcome, RingError> {
    let run = |player: Player| {
        let run = (player.play)(batches.div_ceil(TRIED), cores)?;
        Ok(Duration::from_nanos(run.histogram.value_at_quantile(0.5)))
    };
    let (player, link) = best(tuning, Player::all, |player| player.ring == ring, cores, run)?;
    let note = format!("pauses {} times between looks, best of those tried {}", player.pauses, link.name());
    Ok(Outcome::from((player.play)(batches, cores)?).note(note))
}

/// The comparisons: corelane's systems are added beside `rtrb`.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let items = setup.scaled(ITEMS);
    let tuning = Rc::new(OnceCell::new());
    let by_chunks = |ring| {
        let tuning = Rc::clone(&tuning);
        move |setup: &Setup| tuned(&tuning, ring, items, &setup.cores)
    };
    let throughput = Case::new("ring", "throughput", 2, expected(items))
        .work(format!("{} M u64 by chunks", items / 1_000_000))
        .repetitions(REPETITIONS)
        .reference("rtrb")
        .try_system("rtrb", by_chunks(Ring::Rtrb))
        .try_system("corelane", by_chunks(Ring::Corelane));
    vec![throughput, ping_pong(setup.scaled(BATCHES))]
}

fn ping_pong(batches: u64) -> Case {
    let tuning = Rc::new(OnceCell::new());
    let by_best = |ring| {
        let tuning = Rc::clone(&tuning);
        move |setup: &Setup| paused(&tuning, ring, batches, &setup.cores)
    };
    Case::new("ring", "pingpong", 2, link::ping_pong_sum(batches))
        .work(format!("{batches} means of {} round trips each", link::BATCH))
        .reference("rtrb")
        .reference("raw")
        .try_system("rtrb", by_best("rtrb"))
        .try_system("raw", by_best("raw"))
        .try_system("corelane", by_best("corelane"))
        .system("rtrb-no-pause", move |setup| hand::rtrb_ping_pong::<0>(batches, &setup.cores))
        .system("raw-no-pause", move |setup| hand::raw_ping_pong::<0>(batches, &setup.cores))
        .try_system("corelane-no-pause", move |setup| lane::ring::ping_pong::<0>(batches, &setup.cores))
        .system("mailbox", move |setup| {
            let mailbox = Mailbox::default();
            link::ping_pong(&setup.cores, batches, || mailbox.asking(), || mailbox.answering())
        })
}

#[cfg(test)]
mod tests {
    use super::hand::{RawEnd, RawRing};
    use super::*;
    use crate::link::Duplex;

    #[test]
    fn loss_duplication_and_reordering_change_the_checksum() {
        let checksum = |items: &[u64]| {
            let mut tally = Tally::default();
            items.chunks(2).for_each(|chunk| tally.take(chunk));
            tally.checksum()
        };
        assert_eq!(checksum(&[0, 1, 2, 3]), expected(4));
        for wrong in [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 1, 1, 2, 3], &[1, 2, 3], &[0, 0, 3, 3]] {
            assert_ne!(checksum(wrong), expected(4), "{wrong:?}");
        }
    }

    #[test]
    fn every_way_to_write_moves_every_item_in_order() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        for write in [Write::Iterator, Write::InPlace, Write::Copy] {
            // Neither the capacity nor the number of items is a multiple of the chunk.
            let how = Chunked { capacity: 100, chunk: 7, write };
            assert_eq!(hand::rtrb_chunks(10_001, how, &cores).checksum, expected(10_001), "{write:?}");
            let ours = lane::ring::chunks(10_001, how, &cores).unwrap();
            assert_eq!(ours.checksum, expected(10_001), "{write:?}");
        }
    }

    #[test]
    fn every_ping_pong_brings_every_answer_back() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        for player in Player::all() {
            let played = (player.play)(3, &cores).unwrap();
            assert_eq!(played.checksum, link::ping_pong_sum(3), "{}, {} pauses", player.ring, player.pauses);
        }
    }

    #[test]
    fn a_raw_ring_keeps_order_around_its_end() {
        let (there, back) = (RawRing::new(4), RawRing::new(4));
        let (mut ask, mut answer) = (RawEnd::<0>::new(&there, &back), RawEnd::<0>::new(&back, &there));
        for round in 0..10_u64 {
            (0..3).for_each(|item| ask.send(3 * round + item));
            (0..3).for_each(|item| assert_eq!(answer.receive(), 3 * round + item));
        }
    }
}
