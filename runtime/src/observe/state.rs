//! How a stage is doing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    BreakerState, EdgeRuntimeState, LatencyCell, LatencySummary, ShardsState, StageAccount, StageCells,
};
use crate::model::{StageId, Timestamp};

/// Where a stage is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum StageState {
    /// Planned, not yet built on its core.
    #[default]
    Created,
    /// Its user code is being prepared.
    Opening,
    /// Taking items.
    Running,
    /// Alive, with nothing to do: no input, no room downstream, or a retry that is not yet due.
    Waiting,
    /// Its input has been told to end; what is inside flows out.
    Draining,
    /// Everything has flowed out.
    Finished,
    /// Ended before everything had flowed out, because it was asked to.
    Stopped,
    /// Ended by an error.
    Failed,
}

impl StageState {
    const ALL: [Self; 8] = [
        Self::Created,
        Self::Opening,
        Self::Running,
        Self::Waiting,
        Self::Draining,
        Self::Finished,
        Self::Stopped,
        Self::Failed,
    ];

    pub(super) fn from_u8(n: u8) -> Self {
        // Cells only ever hold what was cast from a state.
        Self::ALL.get(usize::from(n)).copied().unwrap_or_default()
    }

    /// The name used in reports, as serde writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed)
    }

    /// The state of a stage of which two instances are in these states: a failure shows, then what is most alive.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        let rank = |state| match state {
            Self::Failed => 7,
            Self::Running => 6,
            Self::Draining => 5,
            Self::Waiting => 4,
            Self::Opening => 3,
            Self::Created => 2,
            Self::Stopped => 1,
            Self::Finished => 0,
        };
        if rank(self) >= rank(other) { self } else { other }
    }
}

impl fmt::Display for StageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One instance of a stage as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceState {
    /// Which of the stage's instances, from 0.
    pub instance: usize,
    /// The partition it runs on.
    pub partition: usize,
    /// Where it is in its life.
    pub state: StageState,
    /// What it has counted.
    pub account: StageAccount,
    /// The last error, if any.
    pub last_error: Option<String>,
    /// Its circuit breaker, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerState>,
    /// Log lines of it that were left out, because there were too many in a second; see [`LogLimit`](super::LogLimit).
    #[serde(default)]
    pub log_lines_left_out: u64,
    /// The event time it has reached, if it was told any.
    pub watermark: Option<Timestamp>,
    /// Time that items waited in front of it; see [`StageCells::queue_wait`].
    pub queue_wait: LatencySummary,
    /// Time that batches took; see [`StageCells::batch`].
    pub batch: LatencySummary,
    /// Time since the times that items carry; see [`StageCells::latency`].
    pub latency: LatencySummary,
}

impl InstanceState {
    /// What the instance has published.
    pub fn read(instance: usize, partition: usize, cells: &StageCells) -> Self {
        Self {
            instance,
            partition,
            state: cells.state(),
            account: cells.read(),
            last_error: cells.last_error(),
            breaker: cells.breaker(),
            log_lines_left_out: cells.log_limit.left_out(),
            watermark: cells.watermark(),
            queue_wait: cells.queue_wait.summary(),
            batch: cells.batch.summary(),
            latency: cells.latency.summary(),
        }
    }
}

/// A stage as it is seen from outside: all its instances together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRuntimeState {
    /// The stage.
    pub stage_id: StageId,
    /// Where it is in its life.
    pub state: StageState,
    /// Items in front of it.
    pub input_queue_depth: u64,
    /// Items behind it that the next stages have not taken.
    pub output_queue_depth: u64,
    /// Items it has finished with: received and not waiting for a retry.
    pub processed_count: u64,
    /// Calls that failed.
    pub error_count: u64,
    /// The last error, if any.
    pub last_error: Option<String>,
    /// Its circuit breaker, if it has one; of several instances the one furthest from closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerState>,
    /// Every counter of its [`StageAccount`], by name, and `log_lines_left_out`. Exact up to 2^53. Then its latencies in seconds (`queue_wait_p50`,
    /// `latency_p99` and so on), those that have samples.
    pub metrics: BTreeMap<String, f64>,
    /// The edges into it: their strategies, credits, batch sizes, tokens, demand and drops.
    #[serde(default)]
    pub inputs: Vec<EdgeRuntimeState>,
    /// The event time that all of its instances have reached; of those that were told any.
    pub watermark: Option<Timestamp>,
    /// The shards of its keys, if it can move them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardsState>,
    /// Its instances, in order.
    pub instances: Vec<InstanceState>,
}

impl StageRuntimeState {
    /// Adds up the instances of a stage, each given as its partition and its cells. With no instance the stage is
    /// [`StageState::Created`] and has counted nothing. `adjust` may say of each instance what its cells do not know.
    pub fn read<'a>(
        stage_id: StageId,
        cells: impl IntoIterator<Item = (usize, &'a StageCells)>,
        input_queue_depth: u64,
        output_queue_depth: u64,
        adjust: impl Fn(&mut InstanceState),
    ) -> Self {
        let cells: Vec<(usize, &StageCells)> = cells.into_iter().collect();
        let read = |(instance, (partition, cells)): (usize, &(usize, &StageCells))| {
            InstanceState::read(instance, *partition, cells)
        };
        let mut instances: Vec<InstanceState> = cells.iter().enumerate().map(read).collect();
        instances.iter_mut().for_each(adjust);
        let mut account = StageAccount::default();
        instances.iter().for_each(|instance| account.add(&instance.account));
        let mut metrics: BTreeMap<String, f64> =
            account.fields().map(|(name, count)| (name.to_owned(), count as f64)).collect();
        let left_out: u64 = instances.iter().map(|instance| instance.log_lines_left_out).sum();
        metrics.insert("log_lines_left_out".to_owned(), left_out as f64);
        let wait = LatencyCell::summary_of(cells.iter().map(|(_, cells)| &cells.queue_wait));
        let latency = LatencyCell::summary_of(cells.iter().map(|(_, cells)| &cells.latency));
        let batch = LatencyCell::summary_of(cells.iter().map(|(_, cells)| &cells.batch));
        for (name, summary) in [("queue_wait", wait), ("batch", batch), ("latency", latency)] {
            metrics.extend(summary.named(name));
        }
        Self {
            stage_id,
            state: instances.iter().map(|i| i.state).reduce(StageState::combine).unwrap_or_default(),
            input_queue_depth,
            output_queue_depth,
            processed_count: account.received.saturating_sub(account.waiting_retry),
            error_count: account.errors,
            last_error: instances.iter().find_map(|i| i.last_error.clone()),
            metrics,
            watermark: instances.iter().filter_map(|i| i.watermark).min(),
            breaker: instances.iter().filter_map(|i| i.breaker).max(),
            instances,
            inputs: Vec::new(),
            shards: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_passes_through_its_cell_and_through_serde() {
        let cells = StageCells::default();
        for state in StageState::ALL {
            cells.set_state(state);
            assert_eq!(cells.state(), state);
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(text, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<StageState>(&text).unwrap(), state);
        }
    }

    #[test]
    fn combining_is_order_free_shows_failures_and_ends_only_when_all_have_ended() {
        use StageState as S;
        for a in S::ALL {
            assert_eq!(a.combine(a), a);
            assert_eq!(a.combine(S::Failed), S::Failed);
            for b in S::ALL {
                let both = a.combine(b);
                assert_eq!(both, b.combine(a));
                let failed = a == S::Failed || b == S::Failed;
                assert_eq!(both.is_terminal(), failed || a.is_terminal() && b.is_terminal(), "{a} {b}");
            }
        }
        assert_eq!(S::Finished.combine(S::Stopped), S::Stopped);
        assert_eq!(S::Waiting.combine(S::Running), S::Running);
    }

    #[test]
    fn a_stage_is_the_sum_of_its_instances() {
        let instances = [StageCells::default(), StageCells::default()];
        let account =
            StageAccount { received: 10, passed: 7, waiting_retry: 3, errors: 4, ..Default::default() };
        instances.iter().for_each(|cells| cells.publish(&account));
        instances[0].set_state(StageState::Finished);
        instances[1].set_state(StageState::Running);
        instances[1].set_last_error("no".to_owned());
        let logged = |instance: usize, lines: u32| {
            (0..lines).filter(|_| instances[instance].log_limit.allow(0)).count()
        };
        assert_eq!((logged(0, 23), logged(1, 24)), (20, 20));
        instances[0].set_breaker(BreakerState::Open);
        instances[1].set_breaker(BreakerState::Closed);
        let id = StageId::new("s").unwrap();
        instances[0].set_watermark(Timestamp(40));
        instances[1].set_watermark(Timestamp(30));
        let mut recorder = crate::observe::LatencyRecorder::default();
        recorder.record(1_000_000_000);
        recorder.finish(&instances[1].queue_wait);
        let state =
            StageRuntimeState::read(id.clone(), [(3, &instances[0]), (1, &instances[1])], 5, 6, |_| ());
        assert_eq!((state.state, state.processed_count, state.error_count), (StageState::Running, 14, 8));
        assert_eq!((state.input_queue_depth, state.output_queue_depth), (5, 6));
        assert_eq!(state.breaker, Some(BreakerState::Open));
        assert_eq!(state.last_error.as_deref(), Some("no"));
        assert_eq!((state.metrics["passed"], state.metrics["queue_wait_count"]), (14.0, 1.0));
        assert_eq!(state.metrics["log_lines_left_out"], 3.0 + 4.0);
        assert!(StageAccount::FIELDS.iter().all(|name| state.metrics.contains_key(*name)));
        assert!(!state.metrics.contains_key("latency_count"), "nothing was measured");
        assert_eq!((state.watermark, state.instances.len()), (Some(Timestamp(30)), 2));
        let second = &state.instances[1];
        assert_eq!((second.instance, second.partition, second.state), (1, 1, StageState::Running));
        assert_eq!((second.account, second.last_error.as_deref()), (account, Some("no")));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<StageRuntimeState>(&text).unwrap(), state);
        assert_eq!(StageRuntimeState::read(id, [], 0, 0, |_| ()).state, StageState::Created);
    }
}
