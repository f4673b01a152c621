//! Query 7: the highest bids of every ten seconds.
//!
//! ```sql
//! SELECT B.auction, B.price, B.bidder, B.dateTime, B.extra FROM bid B
//! JOIN (SELECT MAX(price) AS maxprice, window_end AS dateTime
//!       FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
//!       GROUP BY window_start, window_end) B1
//! ON B.price = B1.maxprice
//! WHERE B.dateTime BETWEEN B1.dateTime - INTERVAL '10' SECOND AND B1.dateTime
//! ```
//!
//! All that share the highest price. `BETWEEN` has both ends: a bid at the very end of a window, with the highest price of that
//! window, would come as well. Here windows are half open. Each core looks for the highest bids of its own first.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane_stages::window::{KeyedWindows, Leaders, PerCore, Tumbling};

use super::{Bid, Event, Feed, timed_events};

/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(10);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Bid> + use<>> {
    timed_events(p, feed)
        .filter_map("bids", Event::bid)
        .per_core(|_| ())
        .window(Tumbling::of(SIZE))
        .aggregate("highest-here", Leaders::of(price))
        .flat_map("candidates", |highest| highest.value)
        .key_by(|_| ())
        .window(Tumbling::of(SIZE))
        .aggregate("highest", Leaders::of(price))
        .flat_map("rows", |highest| highest.value)
}

fn price(bid: &Bid) -> u64 {
    bid.price
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Bid> {
    let mut windows: BTreeMap<i64, Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        windows.entry(bid.at.as_nanos().div_euclid(SIZE.as_nanos() as i64)).or_default().push(bid);
    }
    let highest = |bids: Vec<Bid>| {
        let price = bids.iter().map(|bid| bid.price).max();
        bids.into_iter().filter(move |bid| Some(bid.price) == price)
    };
    windows.into_values().flat_map(highest).collect()
}
