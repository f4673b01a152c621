//! An edge between partitions, apart from its items: its policy, what its ends count, and what keeps its bounds.

mod batch_size;
mod bucket;
mod cells;
mod control;
mod demand;
mod drops;
mod held;
mod lane;
mod weigher;

pub(super) use batch_size::BatchSize;
pub(super) use bucket::Bucket;
pub use cells::{EdgeCells, InletCells, OutletCells};
pub use control::{EdgeControl, EdgePolicy};
pub use demand::{Demand, ZeroRequest};
pub use drops::{DropHook, DropReason, Dropped};
pub(super) use held::Held;
pub(super) use lane::{Grant, Lane, Window};
pub use weigher::CostOf;
pub(super) use weigher::Weigher;
