//! Vocabulary: plain data that everything else speaks.

mod attributes;
mod id;
mod signal;
mod time;
mod trace;

pub use attributes::{AttributeValue, Attributes, Headers, SmallMap};
pub use id::{IdError, StageId};
pub use signal::Signal;
pub use time::{Now, Timestamp};
pub use trace::{SpanId, TraceContext, TraceId, TraceParseError};
