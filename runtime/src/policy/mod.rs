//! What the user asks for, as plain data: no behaviour, every type serialisable.
//!
//! Names and meanings follow the contract; where the contract is silent the doc of the type says how it is settled.

mod accumulator;
mod backpressure;
mod check;
mod document;
mod duration_text;
mod failure;
mod idle;
mod locality;
mod merge;
mod parallelism;
mod pool;
mod rebalance;
mod reference;
mod registry;
mod spill;
mod watermarks;

pub use accumulator::{AccumulationDescriptor, AccumulatorPolicy, TimeDomain};
pub use backpressure::{BackpressureStrategy, BufferPolicy, DropPolicy};
pub(crate) use check::within;
pub use check::{Checked, FieldProblem, MAX_CAPACITY, MAX_PARALLELISM, MAX_RETRIES, PolicyProblem};
pub use document::SettingError;
pub(crate) use document::{SettingReader, sorted};
pub use failure::{AfterRetries, Backoff, CircuitBreakerPolicy, DEFAULT_MAX_PARKED, ErrorPolicy, WhileOpen};
pub use idle::IdlePolicy;
pub use locality::MemoryLocality;
pub use merge::MergePolicy;
pub use parallelism::Parallelism;
pub use pool::{MemoryPoolOptions, Preallocation};
pub use rebalance::{AutoRebalance, MAX_SHARDS, RebalancePolicy};
pub use reference::{NamedPolicy, PolicyRef, UnknownPolicy};
pub(crate) use registry::{POLICY_TABLES, RegistryReader};
pub use registry::{PolicyRegistry, RegistryErrors};
pub use spill::SpillOptions;
pub use watermarks::{Advance, Watermarks};
