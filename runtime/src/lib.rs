//! corelane: a thread-per-core, shared-nothing pipeline runtime.

pub mod config;
pub mod disk;
pub mod driver;
pub mod engine;
pub mod flow;
pub mod graph;
pub mod keyed;
pub mod model;
pub mod observe;
pub mod partition;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod ring;
pub mod shard;
pub mod stage;
pub mod sync;
pub mod testing;
pub mod topology;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
