//! NEXMark: an auction house, and questions about what happens in it.
//!
//! Events come from the generator of the [`nexmark`] crate and are in memory before a run begins. Each query is one file: what it
//! asks, as the SQL of the NEXMark project says it, the pipeline that answers it, and a reference that
//! answers it by looking at everything. The tests of this crate compare the two.
//!
//! ```
//! use corelane::engine::Engine;
//! use corelane::flow::PipelineBuilder;
//! use corelane_bench::nexmark::{Feed, Settings, q5};
//!
//! let feed = Feed::generate(Settings { events: 20_000, per_second: 1_000, ..Settings::default() });
//! let p = PipelineBuilder::new("hottest-auctions");
//! let rows = q5::query(&p, feed).collect("out");
//! let result = Engine::default().run(p.build()?)?;
//! assert!(result.success);
//! assert!(rows.take().iter().any(|row| row.bids > 100));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod feed;
mod live;
#[cfg(not(feature = "harness"))]
pub mod q5;

pub use event::{Auction, Bid, Event, Person, Texts};
pub use feed::{Feed, Settings, Untaken, events, timed_events};
pub use live::{Pace, live_bids};

#[cfg(feature = "harness")]
mod checksum;
#[cfg(feature = "harness")]
mod completion;
#[cfg(feature = "harness")]
mod day;
#[cfg(feature = "harness")]
pub mod published;
#[cfg(feature = "harness")]
pub mod q10;
#[cfg(feature = "harness")]
pub mod q12;
#[cfg(feature = "harness")]
mod winning;

#[cfg(feature = "harness")]
pub use {
    checksum::{checksum, checksum_of},
    completion::{Completing, Completion, Moments},
    day::{Ranked, Statistics},
    winning::{Sale, sales, sales_reference},
};

#[cfg(feature = "harness")]
macro_rules! queries {
    ($($name:ident),+ $(,)?) => {
        $(pub mod $name;)+

        /// The names of the queries that have rows which can be compared: not 10, which writes files, and not 12, whose rows
        /// depend on when it runs.
        pub const QUERIES: &[&str] = &[$(stringify!($name)),+];

        /// Adds the query called `name` to `p`, over `feed`, and a sink that makes a checksum of its rows on each core; their sum is
        /// the checksum of all. `None` if there is no such query.
        pub fn add_query(
            name: &str,
            p: &corelane::flow::PipelineBuilder,
            feed: Feed,
        ) -> Option<corelane::flow::Collected<u64>> {
            match name {
                $(stringify!($name) => {
                    let rows = $name::query(p, feed);
                    Some(rows.fold("checksum", 0u64, |sum, row| sum.wrapping_add(checksum(&row))))
                })+
                _ => None,
            }
        }

        /// Adds the query called `name` to `p`, over `feed`, and notes on each core when its rows were complete up to each of
        /// `moments`. `None` if there is no such query.
        pub fn add_timed_query(
            name: &str,
            p: &corelane::flow::PipelineBuilder,
            feed: Feed,
            moments: Moments,
        ) -> Option<corelane::flow::Collected<Completion>> {
            match name {
                $(stringify!($name) => {
                    let rows = $name::query(p, feed);
                    Some(rows.transform("completion", move |_| Ok(Completing::new(moments))).collect("cores"))
                })+
                _ => None,
            }
        }

        /// The checksum of what the reference of the query called `name` says, if there is one.
        pub fn expected(name: &str, feed: Feed) -> Option<u64> {
            match name {
                $(stringify!($name) => Some(checksum_of($name::reference(feed.events))),)+
                _ => None,
            }
        }
    };
}

#[cfg(feature = "harness")]
queries!(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q11, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22);

/// An average that stays exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Average {
    /// Of all numbers.
    pub sum: u64,
    /// How many numbers.
    pub count: u64,
}

impl Average {
    /// Takes a number in.
    pub fn add(&mut self, number: u64) {
        self.sum += number;
        self.count += 1;
    }
}

/// 0.908 of a price in cents, in thousandths of a cent.
#[cfg(feature = "harness")]
#[inline]
const fn in_euros(cents: u64) -> u64 {
    cents * 908
}
