//! Shards: slices of the key space of a keyed stage, which of its instances owns which, and how they move.
//!
//! The protocol stands in `ARCHITECTURE.md`, "Keys".

mod balance;
mod control;
mod mover;
mod table;

pub use balance::{Balancer, Kept, plan_moves};
pub use control::{Assignment, MoveError, Rebalance, ShardControl, ShardSeat, Shards, seats};
pub(crate) use mover::{Movable, Mover};
pub use table::{ShardMove, ShardTable};
