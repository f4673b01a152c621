//! What a pipeline's partitions and its handle share: the phase, and the first failure.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::MemoryPoolStats;
use crate::pool::{MemoryPool, PoolGauge};
use crate::stage::SourcePause;
use crate::sync::{Doorbell, HomeNode};

/// Where a pipeline is in its life. Phases only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sources produce.
    Running,
    /// Sources have been told to end; what is inside flows out.
    Draining,
    /// The current step is the last one.
    Stopping,
}

/// Why a pipeline failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stage, or `None` when the failure belongs to a partition as a whole.
    pub stage: Option<crate::model::StageId>,
    /// What happened.
    pub error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Some(stage) => write!(f, "stage {stage}: {}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// The one thing that every partition and the handle of a pipeline share. Read once per step, written rarely.
#[derive(Default)]
pub struct Control {
    phase: AtomicU8,
    failure: Mutex<Option<Failure>>,
    source_pause: Arc<SourcePause>,
    memory_pool: MemoryPool,
    /// The partitions' homes in the pool.
    homes: Mutex<Vec<PoolHome>>,
}

/// The home of one partition in the memory pool.
#[derive(Clone)]
pub struct PoolHome {
    /// The partition.
    pub partition: usize,
    /// Where its memory is to lie, if that is known.
    pub home: Option<HomeNode>,
    /// What it can be asked.
    pub gauge: PoolGauge,
}

impl Control {
    /// A running pipeline whose stages rent from `memory_pool`.
    pub fn new(memory_pool: MemoryPool) -> Arc<Self> {
        Arc::new(Self { memory_pool, ..Self::default() })
    }

    /// The pool that stages rent from.
    pub fn memory_pool(&self) -> &MemoryPool {
        &self.memory_pool
    }

    /// Adds the home of one more partition.
    pub(super) fn add_home(&self, home: PoolHome) {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).push(home);
    }

    /// What the pipeline's own homes have allocated and rented; the pool may serve others too.
    pub fn pool_statistics(&self) -> MemoryPoolStats {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.iter().fold(MemoryPoolStats::default(), |sum, home| sum.and(home.gauge.statistics()))
    }

    /// The pipeline's own homes in the pool, those that have closed too.
    pub fn pool_homes(&self) -> Vec<PoolHome> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The phase now. One relaxed load: partitions look at it before every step.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves on to `phase`, unless already past it, and wakes every parked partition.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.source_pause.ring();
    }

    /// Records the first failure and stops the pipeline.
    #[cold]
    pub fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.advance(Phase::Stopping);
    }

    /// The first failure.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a bell that [`advance`](Self::advance) rings.
    pub fn add_doorbell(&self, bell: Arc<Doorbell>) {
        self.source_pause.add_doorbell(bell);
    }

    /// What circuit breakers make sources hold back with.
    pub fn source_pause(&self) -> &Arc<SourcePause> {
        &self.source_pause
    }
}
