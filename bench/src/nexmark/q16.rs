//! Query 16: as query 15, for each channel, with the last minute in which a bid came through it.
//!
//! ```sql
//! SELECT channel, DATE_FORMAT(dateTime, 'yyyy-MM-dd') AS day, max(DATE_FORMAT(dateTime, 'HH:mm')) AS minute, .. as query 15
//! FROM bid GROUP BY channel, DATE_FORMAT(dateTime, 'yyyy-MM-dd')
//! ```

use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{KeyedWindows, Tumbling};

use super::day::{DAY, Rankings, Statistics};
use super::{Bid, Event, Feed, timed_events};

/// Channel, when the day began, and what happened.
pub type Row = (&'static str, Timestamp, Statistics);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    timed_events(p, feed)
        .filter_map("bids", Event::bid)
        .key_by(|bid| bid.texts().channel.as_str())
        .window(Tumbling::of(DAY))
        .aggregate("statistics", Rankings)
        .map("row", |day| (day.key, day.window.start, day.value))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut days: BTreeMap<(&'static str, Timestamp), Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let Timestamp(at) = bid.at;
        let day = Timestamp(at - at.rem_euclid(DAY.as_nanos() as i64));
        days.entry((&bid.texts().channel, day)).or_default().push(bid);
    }
    days.into_iter().map(|((channel, day), bids)| (channel, day, Statistics::of(&bids))).collect()
}
