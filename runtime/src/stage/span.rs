//! The span that is open in a step: one at a time, as the stages of a fused chain take turns with each item.

use std::fmt;
use std::sync::Arc;

use super::{StageError, StepCx};
use crate::model::{Attributes, StageId, TraceContext};
use crate::observe::Tracer;

/// A span that ends when it is dropped.
pub(super) struct OpenSpan(Arc<dyn Tracer>, TraceContext);

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenSpan").field(&self.1).finish()
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.0.end_span(&self.1);
    }
}

impl StepCx {
    /// Starts a span called like `stage` under `parent`; the one that is open ends.
    #[cold]
    pub(crate) fn start_span(&self, tracer: &Arc<dyn Tracer>, stage: &StageId, parent: &TraceContext) {
        self.end_span();
        let span = tracer.start_span(stage.as_str(), Some(parent));
        *self.span.borrow_mut() = Some(OpenSpan(Arc::clone(tracer), span));
    }

    /// Ends the span that is open, if there is one.
    #[inline]
    pub(crate) fn end_span(&self) {
        if self.span.borrow().is_some() {
            self.span.take();
        }
    }

    /// Notes an error of a stage on the span that is open, if there is one.
    #[cold]
    pub(crate) fn span_error(&self, error: &StageError) {
        if let Some(OpenSpan(tracer, span)) = &*self.span.borrow() {
            let attributes = Attributes::new().with("exception.message", error.to_string());
            tracer.add_event(span, "exception", &attributes);
        }
    }
}
