//! Keyed state: timers, accumulators and folds. One instance owns the keys of its shards.

mod accumulator;
mod fold;
mod keys;
mod lot;
mod operator;
mod stateful;
mod table;
mod try_map;
mod wheel;

#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

pub use accumulator::{Accumulator, CheckTime, FlushReason, SpillError, StateOf};
pub use fold::FoldByKeyOp;
pub use operator::AccumulateOp;
pub use stateful::{Allowance, Release, Stateful, StatefulOp};
pub use table::hash_key;
pub use try_map::TryMapByKey;
pub use wheel::{TimerId, TimerWheel};
