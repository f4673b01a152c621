//! Bounding a ring by bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::EdgeControl;
use crate::model::Cost;
use crate::stage::catch;

/// What an item costs, as the user says.
pub type CostOf<T> = Arc<dyn Fn(&T) -> Cost + Send + Sync>;

/// Keeps the bytes of what one producer has in its ring, and of what it has staged.
///
/// All of it is on the producer's side: the costs of items in flight stand in a queue here, and leave it as the consumer's
/// position moves on. Bytes are within the bound, except for an item that is larger than all of it, which is alone.
pub(crate) struct Weigher<T> {
    cost: CostOf<T>,
    max: u64,
    /// Costs of the items in the ring, from position `released` on.
    in_ring: VecDeque<u64>,
    released: u64,
    /// How many of these, the first ones, no longer wait: the consumer has claimed them, or they were evicted.
    claimed: usize,
    ring_bytes: u64,
    claimed_bytes: u64,
    /// Costs of the items staged.
    staged: VecDeque<u64>,
    staged_bytes: u64,
}

impl<T> Weigher<T> {
    /// Bounds a ring to `max` bytes by `cost`.
    pub(crate) fn new(cost: CostOf<T>, max: u64) -> Self {
        Self {
            cost,
            max,
            in_ring: VecDeque::new(),
            released: 0,
            claimed: 0,
            ring_bytes: 0,
            claimed_bytes: 0,
            staged: VecDeque::new(),
            staged_bytes: 0,
        }
    }

    /// What `item` costs. A panic of the user's code fails the pipeline; until then the size of the type counts.
    pub(crate) fn weigh(&self, item: &T, edge: &EdgeControl) -> u64 {
        match catch(|| (self.cost)(item)) {
            Ok(cost) => cost.bytes(),
            Err(panic) => {
                edge.fail(panic);
                size_of::<T>() as u64
            }
        }
    }

    /// The slots of everything before `position` are free.
    pub(crate) fn release(&mut self, position: u64) {
        while self.released < position
            && let Some(bytes) = self.in_ring.pop_front()
        {
            self.released += 1;
            self.ring_bytes -= bytes;
            if self.claimed > 0 {
                self.claimed -= 1;
                self.claimed_bytes -= bytes;
            }
        }
    }

    /// Whether an item of `bytes` may enter the ring.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        self.in_ring.is_empty() || self.ring_bytes.saturating_add(bytes) <= self.max
    }

    /// An item of `bytes` has been pushed.
    pub(crate) fn pushed(&mut self, bytes: u64) {
        self.in_ring.push_back(bytes);
        self.ring_bytes = self.ring_bytes.saturating_add(bytes);
    }

    /// An item of `bytes` has been staged.
    pub(crate) fn stage(&mut self, bytes: u64) {
        self.staged.push_back(bytes);
        self.staged_bytes = self.staged_bytes.saturating_add(bytes);
    }

    /// The first staged item leaves; its bytes.
    pub(crate) fn unstage(&mut self) -> u64 {
        let bytes = self.staged.pop_front().unwrap_or(0);
        self.staged_bytes -= bytes;
        bytes
    }

    /// The bytes of the first staged item.
    pub(crate) fn first_staged(&self) -> u64 {
        self.staged.front().copied().unwrap_or(0)
    }

    /// All but `waiting` of the items in the ring no longer wait.
    pub(crate) fn claim(&mut self, waiting: usize) {
        while self.claimed + waiting < self.in_ring.len() {
            self.claimed_bytes += self.in_ring[self.claimed];
            self.claimed += 1;
        }
    }

    /// Whether an item of `bytes` fits beside everything that waits, in the ring and staged.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let alone = self.claimed == self.in_ring.len() && self.staged.is_empty();
        let waiting = self.ring_bytes - self.claimed_bytes;
        alone || waiting.saturating_add(self.staged_bytes).saturating_add(bytes) <= self.max
    }

    /// About how many items may follow: as many as fit by the average of those in flight, at least one if any may.
    pub(crate) fn room(&self) -> usize {
        if !self.admits(0) || self.ring_bytes >= self.max && !self.in_ring.is_empty() {
            return 0;
        }
        let average = self.ring_bytes.checked_div(self.in_ring.len() as u64).unwrap_or(self.max).max(1);
        usize::try_from((self.max - self.ring_bytes.min(self.max)) / average).unwrap_or(usize::MAX).max(1)
    }

    /// Bytes in the ring and staged.
    pub(crate) fn bytes(&self) -> u64 {
        self.ring_bytes.saturating_add(self.staged_bytes)
    }

    /// Nothing is staged any more.
    pub(crate) fn clear_staged(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
    }
}
