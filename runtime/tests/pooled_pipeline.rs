//! Stages that rent from their core's memory pool: buffers that cross cores, a pool that runs dry, and the balance at the end.
#![cfg(not(corelane_loom))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use corelane::driver::{DriverChoice, Environment, LaunchError, SimError, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::observe::{Law, Outcome, PipelineResult, Place};
use corelane::policy::{MemoryPoolOptions, Parallelism};
use corelane::pool::{LocalPool, MemoryPool, PooledBuffer, RentError};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite, StepCx};

/// Large enough for a region of its own, also with guards around it, so that a limit counts buffers.
const SIZE: usize = 64 * 1024 - 128;
const REGION: u64 = 64 * 1024 + 4096;
const BUFFERS: u64 = 500;

fn pool(buffers: u64, checked: bool) -> MemoryPool {
    let limit_bytes = buffers * REGION;
    MemoryPool::new(MemoryPoolOptions { limit_bytes, checked, ..MemoryPoolOptions::default() })
}

/// Rents a buffer for each number and writes it there; idle when there is no memory.
struct Renting {
    pool: LocalPool,
    next: u64,
}

impl Source for Renting {
    type Item = PooledBuffer;

    fn produce<C: Chain<PooledBuffer>>(
        &mut self,
        out: &mut Emitter<'_, PooledBuffer, C>,
    ) -> Result<Produced, StageError> {
        for _ in 0..out.room() {
            if self.next == BUFFERS {
                return Ok(Produced::End);
            }
            let mut buffer = match self.pool.rent(SIZE) {
                Ok(buffer) => buffer,
                Err(RentError::Exhausted { .. }) => return Ok(Produced::Idle),
                Err(error) => return Err(StageError::msg(error)),
            };
            buffer[..8].copy_from_slice(&self.next.to_le_bytes());
            self.next += 1;
            out.emit(buffer);
        }
        Ok(Produced::More)
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().unwrap())
}

/// Buffers rented by one core, made `Bytes` on all cores, read on one.
fn summing() -> (Pipeline, corelane::flow::Collected<u64>) {
    let p = PipelineBuilder::new("pooled");
    let numbers = p
        .source("rent", |site: &StageSite| Ok(Renting { pool: site.pool()?, next: 0 }))
        .map("share", Bytes::from)
        .parallel(Parallelism::CpuBound)
        .map("read", |bytes| number(&bytes))
        .parallel(Parallelism::Sequential)
        .collect("out");
    (p.build().unwrap(), numbers)
}

fn verify(result: &PipelineResult, limit: u64) {
    assert_eq!(result.account.verify(), Ok(()));
    assert_eq!(
        (result.memory_pool.rented_buffers, result.memory_pool.total_allocated),
        (0, 0),
        "{}",
        result.memory_pool
    );
    assert!(result.memory_pool.peak_usage <= limit * REGION, "{}", result.memory_pool);
}

#[test]
fn buffers_cross_cores_and_all_are_back_at_the_end_with_every_driver_and_a_pool_that_runs_dry() {
    for (driver, cores, limit) in
        [DriverChoice::Thread, DriverChoice::Glommio].into_iter().flat_map(|driver| {
            [(1, 1), (1, 64), (3, 1), (3, 5), (3, 600)].map(|(cores, limit)| (driver, cores, limit))
        })
    {
        if driver.resolve().is_err() {
            continue;
        }
        let memory_pool = pool(limit, true);
        let options = ExecutionOptions {
            driver,
            virtual_cores: Some(cores),
            memory_pool: memory_pool.clone(),
            ..ExecutionOptions::default()
        };
        let (pipeline, numbers) = summing();
        let running = Engine::new(options).start(pipeline).unwrap();
        assert!(running.wait_timeout(Duration::from_secs(120)), "{driver:?} {cores} {limit} hangs");
        let result = running.join();
        assert_eq!(result.outcome, Outcome::Completed);
        verify(&result, limit);
        assert!(result.memory_pool.peak_usage > 0);
        let mut numbers = numbers.take();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..BUFFERS), "{driver:?} {cores} {limit}");
        assert_eq!(memory_pool.reserved_bytes(), 0);
    }
}

#[test]
fn on_the_simulator_nothing_stays_rented_wherever_it_is_stopped() {
    for seed in 0..200 {
        let limit = 1 + seed % 7;
        let environment = Environment { memory_pool: pool(limit, seed % 2 == 0), ..Environment::default() };
        let (pipeline, numbers) = summing();
        let mut simulation = Simulation::new(seed).partitions(1 + seed as usize % 4);
        if seed % 3 > 0 {
            simulation = simulation.stop_at(seed * 7);
        }
        let report = simulation.run_in(pipeline, &environment).unwrap();
        verify(&report.result, limit);
        match report.result.outcome {
            Outcome::Completed => assert_eq!(numbers.take().len() as u64, BUFFERS),
            Outcome::Stopped => assert!(seed % 3 > 0),
            other => panic!("seed {seed}: {other}"),
        }
    }
}

#[test]
fn what_is_rented_counts_against_the_memory_budget_and_at_the_limit_the_source_waits() {
    // The rings take what they take; a pipeline that has just that is told how much it needs.
    let run = |budget: u64, memory_pool: MemoryPool| {
        let environment = Environment { memory_pool, ..Environment::default() };
        let (pipeline, numbers) = summing();
        let simulation = Simulation::new(3).partitions(2).memory_budget(budget);
        simulation.run_in(pipeline, &environment).map(|report| (report, numbers))
    };
    let rings = match run(0, MemoryPool::default()) {
        Err(SimError::Launch(LaunchError::Memory(small))) => small.needed,
        other => panic!("{:?}", other.map(|(report, _)| report.result.outcome)),
    };
    for buffers in [1, 3, 600] {
        let memory_pool = MemoryPool::default();
        let (report, numbers) = run(rings + buffers * REGION, memory_pool.clone()).unwrap();
        assert_eq!(report.result.outcome, Outcome::Completed);
        verify(&report.result, buffers);
        let mut numbers = numbers.take();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..BUFFERS));
        assert_eq!(memory_pool.reserved_bytes(), 0);
    }
    // Less than one buffer: waiting would not help.
    let (report, _) = run(rings + REGION / 2, MemoryPool::default()).unwrap();
    match report.result.outcome {
        Outcome::Failed { stage: Some(_), error } => assert!(error.contains("limit"), "{error}"),
        other => panic!("{other}"),
    }
    report.result.account.verify().unwrap();
    // A limit that was set is kept free for the pool, or refused.
    assert!(run(rings + REGION, pool(2, false)).is_err());
    verify(&run(rings + 2 * REGION, pool(2, false)).unwrap().0.result, 2);
}

#[test]
fn a_pipeline_that_rents_nothing_maps_nothing_unless_it_is_told_to() {
    for (count, mapped) in [(0, 0), (1, 2 * REGION)] {
        let preallocate = vec![corelane::policy::Preallocation { size: SIZE, count }];
        let memory_pool = MemoryPool::new(MemoryPoolOptions { preallocate, ..Default::default() });
        let environment = Environment { memory_pool: memory_pool.clone(), ..Environment::default() };
        let p = PipelineBuilder::new("lean");
        let seen = memory_pool.clone();
        let out = p
            .generate("numbers", 100, |i| i)
            .map("look", move |_| seen.reserved_bytes())
            .parallel(Parallelism::Fixed(2))
            .collect("out");
        let report = Simulation::new(1).partitions(2).run_in(p.build().unwrap(), &environment).unwrap();
        report.result.account.verify().unwrap();
        assert_eq!(out.take(), vec![mapped; 100]);
        assert_eq!(memory_pool.reserved_bytes(), 0);
    }
}

#[test]
fn what_the_output_keeps_breaks_the_law_of_buffers_unless_it_may_outlive_the_pipeline() {
    for buffers_may_outlive in [false, true] {
        let options = MemoryPoolOptions { buffers_may_outlive, ..MemoryPoolOptions::default() };
        let environment = Environment { memory_pool: MemoryPool::new(options), ..Environment::default() };
        let p = PipelineBuilder::new("keeping");
        let kept =
            p.source("rent", |site: &StageSite| Ok(Renting { pool: site.pool()?, next: 490 })).collect("out");
        let report = Simulation::new(1).run_in(p.build().unwrap(), &environment).unwrap();
        assert_eq!(report.result.memory_pool.rented_buffers, 10);
        let broken = report.result.account.verify().err().unwrap_or_default();
        let said: Vec<_> = broken.iter().map(|one| (one.place.clone(), one.law, one.found)).collect();
        let expected = if buffers_may_outlive { vec![] } else { vec![(Place::MemoryPool, Law::Buffers, 10)] };
        assert_eq!(said, expected);
        assert!(kept.take().iter().map(|buffer| number(buffer)).eq(490..500));
        assert_eq!(environment.memory_pool.reserved_bytes(), 0);
    }
}

#[test]
fn a_pipeline_whose_pool_cannot_make_ready_what_it_should_fails_before_it_starts() {
    let preallocate = vec![corelane::policy::Preallocation { size: SIZE, count: 2 }];
    let options = MemoryPoolOptions { limit_bytes: REGION, preallocate, ..MemoryPoolOptions::default() };
    let environment = Environment { memory_pool: MemoryPool::new(options), ..Environment::default() };
    let (pipeline, _) = summing();
    let report = Simulation::new(1).run_in(pipeline, &environment).unwrap();
    match report.result.outcome {
        Outcome::Failed { stage: None, error } => assert!(error.contains(&REGION.to_string()), "{error}"),
        other => panic!("{other}"),
    }
    report.result.account.verify().unwrap();
}

#[test]
fn the_arena_of_a_step_serves_closures_and_keeps_its_memory_from_step_to_step() {
    let p = PipelineBuilder::new("arena");
    let out = p
        .generate("numbers", 10_000, |i| i)
        .filter_map_with("digits", |site: &StageSite| {
            let (pool, mut most) = (site.pool()?, 0);
            Ok(move |n: u64, cx: &StepCx| {
                let digits = cx.arena().alloc_str(&n.to_string());
                digits.make_ascii_uppercase();
                most = most.max(cx.arena().allocated_bytes());
                assert!(most < 1 << 20, "a step's memory is given up");
                assert_eq!(pool.statistics().rented_buffers, 0);
                digits.contains('7').then_some(digits.len())
            })
        })
        .collect("out");
    let report = Simulation::new(7).run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    let expected = (0..10_000).map(|n: u64| n.to_string()).filter(|digits| digits.contains('7'));
    assert!(out.take().into_iter().eq(expected.map(|digits| digits.len())));
    assert!(
        report.result.account.stages.values().any(|stage| stage.filtered > 0),
        "the rest counts as filtered"
    );
}
