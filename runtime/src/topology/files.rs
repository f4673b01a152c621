//! Small text files under a root, and notes on those that could not be used.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CpuList;

/// What kernel files are bounded to; the largest one read here is `mountinfo`.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Something about the machine that a file should have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fact {
    /// CPUs that run.
    OnlineCpus,
    /// CPUs that are built in.
    PresentCpus,
    /// CPUs kept free of the general scheduler.
    IsolatedCpus,
    /// The package (socket) of a CPU.
    Package,
    /// The physical core of a CPU.
    Core,
    /// The CPUs that share a physical core.
    SmtSiblings,
    /// The CPUs that share a last-level cache.
    L3Group,
    /// The NUMA nodes.
    NumaNodes,
    /// The cgroup of this process.
    Cgroup,
    /// The CPUs a cgroup allows.
    Cpuset,
    /// CPU time a cgroup allows.
    CpuQuota,
}

/// Why a file was of no use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileProblem {
    /// It is not there.
    Missing,
    /// It is there but cannot be read; the system's words.
    Unreadable(String),
    /// It was read but makes no sense; what it held, shortened.
    Malformed(String),
}

impl FileProblem {
    pub(super) fn malformed(text: &str) -> Self {
        Self::Malformed(text.trim_end().chars().take(80).collect())
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unreadable(why) => write!(f, "unreadable ({why})"),
            Self::Malformed(text) => write!(f, "makes no sense ({text:?})"),
        }
    }
}

/// A file that could not be used, and what was taken instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineNote {
    /// What the file should have told.
    pub fact: Fact,
    /// Its path, as seen from the root.
    pub path: String,
    /// Why it was of no use.
    pub problem: FileProblem,
    /// What was taken instead.
    pub fallback: String,
}

impl fmt::Display for MachineNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.path, self.problem, self.fallback)
    }
}

/// Reads files under a root and keeps the notes.
pub(super) struct Files<'a> {
    root: &'a Path,
    pub(super) notes: Vec<MachineNote>,
}

impl<'a> Files<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, notes: Vec::new() }
    }

    /// The path under the root of what `path` names from `/`.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    pub(super) fn text(&self, path: &str) -> Result<String, FileProblem> {
        let mut text = String::new();
        File::open(self.at(path))?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn list(&self, path: &str) -> Result<CpuList, FileProblem> {
        let text = self.text(path)?;
        CpuList::from_kernel(&text).map_err(|_| FileProblem::malformed(&text))
    }

    pub(super) fn number(&self, path: &str) -> Result<u32, FileProblem> {
        let text = self.text(path)?;
        text.trim_end().parse().map_err(|_| FileProblem::malformed(&text))
    }

    /// The numbers `n` of the entries `<prefix><n>` of a directory, in ascending order.
    pub(super) fn numbered(&self, dir: &str, prefix: &str) -> Result<Vec<u32>, FileProblem> {
        let mut numbers = Vec::new();
        for entry in self.at(dir).read_dir()? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn note(&mut self, fact: Fact, path: &str, problem: FileProblem, fallback: impl Into<String>) {
        self.notes.push(MachineNote { fact, path: path.into(), problem, fallback: fallback.into() });
    }
}
