//! Where a stage instance stands, and what it may take.

use std::sync::{Arc, Weak};

use super::{SourcePause, StageError};
use crate::disk::Disks;
use crate::model::{Attributes, Signal, StageId};
use crate::observe::{CallClock, LogLevel, StageAccount, StageCells, StageContext, StageState, VirtualClock};
use crate::policy::{CircuitBreakerPolicy, ErrorPolicy};
use crate::pool::{LocalPool, MemoryPool};
use crate::shard::Shards;

/// What a stage instance may take of the machine beside its core.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Bytes of memory for keyed state; `None` leaves that to the stage's policy.
    pub memory: Option<u64>,
    /// Where keyed state that does not fit goes; there as long as the pipeline runs.
    pub disks: Option<Weak<dyn Disks>>,
    /// How many instances share the quota of `disks`.
    pub spilling_instances: u32,
}

/// Where a stage instance stands: handed to the factory that builds it, on its own core.
#[derive(Clone)]
pub struct StageSite {
    /// Names, instance number, logger, tracer, metrics.
    pub context: StageContext,
    /// The stage's error policy, resolved.
    pub error_policy: ErrorPolicy,
    /// The stage's circuit breaker, resolved.
    pub circuit_breaker: Option<CircuitBreakerPolicy>,
    /// Whether an edge takes the stage's dead letters.
    pub dead_letters: bool,
    /// Tells how long a call takes.
    pub clock: Arc<dyn CallClock>,
    /// Makes the pipeline's sources hold back.
    pub source_pause: Arc<SourcePause>,
    /// Where its counters are published.
    pub cells: Arc<StageCells>,
    /// Rings when this instance's partition should be stepped again.
    pub doorbell: Arc<crate::sync::Doorbell>,
    /// What it may take of memory and disk.
    pub resources: Resources,
    /// The pipeline's memory pool. See [`pool`](Self::pool).
    pub memory_pool: MemoryPool,
    /// Its shards, where they can move between the stage's instances.
    pub shards: Option<Shards>,
}

impl StageSite {
    /// What this instance's core rents buffers from: to be asked for when the stage is built or opened, and kept.
    ///
    /// When a rent is refused, this instance's doorbell rings once it may be tried again: a source answers
    /// [`Produced::Idle`](super::Produced::Idle) meanwhile.
    ///
    /// # Errors
    /// Outside of a partition, as in a test of its own, a home is opened for the running thread, which fails if the pool has no room for
    /// what it should make ready.
    pub fn pool(&self) -> Result<LocalPool, StageError> {
        let pool = &self.memory_pool;
        pool.current()
            .map_or_else(|| pool.open(Some(Arc::clone(&self.doorbell))), Ok)
            .map_err(StageError::msg)
    }

    /// A site outside of any pipeline, under the default policies and with a clock that stands still: for tests of operators.
    pub fn detached(context: StageContext) -> Self {
        Self {
            context,
            error_policy: ErrorPolicy::default(),
            circuit_breaker: None,
            dead_letters: false,
            clock: Arc::new(VirtualClock::default()),
            source_pause: Arc::default(),
            cells: Arc::default(),
            doorbell: Arc::default(),
            resources: Resources::default(),
            memory_pool: MemoryPool::default(),
            shards: None,
        }
    }

    /// A number that depends on the names of pipeline and stage and on the instance, and on nothing else.
    pub(crate) fn seed(&self) -> u64 {
        let StageContext { pipeline_id, stage_id, instance, .. } = &self.context;
        xxhash_rust::xxh3::xxh3_64(format!("{pipeline_id}/{stage_id}/{instance}").as_bytes())
    }

    /// Runs user code that prepares the instance; a panic in it is an error.
    pub(crate) fn open(
        &self,
        user: impl FnOnce(&Self) -> Result<(), StageError>,
    ) -> Result<(), (StageId, StageError)> {
        self.cells.set_state(StageState::Opening);
        match super::catch(|| user(self)) {
            Ok(Ok(())) => {
                self.cells.set_state(StageState::Running);
                Ok(())
            }
            Ok(Err(error)) | Err(error) => Err(self.failed(error)),
        }
    }

    /// Shows the instance as failed; the error by the stage's name.
    #[cold]
    pub(crate) fn failed(&self, error: StageError) -> (StageId, StageError) {
        self.log(LogLevel::Error, &error.to_string(), self.cells.read().errors);
        self.cells.set_last_error(error.to_string());
        self.cells.set_state(StageState::Failed);
        (self.context.stage_id.clone(), error)
    }

    #[cold]
    fn log(&self, level: LogLevel, error: &str, errors: u64) {
        let errors = i64::try_from(errors).unwrap_or(i64::MAX);
        let fields = Attributes::new()
            .with("pipeline", &*self.context.pipeline_id)
            .with("stage", self.context.stage_id.as_str())
            .with("instance", i64::try_from(self.context.instance).unwrap_or(i64::MAX))
            .with("errors", errors);
        self.context.logger.log_fields(level, error, &fields);
    }

    /// Publishes what the instance has counted, an error if there is a new one, and whether it has finished.
    pub(crate) fn publish(&self, account: &StageAccount, error: Option<String>, finished: bool) {
        self.cells.publish(account);
        if let Some(error) = error {
            self.log(LogLevel::Warn, &error, account.errors);
            self.cells.set_last_error(error);
        }
        if finished {
            self.cells.set_state(StageState::Finished);
        }
    }

    /// Notes a signal that has come to the instance.
    #[inline]
    pub(crate) fn heard(&self, signal: Signal) {
        if let Signal::Watermark(time) = signal {
            self.cells.set_watermark(time);
        }
    }

    /// Drops user code; a panic in that goes to `failures` under the stage's name.
    pub(crate) fn release<U>(&self, user: U, failures: &mut Vec<(StageId, StageError)>) {
        if let Err(error) = super::catch(|| drop(user)) {
            failures.push(self.failed(error));
        }
    }

    /// The instance's user code has been released, with things still inside when `discard`.
    pub(crate) fn closed(&self, discard: bool) {
        self.cells.set_state(if discard { StageState::Stopped } else { StageState::Finished });
    }
}
