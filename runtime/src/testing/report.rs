//! What is wrong with a stage, and in which mode it showed.

use std::fmt;

use crate::model::{Signal, StageId};
use crate::observe::Imbalance;

/// Items named in a report at most.
const NAMED: usize = 5;

/// How a stage is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The whole input in one batch, unlimited room.
    AllAtOnce,
    /// One item in each step.
    OneAtATime,
    /// Room for one output in every other step, and for none in between.
    RoomOfOne,
    /// A watermark after each item but the last.
    WatermarkBetween,
    /// On the simulator: batches, room, watermarks, the number of partitions and their order are drawn from the seed.
    Simulated {
        /// The seed: the same one gives the same run.
        seed: u64,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllAtOnce => f.write_str("all at once"),
            Self::OneAtATime => f.write_str("one item at a time"),
            Self::RoomOfOne => f.write_str("room for one output"),
            Self::WatermarkBetween => f.write_str("a watermark between items"),
            Self::Simulated { seed } => write!(f, "simulated with seed {seed}"),
        }
    }
}

/// A stage that failed its test.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode \"{mode}\": {fault}")]
pub struct StageReport {
    /// The first mode in which it failed.
    pub mode: Mode,
    /// What was wrong.
    pub fault: Fault,
}

/// What is wrong with a stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The graph with the stage in it is not valid.
    #[error("the graph is not valid: {0}")]
    Graph(String),
    /// The run could not start.
    #[error("the run could not start: {0}")]
    Start(String),
    /// It gave more items than [`Chain::room`](crate::stage::Chain::room) had said.
    #[error("the stage emitted output {at} (counted from 0) when there was no room for it")]
    RoomIgnored {
        /// The index of the first output too many.
        at: usize,
    },
    /// It passed a signal on when there was no room.
    #[error("the stage passed {0:?} on when there was no room, which stands for signals too")]
    SignalWithoutRoom(Signal),
    /// It emitted an item after the end.
    #[error("the stage emitted {item} after it had passed on the end")]
    AfterEnd {
        /// The item, as `Debug` shows it.
        item: String,
    },
    /// It passed on a signal after the end, perhaps a second end.
    #[error("the stage passed {0:?} on after it had passed on the end")]
    SignalAfterEnd(Signal),
    /// An error or a panic in the stage ended the run.
    #[error("{}failed: {error}", .stage.as_ref().map(|id| format!("stage {id} ")).unwrap_or_default())]
    Failed {
        /// The stage.
        stage: Option<StageId>,
        /// What it said.
        error: String,
    },
    /// Nothing moved any more and nothing was due, but the end had not come out.
    #[error("stuck: nothing moves, nothing is due, and the end has not been passed on\n{account}")]
    Stuck {
        /// The account at that point, as a table.
        account: String,
    },
    /// It was still busy after many more steps than its input can need.
    #[error("still busy after {steps} steps")]
    Endless {
        /// Steps taken.
        steps: u64,
    },
    /// It gave another output.
    #[error("{0}")]
    Output(Difference),
    /// Its counters do not add up.
    #[error("the account does not close: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Account(Vec<Imbalance>),
}

/// How an output differs from what was expected. Items are as `Debug` shows them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Where order counts: the first place where it differs.
    #[error(
        "output {at} (counted from 0): expected {}, found {} ({expected_len} expected in all, {found_len} found)",
        .expected.as_deref().unwrap_or("nothing more"),
        .found.as_deref().unwrap_or("nothing more")
    )]
    At {
        /// Its index.
        at: usize,
        /// What should stand there; `None` past the end.
        expected: Option<String>,
        /// What stands there; `None` past the end.
        found: Option<String>,
        /// The number of items expected.
        expected_len: usize,
        /// The number of items that came.
        found_len: usize,
    },
    /// Where order does not count: items without a partner, the first few of each.
    #[error("missing: [{}], not expected: [{}] ({expected_len} expected in all, {found_len} found)",
        .missing.join(", "), .surplus.join(", "))]
    Set {
        /// Expected and not found.
        missing: Vec<String>,
        /// Found and not expected.
        surplus: Vec<String>,
        /// The number of items expected.
        expected_len: usize,
        /// The number of items that came.
        found_len: usize,
    },
}

/// Compares an output with what was expected. Without order it takes time in the product of the lengths.
pub(super) fn compare<T: PartialEq + fmt::Debug>(
    expected: &[T],
    found: &[T],
    any_order: bool,
) -> Result<(), Fault> {
    let (expected_len, found_len) = (expected.len(), found.len());
    let show = |item: &T| format!("{item:?}");
    if any_order {
        let mut surplus: Vec<&T> = found.iter().collect();
        let mut missing: Vec<&T> = Vec::new();
        for item in expected {
            match surplus.iter().position(|other| *other == item) {
                Some(at) => drop(surplus.swap_remove(at)),
                None => missing.push(item),
            }
        }
        if missing.is_empty() && surplus.is_empty() {
            return Ok(());
        }
        let first = |items: Vec<&T>| items.into_iter().take(NAMED).map(show).collect();
        let (missing, surplus) = (first(missing), first(surplus));
        return Err(Fault::Output(Difference::Set { missing, surplus, expected_len, found_len }));
    }
    let Some(at) = (0..expected_len.max(found_len)).find(|&i| expected.get(i) != found.get(i)) else {
        return Ok(());
    };
    let (expected, found) = (expected.get(at).map(show), found.get(at).map(show));
    Err(Fault::Output(Difference::At { at, expected, found, expected_len, found_len }))
}
