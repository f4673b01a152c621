//! The bench harness of corelane: workloads, the hand-written programs that mark the limit, and the comparison.
//!
//! A `case::Case` is one workload variant: some systems doing the same work, and the checksum each of them
//! must reach. The `harness` runs the systems in turn, in one process, and the `report` prints medians, spread
//! and ratios. Without feature `harness` there is only what others share: [`nexmark`] and [`pipelines`], and with feature `measure`
//! also statistics. `METHODOLOGY.md` beside this crate says what the figures mean and where they are biased.
#![forbid(unsafe_code)]
// A bench harness owns threads and reads clocks: that is what it is for.
#![allow(clippy::disallowed_methods)]

pub mod nexmark;
pub mod pipelines;

cfg_if::cfg_if! {
    if #[cfg(feature = "measure")] {
        pub mod axis;
        pub mod bracket;
        pub mod cpu_time;
        pub mod hiccup;
        pub mod stats;
    }
}

cfg_if::cfg_if! {
    if #[cfg(feature = "harness")] {
        pub mod case;
        pub mod environment;
        pub mod growth;
        pub mod harness;
        pub mod knee;
        pub mod lane;
        pub mod link;
        pub mod memory;
        #[cfg(feature = "peers")]
        pub mod peers;
        pub mod pin;
        pub mod report;
        pub mod share;
        pub mod tuning;
        pub mod workload;
    }
}
