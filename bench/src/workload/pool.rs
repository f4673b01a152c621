//! Buffers: taken and given back on one core, and taken on one core and given back on the other.

use std::time::Instant;

use core_affinity::CoreId;
use corelane::ring::{RingError, ring};

use crate::case::{Case, Metric, Outcome, Setup};
use crate::lane;
use crate::pin::{self, Gate, Span};

/// Pairs of taking and giving back.
const LOCAL_PAIRS: u64 = 50_000_000;
const REMOTE_PAIRS: u64 = 20_000_000;

/// Buffers that are in use at once on one core.
const IN_USE: usize = 64;

/// Slots of the ring that carries buffers to the other core.
const SLOTS: usize = 1_024;
/// Buffers published, and taken, at once.
const CHUNK: usize = 64;

/// Where buffers come from; they go back when dropped.
pub trait Buffers {
    /// A buffer.
    type Buffer: Send + 'static;

    /// Takes a buffer of `size` bytes, of which the first are those of `stamp`.
    fn take(&mut self, size: usize, stamp: u64) -> Self::Buffer;

    /// The stamp of a buffer, read from its memory.
    fn stamp(buffer: &Self::Buffer) -> u64;

    /// Does a slice of work on the core that this was made on.
    fn step<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R;
}

/// The sum of all stamps.
pub fn expected(pairs: u64) -> u64 {
    (0..pairs).fold(0, u64::wrapping_add)
}

fn outcome(pairs: u64, elapsed: std::time::Duration, checksum: u64) -> Outcome {
    let figures = vec![(Metric::NsPerPair, elapsed.as_secs_f64() * 1e9 / pairs as f64)];
    Outcome { checksum, figures, ..Outcome::default() }
}

/// Takes and gives back on one core, with `IN_USE` buffers in use.
///
/// # Panics
/// As [`pin::on_one`].
pub fn local<B: Buffers>(
    pairs: u64,
    size: usize,
    cores: &[CoreId],
    buffers: impl FnOnce() -> B + Send,
) -> Outcome {
    let run = || {
        let mut buffers = buffers();
        let mut in_use: [Option<B::Buffer>; IN_USE] = std::array::from_fn(|_| None);
        let mut sum = 0u64;
        let start = Instant::now();
        buffers.step(|buffers| {
            for pair in 0..pairs {
                let buffer = buffers.take(size, pair);
                let old = in_use[pair as usize % IN_USE].replace(buffer);
                sum = sum.wrapping_add(old.map_or(0, |old| B::stamp(&old)));
            }
            let rest = in_use.iter_mut().filter_map(Option::take).map(|last| B::stamp(&last));
            sum = rest.fold(sum, u64::wrapping_add);
        });
        (start.elapsed(), sum)
    };
    let (elapsed, sum) = pin::on_one(cores[0], run);
    outcome(pairs, elapsed, sum)
}

/// Takes on one core and gives back on the other, to which a ring carries the buffers.
///
/// # Errors
/// No ring.
///
/// # Panics
/// As [`pin::on_two`].
pub fn remote<B: Buffers>(
    pairs: u64,
    size: usize,
    cores: &[CoreId],
    buffers: impl Fn() -> B + Send + Sync,
) -> Result<Outcome, RingError> {
    let (mut producer, mut consumer) = ring::<B::Buffer>(SLOTS)?;
    let take = |gate: &Gate| {
        let mut buffers = buffers();
        let start = gate.wait();
        let mut next = 0;
        while next < pairs {
            let end = pairs.min(next + CHUNK as u64);
            buffers.step(|buffers| {
                let mut made = (next..end).map(|pair| buffers.take(size, pair));
                next += producer.extend(&mut made) as u64;
                producer.publish();
            });
        }
        Span::since(start)
    };
    let give_back = |gate: &Gate| {
        let mut buffers = buffers();
        consumer.pretouch();
        let start = gate.wait();
        let (mut sum, mut count) = (0u64, 0);
        while count < pairs {
            buffers.step(|_| {
                for buffer in consumer.read(CHUNK) {
                    sum = sum.wrapping_add(B::stamp(&buffer));
                    count += 1;
                }
            });
        }
        (Span::since(start), sum)
    };
    let (taken, (given_back, sum)) = pin::on_two(cores, take, give_back);
    Ok(outcome(pairs, taken.union(given_back), sum))
}

/// The same by hand: the global allocator, which is mimalloc in `corelane-bench`.
pub mod hand {
    use std::mem::MaybeUninit;

    use super::Buffers;

    /// `malloc` and `free` of `8 + REST` bytes.
    ///
    /// As lean as they can be used: the size is a constant, a buffer is one pointer, and nothing but the stamp is written. (A `Vec`
    /// would be moved as three words, at a stall of the core for each.)
    pub struct Malloc<const REST: usize>;

    /// What is allocated.
    pub struct Stamped<const REST: usize> {
        stamp: u64,
        _rest: MaybeUninit<[u8; REST]>,
    }

    impl<const REST: usize> Buffers for Malloc<REST> {
        type Buffer = Box<Stamped<REST>>;

        #[inline(always)]
        fn take(&mut self, size: usize, stamp: u64) -> Self::Buffer {
            debug_assert_eq!(size, size_of::<Stamped<REST>>());
            Box::new(Stamped { stamp, _rest: MaybeUninit::uninit() })
        }

        #[inline]
        fn stamp(buffer: &Self::Buffer) -> u64 {
            buffer.stamp
        }

        #[inline]
        fn step<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
            work(self)
        }
    }
}

/// The comparisons.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let mut cases = vec![
        one_core::<56>("local64", setup),
        one_core::<248>("local256", setup),
        one_core::<1_016>("local1024", setup),
        one_core::<4_088>("local4096", setup),
    ];
    cases.extend([
        two_cores::<56>("remote64", setup),
        two_cores::<248>("remote256", setup),
        two_cores::<1_016>("remote1024", setup),
        two_cores::<4_088>("remote4096", setup),
    ]);
    cases
}

fn case(name: &'static str, cores: usize, pairs: u64, size: usize) -> Case {
    let work = format!("{} M pairs of {size} bytes", pairs / 1_000_000);
    Case::new("pool", name, cores, expected(pairs)).work(work).reference("mimalloc")
}

fn one_core<const REST: usize>(name: &'static str, setup: &Setup) -> Case {
    let (pairs, size) = (setup.scaled(LOCAL_PAIRS), size_of::<hand::Stamped<REST>>());
    case(name, 1, pairs, size)
        .system("mimalloc", move |setup| local(pairs, size, &setup.cores, || hand::Malloc::<REST>))
        .system("corelane", move |setup| {
            let pool = lane::pool::new();
            local(pairs, size, &setup.cores, || lane::pool::Rented::new(&pool))
        })
}

fn two_cores<const REST: usize>(name: &'static str, setup: &Setup) -> Case {
    let (pairs, size) = (setup.scaled(REMOTE_PAIRS), size_of::<hand::Stamped<REST>>());
    case(name, 2, pairs, size)
        .try_system("mimalloc", move |setup| remote(pairs, size, &setup.cores, || hand::Malloc::<REST>))
        .try_system("corelane", move |setup| {
            let pool = lane::pool::new();
            remote(pairs, size, &setup.cores, || lane::pool::Rented::new(&pool))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_brings_its_stamp_to_where_it_is_given_back() {
        fn check<const REST: usize>(pool: &corelane::pool::MemoryPool) {
            let (pairs, cores, size) = (10_007, crate::pin::allowed(), size_of::<hand::Stamped<REST>>());
            let rented = || lane::pool::Rented::new(pool);
            assert_eq!(local(pairs, size, &cores, || hand::Malloc::<REST>).checksum, expected(pairs));
            assert_eq!(local(pairs, size, &cores, rented).checksum, expected(pairs));
            if cores.len() >= 2 {
                let by_hand = remote(pairs, size, &cores, || hand::Malloc::<REST>).unwrap();
                assert_eq!(by_hand.checksum, expected(pairs));
                assert_eq!(remote(pairs, size, &cores, rented).unwrap().checksum, expected(pairs));
            }
        }
        let pool = lane::pool::new();
        check::<0>(&pool);
        check::<56>(&pool);
        check::<4_088>(&pool);
        assert_eq!(pool.statistics().rented_buffers, 0);
    }

    #[test]
    fn variants_are_named_by_the_size_that_they_allocate() {
        let setup = Setup {
            cores: Vec::new(),
            driver: crate::case::Driver::Auto,
            quick: true,
            nexmark: Default::default(),
        };
        for case in cases(&setup) {
            let size: String = case.variant.chars().filter(char::is_ascii_digit).collect();
            assert!(case.work.ends_with(&format!(" of {size} bytes")), "{}: {}", case.variant, case.work);
        }
    }
}
