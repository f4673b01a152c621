//! Query 13: bids with a value that a table of bounded size has for their auction.
//!
//! ```sql
//! SELECT B.auction, B.bidder, B.price, B.dateTime, S.value
//! FROM (SELECT *, PROCTIME() AS p_time FROM bid) B
//! JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S ON mod(B.auction, 10000) = S.key
//! ```
//!
//! The table is a stream that ends. All of its rows are valid from the beginning of time, so a bid waits until it has been read.

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::join::KeyedJoin;

use super::{Event, Feed, timed_events};

/// Rows that the SQL's table may have.
const KEYS: u64 = 10_000;

/// Auction, bidder, price, time and the table's value.
pub type Row = (u64, u64, u64, Timestamp, u64);

/// What the table has for a key: nothing for a third of them.
const fn value(key: u64) -> Option<u64> {
    if key % 3 == 2 { None } else { Some(key * key) }
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    let side = p
        .items("side-input", (0..KEYS).filter_map(|key| Some((key, value(key)?))))
        .key_by(|(key, _)| *key);
    timed_events(p, feed)
        .filter_map("bids", |event| {
            event.bid().map(|bid| (bid.auction, bid.bidder, bid.price, bid.at))
        })
        .key_by(|(auction, ..)| auction % KEYS)
        .join_at(|(.., at)| *at, side, |_| Timestamp::from_nanos(0))
        .as_of("with-value", |(auction, bidder, price, at), row| {
            Some((*auction, *bidder, *price, *at, row?.1))
        })
        .filter_map("found", |row| row)
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let bids = events.iter().filter_map(|event| event.bid());
    bids.filter_map(|bid| Some((bid.auction, bid.bidder, bid.price, bid.at, value(bid.auction % KEYS)?)))
        .collect()
}
