//! Runs a pipeline and looks at its account.

use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::Pipeline;
use corelane::observe::{PipelineResult, StageAccount};

/// The account closes.
pub fn verified(result: &PipelineResult) {
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    assert!(result.account.totals().closes(), "{}", result.account);
}

/// What the stage called `name` has counted.
pub fn stage(result: &PipelineResult, name: &str) -> StageAccount {
    result.account.stages[&name.parse().unwrap()]
}

/// On the simulator, or on a driver with real cores, on two of them.
pub fn run(driver: Option<DriverChoice>, pipeline: Pipeline) -> PipelineResult {
    let result = match driver {
        None => Simulation::new(11).run(pipeline).unwrap().result,
        Some(driver) => {
            let options = ExecutionOptions { driver, virtual_cores: Some(2), ..ExecutionOptions::default() };
            Engine::new(options).run(pipeline).unwrap()
        }
    };
    verified(&result);
    result
}
