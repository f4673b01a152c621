//! Which memory is near which partition.

use super::{CpuId, Machine, Placement};

impl Machine {
    /// The nodes with memory that this process may use, in ascending order; where the machine does not say how much a node has, it
    /// counts.
    pub fn memory_nodes(&self) -> Vec<u32> {
        let allowed = |node: u32| self.mems.as_ref().is_none_or(|mems| mems.contains(node));
        let with_memory = self.nodes.iter().filter(|node| node.memory != Some(0));
        with_memory.map(|node| node.id).filter(|&node| allowed(node)).collect()
    }

    /// Of the nodes with memory for this process the one nearest to an online CPU: its own, where that has some. Of several as near
    /// the first.
    ///
    /// ```
    /// use corelane::topology::Machine;
    ///
    /// let machine = Machine::flat(2);
    /// assert_eq!((machine.home_node(1), machine.home_node(2)), (Some(0), None));
    /// ```
    pub fn home_node(&self, cpu: CpuId) -> Option<u32> {
        let node = self.cpu(cpu)?.node;
        self.memory_nodes().into_iter().min_by_key(|&other| (self.node_distance(node, other), other))
    }
}

impl Placement {
    /// For each partition the node that its memory is to lie on, by the CPU that it is pinned to.
    pub fn home_nodes(&self, machine: &Machine) -> Vec<Option<u32>> {
        self.partitions.iter().map(|place| machine.home_node(place.cpu?)).collect()
    }
}
