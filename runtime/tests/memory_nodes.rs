//! Where the memory of a pipeline lies: as far as a machine with one node can tell. `make test-numa` has machines with several.
#![cfg(not(corelane_loom))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use corelane::driver::{DriverChoice, MemoryBinding};
use corelane::engine::{Engine, ExecutionOptions, StartError};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::observe::{HeldPages, MemoryHolder, Outcome};
use corelane::policy::{MemoryLocality, Parallelism};
use corelane::pool::LocalPool;
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use corelane::sync::BindError;

/// Numbers, each in a buffer of the pool.
struct Renting {
    pool: LocalPool,
    next: u64,
    end: u64,
}

impl Source for Renting {
    type Item = u64;

    fn produce<C: Chain<u64>>(&mut self, out: &mut Emitter<'_, u64, C>) -> Result<Produced, StageError> {
        for _ in 0..out.room() {
            if self.next == self.end {
                return Ok(Produced::End);
            }
            let mut buffer = self.pool.rent(8).map_err(StageError::msg)?;
            buffer.copy_from_slice(&self.next.to_le_bytes());
            out.emit(buffer.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
            self.next += 1;
        }
        Ok(Produced::More)
    }
}

/// `end` numbers by key to two instances, whose counts come together again: rings on any number of cores.
fn pipeline(end: u64) -> Pipeline {
    let p = PipelineBuilder::new("near");
    p.source("rent", move |site: &StageSite| Ok(Renting { pool: site.pool()?, next: 0, end }))
        .key_by(|n| n % 97)
        .fold("count", || 0u64, |count, _| *count += 1)
        .parallel(Parallelism::Fixed(2))
        .map("out", |count| count)
        .parallel(Parallelism::Sequential)
        .for_each("gone", drop);
    p.build().unwrap()
}

/// A ring of 4096 numbers has 8 pages of its own, one of 16 counts none.
const RINGS: &str = "rent->count=4096;count->out=16";

fn options(map: &str, driver: DriverChoice) -> ExecutionOptions {
    ExecutionOptions { core_map: map.parse().unwrap(), driver, ..ExecutionOptions::default() }
}

/// Pages of the rings to a stage, and bytes of those that are too small to have any.
fn rings(held: &[HeldPages], stage: &str) -> (u64, u64) {
    let of =
        |held: &&HeldPages| matches!(&held.holder, MemoryHolder::Rings { to, .. } if to.as_str() == stage);
    let sum = |of_each: fn(&HeldPages) -> u64| held.iter().filter(of).map(of_each).sum();
    (sum(|held| held.pages.nodes.values().sum()), sum(|held| held.small_bytes))
}

/// Pages of the pool.
fn slabs(held: &[HeldPages]) -> u64 {
    let pool = held.iter().filter(|held| held.holder == MemoryHolder::Pool);
    pool.map(|held| held.pages.nodes.values().sum::<u64>()).sum()
}

#[test]
fn strict_memory_lies_on_the_node_of_its_core_and_is_told_of_when_the_run_is_over() {
    for driver in [DriverChoice::Thread, DriverChoice::Glommio] {
        if driver.resolve().is_err() {
            continue;
        }
        let running = match Engine::new(options(&format!("*=0;{RINGS};@memory=strict"), driver))
            .start(pipeline(100_000))
        {
            Err(StartError::Memory(error @ BindError::NotPermitted { .. })) => {
                return println!("left out: {error}");
            }
            started => started.unwrap(),
        };
        assert_eq!(running.memory_binding(), MemoryBinding::Bound(MemoryLocality::Strict));
        let monitor = running.monitor();
        let result = running.join();
        assert_eq!(result.outcome, Outcome::Completed);
        assert_eq!(result.account.verify(), Ok(()));
        let held = monitor.held_pages().unwrap();
        assert!(held.iter().all(|held| held.home.is_some() && held.misplaced() == 0), "{driver:?} {held:?}");
        assert!(held.iter().all(|held| held.pages.nowhere == 0), "all of it was touched: {held:?}");
        assert_eq!((rings(&held, "count"), slabs(&held)), ((2 * 8, 0), 64), "{held:?}");
        let (pages, small) = rings(&held, "out");
        assert!(pages == 0 && small > 0 && small < 4096, "{held:?}");
    }
}

#[test]
fn without_a_wish_it_can_be_asked_while_the_pipeline_runs_where_its_memory_lies() {
    let running =
        Engine::new(options(&format!("*=0;{RINGS}"), DriverChoice::Thread)).start(pipeline(u64::MAX));
    let running = running.unwrap();
    let monitor = running.monitor();
    if let Err(error) = monitor.held_pages() {
        println!("left out: {error}");
    } else {
        while slabs(&monitor.held_pages().unwrap()) == 0 {
            std::thread::yield_now();
        }
        let held = monitor.held_pages().unwrap();
        assert_eq!((rings(&held, "count").0, slabs(&held)), (2 * 8, 64), "{held:?}");
    }
    running.stop();
    let result = running.join();
    assert_eq!(result.account.verify(), Ok(()));
}
