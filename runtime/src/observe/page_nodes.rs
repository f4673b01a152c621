//! On which NUMA nodes memory lies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MemoryHolder;

/// How many pages of some memory lie on which NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageNodes {
    /// Pages, by the kernel's number of the node.
    pub nodes: BTreeMap<u32, u64>,
    /// Pages that were not touched yet, or of which the system does not say.
    pub nowhere: u64,
}

impl PageNodes {
    /// Adds a page that lies on `node`, or nowhere.
    pub fn count(&mut self, node: Option<u32>) {
        match node {
            Some(node) => *self.nodes.entry(node).or_default() += 1,
            None => self.nowhere += 1,
        }
    }

    /// Adds the pages of `other`.
    pub fn add(&mut self, other: &Self) {
        other.nodes.iter().for_each(|(node, pages)| *self.nodes.entry(*node).or_default() += pages);
        self.nowhere += other.nowhere;
    }

    /// Pages that lie on nodes other than `node`.
    pub fn not_on(&self, node: u32) -> u64 {
        self.nodes.iter().filter(|(other, _)| **other != node).map(|(_, pages)| pages).sum()
    }
}

/// What a pipeline holds in one partition, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldPages {
    /// What holds it: the rings of an edge, or the pool.
    pub holder: MemoryHolder,
    /// The partition that it is to be near to: the consumer of the rings, the home in the pool.
    pub partition: usize,
    /// The node of that partition, if it is known.
    pub home: Option<u32>,
    /// Where its pages lie.
    pub pages: PageNodes,
    /// Bytes in rings smaller than a page, which share theirs with other memory of the core that touched them first.
    #[serde(default)]
    pub small_bytes: u64,
}

impl HeldPages {
    /// Pages that lie on another node than that of the partition.
    pub fn misplaced(&self) -> u64 {
        self.home.map_or(0, |home| self.pages.not_on(home))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_elsewhere_are_those_of_all_other_nodes_and_none_that_lie_nowhere() {
        let mut pages = PageNodes::default();
        [Some(0), Some(1), Some(1), None, Some(3)].into_iter().for_each(|node| pages.count(node));
        let mut twice = pages.clone();
        twice.add(&pages);
        assert_eq!((twice.not_on(1), twice.not_on(0), twice.not_on(7), twice.nowhere), (4, 6, 8, 2));
        let held = |home| HeldPages {
            holder: MemoryHolder::Pool,
            partition: 0,
            home,
            pages: pages.clone(),
            small_bytes: 0,
        };
        assert_eq!([Some(1), Some(0), None].map(|home| held(home).misplaced()), [2, 3, 0]);
        let text = serde_json::to_string(&held(Some(1))).unwrap();
        assert_eq!(serde_json::from_str::<HeldPages>(&text).unwrap(), held(Some(1)));
    }
}
