//! What the findings are made from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use corelane::sync::BindError;
use corelane::topology::Machine;

/// Kernel files are far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// The files of a machine, the machine as read from them, and what a trial showed.
pub(super) struct Host<'a> {
    root: &'a Path,
    /// The machine, or why there is none.
    pub(super) machine: Result<Machine, String>,
    /// Whether glommio can run, where that could be tried.
    pub(super) glommio: Option<Result<(), String>>,
    /// Whether memory can be bound to each node that has some, where that could be tried.
    pub(super) binding: Option<Result<(), BindError>>,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        root: &'a Path,
        machine: Result<Machine, String>,
        glommio: Option<Result<(), String>>,
        binding: Option<Result<(), BindError>>,
    ) -> Self {
        Self { root, machine, glommio, binding }
    }

    /// What a file holds, without the newline at its end.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let file = File::open(self.root.join(path.trim_start_matches('/'))).ok()?;
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text.trim_end().to_owned())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// The value of `Name:` in `/proc/self/status`.
    pub(super) fn status(&self, name: &str) -> Option<String> {
        let text = self.text("/proc/self/status")?;
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Whether the process is root; what root may does not count against the limits below.
    pub(super) fn is_root(&self) -> bool {
        // Real, effective, saved and file system user.
        self.status("Uid").and_then(|ids| ids.split_whitespace().nth(1).map(|id| id == "0")).unwrap_or(false)
    }

    /// The soft limit of that name in `/proc/self/limits`; `u64::MAX` for none.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        let text = self.text("/proc/self/limits")?;
        let soft =
            text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.to_owned();
        if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
    }

    /// The cores that the process may use; 1 where that is not known.
    pub(super) fn cores(&self) -> usize {
        self.machine.as_ref().map_or(1, |machine| machine.allowed().len())
    }
}
