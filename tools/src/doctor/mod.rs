//! `corelane doctor`: what on this machine keeps pipelines slow or from starting, with a remedy for each finding.

mod cores;
mod host;
mod kernel;
mod memory;

use clap::Args;
use corelane::driver::DriverChoice;
use corelane::model::counted;
use serde::Serialize;

use crate::exit::Exit;
use crate::machine::{LookError, Tree};
use crate::output::print;

use host::Host;

/// The options of `corelane doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Whose files are read.
    #[command(flatten)]
    pub tree: Tree,

    /// As a JSON array
    #[arg(long)]
    pub json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The files do not say.
    Unknown,
    /// It costs something, or may.
    Note,
    /// Pipelines will not start, or with another driver than they should.
    Problem,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What there is.
    pub found: String,
    /// What to do about it; with every note and every problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn unknown(check: &'static str, path: &str) -> Self {
        Self { check, verdict: Verdict::Unknown, found: format!("{path} cannot be read"), remedy: None }
    }

    fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Note, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn problem(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Problem, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Why `corelane doctor` does not end with 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The machine or the output.
    #[error(transparent)]
    Look(#[from] LookError),
    /// At least one problem; all of them have been printed.
    #[error("{}; see above", counted(*.0, "problem"))]
    Problems(usize),
}

impl From<&DoctorError> for Exit {
    fn from(error: &DoctorError) -> Self {
        match error {
            DoctorError::Look(error) => error.into(),
            DoctorError::Problems(_) => Exit::Environment,
        }
    }
}

/// Prints what was found, to standard output.
///
/// # Errors
/// [`DoctorError`]; also when there is a problem, after all findings have been printed.
pub fn doctor(options: &Doctor) -> Result<(), DoctorError> {
    let findings = examine(&options.tree)?;
    let text = if options.json {
        format!("{}\n", serde_json::to_string_pretty(&findings).map_err(LookError::from)?)
    } else {
        findings.iter().map(line).collect()
    };
    print(&text).map_err(LookError::from)?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count() {
        0 => Ok(()),
        problems => Err(DoctorError::Problems(problems)),
    }
}

/// Everything that is looked at, in a fixed order. Of a tree only the files are known; on this machine also what a trial shows.
///
/// # Errors
/// [`LookError::NoTree`]. A machine that cannot be read is a finding.
pub fn examine(tree: &Tree) -> Result<Vec<Finding>, LookError> {
    let machine = match tree.machine() {
        Err(LookError::NoTree(root)) => return Err(LookError::NoTree(root)),
        machine => machine.map_err(|error| error.to_string()),
    };
    let trial = tree.root.is_none().then(|| DriverChoice::Glommio.resolve().map(drop));
    let binding = machine.as_ref().ok().filter(|_| tree.root.is_none()).map(memory::try_binding);
    let host = Host::new(tree.path(), machine, trial, binding);
    Ok([kernel::findings(&host), cores::findings(&host), memory::findings(&host)].concat())
}

/// `io_uring      problem  off`, and the remedy below.
fn line(finding: &Finding) -> String {
    let Finding { check, verdict, found, remedy } = finding;
    let verdict = match verdict {
        Verdict::Ok => "ok",
        Verdict::Unknown => "unknown",
        Verdict::Note => "note",
        Verdict::Problem => "PROBLEM",
    };
    let remedy = remedy.as_ref().map_or(String::new(), |remedy| format!("{:24}-> {remedy}\n", ""));
    format!("{check:14}  {verdict:7} {found}\n{remedy}")
}
