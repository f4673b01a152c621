//! The summary of a run, from what the runtime and the stages counted.

use std::collections::BTreeMap;

use corelane::model::StageId;
use corelane::observe::{Account, PipelineResult, StageAccount};
use corelane::topology::Placement;

use crate::job::{STAGES, TallyCounts, Written};
use crate::summary::{LatencySummary, StageSummary, Summary};
use crate::trace::AssemblyCounts;

/// What is known once a run has ended.
pub(crate) struct Ended<'a> {
    pub(crate) result: &'a PipelineResult,
    /// The kind of each stage, by id.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) placement: &'a Placement,
    pub(crate) driver: String,
    pub(crate) tallies: TallyCounts,
    /// About the graph.
    pub(crate) warnings: Vec<String>,
    pub(crate) input_bytes: u64,
    /// `None` when the output was given up.
    pub(crate) written: Option<&'a Written>,
}

impl Ended<'_> {
    pub(crate) fn summary(&self) -> Summary {
        let account = &self.result.account;
        let placement_warnings = self.placement.warnings.iter().map(ToString::to_string);
        Summary {
            driver: self.driver.clone(),
            cores: cpus(self.placement, None),
            outcome: self.result.outcome.to_string(),
            // To the user a run lasts from the start to the last line on disk.
            elapsed_s: (self.result.setup + self.result.duration + self.result.closing).as_secs_f64(),
            input_bytes: self.input_bytes,
            output_bytes: self.written.map_or(0, |written| written.bytes),
            counts: counts(account, self.tallies),
            stages: STAGES.iter().map(|stage| self.stage(stage)).collect(),
            latencies: self.latencies(),
            warnings: self.warnings.iter().cloned().chain(placement_warnings).collect(),
            account: account.clone(),
            account_closes: account.verify().is_ok() && account.totals().closes(),
        }
    }

    fn latencies(&self) -> Vec<LatencySummary> {
        let name = "last span of a complete trace read, to its line written";
        self.written.map(|written| LatencySummary::new(name, &written.latencies)).into_iter().collect()
    }

    fn stage(&self, id: &str) -> StageSummary {
        let account = stage_account(&self.result.account, id);
        StageSummary {
            id: id.to_owned(),
            kind: self.kinds.get(id).cloned().unwrap_or_default(),
            cores: cpus(self.placement, Some(id)),
            accepted: account.received,
            delivered: account.emitted + account.delivered,
            errors: account.errors,
        }
    }
}

/// The counts of the reference, from the account.
pub(crate) fn counts(account: &Account, tallies: TallyCounts) -> AssemblyCounts {
    let stage = |id| stage_account(account, id);
    let (traces, rest) = (stage("traces"), stage("rest"));
    let kept = [stage("errors").emitted, stage("slow").emitted, rest.emitted];
    AssemblyCounts {
        requests: stage("spans").received,
        spans: traces.received,
        bad_spans: tallies.bad_spans,
        traces: tallies.traces,
        complete: traces.results_complete,
        partial_by_ttl: traces.results_expired,
        partial_at_end: traces.results_partial,
        reopened: tallies.reopened,
        duplicates: tallies.duplicates,
        kept_error: kept[0],
        kept_slow: kept[1],
        kept_sampled: kept[2],
        sampled_out: rest.filtered,
        output_lines: stage("write").delivered,
    }
}

fn stage_account(account: &Account, id: &str) -> StageAccount {
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
