//! Query 4: what things of a category sell for, on average.
//!
//! ```sql
//! SELECT Q.category, AVG(Q.final) FROM (
//!     SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
//!     WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
//!     GROUP BY A.id, A.category) Q
//! GROUP BY Q.category
//! ```
//!
//! A row for each category, at the end of the input.

use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::winning::{sales, sales_reference};
use super::{Average, Event, Feed};

/// Category and average price.
pub type Row = (u64, Average);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    sales(p, feed)
        .map("category-and-price", |sale| (sale.auction.category, sale.bid.price))
        .key_by(|(category, _)| *category)
        .fold("average", Average::default, |average, (_, price)| average.add(price))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut averages: BTreeMap<u64, Average> = BTreeMap::new();
    for sale in sales_reference(events) {
        averages.entry(sale.auction.category).or_default().add(sale.bid.price);
    }
    averages.into_iter().collect()
}
