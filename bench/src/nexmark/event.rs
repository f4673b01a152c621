//! What happens in the auction house.

use std::hash::{Hash, Hasher};
use std::ops::Deref;

use corelane::model::{Timed, Timestamp};

/// 2015-07-15T00:00:00Z, from when on things happen.
pub(super) const BASE_MILLIS: u64 = 1_436_918_400_000;

/// One event. Small and `Copy`: long texts stay where they were generated, which is for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody registers.
    Person(Person),
    /// Something is put up for auction.
    Auction(Auction),
    /// Somebody bids.
    Bid(Bid),
}

impl Event {
    /// The bid, if it is one.
    #[inline]
    pub fn bid(self) -> Option<Bid> {
        if let Self::Bid(bid) = self { Some(bid) } else { None }
    }

    /// The auction, if it is one.
    #[inline]
    pub fn auction(self) -> Option<Auction> {
        if let Self::Auction(auction) = self { Some(auction) } else { None }
    }

    /// The same event, at a time that is `factor` times as far from the beginning: for days of few events.
    #[must_use]
    pub fn slowed(self, factor: u64) -> Self {
        let later = |millis: u64| BASE_MILLIS + millis.saturating_sub(BASE_MILLIS) * factor;
        match self {
            Self::Person(person) => {
                let person = person.whole().clone();
                nexmark::event::Event::Person(nexmark::event::Person {
                    date_time: later(person.date_time),
                    ..person
                })
                .into()
            }
            Self::Auction(auction) => {
                let auction = auction.whole().clone();
                nexmark::event::Event::Auction(nexmark::event::Auction {
                    date_time: later(auction.date_time),
                    expires: later(auction.expires),
                    ..auction
                })
                .into()
            }
            Self::Bid(bid) => {
                let millis = later(bid.at.as_nanos().unsigned_abs() / 1_000_000);
                Self::Bid(Bid { at: from_millis(millis), ..bid })
            }
        }
    }

    /// The person, if it is one.
    #[inline]
    pub fn person(self) -> Option<Person> {
        if let Self::Person(person) = self { Some(person) } else { None }
    }
}

impl Timed for Event {
    #[inline]
    fn timestamp(&self) -> Timestamp {
        match self {
            Self::Person(person) => person.timestamp(),
            Self::Auction(auction) => auction.timestamp(),
            Self::Bid(bid) => bid.timestamp(),
        }
    }
}

impl From<nexmark::event::Event> for Event {
    /// Keeps the texts until the process ends.
    fn from(event: nexmark::event::Event) -> Self {
        match event {
            nexmark::event::Event::Person(person) => Self::Person(Person::kept(person)),
            nexmark::event::Event::Auction(auction) => Self::Auction(Auction::kept(auction)),
            nexmark::event::Event::Bid(bid) => {
                Self::Bid(Bid::of(bid, |texts| Some(Box::leak(Box::new(texts)))))
            }
        }
    }
}

impl Bid {
    /// The generator's bid, with what `keep` makes of its texts: none if they are left out.
    pub(super) fn of(bid: nexmark::event::Bid, keep: impl FnOnce(Texts) -> Option<&'static Texts>) -> Self {
        let nexmark::event::Bid { auction, bidder, price, channel, url, date_time, extra } = bid;
        Self {
            auction: auction as u64,
            bidder: bidder as u64,
            price: price as u64,
            at: from_millis(date_time),
            texts: keep(Texts { channel, url, extra }),
        }
    }
}

/// NEXMark counts milliseconds.
#[inline]
pub(super) const fn from_millis(millis: u64) -> Timestamp {
    Timestamp((millis as i64).saturating_mul(1_000_000))
}

/// Somebody who registered. The number and the state lie in it, the rest behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Person {
    /// First, as in every event, so that it is read without asking which it is.
    at: Timestamp,
    /// Unique.
    pub id: u64,
    /// Where the person lives. One text for all who live there.
    pub state: &'static str,
    whole: &'static nexmark::event::Person,
}

/// Something that was put up for auction. Numbers that queries look for lie in it, the rest behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Auction {
    /// First, as in every event.
    at: Timestamp,
    /// Unique.
    pub id: u64,
    /// By whom.
    pub seller: u64,
    /// Of what kind it is.
    pub category: u64,
    whole: &'static nexmark::event::Auction,
}

/// An event fills three quarters of a cache line. More would have every query read more memory.
const _: () = assert!(size_of::<Event>() == 48);

impl Person {
    /// Keeps it until the process ends.
    fn kept(whole: nexmark::event::Person) -> Self {
        let whole: &'static _ = Box::leak(Box::new(whole));
        Self { at: from_millis(whole.date_time), id: whole.id as u64, state: shared(&whole.state), whole }
    }
}

impl Auction {
    /// Keeps it until the process ends.
    fn kept(whole: nexmark::event::Auction) -> Self {
        let whole: &'static _ = Box::leak(Box::new(whole));
        Self {
            at: from_millis(whole.date_time),
            id: whole.id as u64,
            seller: whole.seller as u64,
            category: whole.category as u64,
            whole,
        }
    }
}

/// One text for everybody in a state of the generator's, which are few: to compare it reads no memory that is far away.
fn shared(state: &'static str) -> &'static str {
    const STATES: [&str; 6] = ["az", "ca", "id", "or", "wa", "wy"];
    STATES.into_iter().find(|known| *known == state).unwrap_or(state)
}

macro_rules! long_lived {
    ($name:ident, $($field:ident),+) => {
        impl $name {
            /// All of it, for as long as the process lives.
            #[inline]
            pub const fn whole(&self) -> &'static nexmark::event::$name {
                self.whole
            }
        }

        impl Deref for $name {
            type Target = nexmark::event::$name;

            #[inline]
            fn deref(&self) -> &Self::Target {
                self.whole
            }
        }

        impl Timed for $name {
            #[inline]
            fn timestamp(&self) -> Timestamp {
                self.at
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        /// By the number, then by everything else.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                ($(&self.$field,)+).cmp(&($(&other.$field,)+))
            }
        }

        /// Of the number, which is unique.
        impl Hash for $name {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.id.hash(state);
            }
        }
    };
}

long_lived!(Person, id, name, email_address, credit_card, city, state, date_time, extra);
long_lived!(
    Auction,
    id,
    item_name,
    description,
    initial_bid,
    reserve,
    date_time,
    expires,
    seller,
    category,
    extra
);

impl Auction {
    /// Bids count up to this time, which is included.
    #[inline]
    pub fn expires_at(&self) -> Timestamp {
        from_millis(self.expires)
    }
}

/// A bid. What queries compute with lies in it, texts behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Bid {
    /// When.
    pub at: Timestamp,
    /// For which auction.
    pub auction: u64,
    /// By whom.
    pub bidder: u64,
    /// In cents.
    pub price: u64,
    /// The rest, unless the feed leaves it out. Like this a bid has no value to spare, and one that may be missing a tag beside it: behind a look at an
    /// event the compiler knows what that is, where it looks again at a pointer that must not be null.
    pub texts: Option<&'static Texts>,
}

impl Bid {
    /// The rest; empty where it is left out.
    #[inline]
    pub fn texts(&self) -> &'static Texts {
        static LEFT_OUT: Texts = Texts { channel: String::new(), url: String::new(), extra: String::new() };
        self.texts.unwrap_or(&LEFT_OUT)
    }
}

/// Of all but the texts: they lie far away, and a checksum that read them would measure little else.
impl Hash for Bid {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { at, auction, bidder, price, texts: _ } = self;
        (at, auction, bidder, price).hash(state);
    }
}

impl Timed for Bid {
    #[inline]
    fn timestamp(&self) -> Timestamp {
        self.at
    }
}

/// The texts of a bid.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Texts {
    /// Where the bidder came from.
    pub channel: String,
    /// The page on which the bid was made.
    pub url: String,
    /// Bytes that make the event as large as real ones.
    pub extra: String,
}
