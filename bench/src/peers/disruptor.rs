//! The `disruptor` crate: one producer that publishes batches, one consumer thread of its own that spins.

use std::sync::atomic::{AtomicU64, Ordering};

use core_affinity::CoreId;
use disruptor::{BusySpin, ProcessorSettings, Producer, build_single_producer};

use crate::case::Measured;
use crate::pin;
use crate::workload::ring::Tally;

/// Slots of the ring.
const SLOTS: usize = 16_384;
/// Items published at once.
const BATCH: u64 = 1_024;

/// Moves `items` in batches from the first core to the second.
pub(super) fn batches(items: u64, cores: &[CoreId]) -> Measured {
    let (checksum, count) =
        (&*Box::leak(Box::new(AtomicU64::new(0))), &*Box::leak(Box::new(AtomicU64::new(0))));
    let mut tally = Tally::default();
    let consume = move |event: &u64, _, end_of_batch: bool| {
        tally.take(std::slice::from_ref(event));
        if end_of_batch && tally.count() == items {
            checksum.store(tally.checksum(), Ordering::Relaxed);
            count.store(items, Ordering::Release);
        }
    };
    // Pinned after the consumer has been: the disruptor refuses cores that its maker may not use.
    pin::on_all(cores, || {
        let builder = build_single_producer(SLOTS, || 0_u64, BusySpin);
        let mut producer = builder.pin_at_core(cores[1].id).handle_events_with(consume).build();
        pin::restrict(&cores[..1]);
        pin::timed(items, || {
            let mut next = 0;
            while next < items {
                let n = BATCH.min(items - next);
                producer.batch_publish(n as usize, |slots| {
                    for (slot, item) in slots.zip(next..) {
                        *slot = item;
                    }
                });
                next += n;
            }
            while count.load(Ordering::Acquire) < items {
                std::hint::spin_loop();
            }
            checksum.load(Ordering::Relaxed)
        })
    })
}
