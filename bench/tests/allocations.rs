//! The programs, corelane's and the hand-written ones, allocate to set themselves up, and then no more, however many items
//! follow.
//!
//! One test function: the counter is that of the whole process, and other tests would be counted too.

use std::alloc::System;

use corelane_bench::case::{Driver, Setup};
use corelane_bench::workload::latency::Schedule;
use corelane_bench::workload::window::EVERY;
use corelane_bench::workload::{chain, keyed, latency, tumbling};
use corelane_bench::{lane, pin};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and reallocations of all threads while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// Enough for nearly every key to have come.
const FEW: u64 = 40_000;
const MANY: u64 = 400_000;

/// Runs `program` over a few and over many items and holds the two counts against each other. `chance` is what may differ
/// from run to run without having to do with items.
fn assert_none_per_item(name: &str, chance: usize, program: impl Fn(u64)) {
    // The first run may set up what lives as long as the process.
    program(FEW);
    let (base, more) = (allocations(|| program(FEW)), allocations(|| program(MANY)));
    assert!(more <= base + chance, "{name}: {base} allocations for {FEW} items, {more} for {MANY}");
}

/// Few items or many in the same time: what drivers do by the clock is the same for both.
fn schedule(items: u64) -> Schedule {
    Schedule::at_rate(items * 5 / 2, items)
}

/// Starting a thread may cost the standard library an allocation more or less.
const THREADS: usize = 4;
/// Buffers that have not met their largest batch in the shorter run may double a few times more in the longer one.
const GROWTH: usize = 32;

fn hand_written(cores: &[pin::CoreId]) {
    assert_none_per_item("hand chain/bare", THREADS, |items| {
        assert_eq!(chain::hand::bare(items, cores[0]).checksum, chain::expected_bare(items));
    });
    assert_none_per_item("hand chain/envelope", THREADS, |items| {
        assert_eq!(chain::hand::envelope(items, cores[0]).checksum, chain::expected_envelope(items));
    });
    if cores.len() < 2 {
        return;
    }
    assert_none_per_item("hand keyed", THREADS, |pairs| {
        assert_eq!(keyed::hand::exchange(pairs, 1_000, keyed::hasher(), cores).items, pairs);
    });
    assert_none_per_item("hand latency", THREADS, |items| {
        let run = latency::hand::busy_poll(schedule(items), cores);
        assert_eq!(run.histogram.len(), items);
    });
}

fn corelanes(driver: Driver, cores: Vec<pin::CoreId>) {
    let two = cores.len() >= 2;
    let setup = Setup { cores, driver, quick: false, nexmark: Default::default() };
    // glommio allocates for the timer that beats every few milliseconds, however many items there are.
    let chance = if driver == Driver::Thread { THREADS + GROWTH } else { 1_000 };
    assert_none_per_item("corelane chain/bare", chance, |items| {
        assert_eq!(
            lane::chain::bare(items, &setup).expect("the pipeline runs").checksum,
            chain::expected_bare(items)
        );
    });
    assert_none_per_item("corelane chain/envelope", chance, |items| {
        assert_eq!(
            lane::chain::envelope(items, &setup).expect("the pipeline runs").checksum,
            chain::expected_envelope(items)
        );
    });
    for (size, every) in [(EVERY, EVERY), (4 * EVERY, EVERY)] {
        // Windows of 10 000 and of 40 000 items: in the longer run ten times as many of them begin and end.
        assert_none_per_item("corelane window", chance, |items| {
            let run = lane::window::cost(items, size, every, &setup).expect("the pipeline runs");
            assert_eq!(run.checksum, items);
        });
    }
    if !two {
        return;
    }
    let counts = [FEW, MANY].map(tumbling::expected);
    for plan in [lane::tumbling::exchange, lane::tumbling::combining] {
        assert_none_per_item("corelane tumbling", chance, |events| {
            let run = plan(events, &setup).expect("the pipeline runs");
            assert_eq!(run.checksum, counts[usize::from(events == MANY)]);
        });
    }
    // The second table leaves the cache, and is then looked up ahead; growing takes some allocations, not one for each key.
    for (keys, chance) in [(1_000, chance), (100_000, chance + 60)] {
        let expected = [FEW, MANY].map(|pairs| keyed::expected(pairs, keys).checksum());
        assert_none_per_item("corelane keyed", chance, |pairs| {
            let checksum =
                lane::keyed::exchange(pairs, keys, None, &setup).expect("the pipeline runs").checksum;
            assert_eq!(checksum, expected[usize::from(pairs == MANY)]);
        });
    }
    assert_none_per_item("corelane latency", chance, |items| {
        let run = lane::latency::scheduled(schedule(items), &setup).expect("the pipeline runs");
        assert_eq!(run.histogram.len(), items);
    });
}

#[test]
fn no_program_allocates_per_item() {
    let boxes = |count: u64| (0..count).for_each(|item| drop(std::hint::black_box(Box::new(item))));
    assert!(allocations(|| boxes(1_000)) >= 1_000, "the counter does not count");

    let cores = pin::allowed();
    hand_written(&cores);
    corelanes(Driver::Thread, cores.clone());
    corelanes(Driver::Auto, cores);
}
