//! Where the memory of a pipeline lies.

use std::collections::BTreeMap;
use std::io;

use super::Monitor;
use crate::observe::{HeldPages, MemoryHolder, PageNodes};

impl Monitor {
    /// Where rings and the memory pool of the pipeline lie now, by holder and partition, in that order; once it has ended, where they lay then,
    /// if they were bound to a node. Nothing of a partition whose node is not known.
    ///
    /// The kernel is asked for the node of each page, which costs a system call for 512 of them on the calling thread. No partition
    /// notices.
    ///
    /// # Errors
    /// The system does not say: it has no NUMA, or a filter of system calls is in the way.
    pub fn held_pages(&self) -> io::Result<Vec<HeldPages>> {
        let mut held = Vec::new();
        for (wires, (from, to)) in self.edges.iter().zip(&*self.ends) {
            let mut partitions = BTreeMap::<usize, HeldPages>::new();
            for (partition, pages) in wires.inlets.iter().filter_map(|cells| cells.pages()) {
                let here = partitions.entry(partition).or_insert_with(|| HeldPages {
                    holder: MemoryHolder::Rings { from: self.ids[*from].clone(), to: self.ids[*to].clone() },
                    partition,
                    home: Some(pages.home().node),
                    pages: PageNodes::default(),
                    small_bytes: 0,
                });
                here.pages.add(&pages.look()?);
                here.small_bytes += pages.small_bytes();
            }
            held.extend(partitions.into_values());
        }
        let mut homes = self.control().pool_homes();
        homes.sort_by_key(|home| home.partition);
        for (home, place) in homes.iter().filter_map(|home| Some((home, home.home?))) {
            held.push(HeldPages {
                holder: MemoryHolder::Pool,
                partition: home.partition,
                home: Some(place.node),
                pages: home.gauge.page_nodes()?,
                small_bytes: 0,
            });
        }
        held.retain(|held| held.pages != PageNodes::default() || held.small_bytes > 0);
        Ok(held)
    }
}
