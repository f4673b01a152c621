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

/// A key's state has come to an instance that has state for it, too: its key function does not give the same key for the same item each time,
/// or the key's hash is not always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has state in two instances: the key function or the hash of its key is not always the same")]
pub struct KeyInTwoPlaces;

pub use accumulator::{Accumulator, CheckTime, FlushReason, SpillError, StateOf};
pub use fold::FoldByKeyOp;
pub use keys::MemoryExhausted;
pub use operator::AccumulateOp;
pub(crate) use spill::is_spill_file_of;
pub use spill::{LostState, RecordError, SpillSchema, from_archive, to_archive};
pub use stateful::{Allowance, Release, Stateful, StatefulOp};
pub use table::hash_key;
pub use try_map::TryMapByKey;
pub use wheel::{TimerId, TimerWheel};
