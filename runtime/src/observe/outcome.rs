//! How a run ended.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Account, MemoryPoolStats, StageRuntimeState};
use crate::model::StageId;

/// Why a pipeline ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// The sources ended by themselves and everything flowed out.
    Completed,
    /// A drain was asked for and everything flowed out in time.
    Drained,
    /// A stop was asked for; what was in flight is in the account as discarded.
    Stopped,
    /// A drain was asked for and its deadline came first.
    DeadlineExceeded {
        /// Items not yet through at the deadline, by the stage they were in or in front of; only stages with some.
        left: BTreeMap<StageId, u64>,
    },
    /// An error ended it.
    Failed {
        /// Where, if it was a stage.
        stage: Option<StageId>,
        /// What was said.
        error: String,
    },
}

impl Outcome {
    /// Whether everything that came in was handled.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Completed | Self::Drained)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Drained => f.write_str("drained"),
            Self::Stopped => f.write_str("stopped"),
            Self::DeadlineExceeded { left } => {
                f.write_str("deadline exceeded, left:")?;
                left.iter().try_for_each(|(stage, items)| write!(f, " {stage}={items}"))
            }
            Self::Failed { stage: Some(stage), error } => write!(f, "failed in {stage}: {error}"),
            Self::Failed { stage: None, error } => write!(f, "failed: {error}"),
        }
    }
}

/// The parts of a run, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// Until all partitions were built and opened.
    pub setup: Duration,
    /// From there to the last step of the last partition.
    pub running: Duration,
    /// From there until everything was closed and released.
    pub closing: Duration,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineResult {
    /// Whether the outcome is a success: everything that came in was handled, by delivery or by policy.
    pub success: bool,
    /// Items the sources brought in.
    pub processed_count: u64,
    /// Calls of stages that failed, over all stages.
    pub error_count: u64,
    /// From the moment at which all partitions were built and opened, on their cores, to the last step of the last: what a
    /// rate is to be taken over.
    pub duration: Duration,
    /// Before that: placing, starting threads, building and opening the stages.
    pub setup: Duration,
    /// After that: closing the stages and releasing what they held.
    pub closing: Duration,
    /// Every stage as it was at the end.
    pub final_states: BTreeMap<StageId, StageRuntimeState>,
    /// What became of every item.
    pub account: Account,
    /// What the pipeline's cores had from the memory pool at the end, and at most.
    #[serde(default)]
    pub memory_pool: MemoryPoolStats,
    /// Why it ended.
    pub outcome: Outcome,
}

impl PipelineResult {
    /// Counts from the account.
    pub fn new(
        outcome: Outcome,
        times: RunTimes,
        final_states: BTreeMap<StageId, StageRuntimeState>,
        account: Account,
    ) -> Self {
        Self {
            success: outcome.is_success(),
            processed_count: account.totals().accepted,
            error_count: account.stages.values().fold(0, |sum, stage| sum.saturating_add(stage.errors)),
            duration: times.running,
            setup: times.setup,
            closing: times.closing,
            final_states,
            account,
            memory_pool: MemoryPoolStats::default(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{EdgeAccount, StageAccount};

    fn id(name: &str) -> StageId {
        StageId::new(name).unwrap()
    }

    fn outcomes() -> [Outcome; 6] {
        [
            Outcome::Completed,
            Outcome::Drained,
            Outcome::Stopped,
            Outcome::DeadlineExceeded { left: [(id("a"), 3), (id("b"), 1)].into() },
            Outcome::Failed { stage: Some(id("a")), error: "panic: no".to_owned() },
            Outcome::Failed { stage: None, error: "core 9 is offline".to_owned() },
        ]
    }

    #[test]
    fn only_completed_and_drained_are_successes() {
        assert_eq!(outcomes().map(|o| o.is_success()), [true, true, false, false, false, false]);
    }

    #[test]
    fn outcomes_say_what_happened_and_read_back() {
        let said = outcomes().map(|o| o.to_string());
        assert_eq!(said[3], "deadline exceeded, left: a=3 b=1");
        assert_eq!(said[4], "failed in a: panic: no");
        assert_eq!(said[5], "failed: core 9 is offline");
        for outcome in outcomes() {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        }
    }

    #[test]
    fn a_result_counts_from_its_account_and_reads_back() {
        let source = StageAccount { received: 5, passed: 5, emitted: 5, ..Default::default() };
        let sink = StageAccount { received: 5, ignored: 2, delivered: 3, errors: 2, ..Default::default() };
        let account = Account {
            stages: [(id("in"), source), (id("out"), sink)].into(),
            edges: vec![EdgeAccount::fused(id("in"), id("out"), 5)],
            ..Account::default()
        };
        let [setup, running, closing] = [1, 7, 2].map(Duration::from_millis);
        let times = RunTimes { setup, running, closing };
        let result = PipelineResult::new(Outcome::Drained, times, BTreeMap::new(), account);
        assert_eq!((result.success, result.processed_count, result.error_count), (true, 5, 2));
        assert_eq!((result.setup, result.duration, result.closing), (setup, running, closing));
        assert_eq!(result.account.verify(), Ok(()));
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(serde_json::from_str::<PipelineResult>(&text).unwrap(), result);
    }
}
