//! What a memory pool says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The contract's statistics of a memory pool, of one core or summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPoolStats {
    /// Bytes held from the system now, rented or not.
    pub total_allocated: u64,
    /// Bytes of the blocks behind live buffers.
    pub currently_rented: u64,
    /// The most bytes that were rented of each size class, added up: what would have to be made ready to serve all that was asked
    /// for. A buffer returned on another core counts until its home has taken it back.
    pub peak_usage: u64,
    /// Share of the rented bytes that nobody asked for, because a size was rounded up to its class: 0 to 1, 0 when nothing
    /// is rented.
    pub fragmentation_ratio: f64,
    /// Live buffers.
    pub rented_buffers: u64,
}

impl MemoryPoolStats {
    /// Both together; the fragmentation by the bytes behind it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let waste = |s: Self| s.fragmentation_ratio * s.currently_rented as f64;
        let rented = self.currently_rented + other.currently_rented;
        Self {
            total_allocated: self.total_allocated + other.total_allocated,
            currently_rented: rented,
            peak_usage: self.peak_usage + other.peak_usage,
            fragmentation_ratio: if rented == 0 { 0.0 } else { (waste(self) + waste(other)) / rented as f64 },
            rented_buffers: self.rented_buffers + other.rented_buffers,
        }
    }
}

impl fmt::Display for MemoryPoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes allocated, {} rented in {} buffers ({} at most, {:.1} % rounding)",
            self.total_allocated,
            self.currently_rented,
            self.rented_buffers,
            self.peak_usage,
            self.fragmentation_ratio * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_weighs_fragmentation_by_what_is_rented() {
        let stats = |rented, ratio| MemoryPoolStats {
            total_allocated: 1000,
            currently_rented: rented,
            peak_usage: 500,
            fragmentation_ratio: ratio,
            rented_buffers: 2,
        };
        let sum = stats(100, 0.5).and(stats(300, 0.1));
        assert!((sum.fragmentation_ratio - 0.2).abs() < 1e-12);
        assert_eq!((sum.total_allocated, sum.currently_rented, sum.peak_usage), (2000, 400, 1000));
        assert_eq!(sum.rented_buffers, 4);
        assert_eq!(stats(0, 0.0).and(stats(0, 0.0)).fragmentation_ratio, 0.0);
        assert!(sum.to_string().contains("400 rented in 4 buffers"), "{sum}");
    }
}
