//! Memory and disk, shared out among the stages of a pipeline before it starts.

use std::sync::Arc;

use super::disk_dir::{SpillDir, SpillDirError};
use super::disk_glommio::GlommioDisks;
use super::disk_thread::ThreadDisks;
use super::{Driver, LaunchError};
use crate::disk::Disks;
use crate::flow::Pipeline;
use crate::graph::ValidatedGraph;
use crate::model::{StageKind, counted};
use crate::plan::Plan;
use crate::policy::MemoryPoolOptions;
use crate::stage::Resources;

/// State that an instance needs to do anything at all.
const LEAST_STATE: u64 = 64 * 1024;

/// What a pipeline may take.
#[derive(Clone, Default)]
pub(crate) struct Means {
    /// Bytes of memory, all together.
    pub(crate) memory: Option<u64>,
    /// Where state goes that does not fit.
    pub(crate) disks: Option<Arc<dyn Disks>>,
}

/// The memory budget does not go far enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory budget is {budget} bytes; the rings alone take {rings}, the memory pool is to have {pool}, and {} \
     with keyed state need at least {least} each: allow {needed}, make buffers smaller, or lower the pool's limit",
    counted(*.instances, "instance")
)]
pub struct MemoryTooSmall {
    /// Bytes allowed.
    pub budget: u64,
    /// Bytes of the rings of all edges.
    pub rings: u64,
    /// The memory pool's limit, if one was set.
    pub pool: u64,
    /// Instances with keyed state.
    pub instances: u64,
    /// Bytes that each of them needs.
    pub least: u64,
    /// Bytes that would do.
    pub needed: u64,
}

/// How the means are shared out.
pub(super) struct Shares {
    /// Bytes of the rings of each edge.
    pub(super) rings: Vec<u64>,
    /// What the memory pool may map for the pipeline, if that is bounded.
    pub(super) pool: Option<u64>,
    /// What each instance with keyed state may take.
    pub(super) state: Resources,
}

impl Shares {
    /// Shares `means` out: the rings first, then the memory pool's limit, what is left evenly among the instances with keyed state. Keys
    /// are spread evenly as well, and a share that nobody else touches needs no agreement between cores.
    ///
    /// A pool whose limit is the default one has what is left where there is no keyed state, and nothing beside it: that limit was not
    /// meant for this budget, and most pipelines rent nothing.
    pub(super) fn new(
        graph: &ValidatedGraph,
        plan: &Plan,
        item_bytes: &[Option<usize>],
        means: &Means,
        pool_limit: u64,
    ) -> Result<Self, LaunchError> {
        let rings = plan.ring_bytes(graph, item_bytes);
        let nodes = graph.graph().nodes.iter().zip(&plan.instances);
        let keyed = |spilling: bool| -> u64 {
            let wanted = nodes.clone().filter(|(node, _)| {
                let policy = node.accumulation.as_ref().map(|a| &a.policy);
                node.kind == StageKind::Accumulator && (!spilling || policy.is_some_and(|p| p.spill_allowed))
            });
            wanted.map(|(_, places)| places.len() as u64).sum()
        };
        let (instances, taken) = (keyed(false), rings.iter().sum::<u64>());
        let stated = pool_limit != MemoryPoolOptions::default().limit_bytes;
        let (mut pool, mut memory) = (None, None);
        if let Some(budget) = means.memory {
            let for_pool = if stated { pool_limit } else { 0 };
            let needed = taken.saturating_add(for_pool).saturating_add(instances * LEAST_STATE);
            if needed > budget {
                let (rings, pool, least) = (taken, for_pool, LEAST_STATE);
                let error = MemoryTooSmall { budget, rings, pool, instances, least, needed };
                return Err(LaunchError::Memory(error));
            }
            let left = budget - taken;
            let for_pool = if stated || instances > 0 { for_pool } else { left.min(pool_limit) };
            pool = Some(for_pool);
            memory = (left - for_pool).checked_div(instances);
        }
        let disks = means.disks.as_ref().map(Arc::downgrade);
        let spilling_instances = u32::try_from(keyed(true)).unwrap_or(u32::MAX);
        Ok(Self { rings, pool, state: Resources { memory, disks, spilling_instances } })
    }
}

impl Driver {
    /// The files of `pipeline`, if any of its stages spills.
    pub(crate) fn disks(&self, pipeline: &Pipeline) -> Result<Option<Arc<dyn Disks>>, SpillDirError> {
        let Some(options) = pipeline.spill_options() else { return Ok(None) };
        let id = pipeline.graph().id.clone().unwrap_or_default();
        let dir = SpillDir::open(options, &id)?;
        Ok(Some(match self {
            Self::Glommio => Arc::new(GlommioDisks::new(dir, options.max_bytes)),
            Self::Thread { .. } => {
                let threads = ThreadDisks::new(dir, options.max_bytes);
                Arc::new(threads.map_err(|source| SpillDirError::Io {
                    dir: options.dir.clone(),
                    action: "start threads for it",
                    source,
                })?)
            }
        }))
    }
}
