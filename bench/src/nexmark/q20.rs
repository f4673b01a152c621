//! Query 20: bids for things of category 10, with the auction.
//!
//! ```sql
//! SELECT auction, bidder, price, .. FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10
//! ```
//!
//! A join without a window: all bids are kept to the end of the input, for a bid may come before its auction.

use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane_stages::join::{Kept, KeyedJoin};

use super::{Event, Feed, Sale, events};

/// The query. A row is a bid and its auction, whether it wins or not.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Sale> + use<>> {
    let [bids, auctions] = events(p, feed)
        .filter("of-interest", |event| match event {
            Event::Person(_) => false,
            Event::Auction(auction) => auction.category == 10,
            Event::Bid(_) => true,
        })
        .split("kinds", ["bids", "auctions"], |event| matches!(event, Event::Bid(_)));
    bids.filter_map("bids", Event::bid)
        .key_by(|bid| bid.auction)
        .join(auctions.filter_map("auctions", Event::auction).key_by(|auction| auction.id))
        .on(Kept::to_the_end())
        .inner("with-auction", |bid, auction| Sale { auction: *auction, bid: *bid })
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Sale> {
    let auctions = events.iter().filter_map(|event| event.auction()).filter(|auction| auction.category == 10);
    let auctions: BTreeMap<_, _> = auctions.map(|auction| (auction.id, auction)).collect();
    let bids = events.iter().filter_map(|event| event.bid());
    bids.filter_map(|bid| Some(Sale { auction: *auctions.get(&bid.auction)?, bid })).collect()
}
