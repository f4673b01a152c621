//! What a stage instance is told about itself.

use std::fmt;
use std::sync::Arc;

use super::{Logger, Metrics, NoMetrics, NoTracer, Tracer, TracingLogger};
use crate::model::StageId;

/// Names and seams of one stage instance, handed to its `open`. Cheap to clone.
#[derive(Clone)]
pub struct StageContext {
    /// The pipeline.
    pub pipeline_id: Arc<str>,
    /// The stage.
    pub stage_id: StageId,
    /// Which of the stage's instances this is, from 0.
    pub instance: usize,
    /// The partition it is on, from 0.
    pub partition: usize,
    /// How many instances the stage has.
    pub parallelism: usize,
    /// Where its log lines go.
    pub logger: Arc<dyn Logger>,
    /// Where its spans go.
    pub tracer: Arc<dyn Tracer>,
    /// Where its measurements go.
    pub metrics: Arc<dyn Metrics>,
}

impl StageContext {
    /// The only instance of `stage_id`, with the default seams: log lines go to `tracing`, the rest nowhere.
    pub fn new(pipeline_id: impl Into<Arc<str>>, stage_id: StageId) -> Self {
        Self {
            pipeline_id: pipeline_id.into(),
            stage_id,
            instance: 0,
            partition: 0,
            parallelism: 1,
            logger: Arc::new(TracingLogger),
            tracer: Arc::new(NoTracer),
            metrics: Arc::new(NoMetrics),
        }
    }
}

impl fmt::Debug for StageContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageContext")
            .field("pipeline_id", &self.pipeline_id)
            .field("stage_id", &self.stage_id)
            .field("instance", &self.instance)
            .field("partition", &self.partition)
            .field("parallelism", &self.parallelism)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{LogLevel, MemoryLogger};

    #[test]
    fn clones_share_their_seams() {
        let logger = Arc::new(MemoryLogger::default());
        let seam: Arc<dyn Logger> = logger.clone();
        let context = StageContext { logger: seam, ..StageContext::new("p", StageId::new("s").unwrap()) };
        let clone = StageContext { instance: 1, ..context.clone() };
        clone.logger.log(LogLevel::Info, "hello");
        context.logger.log(LogLevel::Info, "again");
        assert_eq!(logger.lines().len(), 2);
    }

    #[test]
    fn debug_names_the_instance_and_the_defaults_do_nothing() {
        let context = StageContext::new("p", StageId::new("s").unwrap());
        let text = format!("{context:?}");
        assert!(
            text.contains("\"p\"") && text.contains("instance: 0") && text.contains("parallelism: 1"),
            "{text}"
        );
        context.metrics.record_counter("n", &[], 1);
        assert!(!context.tracer.start_span("a", None).is_valid());
        fn crosses_threads<T: Send + Sync>(_: &T) {}
        crosses_threads(&context);
    }
}
