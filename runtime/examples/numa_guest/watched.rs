//! A pipeline whose stages note where they are: four of them, each in front of rings, the second with buffers from the memory pool.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::policy::{Parallelism, RebalancePolicy};
use corelane::pool::{LocalPool, PooledBuffer};
use corelane::stage::{Output, StageError, StageSite, Transform};

use crate::shape::{Area, allowed_here, area_of};

/// Where one instance was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// What its thread may run on, as the kernel says.
    pub(crate) allowed: BTreeSet<String>,
    /// What it ran on.
    pub(crate) cpus: BTreeSet<u32>,
    /// Where a buffer of it lay.
    pub(crate) slab: Option<Area>,
    pub(crate) items: u64,
}

/// By stage and instance.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<(String, usize), Seen>>>);

impl Notes {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, usize), Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, stage: &(String, usize), items: u64) {
        let (allowed, cpu) = (allowed_here(), rustix::thread::sched_getcpu() as u32);
        let mut notes = self.lock();
        let seen = notes.entry(stage.clone()).or_default();
        seen.allowed.insert(allowed);
        seen.cpus.insert(cpu);
        seen.items = items;
    }
}

/// Items between two looks.
const LOOK_EVERY: u64 = 512;

/// A stage that makes a buffer of each number, or passes buffers on.
struct Watched<T> {
    stage: (String, usize),
    notes: Notes,
    items: u64,
    pool: LocalPool,
    item: std::marker::PhantomData<T>,
}

impl<T> Watched<T> {
    fn new(site: &StageSite, notes: Notes, rents: bool) -> Result<Self, StageError> {
        let stage = (site.context.stage_id.to_string(), site.context.instance);
        notes.note(&stage, 0);
        let pool = site.pool()?;
        if rents {
            let buffer = pool.rent(100).map_err(StageError::msg)?;
            notes.lock().entry(stage.clone()).or_default().slab = Some(area_of(buffer.as_ptr().addr()));
        }
        Ok(Self { stage, notes, items: 0, pool, item: std::marker::PhantomData })
    }
}

/// A number, or a buffer.
trait Item: Send + 'static {
    fn into_buffer(self, pool: &LocalPool) -> Result<PooledBuffer, StageError>;
}

impl Item for u64 {
    fn into_buffer(self, pool: &LocalPool) -> Result<PooledBuffer, StageError> {
        let mut buffer = pool.rent(100).map_err(StageError::msg)?;
        buffer[..8].copy_from_slice(&self.to_le_bytes());
        Ok(buffer)
    }
}

impl Item for PooledBuffer {
    fn into_buffer(self, _: &LocalPool) -> Result<PooledBuffer, StageError> {
        Ok(self)
    }
}

impl<T: Item> Transform for Watched<T> {
    type In = T;
    type Out = PooledBuffer;

    fn process(&mut self, item: T, out: &mut Output<'_, PooledBuffer>) -> Result<(), StageError> {
        self.items += 1;
        if self.items.is_multiple_of(LOOK_EVERY) {
            self.notes.note(&self.stage, self.items);
        }
        out.emit(item.into_buffer(&self.pool)?);
        Ok(())
    }
}

/// `read -> rent -> hop -> gone`, without an end. The two in the middle have an instance for each of their cores.
pub(crate) fn pipeline(notes: &Notes) -> Pipeline {
    let p = PipelineBuilder::new("watched");
    let [rent, hop, gone] = [notes.clone(), notes.clone(), notes.clone()];
    p.items("read", 0u64..)
        .transform("rent", move |site: &StageSite| Watched::<u64>::new(site, rent, true))
        .parallel(Parallelism::CpuBound)
        .input_cut()
        .transform("hop", move |site: &StageSite| Watched::<PooledBuffer>::new(site, hop, false))
        .parallel(Parallelism::CpuBound)
        .input_cut()
        .transform("gone", move |site: &StageSite| Watched::<PooledBuffer>::new(site, gone, false))
        .parallel(Parallelism::Sequential)
        .input_cut()
        .for_each("free", drop);
    p.build().expect("the graph is right")
}

/// Pages with the state of keys, by the CPU that folds them.
#[derive(Clone, Default)]
pub(crate) struct States(Arc<Mutex<BTreeMap<u32, BTreeSet<usize>>>>);

impl States {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, BTreeSet<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, state: &T) {
        let page = std::ptr::from_ref(state).addr() & !0xFFF;
        self.lock().entry(rustix::thread::sched_getcpu() as u32).or_default().insert(page);
    }
}

/// Keys of [`folding`]: with states of 128 bytes they fill some hundred pages.
const KEYS: u64 = 20_000;

/// `read -> sum -> free`, without an end: a fold by key whose shards can move, and which notes where states lie.
pub(crate) fn folding(states: &States) -> Pipeline {
    let (p, states) = (PipelineBuilder::new("folding"), states.clone());
    p.items("read", 0u64..)
        .key_by(|n| n % KEYS)
        .fold(
            "sum",
            || [0u64; 16],
            move |sums, n| {
                sums[(n % 16) as usize] += n;
                if n % 7 == 0 {
                    states.note(sums);
                }
            },
        )
        .parallel(Parallelism::CpuBound)
        .rebalanced(RebalancePolicy { automatic: None, ..RebalancePolicy::default() })
        .for_each("free", drop);
    p.build().expect("the graph is right")
}
