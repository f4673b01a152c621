//! Runs one pipeline under a hundred seeds: another order of steps each time, the same result every time.

use std::collections::BTreeMap;
use std::error::Error;

use corelane::driver::{SimReport, Simulation};
use corelane::flow::PipelineBuilder;
use corelane::policy::Parallelism;

const ITEMS: u64 = 2_000;
const KEYS: u64 = 7;

/// What came out, by key.
type Sums = BTreeMap<u64, u64>;

fn simulate(seed: u64) -> Result<(SimReport, Sums), Box<dyn Error>> {
    let p = PipelineBuilder::new("sums");
    let out = p
        .generate("numbers", ITEMS, |i| i)
        .map("double", |i| 2 * i)
        .parallel(Parallelism::CpuBound)
        .key_by(|i| i % KEYS)
        .fold("sum", || 0u64, |sum, i| *sum += i)
        .collect("out");
    let report = Simulation::new(seed).partitions(3).run(p.build()?)?;
    report.result.account.verify().map_err(|laws| format!("seed {seed}: {laws:?}"))?;
    Ok((report, out.take().into_iter().collect()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut expected = Sums::new();
    (0..ITEMS).map(|i| 2 * i).for_each(|i| *expected.entry(i % KEYS).or_default() += i);

    let mut steps = Vec::new();
    for seed in 0..100 {
        let (report, sums) = simulate(seed)?;
        if sums != expected {
            return Err(format!("seed {seed}: {sums:?}, expected {expected:?}").into());
        }
        steps.push(report.steps);
    }
    steps.sort_unstable();
    println!("100 seeds, {} to {} steps, the same sums every time: {expected:?}", steps[0], steps[99]);

    // A seed is enough to have a run again, step for step.
    let (first, second) = (simulate(42)?.0, simulate(42)?.0);
    if first.trace_hash != second.trace_hash {
        return Err("seed 42 did not repeat".into());
    }
    println!("seed 42 twice: {} steps, trace {:016x} both times", first.steps, first.trace_hash);
    Ok(())
}
