//! Query 12: how many bids of each bidder came in ten seconds by the clock on the wall.
//!
//! ```sql
//! CREATE VIEW B AS SELECT *, PROCTIME() AS p_time FROM bid
//! SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
//! FROM TABLE(TUMBLE(TABLE B, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
//! GROUP BY bidder, window_start, window_end
//! ```
//!
//! A bid is stamped when it comes, with the monotonic clock of its core: that one never goes back, so no bid is late. Windows count
//! from the start of the pipeline.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane::policy::Watermarks;
use corelane::stage::{StageSite, StepCx};
use corelane_stages::window::{Count, KeyedWindows, Tumbling, Window, Windowed};

use super::{Event, Feed, events};

/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(10);

/// Bidder, and when the bid came.
pub type Arrival = (u64, Timestamp);

/// Bidder, number of bids, and when they came.
pub type Row = (u64, u64, Window);

/// Stamps bids.
pub fn arrivals(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Arrival> + use<>> {
    events(p, feed).filter_map_with("arrivals", |_: &StageSite| {
        Ok(|event: Event, cx: &StepCx| Some((event.bid()?.bidder, Timestamp(cx.now().monotonic))))
    })
}

/// Counts bids by when they came.
pub fn count<S: Segment<Item = Arrival>>(
    arrivals: Stream<S>,
    size: Duration,
) -> Stream<impl Segment<Item = Row> + use<S>> {
    arrivals
        .watermarks("arrival-time", Watermarks::ascending(), came)
        .key_by(bidder)
        .window_at(came, Tumbling::of(size))
        .aggregate("count", Count)
        .map("row", row)
}

fn came((_, at): &Arrival) -> Timestamp {
    *at
}

fn bidder((bidder, _): &Arrival) -> u64 {
    *bidder
}

fn row(counted: Windowed<u64, u64>) -> Row {
    (counted.key, counted.value, counted.window)
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    count(arrivals(p, feed), SIZE)
}

/// The count of stamped bids, by looking at everything.
pub fn reference(arrivals: &[Arrival], size: Duration) -> Vec<Row> {
    let mut counts: BTreeMap<(u64, Window), u64> = BTreeMap::new();
    let size = size.as_nanos() as i64;
    for (bidder, at) in arrivals {
        let start = at.as_nanos().div_euclid(size) * size;
        *counts.entry((*bidder, Window::from_nanos(start, start + size))).or_default() += 1;
    }
    counts.into_iter().map(|((bidder, window), count)| (bidder, count, window)).collect()
}
