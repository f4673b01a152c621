//! Query 1: prices of bids in euros.
//!
//! ```sql
//! SELECT auction, bidder, 0.908 * price AS price, dateTime, extra FROM bid
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{Bid, Event, Feed, events, in_euros};

/// The query; prices are in thousandths of a cent, so that they stay exact.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Bid> + use<>> {
    events(p, feed)
        .filter_map("bids", Event::bid)
        .map("in-euros", |bid| Bid { price: in_euros(bid.price), ..bid })
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Bid> {
    let bids = events.iter().filter_map(|event| event.bid());
    bids.map(|bid| Bid { price: bid.price * 1_000 - bid.price * 92, ..bid }).collect()
}
