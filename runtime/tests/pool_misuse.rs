//! What the checked mode finds: the misuse that allocators' security test programs commit, through the one unsafe door there is.
#![cfg(not(corelane_loom))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::undocumented_unsafe_blocks,
    reason = "in tests"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use corelane::policy::MemoryPoolOptions;
use corelane::pool::{LocalPool, MemoryPool, Misuse, RawBuffer};

fn checked() -> (MemoryPool, LocalPool) {
    let pool = MemoryPool::new(MemoryPoolOptions { checked: true, ..MemoryPoolOptions::default() });
    let home = pool.open(None).unwrap();
    (pool, home)
}

/// Runs `f`, which must be stopped with exactly this misuse.
#[track_caller]
fn finds(misuse: Misuse, f: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("nothing was found");
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains(&misuse.to_string()) && message.contains("0x"), "{message}");
}

/// Returns a buffer by its parts.
fn give_back(pool: &MemoryPool, raw: RawBuffer) {
    drop(unsafe { pool.from_raw(raw) });
}

/// Writes a byte at an offset from the start, as only code that has kept a pointer can.
fn scribble(raw: RawBuffer, at: usize) {
    unsafe { raw.start.as_ptr().wrapping_add(at).write(7) };
}

fn moved(raw: RawBuffer, by: isize) -> RawBuffer {
    RawBuffer { start: NonNull::new(raw.start.as_ptr().wrapping_offset(by)).unwrap(), ..raw }
}

/// Sizes with a slab of their own, in a slab, and in a large region.
const SIZES: [usize; 6] = [0, 1, 64, 1000, 4096, 200_000];

/// Runs `f` for each size and each way home: the home core's own, another core's, an outsider's.
fn everywhere(f: impl Fn(&MemoryPool, &LocalPool, usize, &dyn Fn(RawBuffer))) {
    for size in SIZES {
        let (pool, home) = checked();
        let other = pool.open(None).unwrap();
        f(&pool, &home, size, &|raw| home.enter(|| give_back(&pool, raw)));
        f(&pool, &home, size, &|raw| other.enter(|| give_back(&pool, raw)));
        f(&pool, &home, size, &|raw| give_back(&pool, raw));
    }
}

#[test]
fn a_second_return_is_found() {
    everywhere(|pool, home, size, give_back| {
        let raw = home.rent(size).unwrap().into_raw();
        give_back(raw);
        finds(Misuse::DoubleReturn, || give_back(raw));
        assert_eq!(pool.statistics().rented_buffers, 0);
    });
}

#[test]
fn a_second_return_is_found_with_other_returns_between() {
    everywhere(|_, home, size, give_back| {
        let raws: Vec<_> = (0..5).map(|_| home.rent(size).unwrap().into_raw()).collect();
        raws.iter().for_each(|raw| give_back(*raw));
        for raw in raws {
            finds(Misuse::DoubleReturn, || give_back(raw));
        }
    });
}

#[test]
fn a_second_return_at_the_same_moment_on_two_threads_is_found_by_one_of_them() {
    let (pool, home) = checked();
    for _ in 0..200 {
        let raw = home.rent(100).unwrap().into_raw();
        // A pointer does not go to another thread by itself.
        let parts = (raw.start.as_ptr().expose_provenance(), raw.len, raw.generation);
        let rebuilt = move || RawBuffer {
            start: NonNull::new(std::ptr::with_exposed_provenance_mut(parts.0)).unwrap(),
            len: parts.1,
            generation: parts.2,
        };
        let race = || catch_unwind(AssertUnwindSafe(|| give_back(&pool, rebuilt()))).is_err();
        let found = std::thread::scope(|scope| {
            let threads = [scope.spawn(race), scope.spawn(race)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(found.iter().filter(|found| **found).count(), 1);
    }
}

#[test]
fn a_return_by_a_stale_handle_is_found_though_the_memory_is_rented_again() {
    everywhere(|pool, home, size, give_back| {
        let stale = home.rent(size).unwrap().into_raw();
        give_back(stale);
        // First in, first out: the same block comes back once all others of its class have been rented.
        let mut held = Vec::new();
        while held
            .last()
            .is_none_or(|buffer: &corelane::pool::PooledBuffer| buffer.as_ptr() != stale.start.as_ptr())
        {
            held.push(home.rent(size).unwrap());
        }
        finds(Misuse::StaleReturn, || give_back(stale));
        assert_eq!(pool.statistics().rented_buffers, held.len() as u64, "the new owner keeps it");
    });
}

#[test]
fn a_write_after_return_is_found_when_the_memory_is_rented_again() {
    everywhere(|_, home, size, give_back| {
        for at in [0, size / 2, size.saturating_sub(1)] {
            let raw = home.rent(size).unwrap().into_raw();
            give_back(raw);
            scribble(raw, at);
            finds(Misuse::WriteAfterReturn, || {
                // As above: it comes back after all others.
                let others = if size > 100_000 { 1 } else { 5000 };
                let _held: Vec<_> = (0..others).map(|_| home.rent(size).unwrap()).collect();
            });
        }
    });
}

#[test]
fn memory_read_after_its_return_shows_nothing_of_what_was_in_it() {
    let (pool, home) = checked();
    let mut buffer = home.rent(100).unwrap();
    buffer.fill(0x11);
    let raw = buffer.into_raw();
    give_back(&pool, raw);
    let left: Vec<u8> = (0..100).map(|at| unsafe { raw.start.as_ptr().wrapping_add(at).read() }).collect();
    assert!(left.iter().all(|byte| *byte == left[0]) && left[0] != 0x11);
}

#[test]
fn a_write_past_the_end_is_found_even_by_one_byte_and_even_inside_the_rounding() {
    everywhere(|_, home, size, give_back| {
        for past in [0, 1, 15, 63] {
            let buffer = home.rent(size).unwrap();
            let raw = buffer.into_raw();
            scribble(raw, size + past);
            finds(Misuse::Overrun, || give_back(raw));
        }
    });
}

#[test]
fn an_overflow_that_runs_into_the_next_buffer_is_found_at_both() {
    let (pool, home) = checked();
    let [a, b] = [0, 1].map(|_| home.rent(64).unwrap().into_raw());
    let (low, high) = if a.start < b.start { (a, b) } else { (b, a) };
    let distance = high.start.as_ptr().addr() - low.start.as_ptr().addr();
    (64..distance).for_each(|at| scribble(low, at));
    finds(Misuse::Overrun, || give_back(&pool, low));
    finds(Misuse::Underrun, || give_back(&pool, high));
}

#[test]
fn a_write_before_the_start_is_found() {
    everywhere(|_, home, size, give_back| {
        for before in [1usize, 8, 64] {
            let raw = home.rent(size).unwrap().into_raw();
            scribble(raw, before.wrapping_neg());
            finds(Misuse::Underrun, || give_back(raw));
        }
    });
}

#[test]
fn an_interior_pointer_is_found() {
    everywhere(|_, home, size, give_back| {
        let raw = home.rent(size.max(200)).unwrap().into_raw();
        for by in [1, 8, 16, 64, 100, -1, -64] {
            finds(Misuse::InteriorPointer, || give_back(moved(raw, by)));
        }
        give_back(raw);
    });
}

#[test]
fn an_address_that_is_not_of_the_pool_is_found() {
    let (pool, home) = checked();
    let (other, other_home) = checked();
    let raw = home.rent(100).unwrap().into_raw();
    let mut stack = [0u64; 32];
    let mut heap = vec![0u8; 4096];
    let foreign = [
        stack.as_mut_ptr().cast::<u8>(),
        heap.as_mut_ptr(),
        raw.start.as_ptr().wrapping_add(1 << 40),
        std::ptr::without_provenance_mut(64),
        std::ptr::without_provenance_mut(usize::MAX - 63),
    ];
    for start in foreign {
        let start = NonNull::new(start).unwrap();
        finds(Misuse::ForeignPointer, || give_back(&pool, RawBuffer { start, ..raw }));
    }
    let of_other = other_home.rent(100).unwrap().into_raw();
    finds(Misuse::ForeignPointer, || give_back(&pool, of_other));
    give_back(&other, of_other);
    give_back(&pool, raw);
}

#[test]
fn a_return_after_the_memory_went_back_to_the_system_is_found() {
    let (pool, home) = checked();
    let raw = home.rent(200_000).unwrap().into_raw();
    give_back(&pool, raw);
    drop(home);
    finds(Misuse::ForeignPointer, || give_back(&pool, raw));
}

#[test]
fn a_wrong_length_is_found() {
    everywhere(|_, home, size, give_back| {
        let raw = home.rent(size).unwrap().into_raw();
        for len in [raw.len + 1, raw.len.wrapping_sub(1), u32::MAX] {
            finds(Misuse::WrongLength, || give_back(RawBuffer { len, ..raw }));
        }
        give_back(raw);
    });
}

#[test]
fn right_use_is_never_blamed_and_raw_parts_work_without_the_checks_too() {
    for checked in [true, false] {
        let pool = MemoryPool::new(MemoryPoolOptions { checked, ..MemoryPoolOptions::default() });
        let home = pool.open(None).unwrap();
        home.enter(|| {
            for round in 0..3u8 {
                for size in (0..5000).step_by(7).chain([100_000]) {
                    let mut buffer = home.rent(size).unwrap();
                    buffer.fill(round);
                    let raw = buffer.into_raw();
                    assert_eq!(pool.statistics().rented_buffers, 1);
                    let buffer = unsafe { pool.from_raw(raw) };
                    assert!(buffer.iter().all(|byte| *byte == round));
                }
            }
        });
        assert_eq!(pool.statistics().rented_buffers, 0);
    }
}
