#![forbid(unsafe_code)]
//! Ready-made stages for corelane, on its public API only.
//!
//! - [`window`]: windows in event time, with aggregates and triggers.
//! - [`join`]: two streams by key: within a span of time, in windows, as long as items are kept, or with a table.
//! - [`gather`]: items of a batch right after each other, for what reads memory that is far away.
//! - [`dead_letters`]: what failed, appended to a file and read back.
//! - [`process`]: state and timers of your own for each key.
//! - [`outbox`]: from a sink of your own to a thread that writes.

mod blocks;
pub mod dead_letters;
pub mod gather;
pub mod join;
mod keys;
pub mod outbox;
pub mod process;
mod tally;
#[cfg(test)]
mod testkit;
pub mod window;
