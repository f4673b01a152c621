//! `corelane-instructions`: counts the instructions that an item costs in corelane's loops, by callgrind, and holds them against
//! committed counts. Unlike a time, a count is the same on a busy machine. `METHODOLOGY.md` says what it does not tell.
#![forbid(unsafe_code)]

mod callgrind;
mod counts;
mod programs;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use counts::Counts;
use programs::{PROGRAMS, Program};

/// Counts instructions per item.
///
/// Exit codes: 0 as committed, or better; 1 more than committed, a wrong result, or no count; 2 wrong command line.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Counts, and compares with the counts in a file.
    Check {
        /// The file of committed counts.
        file: PathBuf,
    },
    /// Counts, and writes a new file.
    Refresh {
        /// The file of committed counts.
        file: PathBuf,
    },
    /// Runs one program without counting, and prints its checksum.
    Run {
        /// Which.
        program: String,
        /// For how many items.
        items: u64,
    },
}

const HEAD: &str = "\
# Instructions per item, counted by callgrind. `make callgrind-refresh` writes this file, `make callgrind` compares with it.
";

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Check { file } => check(&file),
        Command::Refresh { file } => refresh(&file),
        Command::Run { program, items } => run(&program, items),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Standard error may be closed too: the exit code still tells.
            let _ = writeln!(io::stderr(), "corelane-instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, items: u64) -> Result<(), String> {
    let program = PROGRAMS.iter().find(|program| program.name == name);
    let program: &Program = program.ok_or_else(|| format!("there is no program `{name}`"))?;
    let checksum = (program.run)(items)?;
    writeln!(io::stdout(), "{checksum}").map_err(|error| error.to_string())
}

fn count() -> Result<Counts, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut counts = Counts::here();
    for program in PROGRAMS {
        let count = callgrind::per_item(&myself, program).map_err(|error| error.to_string())?;
        counts.add(program.name, count);
    }
    Ok(counts)
}

fn refresh(file: &Path) -> Result<(), String> {
    let counts = count()?;
    let text = toml::to_string(&counts).map_err(|error| error.to_string())?;
    fs::write(file, format!("{HEAD}{text}")).map_err(|error| format!("{}: {error}", file.display()))
}

fn check(file: &Path) -> Result<(), String> {
    let here = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| here(&error))?;
    let committed: Counts = toml::from_str(&text).map_err(|error| here(&error))?;
    let verdict = count()?.against(&committed);
    let mut out = io::stdout();
    let notes = verdict.notes.iter().map(|note| format!("note: {note}\n"));
    let lines = std::iter::once(verdict.table.clone()).chain(notes);
    lines
        .into_iter()
        .try_for_each(|line| out.write_all(line.as_bytes()))
        .map_err(|error| error.to_string())?;
    if verdict.problems.is_empty() {
        return Ok(());
    }
    let problems = verdict.problems.join("\n  ");
    Err(format!(
        "\n  {problems}\nif it is meant to be so: make callgrind-refresh, and commit the file with the reason"
    ))
}
