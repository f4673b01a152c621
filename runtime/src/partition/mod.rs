//! The partition: what one core owns, as a state machine that is stepped.
//!
//! A [`Partition`] never blocks, reads no clock, spawns nothing and does not allocate per item after warm-up. It is
//! built on the core that steps it, from a [`PartitionBlueprint`] that can be sent there.

mod branch;
mod control;
mod edge;
mod exchange;
mod inlet;
mod machine;
mod outlet;
mod sender;
mod task;
mod wait;

pub use branch::{BranchEnd, Branching, Broadcast, Route};
pub use control::{Control, Failure, Phase, PoolHome};
pub use edge::{
    CostOf, Demand, DropHook, DropReason, Dropped, EdgeCells, EdgeControl, EdgePolicy, InletCells,
    OutletCells, ZeroRequest,
};
pub use exchange::Exchange;
pub use inlet::{Inlet, InletRing, MergePolicy};
pub use machine::{Partition, PartitionBlueprint, Progress};
pub use outlet::{Outlet, Senders, Spread};
pub use sender::Sender;
pub use task::{InletTask, SourceTask, Task, TaskBlueprint};
use wait::{BatchTimer, WaitProbe};
