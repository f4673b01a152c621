//! From spans to assembled traces, as pure functions and state: no time, no threads, no files.
//!
//! The rules, in the order they act:
//!
//! 1. Spans are taken in order. A span whose id is already in the open state of its trace is a duplicate: counted,
//!    otherwise ignored.
//! 2. A trace is complete as soon as it has a root (a span without parent) and knows every parent. It is then emitted
//!    with `complete: true` and forgotten; later spans of it open a new state.
//! 3. After every request the watermark moves to the latest end seen minus the lag. A state whose earliest end plus
//!    the time to live is at or before the watermark expires: emitted with `complete: false`.
//! 4. At the end of the input the rest is emitted with `complete: false`.
//! 5. Tail sampling decides over each emitted trace: see [`SamplingRules`].
//!
//! [`ReferenceAssembly`] does all of it on one thread, as plainly as possible; the pipeline must give the
//! same lines.

mod assemble;
mod reference;
mod render;
mod sample;
mod span;
#[cfg(test)]
mod tests;
mod watermark;

pub use assemble::{Added, Trace, TraceState};
pub use reference::{AssemblyCounts, AssemblyRules, ReferenceAssembly, RunError, run_reference};
pub use render::render_line;
pub use sample::{SampleThreshold, SamplingRules, Verdict};
pub use span::{STATUS_ERROR, Span, SpanId, TraceId};
pub use watermark::{Watermark, is_expired};
