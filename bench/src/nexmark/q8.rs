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
use corelane_stages::join::{Side, SidesJoin};
use corelane_stages::window::Tumbling;

use super::{Event, Feed, Person, timed_events};

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

/// The query. A semi join groups sellers by itself: each person comes once, as soon as one of their auctions is there.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    timed_events(p, feed)
        .filter_map("people-and-auctions", |event| match event {
            Event::Person(person) => Some(Side::Left(person)),
            Event::Auction(auction) => Some(Side::Right(auction)),
            Event::Bid(_) => None,
        })
        .join_sides(|person| person.id, |auction| auction.seller)
        .on(Tumbling::of(SIZE))
        .semi("new-sellers", |person| row(person, start(person.timestamp())))
}

/// When the window of `at` began.
fn start(at: Timestamp) -> Timestamp {
    let nanos = at.as_nanos();
    Timestamp(nanos - nanos.rem_euclid(SIZE.as_nanos() as i64))
}

/// What is said of somebody in the window that began at `start`.
pub fn row(person: &Person, start: Timestamp) -> Row {
    Row { person: person.id, name: &person.whole().name, start }
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let auctions = events.iter().filter_map(|event| event.auction());
    let sellers: BTreeSet<_> = auctions.map(|a| (a.seller, start(a.timestamp()))).collect();
    let people = events.iter().filter_map(|event| event.person());
    people
        .filter(|person| sellers.contains(&(person.id, start(person.timestamp()))))
        .map(|person| row(&person, start(person.timestamp())))
        .collect()
}
