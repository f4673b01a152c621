//! Query 11: how many bids each bidder made in a session, which ends after ten seconds without a bid.
//!
//! ```sql
//! SELECT B.bidder, count(*) AS bid_count, SESSION_START(..) AS starttime, SESSION_END(..) AS endtime
//! FROM bid B GROUP BY B.bidder, SESSION(B.dateTime, INTERVAL '10' SECOND)
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{Count, KeyedWindows, Session, Window};

use super::{Event, Feed, timed_events};

/// What ends a session.
pub const GAP: Duration = Duration::from_secs(10);

/// Bidder, number of bids, and when.
pub type Row = (u64, u64, Window);

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    timed_events(p, feed)
        .filter_map("bids", |event| event.bid().map(|bid| (bid.bidder, bid.at)))
        .key_by(|(bidder, _)| *bidder)
        .window_at(|(_, at)| *at, Session::with_gap(GAP))
        .aggregate("sessions", Count)
        .map("row", |session| (session.key, session.value, session.window))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut bidders: BTreeMap<u64, Vec<Timestamp>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        bidders.entry(bid.bidder).or_default().push(bid.at);
    }
    let mut rows = Vec::new();
    for (bidder, mut times) in bidders {
        times.sort();
        for session in times.chunk_by(|one, next| next.saturating_since(*one) < GAP) {
            let (start, last) = (session[0], session[session.len() - 1]);
            rows.push((bidder, session.len() as u64, Window { start, end: last.saturating_add(GAP) }));
        }
    }
    rows
}
