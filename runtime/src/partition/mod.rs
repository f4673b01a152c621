//! The partition: what one core owns, as a state machine that is stepped.
//!
//! A [`Partition`] never blocks, reads no clock, spawns nothing and does not allocate per item after warm-up. It is
//! built on the core that steps it, from a [`PartitionBlueprint`] that can be sent there.

mod control;
mod edge;
mod exchange;
mod inlet;
mod machine;
mod outlet;
mod task;

pub use control::{Control, Failure, Phase};
pub use edge::{EdgeCells, InletCells, OutletCells};
pub use exchange::{Exchange, ShardTable};
pub use inlet::{Inlet, MergePolicy};
pub use machine::{Partition, PartitionBlueprint, Progress, StageSlot};
pub use outlet::{BranchEnd, Branching, Outlet, Sender, Spread};
pub use task::{InletTask, SourceTask, Task, TaskBlueprint};
