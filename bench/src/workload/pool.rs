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

/// The sizes that are compared, each with the names of its variants.
const SIZES: [(usize, &str, &str); 4] = [
    (64, "local64", "remote64"),
    (256, "local256", "remote256"),
    (1_024, "local1024", "remote1024"),
    (4_096, "local4096", "remote4096"),
];

/// Where buffers come from; they go back when dropped.
pub trait Buffers {
    /// A buffer.
    type Buffer: AsRef<[u8]> + Send + 'static;

    /// Takes a buffer of `size` bytes, of which the first are those of `stamp`.
    fn take(&mut self, size: usize, stamp: u64) -> Self::Buffer;

    /// Does a slice of work on the core that this was made on.
    fn step<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R;
}

/// The sum of all stamps.
pub fn expected(pairs: u64) -> u64 {
    (0..pairs).fold(0, u64::wrapping_add)
}

fn stamp(buffer: &[u8]) -> u64 {
    buffer.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
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
                sum = sum.wrapping_add(old.map_or(0, |old| stamp(old.as_ref())));
            }
            let rest = in_use.iter_mut().filter_map(Option::take).map(|last| stamp(last.as_ref()));
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
                    sum = sum.wrapping_add(stamp(buffer.as_ref()));
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
    use super::Buffers;

    /// `malloc` and `free`.
    pub struct Malloc;

    impl Buffers for Malloc {
        type Buffer = Vec<u8>;

        #[inline]
        fn take(&mut self, size: usize, stamp: u64) -> Vec<u8> {
            let mut buffer = Vec::with_capacity(size);
            buffer.extend_from_slice(&stamp.to_le_bytes());
            buffer
        }

        #[inline]
        fn step<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
            work(self)
        }
    }
}

/// The comparisons.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let (local_pairs, remote_pairs) = (setup.scaled(LOCAL_PAIRS), setup.scaled(REMOTE_PAIRS));
    let work = |pairs: u64, size: usize| format!("{} M pairs of {size} bytes", pairs / 1_000_000);
    let mut cases = Vec::new();
    for (size, name, _) in SIZES {
        let case = Case::new("pool", name, 1, expected(local_pairs))
            .work(work(local_pairs, size))
            .reference("mimalloc")
            .system("mimalloc", move |setup| local(local_pairs, size, &setup.cores, || hand::Malloc))
            .system("corelane", move |setup| {
                let pool = lane::pool::new();
                local(local_pairs, size, &setup.cores, || lane::pool::Rented::new(&pool))
            });
        cases.push(case);
    }
    for (size, _, name) in SIZES {
        let case = Case::new("pool", name, 2, expected(remote_pairs))
            .work(work(remote_pairs, size))
            .reference("mimalloc")
            .try_system("mimalloc", move |setup| remote(remote_pairs, size, &setup.cores, || hand::Malloc))
            .try_system("corelane", move |setup| {
                let pool = lane::pool::new();
                remote(remote_pairs, size, &setup.cores, || lane::pool::Rented::new(&pool))
            });
        cases.push(case);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_brings_its_stamp_to_where_it_is_given_back() {
        let cores = crate::pin::allowed();
        let (pairs, pool) = (10_007, lane::pool::new());
        for size in [8, 64, 4_096] {
            let rented = || lane::pool::Rented::new(&pool);
            assert_eq!(local(pairs, size, &cores, || hand::Malloc).checksum, expected(pairs));
            assert_eq!(local(pairs, size, &cores, rented).checksum, expected(pairs));
            if cores.len() >= 2 {
                assert_eq!(remote(pairs, size, &cores, || hand::Malloc).unwrap().checksum, expected(pairs));
                assert_eq!(remote(pairs, size, &cores, rented).unwrap().checksum, expected(pairs));
            }
        }
        assert_eq!(pool.statistics().rented_buffers, 0);
    }
}
