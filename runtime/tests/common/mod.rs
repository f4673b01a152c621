//! Random graphs, what they must compute, and how to run and judge them.
//!
//! A [`Graph`] is drawn from a seed as data. [`build`] makes a pipeline of it, [`reference`] computes what each of its
//! sinks must see with nothing but vectors, and [`check`] compares a run with that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses its part, and has no public face"
)]

pub mod build;
pub mod calls;
pub mod check;
pub mod draw;
pub mod graph;
pub mod item;
pub mod quiet;
pub mod reference;
pub mod run;
pub mod seeds;
pub mod stages;
pub mod watchdog;

pub use graph::{Graph, Shape};
pub use item::Item;
