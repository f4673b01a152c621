//! Control that travels beside the items.

use super::Timestamp;

/// A control signal, carried at a position between two items of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// No item before this time follows on this edge.
    Watermark(Timestamp),
    /// This edge has nothing for now and should not hold back event time.
    Idle,
    /// A cut through the stream, by number. On a keyed edge whose shards move: what stands before it was spread by the assignment that held
    /// until then, what follows by the one of this number.
    Barrier(u64),
    /// The producer's turn is over: the next items in order are on the next instance's edge.
    Turn,
    /// Nothing follows.
    End,
}
