//! Query 19: the ten dearest bids for each auction.
//!
//! ```sql
//! SELECT * FROM (
//!     SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
//! WHERE rank_number <= 10
//! ```
//!
//! At the end of the input. Of equal prices, which the SQL leaves open, the earliest goes first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{Global, KeyedWindows, TopK};

use super::{Bid, Event, Feed, events};

/// How many of each auction.
const PLACES: usize = 10;

/// Place, from 1, and bid.
pub type Row = (u64, Bid);

/// What makes a bid dearer.
fn worth(bid: &Bid) -> (u64, Reverse<(Timestamp, Bid)>) {
    (bid.price, Reverse((bid.at, *bid)))
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed)
        .filter_map("bids", Event::bid)
        .key_by(|bid| bid.auction)
        .window(Global)
        .aggregate("dearest", TopK::of(PLACES, worth))
        .flat_map("rows", |dearest| (1..).zip(dearest.value))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut auctions: BTreeMap<u64, Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        auctions.entry(bid.auction).or_default().push(bid);
    }
    let dearest = |mut bids: Vec<Bid>| {
        bids.sort_by_key(|bid| Reverse(worth(bid)));
        (1..=PLACES as u64).zip(bids)
    };
    auctions.into_values().flat_map(dearest).collect()
}
