//! The state of one open trace.

use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::span::{STATUS_ERROR, Span, SpanId, TraceId};

/// What adding a span did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The span is part of the trace now.
    Added,
    /// A span of this id was there already; the new one is dropped.
    Duplicate,
}

/// What is known of a span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its span is here.
    Present,
    /// Another span names it as its parent.
    Awaited,
}

/// The spans of one trace that have come so far.
#[derive(Debug, Clone, Default)]
pub struct TraceState {
    spans: Vec<Span>,
    ids: HashMap<SpanId, Known, BuildHasherDefault<ahash::AHasher>>,
    /// Ids that are [`Known::Awaited`].
    awaited: usize,
    has_root: bool,
    first_end_ns: Option<u64>,
    size_bytes: usize,
}

impl TraceState {
    /// Takes a span of this trace, or drops it if its id is taken. Amortised O(1).
    pub fn add(&mut self, span: Span) -> Added {
        match self.ids.entry(span.span_id) {
            Entry::Occupied(known) if *known.get() == Known::Present => return Added::Duplicate,
            Entry::Occupied(mut known) => {
                known.insert(Known::Present);
                self.awaited -= 1;
            }
            Entry::Vacant(unknown) => {
                unknown.insert(Known::Present);
            }
        }
        match span.parent {
            None => self.has_root = true,
            Some(parent) => {
                if let Entry::Vacant(unknown) = self.ids.entry(parent) {
                    unknown.insert(Known::Awaited);
                    self.awaited += 1;
                }
            }
        }
        self.first_end_ns = Some(self.first_end_ns.map_or(span.end_ns, |first| first.min(span.end_ns)));
        self.size_bytes += span.size_bytes();
        self.spans.push(span);
        Added::Added
    }

    /// Whether a root is here and every parent is. O(1).
    pub fn is_complete(&self) -> bool {
        self.has_root && self.awaited == 0
    }

    /// How much of the trace is here, 0 to 1: known ids over known and awaited ids, a missing root being one
    /// more to wait for. 1 exactly when complete.
    pub fn completeness(&self) -> f64 {
        let missing = self.awaited + usize::from(!self.has_root);
        self.spans.len() as f64 / (self.spans.len() + missing) as f64
    }

    /// The earliest end of its spans, nanoseconds since the Unix epoch: where its time to live starts. `None`
    /// while it is empty.
    pub fn first_ts(&self) -> Option<u64> {
        self.first_end_ns
    }

    /// Spans held.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether no span has come yet.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of the spans held.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The trace, its spans in order of start and id; `None` if no span has come. O(n log n).
    pub fn finish(self, complete: bool) -> Option<Trace> {
        let mut spans = self.spans;
        let trace_id = spans.first()?.trace_id;
        spans.sort_unstable_by_key(|span| (span.start_ns, span.span_id)); // ids differ, so the order is total
        Some(Trace { trace_id, complete, spans })
    }
}

/// An assembled trace: at least one span, in order of start and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    trace_id: TraceId,
    complete: bool,
    spans: Vec<Span>,
}

impl Trace {
    /// Its id.
    pub fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }

    /// Whether it has a root and all parents; false for what expired or was left at the end.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Its spans, by start, then id.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The name of its root (the first, if there are many), empty without one.
    pub fn root_name(&self) -> &str {
        self.spans.iter().find(|span| span.parent.is_none()).map_or("", |root| &root.name)
    }

    /// The earliest start, nanoseconds since the Unix epoch.
    pub fn start_ns(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.start_ns)
    }

    /// The latest end minus the earliest start, in nanoseconds. Negative when clocks disagree that much; the
    /// wide type holds every difference of two times.
    pub fn duration_ns(&self) -> i128 {
        let last_end = self.spans.iter().map(|span| span.end_ns).max().unwrap_or(0);
        i128::from(last_end) - i128::from(self.start_ns())
    }

    /// How many spans failed.
    pub fn error_spans(&self) -> usize {
        self.spans.iter().filter(|span| span.status == STATUS_ERROR).count()
    }
}
