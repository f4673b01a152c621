//! Homes on several threads return each other's buffers, outsiders do too, and homes end before their buffers: a target for
//! ThreadSanitizer.
//!
//! Run by `make tsan`. Every buffer is written where it is rented and read where it is returned, so that memory given to two at
//! once, or handed over without order, is a race. The checker does not see the system calls that map memory: so nothing is mapped
//! after something was unmapped, or the same address would look like the same memory.
#![allow(clippy::disallowed_methods, reason = "a program of its own, not part of the runtime")]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;

use corelane::policy::MemoryPoolOptions;
use corelane::pool::{LocalPool, MemoryPool, PooledBuffer};

const THREADS: usize = 3;
const ROUNDS: usize = 300;
const SIZES: [usize; 5] = [1, 64, 300, 5000, 70_000];

/// One core: what it rents goes to the next thread.
struct Core<'a> {
    home: LocalPool,
    fill: u8,
    next: &'a SyncSender<PooledBuffer>,
    inbox: &'a Receiver<PooledBuffer>,
}

impl Core<'_> {
    fn send(&mut self) {
        for size in SIZES {
            let mut buffer = self.home.rent(size).expect("the limit is far away");
            self.fill = self.fill.wrapping_add(1);
            buffer.fill(self.fill);
            // What does not fit is returned here, at home.
            drop(self.next.try_send(buffer));
        }
    }

    fn receive(&self) {
        for buffer in self.inbox.try_iter() {
            assert!(buffer.iter().all(|byte| *byte == buffer[0]), "a buffer was written to by two");
        }
    }

    fn run(mut self, everybody: &Barrier) {
        let home = self.home.clone();
        for _ in 0..ROUNDS {
            home.enter(|| {
                self.send();
                self.receive();
            });
            self.receive(); // outside of the home: over the stack
        }
        everybody.wait();
        (0..10).for_each(|_| self.send());
        everybody.wait();
        // Some return as a core, some as an outsider whose own home has ended.
        home.enter(|| drop(self.inbox.try_recv()));
        drop(home);
        let Self { home, inbox, .. } = self;
        drop(home);
        inbox.try_iter().for_each(drop);
    }
}

fn main() {
    for checked in [false, true] {
        let pool = MemoryPool::new(MemoryPoolOptions { checked, ..Default::default() });
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| sync_channel(64)).unzip();
        receivers.rotate_right(1);
        let everybody = Arc::new(Barrier::new(THREADS));
        let start = |(fill, (next, inbox)): (usize, (SyncSender<PooledBuffer>, Receiver<PooledBuffer>))| {
            let (pool, everybody) = (pool.clone(), Arc::clone(&everybody));
            thread::spawn(move || {
                let home = pool.open(None).expect("nothing is made ready");
                everybody.wait();
                Core { home, fill: fill as u8 * 80, next: &next, inbox: &inbox }.run(&everybody);
            })
        };
        // Not scoped threads: the checker does not see how their end is waited for.
        let threads: Vec<_> = senders.into_iter().zip(receivers).enumerate().map(start).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a core panicked"));
        let stats = pool.statistics();
        assert_eq!((stats.rented_buffers, pool.reserved_bytes()), (0, 0), "{stats}");
    }
    println!("every buffer came home");
}
