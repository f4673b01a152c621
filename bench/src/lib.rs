//! The bench harness of corelane: workloads, the hand-written programs that mark the limit, and the comparison.
//!
//! A `case::Case` is one workload variant: some systems doing the same work, and the checksum each of them
//! must reach. The `harness` runs the systems in turn, in one process, and the `report` prints medians, spread
//! and ratios. Without feature `harness` there is only what the `corelane` command shares: [`nexmark`], and with feature `measure`
//! also statistics. `METHODOLOGY.md` beside this crate says what the figures mean and where they are biased.
#![forbid(unsafe_code)]
// A bench harness owns threads and reads clocks: that is what it is for.
#![allow(clippy::disallowed_methods)]

#[cfg(feature = "measure")]
pub mod bracket;
#[cfg(feature = "harness")]
pub mod case;
#[cfg(feature = "measure")]
pub mod cpu_time;
#[cfg(feature = "harness")]
pub mod environment;
#[cfg(feature = "harness")]
pub mod growth;
#[cfg(feature = "harness")]
pub mod harness;
#[cfg(feature = "measure")]
pub mod hiccup;
#[cfg(feature = "harness")]
pub mod knee;
#[cfg(feature = "harness")]
pub mod lane;
#[cfg(feature = "harness")]
pub mod link;
pub mod nexmark;
#[cfg(feature = "peers")]
pub mod peers;
#[cfg(feature = "harness")]
pub mod pin;
#[cfg(feature = "harness")]
pub mod report;
#[cfg(feature = "harness")]
pub mod share;
#[cfg(feature = "measure")]
pub mod stats;
#[cfg(feature = "harness")]
pub mod workload;
