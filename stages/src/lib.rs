#![forbid(unsafe_code)]
//! Ready-made stages for corelane, on its public API only.

pub mod window;
