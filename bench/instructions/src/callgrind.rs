//! Counts the instructions of another run of this program.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use crate::programs::Program;

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    /// valgrind could not be started.
    #[error("cannot run valgrind: {0}")]
    NoValgrind(#[from] io::Error),
    /// valgrind or the program failed.
    #[error("{name} of {items} failed: {said}")]
    Failed {
        /// The program.
        name: &'static str,
        /// How many items it was asked for.
        items: u64,
        /// What stood on standard error.
        said: String,
    },
    /// It computed something else than the plain loop.
    #[error("{name} of {items} computed {got} where {expected} is right")]
    Wrong {
        /// The program.
        name: &'static str,
        /// How many items it was asked for.
        items: u64,
        /// The right checksum.
        expected: u64,
        /// What it printed.
        got: String,
    },
}

/// Instructions for each item of `program` after the warm-up: the difference between two whole runs, so that starting, warming up and
/// ending do not count.
///
/// # Errors
/// A run failed, or its result was wrong.
pub(crate) fn per_item(myself: &Path, program: &Program) -> Result<f64, CountError> {
    let short = run(myself, program, program.warm_up)?;
    let long = run(myself, program, program.warm_up + program.more)?;
    Ok((long as f64 - short as f64) / program.more as f64)
}

fn run(myself: &Path, program: &Program, items: u64) -> Result<u64, CountError> {
    let name = program.name;
    let valgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let output = Command::new("valgrind")
        .args(valgrind)
        .arg(myself)
        .args(["run", name, &items.to_string()])
        .output()?;
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8_lossy(&stderr);
    let failed = || CountError::Failed { name, items, said: said.trim().to_owned() };
    if !status.success() {
        return Err(failed());
    }
    let (got, expected) = (String::from_utf8_lossy(&stdout).trim().to_owned(), (program.expected)(items));
    if got != expected.to_string() {
        return Err(CountError::Wrong { name, items, expected, got });
    }
    collected(&said).ok_or_else(failed)
}

/// The number in callgrind's summary: `==7== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_summary() {
        let said =
            "==7== Events    : Ir\n==7== Collected : 2076543\n==7== \n==7== I   refs:      2,076,543\n";
        assert_eq!(collected(said), Some(2_076_543));
        assert_eq!(collected("==7== Command: Collected"), None);
        assert_eq!(collected(""), None);
    }
}
