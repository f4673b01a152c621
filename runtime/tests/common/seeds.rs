//! Which seeds to run, and what to make of one that fails.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Those that once failed, then as many as `CORELANE_SEEDS` says (1 000), from `CORELANE_FIRST_SEED` (0) on; only one, if
/// `SIM_SEED` is set.
pub fn seeds(regressions: &[u64]) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number("CORELANE_FIRST_SEED").unwrap_or(0);
            let all = first..first + number("CORELANE_SEEDS").unwrap_or(1_000);
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

/// One run, as data that is drawn from a seed.
pub trait Case: Clone + PartialEq + Debug {
    /// What `seed` draws.
    fn of(seed: u64) -> Self;

    /// Runs it: steps and trace, or what went wrong.
    fn run(&self) -> Result<(u64, u64), String>;

    /// The same with one thing less, in every way.
    fn smaller(&self) -> Vec<Self>;

    /// For people.
    fn describe(&self) -> String {
        format!("{self:#?}")
    }
}

/// `case` with each of `changes` by itself, as far as it makes a difference.
pub fn changed<C: Clone + PartialEq>(case: &C, changes: &[&dyn Fn(&mut C)]) -> Vec<C> {
    let with = |change: &&dyn Fn(&mut C)| {
        let mut changed = case.clone();
        change(&mut changed);
        changed
    };
    changes.iter().map(with).filter(|changed| changed != case).collect()
}

/// Runs the case of every seed. One that fails is made as small as it can be, and shown.
pub fn run_all<C: Case>(regressions: &[u64]) {
    let mut steps = 0;
    for seed in seeds(regressions) {
        let case = C::of(seed);
        match verdict(|| case.run()) {
            Ok((taken, trace)) => {
                steps += taken;
                if seed % 20 == 0 {
                    // C20: the same seed, the same run.
                    assert_eq!(verdict(|| case.run()), Ok((taken, trace)), "SIM_SEED={seed}");
                }
            }
            Err(error) => {
                let (small, error) = shrunk(case, error);
                panic!("SIM_SEED={seed}\n{error}\nshrunk to {}", small.describe());
            }
        }
    }
    println!("{steps} steps");
}

/// Takes away what can be taken away while it still fails.
fn shrunk<C: Case>(mut case: C, mut error: String) -> (C, String) {
    for _ in 0..200 {
        let failing = |case: C| verdict(|| case.run()).err().map(|error| (case, error));
        let Some(next) = case.smaller().into_iter().find_map(failing) else { break };
        (case, error) = next;
    }
    (case, error)
}

/// Runs seeds until one fails, and prints how many that took and what it said. Panics if none does.
pub fn find<C: Case>() {
    let all = seeds(&[]);
    let failing = |seed| verdict(|| C::of(seed).run()).err().map(|error| (seed, error));
    let (seed, error) = all.iter().copied().find_map(failing).expect("no seed finds the planted bug");
    println!("seeds: {}\n{}", seed - all[0] + 1, error.lines().next().unwrap_or_default());
}
