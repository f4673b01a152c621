//! Which seeds to run, and what to make of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Those that once failed, then as many as `CORELANE_SEEDS` says (1 000); only one, if `SIM_SEED` is set.
pub fn seeds(regressions: &[u64]) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => {
            let all = 0..number("CORELANE_SEEDS").unwrap_or(1_000);
            regressions.iter().copied().chain(all).collect()
        }
    }
}

/// What `run` says; a panic is a failure like others.
pub fn verdict<R>(run: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

/// Takes away what can be taken away while it still fails.
pub fn shrunk<C, R>(
    mut case: C,
    mut error: String,
    smaller: impl Fn(&C) -> Vec<C>,
    run: impl Fn(&C) -> Result<R, String>,
) -> (C, String) {
    for _ in 0..200 {
        let failing = |case: C| verdict(|| run(&case)).err().map(|error| (case, error));
        let Some(next) = smaller(&case).into_iter().find_map(failing) else { break };
        (case, error) = next;
    }
    (case, error)
}

/// Runs seeds until one fails, and prints how many that took and what it said. Panics if none does.
pub fn find<R>(run: impl Fn(u64) -> Result<R, String>) {
    let failing = |seed| verdict(|| run(seed)).err().map(|error| (seed, error));
    let (seed, error) = seeds(&[]).into_iter().find_map(failing).expect("no seed finds the planted bug");
    println!("seeds: {}\n{}", seed + 1, error.lines().next().unwrap_or_default());
}
