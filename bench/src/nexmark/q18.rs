//! Query 18: the last bid of each bidder for each auction.
//!
//! ```sql
//! SELECT auction, bidder, price, channel, url, dateTime, extra FROM (
//!     SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC) AS rank_number FROM bid)
//! WHERE rank_number <= 1
//! ```
//!
//! Of several at one time, which the SQL leaves open, the one whose text comes first, as RisingWave has it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;

use super::{Bid, Event, Feed, events};

/// What makes a bid later.
fn lateness(bid: &Bid) -> (Timestamp, Reverse<(&'static str, Bid)>) {
    (bid.at, Reverse((&bid.texts().extra, *bid)))
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Bid> + use<>> {
    events(p, feed)
        .filter_map("bids", Event::bid)
        .key_by(|bid| (bid.bidder, bid.auction))
        .fold("last", || None, |last: &mut Option<Bid>, bid| {
            if last.is_none_or(|last| lateness(&last) < lateness(&bid)) {
                *last = Some(bid);
            }
        })
        .filter_map("row", |(_, last)| last)
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Bid> {
    let mut bids: Vec<_> = events.iter().filter_map(|event| event.bid()).collect();
    bids.sort_by_key(lateness);
    let last: BTreeMap<_, _> = bids.into_iter().map(|bid| ((bid.bidder, bid.auction), bid)).collect();
    last.into_values().collect()
}
