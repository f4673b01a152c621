//! Where spans go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Attributes, SpanId, TraceContext, TraceId};

/// Records spans of the runtime's own work. Called from the cores that run the pipeline: it must not block.
pub trait Tracer: Send + Sync {
    /// Whether anything is recorded. Asked when a pipeline starts: if not, its stages do not look at the traces of items.
    fn is_enabled(&self) -> bool {
        true
    }

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
    fn is_enabled(&self) -> bool {
        false
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_nest_and_carry_their_events() {
        let memory = MemoryTracer::default();
        let tracer: &dyn Tracer = &memory;
        let root = tracer.start_span("run", None);
        let child = tracer.start_span("step", Some(&root.clone().with_baggage("k", "v")));
        tracer.add_event(&child, "flush", &Attributes::new().with("items", 3));
        tracer.end_span(&child);
        tracer.end_span(&root);
        let spans = memory.spans();
        assert!(root.is_valid() && root.is_sampled() && child.span_id != root.span_id);
        assert_eq!((child.trace_id, child.baggage().len()), (root.trace_id, 1));
        assert_eq!((spans[0].parent, spans[1].parent), (None, Some(root.span_id)));
        assert_eq!(spans[1].events[0].attributes.get("items").and_then(|v| v.as_int()), Some(3));
        assert!(spans.iter().all(|span| span.ended));
    }

    #[test]
    fn ended_and_unknown_spans_are_left_alone() {
        let tracer = MemoryTracer::default();
        let span = tracer.start_span("a", None);
        let other = tracer.start_span("b", None);
        assert_ne!(span.trace_id, other.trace_id);
        tracer.end_span(&span);
        tracer.add_event(&span, "late", &Attributes::new());
        tracer.end_span(&TraceContext::default());
        assert!(tracer.spans()[0].events.is_empty());
        assert!(!tracer.spans()[1].ended);
    }

    #[test]
    fn without_a_tracer_a_span_is_its_parent() {
        let parent = MemoryTracer::default().start_span("a", None);
        assert_eq!(NoTracer.start_span("b", Some(&parent)), parent);
        assert!(!NoTracer.start_span("b", None).is_valid());
    }
}
