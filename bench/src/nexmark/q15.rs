//! Query 15: bids, bidders and auctions of each day, in all and by rank of price.
//!
//! ```sql
//! SELECT DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day, count(*) AS total_bids,
//!     count(*) filter (where price < 10000) AS rank1_bids,
//!     count(*) filter (where price >= 10000 and price < 1000000) AS rank2_bids,
//!     count(*) filter (where price >= 1000000) AS rank3_bids,
//!     count(distinct bidder) AS total_bidders, .. by rank,
//!     count(distinct auction) AS total_auctions, .. by rank
//! FROM bid GROUP BY DATE_FORMAT(dateTime, 'yyyy-MM-dd')
//! ```
//!
//! A row for each day, when the day is over. One core counts: the numbers of distinct ones cannot be added up.

use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{KeyedWindows, Tumbling};

use super::day::{DAY, Rankings, Statistics};
use super::{Bid, Event, Feed, timed_events};

/// When the day began, and what happened.
pub type Row = (Timestamp, Statistics);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    timed_events(p, feed)
        .filter_map("bids", Event::bid)
        .key_by(|_| ())
        .window(Tumbling::of(DAY))
        .aggregate("statistics", Rankings)
        .map("row", |day| (day.window.start, day.value))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut days: BTreeMap<Timestamp, Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let Timestamp(at) = bid.at;
        days.entry(Timestamp(at - at.rem_euclid(DAY.as_nanos() as i64))).or_default().push(bid);
    }
    days.into_iter().map(|(day, bids)| (day, Statistics::of(&bids))).collect()
}
