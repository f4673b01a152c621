//! What the user asks for, as plain data: no behaviour, every type serialisable.
//!
//! Names and meanings follow the contract; where the contract is silent the doc of the type says how it is settled.

mod accumulator;
mod backpressure;
mod failure;
mod idle;
mod parallelism;
mod registry;

pub use accumulator::{AccumulationDescriptor, AccumulatorPolicy, TimeDomain};
pub use backpressure::{BackpressureStrategy, BufferPolicy, DropPolicy};
pub use failure::{AfterRetries, Backoff, CircuitBreakerPolicy, ErrorPolicy};
pub use idle::IdlePolicy;
pub use parallelism::Parallelism;
pub use registry::PolicyRegistry;
