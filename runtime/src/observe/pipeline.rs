//! A whole pipeline as it is seen from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::Table;
use super::{Account, MemoryPoolStats, MemoryUse, PartitionState, StageRuntimeState};

/// Where a pipeline is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelinePhase {
    /// Sources produce.
    #[default]
    Running,
    /// Sources have been told to end.
    Draining,
    /// It has been told to stop, or has failed.
    Stopping,
}

impl fmt::Display for PipelinePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        })
    }
}

/// Every stage and partition of a pipeline at one time, and the account so far. Displays as tables.
///
/// Each number is what its core published last; while cores run they need not be of the same moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineState {
    /// The pipeline.
    pub pipeline_id: String,
    /// Where it is in its life.
    pub phase: PipelinePhase,
    /// The first failure, if any.
    pub failure: Option<String>,
    /// Its stages, in the order of the graph.
    pub stages: Vec<StageRuntimeState>,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionState>,
    /// Who holds how much memory.
    pub memory: MemoryUse,
    /// What its cores have allocated and rented from the memory pool.
    pub pool: MemoryPoolStats,
    /// What became of the items so far.
    pub account: Account,
}

fn time(seconds: f64) -> String {
    match seconds {
        0.0 => "-".to_owned(),
        s if s < 1e-6 => format!("{:.0}ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1}us", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s => format!("{s:.1}s"),
    }
}

impl fmt::Display for PipelineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pipeline {} is {}", self.pipeline_id, self.phase)?;
        if let Some(failure) = &self.failure {
            writeln!(f, "failed: {failure}")?;
        }
        let head =
            ["stage", "core", "state", "received", "emitted", "errors", "wait p50", "wait p99", "watermark"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (stage, i) in self.stages.iter().flat_map(|stage| stage.instances.iter().map(move |i| (stage, i)))
        {
            rows.push(vec![
                format!("{}/{}", stage.stage_id, i.instance),
                i.partition.to_string(),
                i.state.to_string(),
                i.account.received.to_string(),
                i.account.emitted.to_string(),
                i.account.errors.to_string(),
                time(i.queue_wait.p50),
                time(i.queue_wait.p99),
                i.watermark.map_or_else(|| "-".to_owned(), |time| time.to_string()),
            ]);
        }
        write!(f, "\n{}", Table::of(rows))?;
        for (stage, i) in self.stages.iter().flat_map(|stage| stage.instances.iter().map(move |i| (stage, i)))
        {
            if let Some(error) = &i.last_error {
                writeln!(f, "{}/{}: last error: {error}", stage.stage_id, i.instance)?;
            }
            if i.log_lines_left_out > 0 {
                let n = i.log_lines_left_out;
                writeln!(f, "{}/{}: {n} log lines were left out", stage.stage_id, i.instance)?;
            }
        }
        let mut rows = vec![
            ["core", "steps", "last step", "silent for", "step p50", "step p99"].map(str::to_owned).to_vec(),
        ];
        for p in &self.partitions {
            let pulse = format!("{:?}", p.pulse).to_lowercase();
            let (number, steps) = (p.partition.to_string(), p.steps.to_string());
            let times = [p.silent_for.as_secs_f64(), p.step.p50, p.step.p99].map(time);
            rows.push([number, steps, pulse].into_iter().chain(times).collect());
        }
        write!(f, "\n{}\n{}\n{}", Table::of(rows), self.memory, self.account)
    }
}
