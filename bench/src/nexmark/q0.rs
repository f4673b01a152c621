//! Query 0: all bids, as they are. What reading and counting them costs.
//!
//! ```sql
//! SELECT auction, bidder, price, dateTime, extra FROM bid
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{Bid, Event, Feed, events};

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Bid> + use<>> {
    events(p, feed).filter_map("bids", Event::bid)
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Bid> {
    events.iter().filter_map(|event| event.bid()).collect()
}
