//! What has become of the wish that memory lies near the core that uses it.

use std::fmt;

use crate::policy::MemoryLocality;
use crate::sync::{BindError, HomeNode};
use crate::topology::{Machine, Placement};

/// What a core map's wish for [memory](MemoryLocality) has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBinding {
    /// Rings and slabs of the pool are bound to the nodes of their partitions, this firmly.
    Bound(MemoryLocality),
    /// The core map asks for nothing: memory lies where it is touched first, or where the policy of the process says.
    NotAsked,
    /// There is memory on one node only: nothing is bound, and nothing lies elsewhere.
    OneNode,
    /// The system refused, as it may where the wish is not strict: memory lies where it is touched first.
    Refused(BindError),
}

impl MemoryBinding {
    /// Finds out what the wish of `placement` comes to, by trying each node that is to be bound to.
    ///
    /// # Errors
    /// [`BindError`], where the wish is strict and the system refuses.
    pub(crate) fn of(placement: &Placement, machine: &Machine) -> Result<Self, BindError> {
        let locality = placement.memory;
        match locality {
            MemoryLocality::Any => return Ok(Self::NotAsked),
            // One that is strict is checked all the same: it is an error if it cannot be.
            MemoryLocality::Local if machine.memory_nodes().len() < 2 => return Ok(Self::OneNode),
            _ => {}
        }
        let mut nodes: Vec<u32> = placement.home_nodes(machine).into_iter().flatten().collect();
        nodes.sort_unstable();
        nodes.dedup();
        let tried = nodes.into_iter().try_for_each(|node| HomeNode { node, locality }.try_out());
        match tried {
            Ok(()) => Ok(Self::Bound(locality)),
            Err(error) if locality == MemoryLocality::Strict => Err(error),
            Err(error) => Ok(Self::Refused(error)),
        }
    }

    /// How firmly the memory of partitions is bound.
    pub fn locality(self) -> MemoryLocality {
        match self {
            Self::Bound(locality) => locality,
            _ => MemoryLocality::Any,
        }
    }

    /// For each partition where its memory is to lie.
    pub(crate) fn homes(self, placement: &Placement, machine: &Machine) -> Vec<Option<HomeNode>> {
        let home = |node: Option<u32>| node.map(|node| HomeNode { node, locality: self.locality() });
        placement.home_nodes(machine).into_iter().map(home).collect()
    }
}

impl fmt::Display for MemoryBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(locality) => write!(f, "bound to the nodes of its cores ({locality})"),
            Self::NotAsked => f.write_str("where it is touched first: the core map says any"),
            Self::OneNode => f.write_str("all on one node: nothing to bind"),
            Self::Refused(error) => write!(f, "where it is touched first: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Parallelism;
    use crate::topology::{CoreMap, CpuList, NumaNode};

    /// This machine's node 0, and one that no machine has.
    fn two_nodes() -> Machine {
        let mut machine = Machine::flat(2);
        machine.cpus[1].node = 1023;
        let far = CpuList::from_iter([1]);
        machine.nodes.push(NumaNode { id: 1023, cpus: far, memory: None, distances: vec![20, 10] });
        machine
    }

    fn binding(map: &str, machine: &Machine) -> Result<MemoryBinding, BindError> {
        let stages = [("a".parse().unwrap(), Parallelism::CpuBound)];
        let placement = map.parse::<CoreMap>().unwrap().resolve(machine, &stages).unwrap();
        MemoryBinding::of(&placement, machine)
    }

    #[test]
    fn one_node_needs_no_binding_and_any_asks_for_none() {
        assert_eq!(binding("*=*", &Machine::flat(2)), Ok(MemoryBinding::OneNode));
        for machine in [Machine::flat(2), two_nodes()] {
            assert_eq!(binding("*=*;@memory=any", &machine), Ok(MemoryBinding::NotAsked));
        }
    }

    #[test]
    fn a_system_that_refuses_is_put_up_with_unless_the_wish_is_strict() {
        let refused = binding("*=*", &two_nodes());
        let Ok(MemoryBinding::Refused(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(binding("*=*;@memory=strict", &two_nodes()), Err(error));
        let said = MemoryBinding::Refused(error);
        assert_eq!(said.locality(), MemoryLocality::Any);
        assert!(said.to_string().starts_with("where it is touched first: "), "{said}");
    }

    #[test]
    fn what_can_be_bound_is_bound_as_firmly_as_was_asked() {
        for (map, machine, locality) in [
            ("*=0;@memory=local", two_nodes(), MemoryLocality::Local),
            ("*=*;@memory=strict", Machine::flat(2), MemoryLocality::Strict),
        ] {
            match binding(map, &machine) {
                Err(BindError::NotPermitted { .. }) | Ok(MemoryBinding::Refused(_)) => {
                    println!("left out: the system refuses");
                }
                bound => assert_eq!(bound, Ok(MemoryBinding::Bound(locality)), "{map}"),
            }
        }
    }
}
