//! Vocabulary: plain data that everything else speaks.

mod id;
mod signal;
mod time;

pub use id::{IdError, StageId};
pub use signal::Signal;
pub use time::{Now, Timestamp};
