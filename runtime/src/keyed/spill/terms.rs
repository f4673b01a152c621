//! What a store is told and what it says.

use super::format::RecordError;
use crate::disk::DiskError;
use crate::keyed::SpillError;
use crate::keyed::wheel::TimerId;

/// Why the state of a key did not come back.
#[derive(Debug, thiserror::Error)]
pub enum LostState {
    /// The disk did not give its bytes.
    #[error("the spilled state of a key is lost: {0}")]
    Disk(#[source] DiskError),
    /// The bytes are not those that were written.
    #[error("the spilled state of a key is lost: {0}")]
    Record(#[source] RecordError),
    /// The accumulator cannot read what it wrote.
    #[error("the spilled state of a key is lost: {0}")]
    Format(#[source] SpillError),
    /// It is the state of another key.
    #[error("the spilled state of a key is lost: what was read back is that of another key")]
    OtherKey,
}

/// What is known of a key that leaves the store.
#[derive(Debug)]
pub(in crate::keyed) struct Gone {
    /// The number it had here.
    pub(in crate::keyed) id: u32,
    pub(in crate::keyed) hash: u64,
    pub(in crate::keyed) items: u64,
    pub(in crate::keyed) deadline: i64,
    /// Its timer, to be cancelled.
    pub(in crate::keyed) timer: Option<TimerId>,
}

/// A key that leaves the store: its payload, or why there is none.
pub(in crate::keyed) type Back<'a> = (Gone, Result<&'a [u8], LostState>);

/// Sizes, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyed) struct StoreLimits {
    /// Written at once.
    pub(in crate::keyed) batch: usize,
    /// Read at once, unless one key has more.
    pub(in crate::keyed) span: usize,
    /// Of the first segments; later ones grow, so that their number stays small.
    pub(in crate::keyed) segment: u64,
    /// All segments together.
    pub(in crate::keyed) quota: u64,
}

impl StoreLimits {
    /// For an instance that may take `memory`, and `quota` on disk.
    pub(in crate::keyed) fn new(memory: usize, quota: u64) -> Self {
        let batch = (memory / 32).clamp(4 * 1024, 256 * 1024);
        let segment = (64 * batch as u64).min(quota / 8);
        let span = (batch / 4).clamp(2 * 1024, 64 * 1024);
        Self { batch, span, segment, quota }
    }
}

/// Counts since the start, and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::keyed) struct StoreStats {
    pub(in crate::keyed) written: u64,
    pub(in crate::keyed) read: u64,
    pub(in crate::keyed) errors: u64,
    pub(in crate::keyed) keys: u64,
    pub(in crate::keyed) disk_bytes: u64,
}
