//! On which NUMA node the memory of a pipeline lies.

use serde::{Deserialize, Serialize};

/// On which NUMA node rings, buffers of the memory pool and state are to lie. The node of a partition is that of its CPU, or if that
/// has no memory, the nearest one that has.
///
/// A core map says it as `@memory=strict`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryLocality {
    /// Nothing is asked of the system: a page lies where it is touched first, or where the policy of the process says (`numactl`).
    Any,
    /// Rings lie on the node of their consumer, slabs of the pool on that of their home core (`MPOL_PREFERRED`). A node that is full
    /// is made up for by others, and a system that does not allow it is put up with; either is reported.
    #[default]
    Local,
    /// The same and nothing else (`MPOL_BIND`), also for what a partition's thread allocates. What does not lie there keeps the pipeline from starting;
    /// and where a node runs full, the kernel ends the process.
    Strict,
}

impl MemoryLocality {
    /// All of them, with the names by which core maps and reports call them.
    pub const NAMES: [(&'static str, Self); 3] =
        [("any", Self::Any), ("local", Self::Local), ("strict", Self::Strict)];
}

impl std::fmt::Display for MemoryLocality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Any => "any",
            Self::Local => "local",
            Self::Strict => "strict",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locality_is_written_as_it_displays_and_reads_back() {
        for (name, locality) in MemoryLocality::NAMES {
            assert_eq!(locality.to_string(), name);
            let text = serde_json::to_string(&locality).unwrap();
            assert_eq!(text, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<MemoryLocality>(&text).unwrap(), locality);
        }
    }
}
