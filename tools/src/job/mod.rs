//! The trace-assembly job as a pipeline.
//!
//! ```text
//! read -> decode -> spans -> traces -> keep -+-> errors -+-> join -> write
//!                                            +-> slow ---+
//!                                            +-> rest ---+
//! ```
//!
//! * `read` takes frames that a thread of its own reads from the inputs; `decode` makes spans of them, on every core.
//!   With `--dead-letters`, requests that cannot be decoded go to a file from there, and all others go on.
//! * `spans` puts the requests back in the order of the input, emits their spans and the watermark after each request.
//! * `traces` gathers the spans of a trace id until the trace is complete or expires, sharded over the cores.
//! * `keep` tells errors and slow traces from the rest, of which a sample stays; all three render to NDJSON.
//! * `join` and `write` bring the lines together; a thread of its own writes them.
//!
//! Files, pipes and devices may block for any time, so they are read and written on those two threads and never on a
//! core: bounded channels connect them, and a core with nothing to do is woken by its doorbell.

mod fault;
mod feed;
mod items;
mod letters;
mod order;
mod pipeline;
mod tally;
mod traces;

pub use fault::{Fault, InputFault};
pub use feed::{Feed, FeedThread, Feeding};
pub use letters::frame_of;
pub use pipeline::{JobParts, build};
pub use tally::{Tallies, TallyCounts};
