//! Query 2: bids for some of the auctions.
//!
//! ```sql
//! SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{Event, Feed, events};

/// Auction and price.
pub type Row = (u64, u64);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed)
        .filter_map("bids", Event::bid)
        .filter("some-auctions", |bid| bid.auction % 123 == 0)
        .map("auction-and-price", |bid| (bid.auction, bid.price))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let bids = events.iter().filter_map(|event| event.bid());
    bids.filter(|bid| bid.auction % 123 == 0).map(|bid| (bid.auction, bid.price)).collect()
}
