//! The bench harness of corelane: workloads, the hand-written programs that mark the limit, and the comparison.
//!
//! A [`Case`](case::Case) is one workload variant: some systems doing the same work, and the checksum each of them
//! must reach. The [`harness`] runs the systems in turn, in one process, and the [`report`] prints medians, spread
//! and ratios. `METHODOLOGY.md` beside this crate says what the figures mean and where they are biased.
#![forbid(unsafe_code)]
// A bench harness owns threads and reads clocks: that is what it is for.
#![allow(clippy::disallowed_methods)]

pub mod case;
pub mod environment;
pub mod harness;
pub mod hiccup;
pub mod lane;
pub mod link;
pub mod nexmark;
#[cfg(feature = "peers")]
pub mod peers;
pub mod pin;
pub mod report;
pub mod stats;
pub mod workload;
