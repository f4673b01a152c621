//! Keys on disk: cold ones leave memory for append-only files and come back when they are touched or due.
//!
//! | module | what is there |
//! |---|---|
//! | `format` | how a key stands in a file, and how it is checked |
//! | `segments` | which files there are, what they hold, which to compact and delete |
//! | `store` | keys on their way to files and back |
//! | `terms` | sizes, counts and errors of a store |
//! | `lot` | items that wait for their key |
//! | `archive` | states as bytes, by `rkyv` |

mod archive;
pub(super) mod format;
mod lot;
mod segments;
mod store;
mod terms;

pub use archive::{SpillSchema, from_archive, to_archive};
pub use format::RecordError;
pub(crate) use format::is_spill_file_of;
pub use terms::LostState;

pub(super) use lot::Lot;
pub(super) use store::Store;
pub(super) use terms::{Gone, StoreLimits};

use crate::disk::{Completion, Disk, DiskOp};

/// What a store has once it is closed.
struct NoDisk;

impl Disk for NoDisk {
    fn submit(&mut self, _token: u64, _op: DiskOp) {}
    fn poll(&mut self, _now: i64) -> Option<Completion> {
        None
    }
    fn in_flight(&self) -> usize {
        0
    }
    fn close(&mut self) {}
}
