//! The hand-written programs allocate to set themselves up, and then no more, however many items follow.
//!
//! One test function: the counter is that of the whole process, and other tests would be counted too.

use std::alloc::System;

use corelane_bench::pin;
use corelane_bench::workload::latency::Schedule;
use corelane_bench::workload::{chain, keyed, latency};
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

/// Runs `program` over a few and over many items and holds the two counts against each other.
fn assert_none_per_item(name: &str, few: u64, many: u64, program: impl Fn(u64)) {
    // The first run may set up what lives as long as the process.
    program(few);
    let (base, more) = (allocations(|| program(few)), allocations(|| program(many)));
    // Starting a thread may cost the standard library an allocation more or less.
    assert!(more <= base + 4, "{name}: {base} allocations for {few} items, {more} for {many}");
}

#[test]
fn the_hand_written_programs_do_not_allocate_per_item() {
    let boxes = |count: u64| (0..count).for_each(|item| drop(std::hint::black_box(Box::new(item))));
    assert!(allocations(|| boxes(1_000)) >= 1_000, "the counter does not count");

    let cores = pin::allowed();
    let (few, many) = (10_000, 200_000);
    assert_none_per_item("chain/bare", few, many, |items| {
        assert_eq!(chain::hand::bare(items, cores[0]).checksum, chain::expected_bare(items));
    });
    assert_none_per_item("chain/envelope", few, many, |items| {
        assert_eq!(chain::hand::envelope(items, cores[0]).checksum, chain::expected_envelope(items));
    });
    if cores.len() < 2 {
        return;
    }
    assert_none_per_item("keyed", few, many, |pairs| {
        assert_eq!(keyed::hand::exchange(pairs, 1_000, &cores).items, pairs);
    });
    assert_none_per_item("latency", few, many, |items| {
        let run = latency::hand::busy_poll(Schedule::at_rate(1_000_000, items), &cores);
        assert_eq!(run.histogram.len(), items);
    });
}
