//! Query 6: what the last things of each seller sold for, on average.
//!
//! ```sql
//! SELECT Q.seller, AVG(Q.price) OVER (
//!     PARTITION BY Q.seller ORDER BY Q.dateTime ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
//! FROM (.. the winning bid of each auction ..) Q
//! ```
//!
//! A sale counts when its auction ends, as in the words of the benchmark ("their last closed auctions"). The SQL orders by
//! the time of the winning bid instead: an auction that runs for long would change rows that are out already, and nothing
//! here takes rows back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane::policy::AccumulatorPolicy;
use corelane_stages::process::{KeyedProcess, OnKey, Process, Timer};

use super::winning::{Sale, after, sales, sales_reference};
use super::{Average, Event, Feed};

/// Sales that count: ten, and the one at hand.
const LAST: usize = 11;

/// Seller, auction that ended, average price up to then.
pub type Row = (u64, u64, Average);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    sales(p, feed)
        .key_by(|sale| sale.auction.seller)
        .process("last-sales", AccumulatorPolicy::until_end(), |_| Ok(LastSales))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut sellers: BTreeMap<u64, Vec<Sale>> = BTreeMap::new();
    for sale in sales_reference(events) {
        sellers.entry(sale.auction.seller).or_default().push(sale);
    }
    let mut rows = Vec::new();
    for sales in sellers.values_mut() {
        sales.sort_by_key(|sale| (sale.auction.expires, sale.auction.id));
        for at in 0..sales.len() {
            let mut average = Average::default();
            sales[at.saturating_sub(LAST - 1)..=at].iter().for_each(|sale| average.add(sale.bid.price));
            rows.push((sales[at].auction.seller, sales[at].auction.id, average));
        }
    }
    rows
}

struct LastSales;

/// What is known of a seller.
#[derive(Default)]
struct Seller {
    /// Sales that others may still come before, by end and number of the auction.
    waiting: BTreeSet<(Timestamp, u64, u64)>,
    prices: VecDeque<u64>,
}

impl Seller {
    /// Counts the sales of auctions that ended before `watermark`.
    fn count(&mut self, watermark: Option<Timestamp>, key: &mut OnKey<'_, u64, Row>) {
        while let Some(first) = self.waiting.first()
            && watermark.is_none_or(|watermark| first.0 < watermark)
        {
            let Some((_, auction, price)) = self.waiting.pop_first() else { return };
            if self.prices.len() == LAST {
                self.prices.pop_front();
            }
            self.prices.push_back(price);
            let average = Average { sum: self.prices.iter().sum(), count: self.prices.len() as u64 };
            let seller = *key.key();
            key.emit((seller, auction, average));
        }
        if let Some((end, ..)) = self.waiting.first() {
            key.set_timer(after(*end));
        }
    }
}

impl Process for LastSales {
    type In = Sale;
    type Key = u64;
    type State = Seller;
    type Out = Row;

    fn init(&mut self, _seller: &u64) -> Seller {
        Seller::default()
    }

    fn process(&mut self, sale: Sale, seller: &mut Seller, key: &mut OnKey<'_, u64, Row>) {
        let Sale { auction, bid } = sale;
        seller.waiting.insert((auction.expires_at(), auction.id, bid.price));
        let watermark = key.watermark();
        seller.count(Some(watermark), key);
    }

    fn on_timer(&mut self, _timer: Timer, seller: &mut Seller, key: &mut OnKey<'_, u64, Row>) {
        let watermark = key.watermark();
        seller.count(Some(watermark), key);
    }

    fn on_end(&mut self, mut seller: Seller, key: &mut OnKey<'_, u64, Row>) {
        seller.count(None, key);
    }
}
