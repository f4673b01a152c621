//! corelane's systems: the same work as the hand-written programs, on the public API.
//!
//! Elapsed time is the pipeline's own duration: from the moment at which all partitions stand on their cores to the last
//! step. As for the hand-written programs, set-up and release are outside.

pub mod chain;
pub mod growth;
pub mod keyed;
pub mod latency;
pub mod nexmark;
pub mod pool;
pub mod ring;
pub mod skew;
pub mod spill;
pub mod trace_assembly;
pub mod tumbling;
mod turns;
pub mod window;

use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Collected, PipelineBuilder};
use corelane::observe::PipelineResult;
use corelane::policy::IdlePolicy;

use crate::case::Setup;
use crate::pin;

/// Builds and runs what `describe` says on the cores of `setup`: `{0}` and `{1}` in `map` stand for their numbers.
/// Partitions spin, as the hand-written programs do.
///
/// # Errors
/// Whatever kept it from running to its end with books that close.
fn run<R>(
    setup: &Setup,
    map: &str,
    describe: impl FnOnce(&PipelineBuilder) -> R,
) -> Result<(PipelineResult, R), String> {
    let builder = PipelineBuilder::new("bench");
    let results = describe(&builder);
    Ok((verified(options(setup, map)?, builder)?, results))
}

/// The core map that puts every stage on the first core, or on the first two.
fn everything_on(cores: usize) -> &'static str {
    if cores == 1 { "*={0}" } else { "*={0},{1}" }
}

/// The sum of what the instances of a sum have handed over.
fn checksum(sums: &Collected<u64>) -> u64 {
    sums.take().into_iter().fold(0, u64::wrapping_add)
}

/// Runs what `builder` was told to its end, with books that close.
fn verified(options: ExecutionOptions, builder: PipelineBuilder) -> Result<PipelineResult, String> {
    let pipeline = builder.build().map_err(|error| error.to_string())?;
    let result = Engine::new(options).run(pipeline).map_err(|error| error.to_string())?;
    result.account.verify().map_err(|broken| format!("the account does not close: {broken:?}"))?;
    if result.success { Ok(result) } else { Err(result.outcome.to_string()) }
}

/// The cores of `setup` by `map`, and spinning partitions.
fn options(setup: &Setup, map: &str) -> Result<ExecutionOptions, String> {
    let allowed = pin::allowed();
    let mut map = map.to_owned();
    for (index, core) in setup.cores.iter().enumerate() {
        let number = allowed.iter().position(|id| id == core).ok_or("a core is not allowed any more")?;
        map = map.replace(&format!("{{{index}}}"), &number.to_string());
    }
    Ok(ExecutionOptions {
        driver: setup.driver.into(),
        core_map: map.parse().map_err(|error| format!("core map {map}: {error}"))?,
        idle: Some(IdlePolicy::Spin),
        ..ExecutionOptions::default()
    })
}
