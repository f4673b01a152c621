//! Files as stages see them: operations that are started and completed later, so that no step ever waits for a disk.
//!
//! [`Disk`] is the seam; what stands behind it belongs to the driver: `io_uring`, threads, or a simulation that tears
//! writes and flips bits.

mod error;

use std::fmt;
use std::sync::Arc;

pub use error::{DiskAction, DiskError, DiskFault};

use crate::sync::Doorbell;

/// The name of a file: a hash, never text of a user's. Unique within its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(pub u128);

impl FileName {
    /// What all names end with.
    pub const EXTENSION: &str = ".spill";

    /// The name that `text` is, if it is one.
    ///
    /// ```
    /// use corelane::disk::FileName;
    /// let name = FileName(0xABC);
    /// assert_eq!(FileName::parse(&name.to_string()), Some(name));
    /// assert_eq!(FileName::parse("abc.spill"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix(Self::EXTENSION)?;
        let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if digits.len() != 32 || !digits.bytes().all(lower) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{}", self.0, Self::EXTENSION)
    }
}

/// Something to be done with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Makes a file that must not be there yet, and writes `bytes` to its start.
    Create {
        /// The file.
        file: FileName,
        /// Its first bytes.
        bytes: Vec<u8>,
    },
    /// Writes all of `bytes` at `at`.
    Write {
        /// The file, made by [`Create`](Self::Create).
        file: FileName,
        /// Where, in bytes from the start.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Fills all of `buffer` from `at`.
    Read {
        /// The file, made by [`Create`](Self::Create).
        file: FileName,
        /// Where, in bytes from the start.
        at: u64,
        /// As long as what is to be read.
        buffer: Vec<u8>,
    },
    /// Closes and deletes a file. Nothing else may be under way on it. One that was never made is deleted already.
    Remove {
        /// The file.
        file: FileName,
    },
}

/// What became of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The number it was submitted with.
    pub token: u64,
    /// The operation's bytes, handed back also after an error: for a read, what was read.
    pub buffer: Vec<u8>,
    /// Whether all of it was done.
    pub result: Result<(), DiskError>,
}

/// The files of one stage instance. Used from the instance's core only.
///
/// Operations complete in any order; a caller that needs one before another waits for its completion.
pub trait Disk {
    /// Starts `op`. Never blocks and never fails: what goes wrong is in the completion, which carries `token`.
    fn submit(&mut self, token: u64, op: DiskOp);

    /// The next completion. `now` is monotonic time, in nanoseconds.
    fn poll(&mut self, now: i64) -> Option<Completion>;

    /// Operations submitted and not yet handed back by [`poll`](Self::poll).
    fn in_flight(&self) -> usize;

    /// When the next completion is due, where that is known. Otherwise the instance's doorbell rings when there is one.
    fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Waits for what is in flight and deletes every file that is left. The only call that may block: not for steps.
    fn close(&mut self);
}

/// Makes the disk of each stage instance.
pub trait Disks: Send + Sync {
    /// A disk without files, to be used from the calling thread. `doorbell` rings at completions.
    fn open(&self, doorbell: &Arc<Doorbell>) -> Box<dyn Disk>;

    /// Bytes that all files of the pipeline may take.
    fn quota(&self) -> Option<u64>;

    /// Tells the files of this run from those of all others.
    fn epoch(&self) -> u64;
}
