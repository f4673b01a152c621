//! Vocabulary: plain data that everything else speaks.

mod accumulation;
mod attributes;
mod batch;
mod columns;
mod cost;
mod envelope;
mod id;
mod kind;
mod signal;
mod text;
mod time;
mod trace;
mod trace_state;

pub use accumulation::{AccumulatorState, Completeness, ProgressWeights, WeightError};
pub use attributes::{AttributeValue, Attributes, Headers, SmallMap};
pub use batch::Batch;
pub use columns::{columns, counted};
pub use cost::{Cost, Costed, NotAnAmount};
pub use envelope::{Envelope, Extras, Timed, Traced};
pub use id::{IdError, StageId};
pub use kind::StageKind;
pub use signal::Signal;
pub use text::{ErrorList, Place};
pub(crate) use text::{Text, help_with_name, nearest};
pub use time::{Now, Timestamp};
pub use trace::{SpanId, TraceContext, TraceId, TraceParseError};
pub use trace_state::{TraceState, TraceStateError};
