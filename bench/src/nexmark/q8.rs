//! Query 8: who put something up for auction within the ten seconds in which they registered.
//!
//! ```sql
//! SELECT P.id, P.name, P.starttime FROM (
//!     SELECT id, name, window_start AS starttime, window_end AS endtime
//!     FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
//!     GROUP BY id, name, window_start, window_end) P
//! JOIN (SELECT seller, window_start AS starttime, window_end AS endtime
//!     FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
//!     GROUP BY seller, window_start, window_end) A
//! ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::{Timed, Timestamp};
use corelane_stages::join::KeyedJoin;
use corelane_stages::window::{Count, KeyedWindows, Tumbling};

use super::{Event, Feed, Person, events};

/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(10);

/// A new seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Who.
    pub person: u64,
    /// What they are called.
    pub name: &'static str,
    /// When the window began.
    pub start: Timestamp,
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    let windows = Tumbling::of(SIZE);
    let [people, auctions] = events(p, feed)
        .filter("no-bids", |event| !matches!(event, Event::Bid(_)))
        .split("kinds", ["people", "auctions"], |event| matches!(event, Event::Person(_)));
    let sellers = auctions
        .filter_map("auctions", Event::auction)
        .key_by(|auction| auction.seller)
        .window_at(Timed::timestamp, windows)
        .aggregate("sellers", Count)
        .key_by(|seller| seller.key);
    people
        .filter_map("people", Event::person)
        .key_by(|person| person.id)
        .join(sellers)
        .on(windows)
        .inner("new-sellers", |person, seller| row(person, seller.window.start))
}

/// What is said of somebody in the window that began at `start`.
pub fn row(person: &Person, start: Timestamp) -> Row {
    Row { person: person.id as u64, name: &person.whole().name, start }
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let window = |at: Timestamp| at.as_nanos().div_euclid(SIZE.as_nanos() as i64);
    let auctions = events.iter().filter_map(|event| event.auction());
    let sellers: BTreeSet<_> = auctions.map(|a| (a.seller, window(a.timestamp()))).collect();
    let people = events.iter().filter_map(|event| event.person());
    people
        .filter(|person| sellers.contains(&(person.id, window(person.timestamp()))))
        .map(|person| row(&person, Timestamp(window(person.timestamp()) * SIZE.as_nanos() as i64)))
        .collect()
}
