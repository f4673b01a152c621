//! Query 5 of NEXMark as a job: the auctions with the most bids in the last ten seconds, every two seconds.
//!
//! ```text
//! events -> time -> bids -> bids-here -> bids-per-auction -> hottest-here -> .. -> row -> in-order -> show -> line -> write
//! ```
//!
//! The query is that of the bench crate, `q5::hottest`; here are the stages behind it. Bids are made on all cores while it runs.
//! `in-order` lets rows go by window, so that the output is the same on any number of cores. `show` leaves each row on a
//! [`Board`], from which a [`Table`] shows the latest; a thread of its own writes the lines.

mod board;
mod order;
mod pipeline;
mod table;

pub use board::Board;
pub use pipeline::{Parts, build};
pub use table::{Reached, Table};
