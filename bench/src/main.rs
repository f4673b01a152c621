//! The bench harness of corelane.
fn main() {}
