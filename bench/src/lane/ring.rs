//! corelane's ring by itself, without a pipeline.

use core_affinity::CoreId;
use corelane::ring::{Consumer, Producer, RingError, ring};

use crate::case::{Latencies, Measured};
use crate::link::{self, Duplex};
use crate::pin::{self, Gate, Span};
use crate::workload::ring::hand::PING_PONG_SLOTS;
use crate::workload::ring::{Chunked, Tally, Write, send};

/// Moves `items` by chunks. Slots cannot be written in place: that is done by a copy, too.
///
/// # Errors
/// No ring.
pub fn chunks(items: u64, how: Chunked, cores: &[CoreId]) -> Result<Measured, RingError> {
    let (producer, consumer) = ring::<u64>(how.capacity)?;
    let produce = move |gate: &Gate| produce(producer, items, how, gate);
    let consume = move |gate: &Gate| consume(consumer, items, how.chunk, gate);
    let (sent, (received, tally)) = pin::on_two(cores, produce, consume);
    Ok(Measured { items, elapsed: sent.union(received), checksum: tally.checksum() })
}

fn produce(mut ring: Producer<u64>, items: u64, how: Chunked, gate: &Gate) -> Span {
    send(items, how, gate, |buffer, mut chunk| {
        // A whole chunk or nothing: by the item both sides would wait for each other's positions.
        if ring.free_for(buffer.len()) < buffer.len() {
            return false;
        }
        match how.write {
            Write::Iterator => ring.extend(&mut chunk),
            Write::InPlace | Write::Copy => {
                buffer.iter_mut().zip(chunk).for_each(|(slot, item)| *slot = item);
                ring.push_slice(buffer)
            }
        };
        ring.publish();
        true
    })
}

fn consume(mut ring: Consumer<u64>, items: u64, chunk: usize, gate: &Gate) -> (Span, Tally) {
    ring.pretouch();
    let start = gate.wait();
    let mut tally = Tally::default();
    while tally.count() < items {
        let chunk = ring.read(chunk);
        let (first, second) = chunk.as_slices();
        tally.take(first);
        tally.take(second);
        chunk.commit_all();
    }
    (Span::since(start), tally)
}

struct End<const PAUSES: u32> {
    out: Producer<u64>,
    inward: Consumer<u64>,
}

impl<const PAUSES: u32> Duplex for End<PAUSES> {
    #[inline]
    fn send(&mut self, value: u64) {
        while self.out.push(value).is_err() {}
        self.out.publish();
    }

    #[inline]
    fn receive(&mut self) -> u64 {
        loop {
            if let Some(value) = self.inward.pop() {
                return value;
            }
            link::pause::<PAUSES>();
        }
    }
}

/// Round trips over two rings.
///
/// # Errors
/// No ring.
pub fn ping_pong<const PAUSES: u32>(batches: u64, cores: &[CoreId]) -> Result<Latencies, RingError> {
    let (there, arriving) = ring(PING_PONG_SLOTS)?;
    let (back, returning) = ring(PING_PONG_SLOTS)?;
    let asking = move || End::<PAUSES> { out: there, inward: returning };
    let answering = move || End::<PAUSES> { out: back, inward: arriving };
    Ok(link::ping_pong(cores, batches, asking, answering))
}
