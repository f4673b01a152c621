//! Query 14: dear bids in euros, by the time of day, with the letters c in their texts.
//!
//! ```sql
//! SELECT auction, bidder, 0.908 * price AS price,
//!     CASE WHEN HOUR(dateTime) >= 8 AND HOUR(dateTime) <= 18 THEN 'dayTime'
//!          WHEN HOUR(dateTime) <= 6 OR HOUR(dateTime) >= 20 THEN 'nightTime'
//!          ELSE 'otherTime' END AS bidTimeType,
//!     dateTime, extra, count_char(extra, 'c') AS c_counts
//! FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;

use super::{Bid, Event, Feed, events, in_euros};

const HOUR_NANOS: i64 = 3_600_000_000_000;

/// A time of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeOfDay {
    /// From 8 to before 19.
    Day,
    /// From 20 to before 7.
    Night,
    /// In between.
    Other,
}

/// A dear bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The bid; its price is in thousandths of a cent.
    pub bid: Bid,
    /// When of the day.
    pub time: TimeOfDay,
    /// Letters c in its text.
    pub cs: u64,
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed)
        .filter_map("bids", Event::bid)
        .map("in-euros", |bid| Bid { price: in_euros(bid.price), ..bid })
        .filter("dear", |bid| 1_000_000_000 < bid.price && bid.price < 50_000_000_000)
        .map("row", |bid| Row {
            bid,
            time: time_of_day(bid.at),
            cs: bid.texts().extra.bytes().filter(|byte| *byte == b'c').count() as u64,
        })
}

fn time_of_day(at: Timestamp) -> TimeOfDay {
    match at.as_nanos().div_euclid(HOUR_NANOS).rem_euclid(24) {
        8..=18 => TimeOfDay::Day,
        7 | 19 => TimeOfDay::Other,
        _ => TimeOfDay::Night,
    }
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut rows = Vec::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let price = bid.price * 908;
        if price <= 1_000_000 * 1_000 || price >= 50_000_000 * 1_000 {
            continue;
        }
        let hour = bid.at.as_nanos() / HOUR_NANOS % 24;
        let time = if (8..=18).contains(&hour) {
            TimeOfDay::Day
        } else if hour <= 6 || hour >= 20 {
            TimeOfDay::Night
        } else {
            TimeOfDay::Other
        };
        let cs = bid.texts().extra.matches('c').count() as u64;
        rows.push(Row { bid: Bid { price, ..bid }, time, cs });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_is_where_the_query_says() {
        let times: Vec<_> = (0..24).map(|hour| time_of_day(Timestamp(hour * HOUR_NANOS + 1))).collect();
        assert_eq!(times[..7], [TimeOfDay::Night; 7]);
        assert_eq!([times[7], times[19]], [TimeOfDay::Other; 2]);
        assert_eq!(times[8..19], [TimeOfDay::Day; 11]);
        assert_eq!(times[20..], [TimeOfDay::Night; 4]);
    }
}
