//! Whose turn it is when several streams become one.

use serde::{Deserialize, Serialize};

/// Whose turn it is at a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergePolicy {
    /// Every input gets its turn; none starves.
    #[default]
    Fair,
    /// The input whose edge stands first in the graph goes first as long as it has items.
    Priority,
    /// The item with the lowest timestamp goes first; waits for the slowest input's watermark.
    ByTimestamp,
    /// The first input until its turn or the whole input ends, then the next.
    Turns,
}
