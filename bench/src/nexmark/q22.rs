//! Query 22: bids with the parts of the address of their page.
//!
//! ```sql
//! SELECT auction, bidder, price, channel,
//!     SPLIT_INDEX(url, '/', 3) AS dir1, SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3
//! FROM bid
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{Bid, Event, Feed, events};

/// A bid and three parts of an address; one that is not there is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The bid.
    pub bid: Bid,
    /// Parts 3, 4 and 5.
    pub parts: [&'static str; 3],
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed).filter_map("bids", Event::bid).map("parts", |bid| {
        let mut parts = bid.texts().url.split('/').skip(3);
        Row { bid, parts: std::array::from_fn(|_| parts.next().unwrap_or_default()) }
    })
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let bids = events.iter().filter_map(|event| event.bid());
    bids.map(|bid| {
        let all: Vec<&str> = bid.texts().url.split('/').collect();
        Row { bid, parts: [3, 4, 5].map(|at| all.get(at).copied().unwrap_or_default()) }
    })
    .collect()
}
