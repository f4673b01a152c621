//! The ring beside rtrb: chunk throughput and ping-pong of `u64` between two cores.
//!
//! ```text
//! cargo run --release -p corelane --example ring_vs_rtrb -- [REPETITIONS]
//! ```
//!
//! The two alternate, and every result is checked. Printed are medians, and the median of the ratios of neighbouring
//! repetitions: a machine that changes its mood between repetitions then changes it for both.
#![allow(clippy::disallowed_methods, reason = "a measuring program has clocks and threads of its own")]

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use core_affinity::CoreId;
use corelane::ring::{Consumer, Producer, ring};
use corelane::sync::Doorbell;

const CAPACITY: usize = 4096;
const CHUNK: usize = 512;
const ITEMS: u64 = 50_000_000 / CHUNK as u64 * CHUNK as u64;
const ROUNDS: u64 = 100_000;

/// A ring's sending end, as used here.
trait Send64: Send + 'static {
    /// Sends a prefix of `items`, at most one chunk. How many.
    fn send_chunk(&mut self, items: Range<u64>) -> u64;
    fn send(&mut self, item: u64) -> bool;
}

/// A ring's receiving end, as used here.
trait Receive64: Send + 'static {
    /// Takes at most one chunk. How many, and their sum.
    fn take_chunk(&mut self) -> (u64, u64);
    fn take(&mut self) -> Option<u64>;
}

impl Send64 for Producer<u64> {
    fn send_chunk(&mut self, mut items: Range<u64>) -> u64 {
        if self.free_for(CHUNK) < CHUNK {
            return 0;
        }
        let n = self.extend(&mut items);
        self.publish();
        n as u64
    }

    #[inline]
    fn send(&mut self, item: u64) -> bool {
        let sent = self.push(item).is_ok();
        self.publish();
        sent
    }
}

impl Receive64 for Consumer<u64> {
    fn take_chunk(&mut self) -> (u64, u64) {
        let chunk = self.read(CHUNK);
        let (first, second) = chunk.as_slices();
        let n = chunk.len() as u64;
        let sum = first.iter().chain(second).fold(0u64, |sum, item| sum.wrapping_add(*item));
        chunk.commit_all();
        (n, sum)
    }

    #[inline]
    fn take(&mut self) -> Option<u64> {
        self.pop()
    }
}

impl Send64 for rtrb::Producer<u64> {
    fn send_chunk(&mut self, items: Range<u64>) -> u64 {
        self.write_chunk_uninit(CHUNK).map_or(0, |chunk| chunk.fill_from_iter(items) as u64)
    }

    #[inline]
    fn send(&mut self, item: u64) -> bool {
        self.push(item).is_ok()
    }
}

impl Receive64 for rtrb::Consumer<u64> {
    fn take_chunk(&mut self) -> (u64, u64) {
        let Ok(chunk) = self.read_chunk(CHUNK) else { return (0, 0) };
        let (first, second) = chunk.as_slices();
        let sum = first.iter().chain(second).fold(0u64, |sum, item| sum.wrapping_add(*item));
        chunk.commit_all();
        (CHUNK as u64, sum)
    }

    #[inline]
    fn take(&mut self) -> Option<u64> {
        self.pop().ok()
    }
}

/// Both ends of a ring.
type Ends<S, R> = (S, R);

fn ours() -> Ends<Producer<u64>, Consumer<u64>> {
    ring(CAPACITY).expect("a small ring")
}

/// As the engine uses it where partitions park: with a bell on both sides, whose owners are awake.
fn ours_with_bells() -> Ends<Producer<u64>, Consumer<u64>> {
    let (mut producer, mut consumer) = ours();
    let bell = || {
        let bell = Doorbell::new();
        bell.set_waker(|| ());
        Arc::new(bell)
    };
    producer.attach_doorbell(bell());
    consumer.attach_doorbell(bell());
    (producer, consumer)
}

fn theirs() -> Ends<rtrb::Producer<u64>, rtrb::Consumer<u64>> {
    rtrb::RingBuffer::new(CAPACITY)
}

/// Runs `peer` on the second core and `main` on this one, both once both are there. Nanoseconds that `main` took.
fn beside(cores: [CoreId; 2], peer: impl FnOnce() + Send + 'static, main: impl FnOnce()) -> f64 {
    let ready = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&ready);
    let other = thread::spawn(move || {
        core_affinity::set_for_current(cores[1]);
        go.store(true, Ordering::Release);
        peer();
    });
    while !ready.load(Ordering::Acquire) {
        spin_loop();
    }
    let start = Instant::now();
    main();
    let took = start.elapsed().as_nanos() as f64;
    other.join().expect("the peer does not panic");
    took
}

/// Items per nanosecond.
fn throughput<S: Send64, R: Receive64>(cores: [CoreId; 2], (mut sender, mut receiver): Ends<S, R>) -> f64 {
    let send = move || {
        let mut next = 0;
        while next < ITEMS {
            let sent = sender.send_chunk(next..next + CHUNK as u64);
            next += sent;
            if sent == 0 {
                spin_loop();
            }
        }
    };
    let took = beside(cores, send, || {
        let (mut taken, mut sum) = (0, 0u64);
        while taken < ITEMS {
            let (n, part) = receiver.take_chunk();
            taken += n;
            sum = sum.wrapping_add(part);
            if n == 0 {
                spin_loop();
            }
        }
        assert_eq!(sum, ITEMS / 2 * (ITEMS - 1));
    });
    ITEMS as f64 / took
}

/// Nanoseconds per round trip.
fn ping_pong<S: Send64, R: Receive64>(cores: [CoreId; 2], there: Ends<S, R>, back: Ends<S, R>) -> f64 {
    let ((mut ping, mut pings), (mut pong, mut pongs)) = (there, back);
    let echo = move || {
        for _ in 0..ROUNDS {
            let item = receive(&mut pings);
            assert!(pong.send(item + 1));
        }
    };
    let took = beside(cores, echo, || {
        let mut item = 0;
        for _ in 0..ROUNDS {
            assert!(ping.send(item));
            item = receive(&mut pongs);
        }
        assert_eq!(item, ROUNDS);
    });
    took / ROUNDS as f64
}

#[inline]
fn receive<R: Receive64>(receiver: &mut R) -> u64 {
    loop {
        if let Some(item) = receiver.take() {
            return item;
        }
        spin_loop();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(what: &str, unit: &str, samples: &[[f64; 3]]) {
    let of = |i: usize| median(samples.iter().map(|s| s[i]));
    let ratio = |i: usize| median(samples.iter().map(|s| s[i] / s[2]));
    println!("{what:<10} corelane            {:>8.2} {unit}  ratio to rtrb {:.3}", of(0), ratio(0));
    println!("{what:<10} corelane with bells {:>8.2} {unit}  ratio to rtrb {:.3}", of(1), ratio(1));
    println!("{what:<10} rtrb                {:>8.2} {unit}", of(2));
}

fn main() {
    let repetitions = std::env::args().nth(1).map_or(9, |n| n.parse().expect("a number of repetitions"));
    let all = core_affinity::get_core_ids().unwrap_or_default();
    let [first, second, ..] = all[..] else {
        println!("needs two cores");
        return;
    };
    let cores = [first, second];
    core_affinity::set_for_current(first);

    let sample =
        |_| [throughput(cores, ours()), throughput(cores, ours_with_bells()), throughput(cores, theirs())];
    let samples: Vec<_> = (0..repetitions).map(sample).collect();
    report("throughput", "items/ns", &samples);

    let sample = |_| {
        [
            ping_pong(cores, ours(), ours()),
            ping_pong(cores, ours_with_bells(), ours_with_bells()),
            ping_pong(cores, theirs(), theirs()),
        ]
    };
    let samples: Vec<_> = (0..repetitions).map(sample).collect();
    report("ping-pong", "ns", &samples);
}
