//! Stages: what a user's code looks like to the runtime.
//!
//! A stage instance is an [`Operator`] linked to what follows it. Linked operators form a [`Chain`]: one
//! monomorphised function per batch, built by continuation from the typed builder in `flow`. Items are given to a
//! chain as an iterator, so that the whole chain compiles to one loop and counters stay in registers.

mod breaker;
mod chain;
mod copies;
mod gate;
mod guard;
mod letters;
mod lot;
mod ops;
mod pause;
mod pending;
mod probe;
mod sink;
mod site;
mod source;
mod span;
mod step;
mod stream_fn;
mod transform;
mod trial;
mod try_map;
mod valve;
mod watermarks;

pub(crate) use chain::earliest;
pub use chain::{BoxedChain, Chain, DynChain, Linked, Operator, Reporting};
pub use copies::Copies;
pub use gate::{Gate, Rejected, StageError, catch};
pub(crate) use letters::hold;
pub use letters::{DeadLetter, FailureKind, Letters, Posting, Posts};
pub use ops::{Filter, FilterMap, FlatMap, Inspect, Map, Pass};
pub use pause::SourcePause;
pub use pending::Pending;
pub use probe::{AgeProbe, Ages, Probe, ProbeFactory, Probed, SpanProbe, Spans};
pub use sink::{FoldSink, ForEach, Sink, SinkEnd};
pub use site::{Resources, StageSite};
pub use source::{Emitter, Generate, IterSource, Produced, Source};
pub use step::StepCx;
pub use stream_fn::{StreamFn, StreamIn};
pub use transform::{Output, Transform, TransformOp};
pub(crate) use trial::{Admission, Attempt, Trial, Tried};
pub use try_map::TryMap;
pub(crate) use try_map::{attempt, retry_all};
pub(crate) use valve::Valve;
pub use watermarks::{EventTime, WatermarkOp};
