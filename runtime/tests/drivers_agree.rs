//! The same random graphs on every driver and on any number of cores: the same items at every sink.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use common::reference::reference;
use common::watchdog::{PATIENCE, real_drivers};
use common::{Graph, Shape, build, check};
use corelane::driver::{DriverChoice, Simulation};
use corelane::engine::{Engine, ExecutionOptions};

const GRAPHS: u64 = 15;
const CORES: [u32; 4] = [1, 2, 8, 16];
/// Waits are real here.
const SHAPE: Shape = Shape { items: 400, wait: 10_000, ..Shape::REPEATABLE };

/// Runs graph `seed` on `driver`, or on the simulator; what its sinks saw is compared with what one thread computes.
fn run(seed: u64, driver: Option<DriverChoice>, cores: u32) {
    let graph = Graph::random(seed, SHAPE);
    let expected = reference(&graph);
    let (pipeline, seen) = build::build(&graph);
    let result = match driver {
        None => {
            let simulation = Simulation::new(seed).partitions(cores as usize);
            simulation
                .run(pipeline)
                .unwrap_or_else(|error| panic!("seed {seed}, {cores} cores: {error}"))
                .result
        }
        Some(driver) => {
            let options =
                ExecutionOptions { driver, virtual_cores: Some(cores), ..ExecutionOptions::default() };
            let running = Engine::new(options).start(pipeline).unwrap();
            let ended = running.wait_timeout(PATIENCE);
            assert!(ended, "seed {seed} hangs on {driver:?} with {cores} cores:\n{}", running.account());
            running.join()
        }
    };
    assert!(result.success, "seed {seed}, {driver:?}, {cores} cores: {}", result.outcome);
    if let Err(wrong) = check::check(&expected, &result, &seen) {
        panic!("seed {seed}, {driver:?}, {cores} cores: {wrong}\n{graph:#?}");
    }
}

#[test]
fn the_simulator_gives_what_one_thread_computes() {
    for seed in 0..GRAPHS {
        CORES.into_iter().for_each(|cores| run(seed, None, cores));
    }
}

#[test]
fn real_cores_give_what_one_thread_computes() {
    for driver in real_drivers() {
        for seed in 0..GRAPHS {
            CORES.into_iter().for_each(|cores| run(seed, Some(driver), cores));
        }
    }
}
