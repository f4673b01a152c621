//! Where spans go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Attributes, SpanId, TraceContext, TraceId};

/// Records spans of the runtime's own work. Called from the cores that run the pipeline: it must not block.
pub trait Tracer: Send + Sync {
    /// Starts a span under `parent`, or a new trace; what the span's own children must name as their parent.
    fn start_span(&self, name: &str, parent: Option<&TraceContext>) -> TraceContext;

    /// Ends the span that `context` names. A span nobody started, or one that has ended, is ignored.
    fn end_span(&self, context: &TraceContext);

    /// Adds a named event to a span that has not ended.
    fn add_event(&self, context: &TraceContext, name: &str, attributes: &Attributes);
}

/// Records nothing: a span is its parent. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTracer;

impl Tracer for NoTracer {
    fn start_span(&self, _name: &str, parent: Option<&TraceContext>) -> TraceContext {
        parent.cloned().unwrap_or_default()
    }

    fn end_span(&self, _context: &TraceContext) {}

    fn add_event(&self, _context: &TraceContext, _name: &str, _attributes: &Attributes) {}
}

/// A span that a [`MemoryTracer`] kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSpan {
    /// Its name.
    pub name: String,
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The id of the span above it.
    pub parent: Option<SpanId>,
    /// Events, in order.
    pub events: Vec<RecordedEvent>,
    /// Whether it has ended.
    pub ended: bool,
}

/// An event of a [`RecordedSpan`].
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEvent {
    /// Its name.
    pub name: String,
    /// What it says.
    pub attributes: Attributes,
}

/// Keeps every span, without bound, and numbers ids from 1, so that runs can be compared. For tests.
#[derive(Debug, Default)]
pub struct MemoryTracer {
    spans: Mutex<Vec<RecordedSpan>>,
}

impl MemoryTracer {
    /// All spans so far, in the order of their start.
    pub fn spans(&self) -> Vec<RecordedSpan> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RecordedSpan>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, context: &TraceContext, edit: impl FnOnce(&mut RecordedSpan)) {
        let mut spans = self.lock();
        let same = |span: &&mut RecordedSpan| {
            span.context.trace_id == context.trace_id
                && span.context.span_id == context.span_id
                && !span.ended
        };
        if let Some(span) = spans.iter_mut().find(same) {
            edit(span);
        }
    }
}

impl Tracer for MemoryTracer {
    fn start_span(&self, name: &str, parent: Option<&TraceContext>) -> TraceContext {
        let mut spans = self.lock();
        let number = spans.len() as u64 + 1;
        let span_id = SpanId(number.to_be_bytes());
        let context = match parent {
            Some(parent) => parent.child(span_id),
            None => {
                TraceContext::new(TraceId(u128::from(number).to_be_bytes()), span_id, TraceContext::SAMPLED)
            }
        };
        spans.push(RecordedSpan {
            name: name.to_owned(),
            context: context.clone(),
            parent: parent.map(|p| p.span_id),
            events: Vec::new(),
            ended: false,
        });
        context
    }

    fn end_span(&self, context: &TraceContext) {
        self.edit(context, |span| span.ended = true);
    }

    fn add_event(&self, context: &TraceContext, name: &str, attributes: &Attributes) {
        let event = RecordedEvent { name: name.to_owned(), attributes: attributes.clone() };
        self.edit(context, |span| span.events.push(event));
    }
}
