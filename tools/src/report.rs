//! The summary of a run, from what the runtime and the stages counted.

use corelane::graph::{PipelineGraph, StageNode};
use corelane::model::StageId;
use corelane::observe::{Account, PipelineResult, StageAccount};
use corelane::topology::Placement;

use crate::summary::{IdleSummary, LatencySummary, MemorySummary, StageSummary, Summary};

/// What is known once a run has ended.
pub(crate) struct Ended {
    pub(crate) result: PipelineResult,
    pub(crate) graph: PipelineGraph,
    pub(crate) placement: Placement,
    pub(crate) driver: String,
    /// `None` where nobody wants to know.
    pub(crate) idle: Option<IdleSummary>,
    pub(crate) memory: MemorySummary,
    /// About the graph.
    pub(crate) warnings: Vec<String>,
}

impl Ended {
    /// The summary, with what the job tells and its latencies.
    pub(crate) fn summary<J>(&self, job: J, latencies: Vec<LatencySummary>) -> Summary<J> {
        let account = &self.result.account;
        let placement_warnings = self.placement.warnings.iter().map(ToString::to_string);
        Summary {
            driver: self.driver.clone(),
            cores: cpus(&self.placement, None),
            idle: self.idle.clone(),
            memory: Some(self.memory.clone()),
            outcome: self.result.outcome.to_string(),
            // To the user a run lasts from the start to the last line on disk.
            elapsed_s: (self.result.setup + self.result.duration + self.result.closing).as_secs_f64(),
            job,
            stages: self.graph.nodes.iter().map(|node| self.stage(node)).collect(),
            latencies,
            warnings: self
                .warnings
                .iter()
                .cloned()
                .chain(placement_warnings)
                .chain(self.memory.warning())
                .collect(),
            account: account.clone(),
            account_closes: account.verify().is_ok() && account.totals().closes(),
        }
    }

    fn stage(&self, node: &StageNode) -> StageSummary {
        let account = stage_account(&self.result.account, &node.id);
        StageSummary {
            id: node.id.clone(),
            kind: node.kind.to_string(),
            cores: cpus(&self.placement, Some(&node.id)),
            accepted: account.received,
            delivered: account.emitted + account.delivered,
            errors: account.errors,
        }
    }
}

/// What a stage counted.
pub(crate) fn stage_account(account: &Account, id: &str) -> StageAccount {
    let found = account.stages.iter().find(|(stage, _)| stage.as_str() == id);
    found.map(|(_, account)| *account).unwrap_or_default()
}

/// The CPUs of one stage, or of all.
fn cpus(placement: &Placement, stage: Option<&str>) -> Vec<usize> {
    let partitions: Vec<usize> = match stage {
        None => (0..placement.partitions.len()).collect(),
        Some(id) => StageId::new(id).map(|id| placement.instances(&id).to_vec()).unwrap_or_default(),
    };
    let cpu = |partition: usize| placement.partitions.get(partition).and_then(|place| place.cpu);
    partitions.into_iter().filter_map(cpu).map(|cpu| cpu as usize).collect()
}
