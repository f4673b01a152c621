//! Control that travels beside the items.

use super::Timestamp;

/// A control signal, carried at a position between two items of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// No item before this time follows on this edge.
    Watermark(Timestamp),
    /// This edge has nothing for now and should not hold back event time.
    Idle,
    /// Everything before belongs to this checkpoint.
    Barrier(u64),
    /// The producer's turn is over: the next items in order are on the next instance's edge.
    Turn,
    /// Nothing follows.
    End,
}
