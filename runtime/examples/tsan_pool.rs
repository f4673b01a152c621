//! Homes on several threads return each other's buffers, outsiders do too, and homes end early: a target for ThreadSanitizer.
//!
//! Run by `make tsan`. Every buffer is written where it is rented and read where it is returned, so that memory given to two at
//! once, or handed over without order, is a race.
#![allow(clippy::disallowed_methods, reason = "a program of its own, not part of the runtime")]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use corelane::policy::MemoryPoolOptions;
use corelane::pool::{MemoryPool, PooledBuffer};

const THREADS: usize = 3;
const ROUNDS: usize = 300;

fn check(buffer: &PooledBuffer) {
    assert!(buffer.iter().all(|byte| *byte == buffer[0]), "a buffer was written to by two");
}

/// One core: rents, sends to the next thread, returns what comes, and is replaced by another home now and then.
fn run(pool: &MemoryPool, index: usize, next: &SyncSender<PooledBuffer>, inbox: &Receiver<PooledBuffer>) {
    let mut home = pool.open(None).expect("nothing is preallocated");
    for round in 0..ROUNDS {
        if round % 50 == 49 {
            home = pool.open(None).expect("nothing is preallocated");
        }
        home.enter(|| {
            for size in [1, 64, 300, 5000, 70_000] {
                let Ok(mut buffer) = home.rent(size) else { continue };
                buffer.fill((index * ROUNDS + round) as u8);
                // What does not fit is returned here, at home.
                drop(next.try_send(buffer));
            }
            inbox.try_iter().for_each(|buffer| check(&buffer));
        });
        // Outside of the home: over the stack.
        inbox.try_iter().for_each(|buffer| check(&buffer));
    }
}

fn main() {
    for checked in [false, true] {
        let pool = MemoryPool::new(MemoryPoolOptions { checked, limit_bytes: 8 << 20, ..Default::default() });
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| sync_channel(64)).unzip();
        receivers.rotate_right(1);
        thread::scope(|scope| {
            for (index, (next, inbox)) in senders.into_iter().zip(receivers).enumerate() {
                let pool = &pool;
                scope.spawn(move || run(pool, index, &next, &inbox));
            }
        });
        let stats = pool.statistics();
        assert_eq!((stats.rented_buffers, pool.reserved_bytes()), (0, 0), "{stats}");
    }
    println!("every buffer came home");
}
