//! corelane's ring by itself, without a pipeline.

use core_affinity::CoreId;
use corelane::ring::{Consumer, Producer, RingError, ring};

use crate::case::{Latencies, Measured};
use crate::link::{self, Duplex};
use crate::pin::{self, Gate, Span};
use crate::workload::ring::Tally;
use crate::workload::ring::hand::PING_PONG_SLOTS;

/// Slots of the ring.
const SLOTS: usize = 16_384;
/// Items published, and taken, at once.
const CHUNK: usize = 2_048;

/// Moves `items` by chunks.
///
/// # Errors
/// No ring.
pub fn chunks(items: u64, cores: &[CoreId]) -> Result<Measured, RingError> {
    let (mut producer, mut consumer) = ring::<u64>(SLOTS)?;
    let produce = move |gate: &Gate| {
        let mut buffer = [0; CHUNK];
        let start = gate.wait();
        let mut next = 0;
        while next < items {
            buffer.iter_mut().zip(next..).for_each(|(slot, item)| *slot = item);
            let count = (items - next).min(CHUNK as u64);
            let mut left = &buffer[..count as usize];
            while !left.is_empty() {
                left = &left[producer.push_slice(left)..];
                producer.publish();
            }
            next += count;
        }
        Span::since(start)
    };
    let consume = move |gate: &Gate| {
        consumer.pretouch();
        let start = gate.wait();
        let mut tally = Tally::default();
        while tally.count() < items {
            let chunk = consumer.read(CHUNK);
            let (first, second) = chunk.as_slices();
            tally.take(first);
            tally.take(second);
            chunk.commit_all();
        }
        (Span::since(start), tally)
    };
    let (sent, (received, tally)) = pin::on_two(cores, produce, consume);
    Ok(Measured { items, elapsed: sent.union(received), checksum: tally.checksum() })
}

struct End {
    out: Producer<u64>,
    inward: Consumer<u64>,
}

impl Duplex for End {
    #[inline]
    fn send(&mut self, value: u64) {
        while self.out.push(value).is_err() {}
        self.out.publish();
    }

    #[inline]
    fn receive(&mut self) -> u64 {
        loop {
            if let Some(value) = self.inward.read(1).next() {
                return value;
            }
        }
    }
}

/// Round trips over two rings.
///
/// # Errors
/// No ring.
pub fn ping_pong(batches: u64, cores: &[CoreId]) -> Result<Latencies, RingError> {
    let (there, arriving) = ring(PING_PONG_SLOTS)?;
    let (back, returning) = ring(PING_PONG_SLOTS)?;
    let asking = move || End { out: there, inward: returning };
    let answering = move || End { out: back, inward: arriving };
    Ok(link::ping_pong(cores, batches, asking, answering))
}
