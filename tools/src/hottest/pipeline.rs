//! The graph of the job.

use std::time::{Duration, SystemTime};

use corelane::config::Config;
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::graph::GraphErrors;
use corelane::model::Timestamp;
use corelane::policy::Parallelism;
use corelane::stage::StageSite;
use corelane_bench::nexmark::q5::{Row, hottest};
use corelane_bench::nexmark::{Pace, Settings, live_bids};
use humantime::Rfc3339Timestamp;
use serde::Serialize;

use super::board::Board;
use super::order::InOrder;
use crate::delivery::{DeliverySink, Line};

/// What the stages share with the job that runs them.
#[derive(Clone)]
pub struct Parts {
    /// What happens in the auction house.
    pub settings: Settings,
    /// How fast.
    pub pace: Pace,
    /// Where rows are left for the screen.
    pub board: Board,
    /// Where lines go.
    pub sink: DeliverySink,
    /// Named policies, and what differs at single stages.
    pub config: Config,
}

impl Parts {
    /// Parts that lead nowhere: for a pipeline that is looked at and not run.
    pub fn unconnected(config: Config) -> Self {
        let (settings, pace) = (Settings::default(), Pace::Free);
        Self { settings, pace, board: Board::default(), sink: DeliverySink::new().0, config }
    }
}

/// Builds the pipeline.
///
/// # Errors
///
/// [`GraphErrors`], for options that the runtime refuses.
pub fn build(parts: Parts) -> Result<Pipeline, GraphErrors> {
    let Parts { settings, pace, board, sink, config } = parts;
    let builder = PipelineBuilder::new("nexmark-q5").with_config(&config);
    hottest(live_bids(&builder, settings, pace))
        .transform("in-order", |_: &StageSite| Ok(InOrder::default()))
        .parallel(Parallelism::Sequential)
        .inspect("show", move |row| board.post(*row))
        .map("line", |row| Line { bytes: line(&row), read_at_ns: None })
        .sink("write", move |_: &StageSite| Ok(sink));
    builder.build()
}

/// A row as it is written.
#[derive(Serialize)]
struct Written {
    from: String,
    to: String,
    auction: u64,
    bids: u64,
}

fn line(row: &Row) -> Vec<u8> {
    let Row { window, auction, bids } = *row;
    let time = |at| clock_time(at).to_string();
    let written = Written { from: time(window.start), to: time(window.end), auction, bids };
    // Text and numbers: nothing that could not be written.
    let mut bytes = serde_json::to_vec(&written).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Event time as date and time of day, to the second: windows begin and end with one.
pub(super) fn clock_time(at: Timestamp) -> Rfc3339Timestamp {
    let since_epoch = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since_epoch)
}
