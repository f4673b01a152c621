//! How a stage is doing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BreakerState, EdgeRuntimeState, StageAccount, StageCells};
use crate::model::StageId;

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
    /// Every counter of its [`StageAccount`], by name. Exact up to 2^53.
    pub metrics: BTreeMap<String, f64>,
    /// The edges into it: their strategies, credits, batch sizes, tokens, demand and drops.
    #[serde(default)]
    pub inputs: Vec<EdgeRuntimeState>,
}

impl StageRuntimeState {
    /// Adds up the instances of a stage. With no instance the stage is [`StageState::Created`] and has counted nothing.
    pub fn read<'a>(
        stage_id: StageId,
        instances: impl IntoIterator<Item = &'a StageCells>,
        input_queue_depth: u64,
        output_queue_depth: u64,
    ) -> Self {
        let (mut account, mut state, mut last_error) = (StageAccount::default(), None::<StageState>, None);
        let mut breaker = None;
        for cells in instances {
            account.add(&cells.read());
            state = Some(state.map_or(cells.state(), |state| state.combine(cells.state())));
            last_error = last_error.or_else(|| cells.last_error());
            breaker = breaker.max(cells.breaker());
        }
        Self {
            stage_id,
            state: state.unwrap_or_default(),
            input_queue_depth,
            output_queue_depth,
            processed_count: account.received.saturating_sub(account.waiting_retry),
            error_count: account.errors,
            last_error,
            breaker,
            metrics: account.fields().map(|(name, count)| (name.to_owned(), count as f64)).collect(),
            inputs: Vec::new(),
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
        instances[0].set_breaker(BreakerState::Open);
        instances[1].set_breaker(BreakerState::Closed);
        let id = StageId::new("s").unwrap();
        let state = StageRuntimeState::read(id.clone(), &instances, 5, 6);
        assert_eq!((state.state, state.processed_count, state.error_count), (StageState::Running, 14, 8));
        assert_eq!((state.input_queue_depth, state.output_queue_depth), (5, 6));
        assert_eq!(state.breaker, Some(BreakerState::Open));
        assert_eq!(state.last_error.as_deref(), Some("no"));
        assert_eq!((state.metrics["passed"], state.metrics.len()), (14.0, StageAccount::FIELDS.len()));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<StageRuntimeState>(&text).unwrap(), state);
        assert_eq!(StageRuntimeState::read(id, [], 0, 0).state, StageState::Created);
    }
}
