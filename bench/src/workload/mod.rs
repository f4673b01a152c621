//! The workloads. Each file holds the hand-written programs as plain functions and, apart from them, the cases that
//! compare them.

pub mod chain;
pub mod ends;
pub mod keyed;
pub mod latency;
pub mod nexmark;
pub mod nexmark_latency;
pub mod nexmark_two_cores;
pub mod pool;
pub mod ring;
pub mod skew;
pub mod spill;
pub mod strategies;
pub mod trace_assembly;
pub mod tumbling;
pub mod window;

use std::ops::Range;

use crate::case::{Case, Setup};

/// What `range` is made of: a block of `block` numbers at every `stride`, the last one perhaps shorter.
pub fn blocks(
    range: Range<u64>,
    block: u64,
    stride: u64,
) -> impl Iterator<Item = Range<u64>> + Clone + Send + 'static {
    let end = range.end;
    range.step_by(stride as usize).map(move |start| start..end.min(start + block))
}

/// A workload by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// A ring between two cores: chunk throughput and round trip.
    Ring,
    /// A chain of three operators on one core.
    Chain,
    /// Sum and count per key, exchanged between two cores.
    Keyed,
    /// Open-loop latency of a running sum per key on the other core.
    Latency,
    /// Buffers: taken and given back on one core, and on two.
    Pool,
    /// The keyed exchange with keys used evenly, and by Zipf's law before and after shards have moved.
    Skew,
    /// The keyed exchange with each backpressure strategy.
    Strategies,
    /// Sliding windows under an open loop, and what an item costs in them.
    Window,
    /// Counts per key and second, exchanged between two cores.
    Tumbling,
    /// Spans gathered until their trace is whole, on one core and exchanged between two.
    TraceAssembly,
    /// Queries of NEXMark over events in memory.
    Nexmark,
    /// Queries of NEXMark under an open loop: how long it takes until their rows are complete.
    NexmarkLatency,
    /// Latency of keys in memory beside keys on disk.
    Spill,
    /// All of them.
    All,
}

impl Workload {
    /// The cases of this workload, their expected results computed.
    pub fn cases(self, setup: &Setup) -> Vec<Case> {
        let cases = self.own_cases(setup);
        #[cfg(feature = "peers")]
        let cases = cases.into_iter().map(|case| crate::peers::add_to(case, setup)).collect();
        cases
    }

    fn own_cases(self, setup: &Setup) -> Vec<Case> {
        match self {
            Self::Ring => ring::cases(setup),
            Self::Chain => chain::cases(setup),
            Self::Keyed => keyed::cases(setup),
            Self::Latency => latency::cases(setup),
            Self::Pool => pool::cases(setup),
            Self::Skew => skew::cases(setup),
            Self::Spill => spill::cases(setup),
            Self::Strategies => strategies::cases(setup),
            Self::Tumbling => tumbling::cases(setup),
            Self::TraceAssembly => trace_assembly::cases(setup),
            Self::Window => window::cases(setup),
            Self::Nexmark => nexmark::cases(setup),
            Self::NexmarkLatency => nexmark_latency::cases(setup),
            Self::All => [
                Self::Ring,
                Self::Chain,
                Self::Keyed,
                Self::Latency,
                Self::Pool,
                Self::Strategies,
                Self::Tumbling,
                Self::TraceAssembly,
                Self::Window,
                Self::Nexmark,
                Self::NexmarkLatency,
                Self::Spill,
            ]
            .iter()
            .flat_map(|one| one.own_cases(setup))
            .collect(),
        }
    }

    /// How many cores the workload cannot do without.
    pub fn cores(self) -> usize {
        if matches!(self, Self::Chain | Self::TraceAssembly | Self::Nexmark | Self::NexmarkLatency) {
            1
        } else {
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_take_turns_have_every_number_once() {
        let all = |ranges: &[Range<u64>]| ranges.iter().cloned().flatten().collect::<Vec<_>>();
        let parts: Vec<Vec<_>> = (0..2).map(|core| blocks(core * 4..18, 4, 8).collect()).collect();
        assert_eq!(parts, [vec![0..4, 8..12, 16..18], vec![4..8, 12..16]]);
        assert_eq!(all(&blocks(3..10, 4, 4).collect::<Vec<_>>()), (3..10).collect::<Vec<_>>());
        let late = 4;
        assert_eq!(blocks(late..3, 4, 8).count(), 0, "a core whose turn does not come");
    }
}
