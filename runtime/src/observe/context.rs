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
            .field("parallelism", &self.parallelism)
            .finish_non_exhaustive()
    }
}
