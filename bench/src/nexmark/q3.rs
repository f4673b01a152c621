//! Query 3: who in Oregon, Idaho and California sells things of category 10.
//!
//! ```sql
//! SELECT P.name, P.city, P.state, A.id FROM auction A JOIN person P ON A.seller = P.id
//! WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')
//! ```
//!
//! A join without a window: everybody and everything is kept to the end of the input. The generator writes states in small
//! letters.

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane_stages::join::{Kept, Side, SidesJoin};

use super::{Auction, Event, Feed, Person, events};

/// Who sells what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Of the seller.
    pub name: &'static str,
    /// Where the seller lives.
    pub city: &'static str,
    /// Where that is.
    pub state: &'static str,
    /// The auction.
    pub auction: u64,
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed)
        .filter_map("of-interest", |event| match event {
            Event::Auction(auction) if auction.category == 10 => Some(Side::Left(auction)),
            Event::Person(person) if is_near(&person) => Some(Side::Right(person)),
            Event::Auction(_) | Event::Person(_) | Event::Bid(_) => None,
        })
        .join_sides(|auction| auction.seller, |person| person.id)
        .on(Kept::to_the_end())
        .inner("sells", row)
}

/// Whether somebody lives in one of the three states.
pub fn is_near(person: &Person) -> bool {
    matches!(person.state, "or" | "id" | "ca")
}

/// What is said of an auction and its seller.
pub fn row(auction: &Auction, seller: &Person) -> Row {
    let nexmark::event::Person { name, city, .. } = seller.whole();
    Row { name, city, state: seller.state, auction: auction.id }
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let people: Vec<_> = events.iter().filter_map(|event| event.person()).filter(is_near).collect();
    let auctions = events.iter().filter_map(|event| event.auction()).filter(|auction| auction.category == 10);
    auctions
        .flat_map(|auction| {
            people.iter().filter(move |p| p.id == auction.seller).map(move |p| row(&auction, p))
        })
        .collect()
}
