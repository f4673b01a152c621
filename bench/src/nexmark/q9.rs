//! Query 9: each auction with the bid that won it.
//!
//! ```sql
//! SELECT .. FROM (
//!     SELECT A.*, B.auction, B.bidder, B.price, B.dateTime AS bid_dateTime, B.extra AS bid_extra,
//!         ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.dateTime ASC) AS rownum
//!     FROM auction A, bid B
//!     WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires)
//! WHERE rownum <= 1
//! ```

pub use super::winning::sales as query;
use super::winning::sales_reference;
use super::{Event, Sale};

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Sale> {
    sales_reference(events)
}
