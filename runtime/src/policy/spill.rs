//! Where keyed state goes that does not fit into memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A directory for spilled state and how much may go there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SpillOptions {
    /// The directory, made if it is not there. It belongs to one running pipeline at a time, and must be the user's own and
    /// closed to writes of others.
    pub dir: PathBuf,
    /// Bytes that all files of the pipeline may take; shared evenly among the stage instances that spill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

impl SpillOptions {
    /// To `dir`, as much as fits there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: None }
    }

    /// At most this many bytes.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}
