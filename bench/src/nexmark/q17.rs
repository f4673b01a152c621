//! Query 17: the bids of each auction and day, in all and by rank, and their prices.
//!
//! ```sql
//! SELECT auction, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day,
//!     count(*) AS total_bids, .. by rank as query 15,
//!     min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
//! FROM bid GROUP BY auction, DATE_FORMAT(dateTime, 'yyyy-MM-dd')
//! ```

use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{KeyedWindows, Tumbling, fold};

use super::day::{DAY, Ranked, rank};
use super::{Average, Bid, Event, Feed, timed_events};

/// What an auction came to on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prices {
    /// How many bids.
    pub bids: Ranked<u64>,
    /// The lowest price.
    pub min: u64,
    /// The highest price.
    pub max: u64,
    /// Their average; and their sum.
    pub average: Average,
}

impl Prices {
    const NONE: Self = Self { bids: [0; 4], min: u64::MAX, max: 0, average: Average { sum: 0, count: 0 } };

    fn add(&mut self, bid: &Bid) {
        self.bids[0] += 1;
        self.bids[rank(bid)] += 1;
        self.min = self.min.min(bid.price);
        self.max = self.max.max(bid.price);
        self.average.add(bid.price);
    }

    fn merge(&mut self, other: &Self) {
        self.bids.iter_mut().zip(other.bids).for_each(|(bids, more)| *bids += more);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.average.sum += other.average.sum;
        self.average.count += other.average.count;
    }
}

/// Auction, when the day began, and its prices.
pub type Row = (u64, Timestamp, Prices);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    timed_events(p, feed)
        .filter_map("bids", Event::bid)
        .key_by(|bid| bid.auction)
        .window(Tumbling::of(DAY))
        .aggregate("prices", fold(|| Prices::NONE, Prices::add, Prices::merge, |prices: &Prices| *prices))
        .map("row", |day| (day.key, day.window.start, day.value))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut days: BTreeMap<(u64, Timestamp), Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let Timestamp(at) = bid.at;
        let day = Timestamp(at - at.rem_euclid(DAY.as_nanos() as i64));
        days.entry((bid.auction, day)).or_default().push(bid);
    }
    let row = |((auction, day), bids): ((u64, Timestamp), Vec<Bid>)| {
        let of_rank = |number| bids.iter().filter(|bid| rank(bid) == number).count() as u64;
        let prices = || bids.iter().map(|bid| bid.price);
        let prices = Prices {
            bids: [bids.len() as u64, of_rank(1), of_rank(2), of_rank(3)],
            min: prices().min().unwrap_or_default(),
            max: prices().max().unwrap_or_default(),
            average: Average { sum: prices().sum(), count: bids.len() as u64 },
        };
        (auction, day, prices)
    };
    days.into_iter().map(row).collect()
}
