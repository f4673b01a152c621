//! The user's side of an accumulator.

use std::hash::Hash;

use super::SpillSchema;
use crate::model::{AccumulatorState, Completeness, Cost, Now, ProgressWeights, Timestamp};
use crate::stage::{StageError, StageSite};

/// The time a check is made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTime {
    /// The clock of the step. It does not move while the step runs.
    pub processing: Now,
    /// The watermark: no item before this time is to be expected. [`Timestamp::MIN`] as long as there was none.
    pub event: Timestamp,
}

/// Why a key is let go of before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlushReason {
    /// It holds [`max_items`](crate::policy::AccumulatorPolicy::max_items).
    MaxItems,
    /// It holds [`max_bytes`](crate::policy::AccumulatorPolicy::max_bytes) or more.
    MaxBytes,
    /// Its first item came [`max_latency`](crate::policy::AccumulatorPolicy::max_latency) ago.
    MaxLatency,
    /// Its first item came [`completeness_ttl`](crate::policy::AccumulatorPolicy::completeness_ttl) ago. What is emitted
    /// for this reason counts as the result of an expired key. Of two limits of the same length this one is named.
    Ttl,
    /// The input has ended.
    End,
}

/// Why a state cannot be moved to disk or back.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The accumulator does not implement it.
    #[error("this accumulator cannot move its state to disk")]
    Unsupported,
    /// The bytes are not such a state, or the state cannot be written as bytes.
    #[error("the state cannot be read or written: {0}")]
    Format(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The state has too many bytes to be written.
    #[error("the state of one key has {0} bytes, too many to be written")]
    TooLarge(usize),
}

/// The state that an accumulator of `In` keeps for one key.
pub type StateOf<In, A> = AccumulatorState<<A as Accumulator<In>>::Key, <A as Accumulator<In>>::State>;

/// Collects the items of each key until they make a whole.
///
/// One instance owns the keys of its shards: all calls come from its core, one at a time. For each item the order is
/// `key`, `timestamp`, `cost`, for the first item of a key `init`, then `update`, `progress`, `check`. A key whose check
/// does not say [`Completeness::Incomplete`] is closed and its state dropped; an item of the same key that comes later
/// opens it anew. Limits of the policy need no item to be kept: a key is checked once more when its time is up or the
/// input ends, and if it is still incomplete, [`flush_forced`](Self::flush_forced) may make of it what it can.
///
/// A panic in any of these but [`close`](Self::close) ends the pipeline, whatever the error policy: the state may be damaged and
/// is not used again.
///
/// ```
/// use corelane::keyed::{Accumulator, FlushReason, CheckTime, StateOf};
/// use corelane::model::Completeness;
///
/// /// Pairs readings of the same sensor.
/// #[derive(Clone)]
/// struct Pairs;
///
/// impl Accumulator<(u32, f64)> for Pairs {
///     type Key = u32;
///     type State = Vec<f64>;
///     type Out = (u32, Vec<f64>);
///
///     fn key(&self, item: &(u32, f64)) -> u32 {
///         item.0
///     }
///     fn init(&mut self, _key: &u32, _first: &(u32, f64)) -> Vec<f64> {
///         Vec::new()
///     }
///     fn update(&mut self, of: &mut StateOf<(u32, f64), Self>, item: (u32, f64)) {
///         of.state.push(item.1);
///     }
///     fn check(&mut self, of: &mut StateOf<(u32, f64), Self>, _time: CheckTime) -> Completeness<Self::Out> {
///         if of.state.len() < 2 {
///             return Completeness::Incomplete;
///         }
///         Completeness::Complete((of.key, std::mem::take(&mut of.state)))
///     }
///     fn flush_forced(&mut self, of: &mut StateOf<(u32, f64), Self>, _reason: FlushReason) -> Option<Self::Out> {
///         Some((of.key, std::mem::take(&mut of.state)))
///     }
/// }
/// ```
pub trait Accumulator<In>: Sized + 'static {
    /// What items have in common that belong together. Two keys that are equal must be so for good, and hash alike.
    type Key: Hash + Eq + Clone + 'static;
    /// What is kept for a key.
    type State: 'static;
    /// What becomes of it.
    type Out: 'static;

    /// Prepares the instance, before any item.
    ///
    /// # Errors
    /// An error ends the pipeline before it starts.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// The key of an item. Must depend on the item alone: it is also called on the cores that send items here.
    fn key(&self, item: &In) -> Self::Key;

    /// When the item happened. Set this wherever deadlines are on event time; the default is the wall clock.
    fn timestamp(&self, _item: &In, time: CheckTime) -> Timestamp {
        time.processing.wall
    }

    /// What it costs to keep the item; counts towards `max_bytes`. The default is its size without what it points to.
    fn cost(&self, _item: &In) -> Cost {
        Cost::of_bytes(size_of::<In>() as u64)
    }

    /// The state of a key before its first item, which is given to [`update`](Self::update) next.
    fn init(&mut self, key: &Self::Key, first: &In) -> Self::State;

    /// Adds an item to the state of its key. Sizes and times in `of` are those before the item, and are kept by the
    /// runtime.
    fn update(&mut self, of: &mut StateOf<In, Self>, item: In);

    /// How complete a key is, from 0 to 1: usually [`ProgressWeights::score`] of the parts that are there. Kept in
    /// `completeness_score`; what is not a number counts as 0. The default keeps what `update` left there.
    fn progress(&self, of: &StateOf<In, Self>, _weights: &ProgressWeights) -> f64 {
        of.completeness_score
    }

    /// Whether the key is complete.
    fn check(&mut self, of: &mut StateOf<In, Self>, time: CheckTime) -> Completeness<Self::Out>;

    /// What can be made of a key that is let go of incomplete. `None`: nothing; its items then count as expired. Called
    /// only if the policy allows partial results.
    fn flush_forced(&mut self, of: &mut StateOf<In, Self>, reason: FlushReason) -> Option<Self::Out>;

    /// Bytes of memory that the state of a key takes, without the size of the types themselves. Decides when keys are
    /// moved to disk; asked after each item where memory is limited. The default is the cost of the items in it: set this
    /// wherever the state is smaller, or keeps spare capacity.
    fn held_bytes(&self, of: &StateOf<In, Self>) -> u64 {
        of.size_bytes
    }

    /// The layout of what [`serialize_spill`](Self::serialize_spill) writes. `None`, the default, says that states cannot be
    /// moved to disk; a policy that allows spilling is then refused when the pipeline is built.
    fn spill_schema(&self) -> Option<SpillSchema> {
        None
    }

    /// Appends the state of a cold key to `into`, for the disk. Where key and state are `rkyv` types,
    /// [`to_archive`](super::to_archive) does it.
    ///
    /// # Errors
    /// [`SpillError::Unsupported`] by default. A state that cannot be written stays in memory.
    fn serialize_spill(&self, _of: &StateOf<In, Self>, _into: &mut Vec<u8>) -> Result<(), SpillError> {
        Err(SpillError::Unsupported)
    }

    /// Reads back what [`serialize_spill`](Self::serialize_spill) wrote. `bytes` have passed their checksums, and may
    /// still be those of a version that had an error: they must be checked, not trusted.
    ///
    /// # Errors
    /// [`SpillError::Unsupported`] by default. The items of a state that cannot be read are lost, and counted as that; the
    /// stage's error policy decides what that does.
    fn deserialize_spill(&self, _bytes: &[u8]) -> Result<StateOf<In, Self>, SpillError> {
        Err(SpillError::Unsupported)
    }

    /// Releases what the instance holds. Called once, after the last item or when the pipeline stops. A panic here, or in the
    /// `Drop` of what is left then, is counted, and fails the pipeline unless the stage's error policy says otherwise.
    fn close(&mut self) {}
}
