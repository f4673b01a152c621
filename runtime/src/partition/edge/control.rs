//! What both ends of an edge and the handle of the pipeline share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::{Bucket, Demand};
use crate::model::StageId;
use crate::policy::{BackpressureStrategy, DropPolicy};
use crate::stage::{StageError, StepCx};
use crate::sync::Doorbell;

/// What an edge keeps to. Items and bytes are bounds of each ring, one for each pair of instances that it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgePolicy {
    /// Items each ring holds at most.
    pub capacity: u64,
    /// What a full ring does.
    pub drop_policy: DropPolicy,
    /// Bytes each ring holds at most, if that is bounded.
    pub max_bytes: Option<u64>,
    /// How producers are made to wait beyond that. Never [`BackpressureStrategy::Bounded`], which stands above.
    pub strategy: Option<BackpressureStrategy>,
}

impl EdgePolicy {
    /// The strategy by its name in the contract.
    pub fn strategy(&self) -> BackpressureStrategy {
        let Self { capacity, drop_policy, .. } = *self;
        self.strategy.unwrap_or(BackpressureStrategy::Bounded { capacity, drop_policy })
    }

    fn bucket(&self) -> Bucket {
        match self.strategy {
            Some(BackpressureStrategy::RateShaping { rate, burst }) => Bucket::new(rate, burst),
            _ => Bucket::new(0, 0),
        }
    }
}

/// One edge's policy, changeable while the pipeline runs. Each end looks at the version once per step, and takes the lock
/// only when it has changed.
pub struct EdgeControl {
    from: StageId,
    to: StageId,
    /// Slots of each ring.
    slots: u64,
    /// The largest capacity: that of the beginning.
    most: u64,
    version: AtomicU64,
    policy: Mutex<EdgePolicy>,
    /// Tokens of a rate-shaped edge, shared by its consuming instances.
    bucket: Mutex<Bucket>,
    /// Demand stated by the user, if the edge was given any.
    demand: Option<Demand>,
    /// A panic of user code that belongs to the edge: of its cost or of its drop callback.
    failure: Mutex<Option<StageError>>,
    doorbells: Mutex<Vec<Arc<Doorbell>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EdgeControl {
    /// An edge with rings of `slots` slots.
    pub(crate) fn new(
        from: StageId,
        to: StageId,
        policy: EdgePolicy,
        slots: u64,
        demand: Option<Demand>,
    ) -> Self {
        Self {
            from,
            to,
            slots,
            most: policy.capacity,
            version: AtomicU64::new(0),
            bucket: Mutex::new(policy.bucket()),
            policy: Mutex::new(policy),
            demand,
            failure: Mutex::new(None),
            doorbells: Mutex::default(),
        }
    }

    /// The producing stage.
    pub fn from(&self) -> &StageId {
        &self.from
    }

    /// The consuming stage.
    pub fn to(&self) -> &StageId {
        &self.to
    }

    /// What the edge keeps to now.
    pub fn policy(&self) -> EdgePolicy {
        *lock(&self.policy)
    }

    /// Slots of each ring.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Goes over to `strategy`; each end follows at its next step. What is in the edge stays there. The buffer's bounds and
    /// drop policy stay as they are, unless `strategy` is [`BackpressureStrategy::Bounded`], which sets both; a capacity
    /// above that of the beginning means that one: rings do not grow.
    pub(crate) fn set(&self, strategy: BackpressureStrategy) {
        let mut policy = lock(&self.policy);
        match strategy {
            BackpressureStrategy::Bounded { capacity, drop_policy } => {
                policy.capacity = capacity.clamp(1, self.most);
                policy.drop_policy = drop_policy;
                policy.strategy = None;
            }
            other => policy.strategy = Some(other),
        }
        // Empty: going over to rate shaping twice must not give two bursts.
        *lock(&self.bucket) = policy.bucket().emptied();
        drop(policy);
        self.changed();
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        lock(&self.doorbells).iter().for_each(|bell| bell.ring());
    }

    /// Counts changes. Looked at once per step by each end.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Rings `bell` at every change.
    pub(crate) fn attach(&self, bell: &Arc<Doorbell>) {
        lock(&self.doorbells).push(Arc::clone(bell));
    }

    /// Demand stated by the user, if the edge was given any.
    pub fn demand(&self) -> Option<&Demand> {
        self.demand.as_ref()
    }

    /// The bucket, unless another instance uses it this very moment: a step does not wait.
    pub(crate) fn try_bucket(&self) -> Option<MutexGuard<'_, Bucket>> {
        match self.bucket.try_lock() {
            Ok(bucket) => Some(bucket),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Tokens in the bucket as of its last use.
    pub fn tokens(&self) -> u64 {
        lock(&self.bucket).tokens()
    }

    /// Keeps a panic of user code until an end of the edge has a step to report it in.
    #[cold]
    pub(crate) fn fail(&self, error: StageError) {
        lock(&self.failure).get_or_insert(error);
        self.changed();
    }

    /// Fails the pipeline if user code of this edge has panicked. Called by an end that has seen a change.
    #[cold]
    pub(crate) fn report_failure(&self, cx: &StepCx) {
        if let Some(error) = lock(&self.failure).take() {
            cx.fail(&self.to, error);
        }
    }
}
