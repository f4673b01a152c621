//! Where the slots of a ring lie.

use std::sync::Weak;

use crate::observe::PageNodes;
use crate::sync::{HomeNode, Mapping, Mutex};

/// Where the slots of a ring lie, for whoever watches it; from any thread, and without a word to its two ends.
pub struct RingPages {
    home: HomeNode,
    /// Bytes of the slots.
    bytes: usize,
    /// `None` for a ring smaller than a page.
    mapping: Option<Weak<Mapping>>,
    /// What was found when somebody looked last.
    last: Mutex<PageNodes>,
}

impl RingPages {
    pub(super) fn new(home: HomeNode, bytes: usize, mapping: Option<Weak<Mapping>>) -> Self {
        Self { home, bytes, mapping, last: Mutex::new(PageNodes::default()) }
    }

    /// Where they are to lie.
    pub fn home(&self) -> HomeNode {
        self.home
    }

    /// Bytes of the slots if they are less than a page. They share it with other memory, and lie where that was touched first: by the
    /// consumer if the ring was the first to use it.
    pub fn small_bytes(&self) -> u64 {
        if self.mapping.is_none() { self.bytes as u64 } else { 0 }
    }

    /// Where they lie now; of a ring that is gone, where they lay when somebody looked last. Slots smaller than a page are not looked
    /// for. Costs a system call for each 512 pages; the ends of the ring do not notice.
    ///
    /// # Errors
    /// The system does not say.
    pub fn look(&self) -> std::io::Result<PageNodes> {
        let mut last = self.last.lock();
        if let Some(mapping) = self.mapping.as_ref().and_then(Weak::upgrade) {
            *last = mapping.page_nodes()?;
        }
        Ok(last.clone())
    }
}
