//! The memory pool: a random model, the balance of rents and returns on every way home, limits, and what a starving home is told.
#![cfg(not(corelane_loom))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "in tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use corelane::observe::PageNodes;
use corelane::policy::{MemoryLocality, MemoryPoolOptions, Preallocation};
use corelane::pool::{LocalPool, MemoryPool, PooledBuffer, RentError};
use corelane::sync::{BindError, Doorbell, HomeNode};
use proptest::prelude::*;

const SLAB: u64 = 256 * 1024;
/// Large enough for a region of its own: 64 KiB, plus a page for its header.
const LARGE: usize = 64 * 1024;
const LARGE_REGION: u64 = 64 * 1024 + 4096;

fn pool(limit_bytes: u64, checked: bool) -> MemoryPool {
    MemoryPool::new(MemoryPoolOptions { limit_bytes, checked, ..MemoryPoolOptions::default() })
}

#[derive(Clone, Debug)]
enum Op {
    /// By this home.
    Rent(usize, usize),
    /// The nth buffer, inside this home; `None` outside of any.
    Drop(usize, Option<usize>),
    /// As `Bytes`, in two parts.
    Share(usize),
    /// A home ends, and another takes its place.
    Reopen(usize),
}

const HOMES: usize = 3;

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![0..300usize, 0..5000usize, 30_000..40_000usize, Just(LARGE)];
    let op = prop_oneof![
        8 => (0..HOMES, size).prop_map(|(home, size)| Op::Rent(home, size)),
        7 => (any::<usize>(), proptest::option::of(0..HOMES)).prop_map(|(nth, by)| Op::Drop(nth, by)),
        1 => any::<usize>().prop_map(Op::Share),
        1 => (0..HOMES).prop_map(Op::Reopen),
    ];
    proptest::collection::vec(op, 0..200)
}

/// What is rented, in the dumbest way.
#[derive(Default)]
struct Model {
    next: u64,
    live: Vec<(u64, Live)>,
    sizes: HashMap<u64, usize>,
}

enum Live {
    Buffer(PooledBuffer),
    Shared(Bytes, Bytes),
}

fn pattern(id: u64, size: usize) -> impl Iterator<Item = u8> {
    (0..size as u64).map(move |at| (id.wrapping_mul(31) + at) as u8)
}

impl Model {
    fn rented(&mut self, mut buffer: PooledBuffer, size: usize) {
        assert_eq!(buffer.len(), size);
        assert_eq!(buffer.as_ptr().addr() % 64, 0);
        buffer.iter_mut().zip(pattern(self.next, size)).for_each(|(byte, wanted)| *byte = wanted);
        self.live.push((self.next, Live::Buffer(buffer)));
        self.sizes.insert(self.next, size);
        self.next += 1;
    }

    /// Takes a buffer out and checks that nobody else has written to it.
    fn remove(&mut self, nth: usize) -> Option<Live> {
        let nth = nth.checked_rem(self.live.len())?;
        let (id, live) = self.live.swap_remove(nth);
        let content: Vec<u8> = match &live {
            Live::Buffer(buffer) => buffer.to_vec(),
            Live::Shared(left, right) => [&left[..], right].concat(),
        };
        let size = self.sizes.remove(&id).unwrap();
        assert!(content.iter().copied().eq(pattern(id, size)), "buffer {id} was written to by another");
        Some(live)
    }

    fn share(&mut self, nth: usize) {
        if let Some(nth) = nth.checked_rem(self.live.len()) {
            let (id, live) = self.live.swap_remove(nth);
            let live = match live {
                Live::Buffer(buffer) => {
                    let mut left = Bytes::from(buffer);
                    let right = left.split_off(left.len() / 2);
                    Live::Shared(left, right)
                }
                shared => shared,
            };
            self.live.push((id, live));
        }
    }

    fn requested(&self) -> usize {
        self.sizes.values().sum()
    }
}

fn run_model(ops: &[Op], checked: bool) {
    let limit = 4 << 20;
    let pool = pool(limit, checked);
    let mut homes: Vec<LocalPool> = (0..HOMES).map(|_| pool.open(None).unwrap()).collect();
    let mut model = Model::default();
    for op in ops {
        match *op {
            Op::Rent(home, size) => match homes[home].rent(size) {
                Ok(buffer) => model.rented(buffer, size),
                Err(error) => assert!(matches!(error, RentError::Exhausted { .. }), "{error}"),
            },
            Op::Drop(nth, by) => {
                let live = model.remove(nth);
                match by {
                    Some(home) => homes[home].enter(|| drop(live)),
                    None => drop(live),
                }
            }
            Op::Share(nth) => model.share(nth),
            Op::Reopen(home) => homes[home] = pool.open(None).unwrap(),
        }
        let stats = pool.statistics();
        assert_eq!(stats.rented_buffers, model.live.len() as u64, "after {op:?}");
        assert!(stats.currently_rented >= model.requested() as u64);
        assert!(stats.total_allocated <= limit && pool.reserved_bytes() == stats.total_allocated, "{stats}");
        assert!((0.0..=1.0).contains(&stats.fragmentation_ratio));
    }
    while model.remove(0).is_some() {}
    assert_eq!(pool.statistics().rented_buffers, 0);
    drop(homes);
    assert_eq!(
        (pool.statistics().total_allocated, pool.reserved_bytes()),
        (0, 0),
        "all memory has gone back"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_order_of_rents_and_returns_agrees_with_a_map(ops in ops()) {
        run_model(&ops, false);
    }

    #[test]
    fn any_order_of_rents_and_returns_agrees_with_a_map_in_checked_mode(ops in ops()) {
        run_model(&ops, true);
    }
}

#[test]
fn memory_that_came_back_is_rented_again_on_every_way_home() {
    type Return = fn(&LocalPool, &LocalPool, Vec<PooledBuffer>);
    let ways: [Return; 3] = [
        |home, _, buffers| home.enter(|| drop(buffers)),
        |_, other, buffers| other.enter(|| drop(buffers)),
        |_, _, buffers| drop(buffers),
    ];
    for give_back in ways {
        let pool = MemoryPool::default();
        let (home, other) = (pool.open(None).unwrap(), pool.open(None).unwrap());
        for _ in 0..50 {
            let buffers: Vec<_> = (0..1000).map(|_| home.rent(64).unwrap()).collect();
            give_back(&home, &other, buffers);
            home.enter(|| ()); // a step: takes in what has come back
        }
        // 1 000 lines of 64 bytes fit in one slab, and their returns in a return ring.
        assert_eq!(pool.statistics().total_allocated, SLAB);
        assert_eq!(home.statistics().peak_usage, 1000 * 64);
    }
}

#[test]
fn more_returns_at_once_than_the_ring_holds_come_home_over_the_next_steps() {
    let pool = MemoryPool::default();
    let (home, other) = (pool.open(None).unwrap(), pool.open(None).unwrap());
    let mut buffers: Vec<_> = (0..3500).map(|_| home.rent(64).unwrap()).collect();
    assert_eq!(pool.statistics().total_allocated, SLAB);
    other.enter(|| buffers.clear());
    assert_eq!(pool.statistics().rented_buffers, 0);
    for _ in 0..3 {
        // 1 024 come with each step; the rest of the slab was never rented.
        buffers.extend((0..1000).map(|_| home.rent(64).unwrap()));
        other.enter(|| ());
    }
    assert_eq!(pool.statistics().total_allocated, SLAB);
}

#[test]
fn a_home_may_end_before_its_buffers_and_its_memory_goes_with_the_last() {
    for checked in [false, true] {
        let pool = pool(64 << 20, checked);
        let home = pool.open(None).unwrap();
        let buffers: Vec<_> = (0..5000).map(|size| home.rent(size).unwrap()).collect();
        drop(home);
        assert_eq!(pool.statistics().rented_buffers, 5000);
        let mut parts: Vec<Vec<_>> = (0..10).map(|_| Vec::new()).collect();
        buffers.into_iter().enumerate().for_each(|(index, buffer)| parts[index % 10].push(buffer));
        thread::scope(|scope| {
            for (index, part) in parts.into_iter().enumerate() {
                let pool = &pool;
                scope.spawn(move || {
                    let other = pool.open(None).unwrap();
                    if index % 2 == 0 { other.enter(|| drop(part)) } else { drop(part) }
                });
            }
        });
        assert_eq!(pool.statistics().rented_buffers, 0);
        assert_eq!(pool.reserved_bytes(), 0, "checked: {checked}");
    }
}

#[test]
fn a_pool_may_be_dropped_before_its_buffers() {
    let pool = MemoryPool::default();
    let mut buffer = pool.open(None).unwrap().rent(100).unwrap();
    drop(pool);
    buffer.fill(9);
    assert_eq!(&buffer[..], [9; 100]);
}

#[test]
fn a_buffer_that_is_forgotten_stays_rented_and_nothing_else_suffers() {
    let pool = pool(4 << 20, false);
    let home = pool.open(None).unwrap();
    let mut forgotten = std::mem::ManuallyDrop::new(home.rent(100).unwrap());
    drop(home);
    assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes() > 0), (1, true));
    forgotten.fill(7);
    let other = pool.open(None).unwrap();
    assert_ne!(other.rent(100).unwrap().as_ptr(), forgotten.as_ptr());
    assert!(forgotten.iter().all(|byte| *byte == 7));
}

#[test]
fn homes_of_two_pools_may_be_entered_within_each_other_and_every_buffer_finds_its_own() {
    let pools = [pool(4 << 20, false), pool(4 << 20, false)];
    let homes = pools.each_ref().map(|pool| pool.open(None).unwrap());
    let rent = |size| homes.each_ref().map(|home| home.rent(size).unwrap());
    homes[0].enter(|| {
        let outer = rent(64);
        homes[1].enter(|| drop((outer, rent(64))));
        assert!(pools[0].current().is_some() && pools[1].current().is_none());
        drop(rent(4096));
    });
    assert_eq!(pools.each_ref().map(|pool| pool.statistics().rented_buffers), [0, 0]);
    drop(homes);
    assert_eq!(pools.each_ref().map(MemoryPool::reserved_bytes), [0, 0]);
}

#[test]
fn a_home_and_its_buffers_may_end_in_any_order_while_their_thread_ends() {
    type Kept = (Option<LocalPool>, Vec<PooledBuffer>);
    thread_local! {
        static FIRST: std::cell::RefCell<Kept> = const { std::cell::RefCell::new((None, Vec::new())) };
        static SECOND: std::cell::RefCell<Kept> = const { std::cell::RefCell::new((None, Vec::new())) };
    }
    let pool = pool(4 << 20, true);
    for home_first in [true, false] {
        let there = pool.clone();
        let ended = std::thread::spawn(move || {
            let home = there.open(None).unwrap();
            let buffers = vec![home.rent(64).unwrap(), home.rent(10_000).unwrap()];
            let (for_home, for_buffers) = if home_first { (&FIRST, &SECOND) } else { (&SECOND, &FIRST) };
            for_home.with_borrow_mut(|kept| kept.0 = Some(home));
            for_buffers.with_borrow_mut(|kept| kept.1 = buffers);
        });
        ended.join().unwrap();
        assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes()), (0, 0));
    }
}

#[test]
fn a_share_of_a_pool_has_a_limit_of_its_own_and_gets_back_what_its_homes_give_up() {
    let whole = pool(3 << 20, false);
    let shares = [whole.limited_to(1 << 20), whole.limited_to(5 << 20)];
    let homes = shares.each_ref().map(|share| share.open(None).unwrap());
    let fill = |home: &LocalPool| -> Vec<PooledBuffer> {
        std::iter::from_fn(|| home.rent(LARGE).ok()).take(100).collect()
    };
    for _ in 0..3 {
        let mine = fill(&homes[0]);
        assert_eq!(mine.len() as u64, (1 << 20) / LARGE_REGION);
        assert!(matches!(homes[0].rent(LARGE), Err(RentError::Exhausted { limit: 1_048_576, .. })));
        let theirs = fill(&homes[1]);
        // The share has room, and the pool has none.
        assert_eq!((mine.len() + theirs.len()) as u64, (3 << 20) / LARGE_REGION);
        assert!(homes[1].rent(LARGE).is_err());
        homes[0].enter(|| drop(mine));
        homes[1].enter(|| drop(theirs));
        // Another size needs the memory that was given up.
        assert!(homes[0].rent(900_000).is_ok() && homes[1].rent(1_900_000).is_ok());
    }
    assert!(matches!(homes[0].rent(2 << 20), Err(RentError::TooLarge { limit: 1_048_576, .. })));
    assert!(homes[0].pool().open(None).unwrap().rent(2 << 20).is_err(), "a handle's pool is its share");
    drop(homes);
    assert_eq!(whole.reserved_bytes(), 0);
}

#[test]
fn homes_on_two_threads_return_each_others_buffers_and_the_balance_is_zero() {
    let pool = pool(32 << 20, true);
    let (to_b, from_a) = mpsc::sync_channel::<PooledBuffer>(64);
    let (to_a, from_b) = mpsc::sync_channel::<PooledBuffer>(64);
    let run = |pool: &MemoryPool,
               out: mpsc::SyncSender<PooledBuffer>,
               inward: mpsc::Receiver<PooledBuffer>,
               seed| {
        let home = pool.open(None).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            home.enter(|| {
                for _ in 0..rng.usize(1..40) {
                    let size = rng.usize(0..5000);
                    let mut buffer = home.rent(size).unwrap();
                    buffer.fill(seed as u8);
                    let _ = out.try_send(buffer);
                }
                inward.try_iter().for_each(|buffer| assert!(buffer.iter().all(|byte| *byte != seed as u8)));
            });
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| run(&pool, to_b, from_b, 1));
        scope.spawn(|| run(&pool, to_a, from_a, 2));
    });
    assert_eq!((pool.statistics().rented_buffers, pool.reserved_bytes()), (0, 0));
}

/// Each buffer has a region of its own, so a limit of k regions refuses exactly the rent after the kth.
#[test]
fn whichever_rent_is_refused_the_error_says_so_and_a_return_heals_it() {
    for k in 0..40 {
        let pool = pool(k * LARGE_REGION, false);
        let home = pool.open(None).unwrap();
        let mut held: Vec<_> = (0..k).map(|_| home.rent(LARGE).unwrap()).collect();
        let refused = home.rent(LARGE).unwrap_err();
        let limit = k * LARGE_REGION;
        let expected = match k {
            0 => RentError::TooLarge { size: LARGE, limit },
            _ => RentError::Exhausted { size: LARGE, limit },
        };
        assert_eq!(refused, expected);
        assert!(refused.to_string().contains(&limit.to_string()), "{refused}");
        if held.pop().is_some() {
            held.push(home.rent(LARGE).unwrap());
        }
        assert_eq!(pool.statistics().rented_buffers, k);
    }
}

#[test]
fn idle_memory_of_one_size_serves_another_before_a_rent_is_refused() {
    let pool = pool(SLAB, false);
    let home = pool.open(None).unwrap();
    home.enter(|| {
        for size in [64, 4096, 100, LARGE, 64] {
            home.rent(size).unwrap_or_else(|error| panic!("{size}: {error}"));
        }
        let one = home.rent(64).unwrap();
        assert_eq!(home.rent(4096).unwrap_err(), RentError::Exhausted { size: 4096, limit: SLAB });
        drop(one);
        home.rent(4096).unwrap();
    });
}

/// A home with a bell that is announced, as before a park; and how often it rang.
fn starving(pool: &MemoryPool) -> (LocalPool, Arc<Doorbell>, Arc<AtomicU32>) {
    let (bell, rung) = (Arc::new(Doorbell::new()), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&rung);
    bell.set_waker(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (pool.open(Some(Arc::clone(&bell))).unwrap(), bell, rung)
}

#[test]
fn a_refused_home_is_rung_when_another_thread_returns_its_memory() {
    for entered in [true, false] {
        let pool = pool(LARGE_REGION, false);
        let (home, bell, rung) = starving(&pool);
        let buffer = home.rent(LARGE).unwrap();
        assert!(home.rent(LARGE).is_err());
        bell.announce();
        let there = pool.clone();
        thread::spawn(move || {
            let other = there.open(None).unwrap();
            if entered { other.enter(|| drop(buffer)) } else { drop(buffer) }
        })
        .join()
        .unwrap();
        assert_eq!(rung.load(Ordering::Relaxed), 1, "entered: {entered}");
        bell.retract();
        home.rent(LARGE).unwrap();
        // Nobody waits any more: nothing rings.
        bell.announce();
        let buffer = home.rent(0).is_err().then_some(());
        assert_eq!((buffer, rung.load(Ordering::Relaxed)), (Some(()), 1));
    }
}

#[test]
fn a_refused_home_is_rung_when_another_home_gives_idle_memory_up() {
    let pool = pool(LARGE_REGION, false);
    let other = pool.open(None).unwrap();
    other.enter(|| drop(other.rent(LARGE).unwrap()));
    assert_eq!(pool.reserved_bytes(), LARGE_REGION, "kept for the next rent");
    let (home, bell, rung) = starving(&pool);
    assert!(home.rent(LARGE).is_err());
    bell.announce();
    other.enter(|| ()); // a step
    assert_eq!(rung.load(Ordering::Relaxed), 1);
    home.rent(LARGE).unwrap();
}

#[test]
fn a_bell_whose_waker_panics_costs_neither_the_home_nor_its_memory() {
    // Returned over the stack, over the ring, and by another home that gives its memory up.
    for way in 0..3 {
        let pool = pool(LARGE_REGION, false);
        let bell = Arc::new(Doorbell::new());
        bell.set_waker(|| panic!("a waker that panics"));
        let home = pool.open(Some(Arc::clone(&bell))).unwrap();
        let other = pool.open(None).unwrap();
        if way == 2 {
            other.enter(|| drop(other.rent(LARGE).unwrap()));
            assert!(home.rent(LARGE).is_err());
            bell.announce();
            other.enter(|| ());
            drop(home.rent(LARGE).unwrap());
        } else {
            let buffer = home.rent(LARGE).unwrap();
            assert!(home.rent(LARGE).is_err());
            bell.announce();
            if way == 0 { drop(buffer) } else { other.enter(|| drop(buffer)) }
        }
        assert!(bell.is_rung(), "way {way}: the waker was called");
        home.enter(|| drop(home.rent(LARGE).unwrap()));
        drop((home, other));
        assert_eq!(pool.reserved_bytes(), 0, "way {way}: a home is left behind");
    }
}

#[test]
fn what_is_preallocated_needs_no_memory_later_and_counts_as_free() {
    let options = MemoryPoolOptions {
        preallocate: vec![Preallocation { size: 4096, count: 100 }, Preallocation { size: LARGE, count: 2 }],
        ..MemoryPoolOptions::default()
    };
    let pool = MemoryPool::new(options.clone());
    let home = pool.open(None).unwrap();
    let before = pool.statistics();
    assert_eq!((before.rented_buffers, before.peak_usage), (0, 0));
    assert_eq!(before.total_allocated, 2 * SLAB + 2 * LARGE_REGION);
    let _held: Vec<_> = (0..100).map(|_| home.rent(4096).unwrap()).collect();
    assert_eq!(pool.statistics().total_allocated, before.total_allocated);
    let small = MemoryPool::new(MemoryPoolOptions { limit_bytes: SLAB, ..options });
    assert!(matches!(small.open(None), Err(RentError::Exhausted { .. })));
    assert_eq!(small.reserved_bytes(), 0, "nothing stays behind");
}

#[test]
fn statistics_name_what_rounding_costs_and_the_peak() {
    let pool = MemoryPool::default();
    let home = pool.open(None).unwrap();
    home.enter(|| {
        let buffers: Vec<_> = (0..10).map(|_| home.rent(65).unwrap()).collect();
        let stats = pool.statistics();
        assert_eq!((stats.rented_buffers, stats.currently_rented), (10, 1280));
        assert!((stats.fragmentation_ratio - (1.0 - 650.0 / 1280.0)).abs() < 1e-12, "{stats}");
        drop(buffers);
    });
    let stats = pool.statistics();
    assert_eq!((stats.rented_buffers, stats.currently_rented, stats.peak_usage), (0, 0, 1280));
    assert_eq!(pool.statistics_by_core(), [stats]);
    drop(home);
    assert_eq!((pool.statistics().peak_usage, pool.statistics().total_allocated), (1280, 0));
}

#[test]
fn huge_pages_come_by_units_and_give_way_to_small_ones_at_the_limit() {
    let options =
        MemoryPoolOptions { huge_pages: true, limit_bytes: 9 * SLAB, ..MemoryPoolOptions::default() };
    let pool = MemoryPool::new(options);
    let home = pool.open(None).unwrap();
    home.enter(|| {
        let first = home.rent(64).unwrap();
        assert_eq!(pool.statistics().total_allocated, 8 * SLAB);
        let others: Vec<_> = (1..9).map(|n| home.rent(64 * (n + 1)).unwrap()).collect();
        assert_eq!(pool.statistics().total_allocated, 9 * SLAB);
        assert!(home.rent(32 * 1024).is_err());
        drop((first, others));
    });
    drop(home);
    assert_eq!(pool.reserved_bytes(), 0);
}

/// Case 112: the system refuses.
#[test]
fn the_memory_of_a_home_is_found_on_its_node_while_it_is_open_and_what_was_seen_last_behind_that() {
    let home = HomeNode { node: 0, locality: MemoryLocality::Strict };
    if let Err(error) = home.try_out() {
        return println!("left out: {error}");
    }
    let page = 4096;
    for (huge_pages, regions) in [(false, SLAB + LARGE_REGION), (true, 8 * SLAB + LARGE_REGION)] {
        let options = MemoryPoolOptions { huge_pages, ..MemoryPoolOptions::default() };
        let pool = MemoryPool::new(options);
        let (core, other) = (pool.open_on(None, home).unwrap(), pool.open(None).unwrap());
        let gauge = core.gauge();
        assert_eq!(gauge.page_nodes().unwrap(), PageNodes::default(), "it holds nothing");
        let buffers = [core.rent(1000).unwrap(), core.rent(LARGE).unwrap(), other.rent(1000).unwrap()];
        let found = gauge.page_nodes().unwrap();
        assert_eq!((found.nodes, found.nowhere), ([(0, regions / page)].into(), 0), "huge: {huge_pages}");
        drop(buffers);
        drop(core);
        assert_eq!(gauge.page_nodes().unwrap().nodes, [(0, regions / page)].into(), "when it closed");
        drop(other);
        assert_eq!(pool.reserved_bytes(), 0);
    }
}

#[test]
fn a_home_whose_memory_cannot_be_bound_is_refused_only_if_it_must_be() {
    let pool = pool(1 << 20, false);
    let home = |locality| HomeNode { node: u32::MAX, locality };
    for locality in [MemoryLocality::Any, MemoryLocality::Local] {
        let core = pool.open_on(None, home(locality)).unwrap();
        drop(core.rent(100).unwrap());
    }
    let strict = pool.open_on(None, home(MemoryLocality::Strict)).unwrap();
    let refused = RentError::Binding(BindError::NoMemory { node: u32::MAX });
    assert_eq!(strict.rent(100).unwrap_err(), refused);
    assert_eq!(strict.rent(LARGE).unwrap_err(), refused);
    assert_eq!(pool.reserved_bytes(), 0, "and takes nothing");
}

#[test]
fn more_than_the_system_has_is_an_error_and_leaves_the_pool_as_it_was() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let is_child = std::env::var_os("CORELANE_TEST_RLIMIT_AS").is_some();
    if !is_child {
        let name = "more_than_the_system_has_is_an_error_and_leaves_the_pool_as_it_was";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env("CORELANE_TEST_RLIMIT_AS", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let pool = pool(1 << 40, false);
    let home = pool.open(None).unwrap();
    let kept = home.rent(100).unwrap();
    let before = pool.statistics();
    let old = getrlimit(Resource::As);
    setrlimit(Resource::As, rustix::process::Rlimit { current: Some(64 << 20), maximum: old.maximum })
        .unwrap();
    let error = home.rent(100 << 20).unwrap_err();
    setrlimit(Resource::As, old).unwrap();
    assert!(matches!(error, RentError::OutOfMemory { .. }), "{error}");
    assert_eq!((pool.statistics(), pool.reserved_bytes()), (before, before.total_allocated));
    assert_eq!(home.rent(100 << 20).unwrap().len(), 100 << 20);
    assert_eq!(kept.len(), 100);
}
