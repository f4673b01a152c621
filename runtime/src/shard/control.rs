//! What the instances of a stage, its producers and whoever moves shards share.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Balancer, Kept, ShardMove, ShardTable};
use crate::observe::ShardsState;
use crate::policy::RebalancePolicy;
use crate::ring::{Consumer, Producer, RingError, ring};
use crate::sync::{CachePadded, Doorbell, Mutex};

/// Parcels that fit between two instances.
const PARCELS: usize = 8;

/// Which table holds up to a barrier, and which behind it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The number of the barrier. 0 at the start, for which there is none.
    pub version: u64,
    /// Up to the barrier.
    pub before: ShardTable,
    /// Behind it.
    pub after: ShardTable,
}

/// What became of the wish to even out a stage's load.
#[derive(Clone, Debug, PartialEq)]
pub enum Rebalance {
    /// Shards move from here on.
    Moving {
        /// The number of the move, for [`ShardsState::version`].
        version: u64,
        /// Which, and where to.
        moves: Vec<ShardMove>,
    },
    /// All stay where they are.
    Kept(Kept),
}

/// Why shards were not moved as told. None has been.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MoveError {
    /// A shard that there is not.
    #[error("there is no shard {shard}: the stage has {shards}")]
    UnknownShard {
        /// The shard asked for.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// An instance that there is not.
    #[error("there is no instance {instance}: the stage has {instances}")]
    UnknownInstance {
        /// The instance asked for.
        instance: usize,
        /// How many there are.
        instances: usize,
    },
    /// Not now.
    #[error(transparent)]
    Kept(#[from] Kept),
}

struct Inner {
    current: Assignment,
    balancer: Balancer,
}

/// What an instance publishes.
#[derive(Default)]
struct InstanceCells {
    /// The last move in which its part is done.
    done: AtomicU64,
    /// Its input has ended: no barrier comes to it any more.
    ended: AtomicBool,
    /// Items since the start, by shard.
    loads: Box<[AtomicU64]>,
}

/// The assignment of one stage's shards, and the one move that may be under way.
pub struct ShardControl {
    version: AtomicU64,
    inner: Mutex<Inner>,
    instances: Box<[CachePadded<InstanceCells>]>,
    bells: Vec<Arc<Doorbell>>,
}

impl fmt::Debug for ShardControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardControl").field("version", &self.version).finish_non_exhaustive()
    }
}

impl ShardControl {
    /// The shards of a stage with `instances` instances. `bells` are those of its partitions and of its producers'.
    pub fn new(policy: RebalancePolicy, instances: usize, bells: Vec<Arc<Doorbell>>) -> Self {
        let table = ShardTable::even(policy.shards_for(instances), instances);
        let loads = || (0..table.shards()).map(|_| AtomicU64::new(0)).collect();
        let cells = || CachePadded::new(InstanceCells { loads: loads(), ..InstanceCells::default() });
        let balancer = Balancer::new(table.shards(), policy.automatic);
        Self {
            version: AtomicU64::new(0),
            instances: (0..instances).map(|_| cells()).collect(),
            inner: Mutex::new(Inner {
                current: Assignment { version: 0, before: table.clone(), after: table },
                balancer,
            }),
            bells,
        }
    }

    /// The number of the assignment that was last published. One relaxed load: producers look at it in every step.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The assignment that was last published. Takes a lock.
    pub fn assignment(&self) -> Assignment {
        self.inner.lock().current.clone()
    }

    /// Notes that `instance` has done its part of move `version`.
    pub(super) fn finish(&self, instance: usize, version: u64) {
        // Release: who sees the last one of them sees the loads that were published before.
        self.instances[instance].done.store(version, Ordering::Release);
    }

    /// Notes that the input of `instance` has ended.
    pub(super) fn end(&self, instance: usize) {
        self.instances[instance].ended.store(true, Ordering::Relaxed);
    }

    /// Publishes what has come to `instance`, by shard. Costs a store for each.
    pub(super) fn publish(&self, instance: usize, loads: &[u64]) {
        let cells = &self.instances[instance].loads;
        cells.iter().zip(loads).for_each(|(cell, load)| cell.store(*load, Ordering::Relaxed));
    }

    fn is_moving(&self, version: u64) -> bool {
        self.instances.iter().any(|cells| cells.done.load(Ordering::Acquire) < version)
    }

    fn is_ending(&self) -> bool {
        self.instances.iter().any(|cells| cells.ended.load(Ordering::Relaxed))
    }

    /// Items since the start, by shard, as last published.
    fn loads(&self) -> Vec<u64> {
        let shards = self.instances.first().map_or(0, |cells| cells.loads.len());
        let sum = |shard: usize| {
            self.instances.iter().map(|cells| cells.loads[shard].load(Ordering::Relaxed)).sum()
        };
        (0..shards).map(sum).collect()
    }

    /// What may keep shards from being moved now.
    fn check(&self, inner: &Inner) -> Result<(), Kept> {
        if self.is_ending() {
            Err(Kept::Ending)
        } else if self.is_moving(inner.current.version) {
            Err(Kept::Busy)
        } else {
            Ok(())
        }
    }

    fn begin(&self, inner: &mut Inner, moves: &[ShardMove]) -> u64 {
        let before = inner.current.after.clone();
        let version = inner.current.version + 1;
        inner.current = Assignment { version, after: before.with(moves), before };
        self.version.store(version, Ordering::Relaxed);
        self.bells.iter().for_each(|bell| bell.ring());
        version
    }

    /// Moves shards so that the load that has come since the last call, as far as it has been published, would have been even. Returns at
    /// once: the instances go on by themselves.
    pub fn rebalance(&self) -> Rebalance {
        let mut inner = self.inner.lock();
        let moves = self.check(&inner).and_then(|()| {
            let (loads, table) = (self.loads(), inner.current.after.clone());
            inner.balancer.judge(&loads, &table, self.instances.len())
        });
        match moves {
            Ok(moves) => Rebalance::Moving { version: self.begin(&mut inner, &moves), moves },
            Err(kept) => Rebalance::Kept(kept),
        }
    }

    /// Moves shards as told. The number of the move.
    ///
    /// # Errors
    /// [`MoveError`]: none has been moved.
    pub fn move_shards(&self, moves: &[ShardMove]) -> Result<u64, MoveError> {
        let mut inner = self.inner.lock();
        let (shards, instances) = (inner.current.after.shards(), self.instances.len());
        for &ShardMove { shard, to } in moves {
            if shard >= shards {
                return Err(MoveError::UnknownShard { shard, shards });
            }
            if to >= instances {
                return Err(MoveError::UnknownInstance { instance: to, instances });
            }
        }
        self.check(&inner)?;
        Ok(self.begin(&mut inner, moves))
    }

    /// Looks at the load at `now`, in monotonic nanoseconds, and begins the move that it calls for, if the stage moves shards by itself. For one
    /// instance, in its step. When to look again.
    pub(super) fn look(&self, now: i64) -> i64 {
        let mut inner = self.inner.lock();
        let Some(period) = inner.balancer.period() else { return i64::MAX };
        if self.check(&inner).is_err() {
            return now.saturating_add(period);
        }
        let (loads, table) = (self.loads(), inner.current.after.clone());
        if let Some(moves) = inner.balancer.look(now, &loads, &table, self.instances.len()) {
            self.begin(&mut inner, &moves);
        }
        now.saturating_add(period)
    }

    /// Whether the load is to be looked at from time to time.
    pub(super) fn is_automatic(&self) -> bool {
        self.inner.lock().balancer.period().is_some()
    }

    /// What it is like now.
    pub fn state(&self) -> ShardsState {
        let current = self.assignment();
        let is_open = self.is_moving(current.version);
        let table = if is_open { &current.before } else { &current.after };
        // A move that no producer began before it ended is none.
        let moving = is_open && !self.instances.iter().all(|cells| cells.ended.load(Ordering::Relaxed));
        ShardsState { version: current.version, moving, owners: table.owners().to_vec(), loads: self.loads() }
    }
}

/// State of some keys on its way from one instance to another.
pub(super) struct Parcel {
    /// The move that it belongs to.
    pub(super) version: u64,
    /// Items in that state.
    pub(super) items: u64,
    /// With the last one: shards whose items are counted by shard, and how many.
    pub(super) shards: Vec<(usize, u64)>,
    /// The giver has no more for this taker.
    pub(super) last: bool,
    /// A `Vec` of whatever the operator moves.
    pub(super) keys: Box<dyn Any + Send>,
}

/// The place of one instance among those that give shards to each other; taken once, by its operator.
pub struct ShardSeat {
    pub(super) instance: usize,
    /// Rings to and from each instance; none to itself.
    pub(super) to: Vec<Option<Producer<Parcel>>>,
    pub(super) from: Vec<Option<Consumer<Parcel>>>,
}

/// What an instance of a stage is told of its shards.
#[derive(Clone)]
pub struct Shards {
    /// Shared by all instances and their producers.
    pub control: Arc<ShardControl>,
    seat: Arc<Mutex<Option<ShardSeat>>>,
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shards").field(&self.control).finish()
    }
}

impl Shards {
    /// The seat, for the first who asks.
    pub(super) fn take_seat(&self) -> Option<ShardSeat> {
        self.seat.lock().take()
    }
}

/// What each instance is told of `control`, with rings between all of them. `bells` are those of the instances' partitions, by instance; those
/// of one partition are one.
///
/// # Errors
/// No memory for the rings.
pub fn seats(control: &Arc<ShardControl>, bells: &[Arc<Doorbell>]) -> Result<Vec<Shards>, RingError> {
    let n = bells.len();
    let none = || (0..n).map(|_| None).collect::<Vec<_>>();
    let mut seats: Vec<ShardSeat> = (0..n)
        .map(|instance| ShardSeat { instance, to: none(), from: (0..n).map(|_| None).collect() })
        .collect();
    for giver in 0..n {
        for taker in (0..n).filter(|&taker| taker != giver) {
            let (mut producer, mut consumer) = ring(PARCELS)?;
            if !Arc::ptr_eq(&bells[giver], &bells[taker]) {
                producer.attach_doorbell(Arc::clone(&bells[taker]));
                consumer.attach_doorbell(Arc::clone(&bells[giver]));
            }
            seats[giver].to[taker] = Some(producer);
            seats[taker].from[giver] = Some(consumer);
        }
    }
    let shards = |seat| Shards { control: Arc::clone(control), seat: Arc::new(Mutex::new(Some(seat))) };
    Ok(seats.into_iter().map(shards).collect())
}
