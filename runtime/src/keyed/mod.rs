//! Keyed state: timers, accumulators and folds. One instance owns the keys of its shards.

mod accumulator;
mod fold;
mod fold_bound;
mod fold_loops;
mod fold_move;
mod fold_table;
mod keys;
mod lot;
mod operator;
mod spill;
mod stateful;
mod table;
mod try_map;
mod wheel;

#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;

pub use accumulator::{Accumulator, CheckTime, FlushReason, SpillError, StateOf};
pub use fold::FoldByKeyOp;
pub use fold_move::KeyInTwoPlaces;
pub use keys::MemoryExhausted;
pub use operator::AccumulateOp;
pub(crate) use spill::is_spill_file_of;
pub use spill::{LostState, RecordError, SpillSchema, from_archive, to_archive};
pub use stateful::{Allowance, Release, Stateful, StatefulOp};
pub use table::hash_key;
pub use try_map::TryMapByKey;
pub use wheel::{TimerId, TimerWheel};
