//! The ways home of a buffer, the end of a home, and the bell of a starving one, under every interleaving that loom knows.
//!
//! Run with `RUSTFLAGS="--cfg corelane_loom" cargo test --release -p corelane --test loom_pool`. Return rings have two slots.
#![cfg(corelane_loom)]
#![allow(clippy::unwrap_used, reason = "in tests")]

use std::sync::Arc;

use corelane::policy::MemoryPoolOptions;
use corelane::pool::{LocalPool, MemoryPool, PooledBuffer};
use corelane::sync::Doorbell;
use loom::thread;

/// Every schedule with at most this many preemptions: all schedules would take hours.
fn bounded_model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(f);
}

/// A pool whose buffers of this size have a region of their own, with room for `buffers`.
const SIZE: usize = 4096 - 64;

fn pool(buffers: u64) -> MemoryPool {
    MemoryPool::new(MemoryPoolOptions { limit_bytes: 8192 * buffers, ..MemoryPoolOptions::default() })
}

fn rent(home: &LocalPool, n: usize) -> Vec<PooledBuffer> {
    (0..n).map(|_| home.rent(SIZE).unwrap()).collect()
}

/// Returns on another thread: as a core of the pool, or as an outsider.
fn give_back(pool: &MemoryPool, buffers: Vec<PooledBuffer>, entered: bool) {
    if entered {
        let other = pool.open(None).unwrap();
        other.enter(|| drop(buffers));
    } else {
        drop(buffers);
    }
}

#[test]
fn what_another_core_returns_is_rented_again_or_refused_and_never_given_twice() {
    for entered in [true, false] {
        bounded_model(3, move || {
            let pool = pool(2);
            let home = pool.open(None).unwrap();
            let mut buffers = rent(&home, 2);
            let mine = buffers.pop();
            let there = pool.clone();
            let other = thread::spawn(move || give_back(&there, buffers, entered));
            // While it comes back: at most one can be had, and it is not the one that is held here.
            let got = home.rent(SIZE).ok();
            if let (Some(got), Some(mine)) = (&got, &mine) {
                assert_ne!(got.as_ptr(), mine.as_ptr());
            }
            other.join().unwrap();
            home.enter(|| drop((got, mine)));
            assert_eq!(pool.statistics().rented_buffers, 0);
            drop(home);
            assert_eq!(pool.reserved_bytes(), 0);
        });
    }
}

#[test]
fn more_returns_than_the_ring_holds_all_come_home() {
    bounded_model(2, || {
        let pool = pool(3);
        let home = pool.open(None).unwrap();
        let buffers = rent(&home, 3);
        let there = pool.clone();
        let other = thread::spawn(move || give_back(&there, buffers, true));
        home.enter(|| ());
        other.join().unwrap();
        let buffers = rent(&home, 3);
        home.enter(|| drop(buffers));
        drop(home);
        assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes()), (0, 0));
    });
}

#[test]
fn a_home_that_ends_while_its_buffers_come_back_is_freed_once_by_whoever_is_last() {
    for entered in [true, false] {
        bounded_model(3, move || {
            let pool = pool(2);
            let home = pool.open(None).unwrap();
            let buffers = rent(&home, 2);
            let there = pool.clone();
            let other = thread::spawn(move || give_back(&there, buffers, entered));
            drop(home);
            other.join().unwrap();
            assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes()), (0, 0));
        });
    }
}

#[test]
fn outsiders_on_two_threads_return_and_end_a_home_together() {
    bounded_model(2, || {
        let pool = pool(2);
        let home = pool.open(None).unwrap();
        let mut buffers = rent(&home, 2);
        let one = buffers.pop();
        let threads = [thread::spawn(move || drop(one)), thread::spawn(move || drop(buffers))];
        drop(home);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes()), (0, 0));
    });
}

#[test]
fn a_home_that_parks_for_memory_is_always_woken() {
    for entered in [true, false] {
        bounded_model(3, move || {
            let pool = pool(1);
            let bell = Arc::new(Doorbell::new());
            let owner = thread::current();
            bell.set_waker(move || owner.unpark());
            let home = pool.open(Some(Arc::clone(&bell))).unwrap();
            let buffers = rent(&home, 1);
            let there = pool.clone();
            let other = thread::spawn(move || give_back(&there, buffers, entered));
            // The way a driver parks: a deadlock, which loom reports, if it is never woken.
            let got = loop {
                bell.announce();
                if let Ok(buffer) = home.rent(SIZE) {
                    bell.retract();
                    break buffer;
                }
                while !bell.is_rung() {
                    thread::park();
                }
                bell.retract();
            };
            other.join().unwrap();
            home.enter(|| drop(got));
            assert_eq!(pool.statistics().rented_buffers, 0);
        });
    }
}
