//! The blocks of one size class that are ready to be rented.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize};

use super::slab::Block;

/// The ready blocks of one class of one home: last in, first out, because what was used last is in the cache.
///
/// Its length is also what tells how many blocks are rented, so that a rent and a return count nothing else but the bytes asked
/// for. Written by the home core only; read by anybody for the statistics, so everything is atomic, and nothing is a locked
/// instruction. What a rent and a return need lies in the first cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Stack {
    /// Blocks taken, and blocks put here; what lies between is ready. Two counters, because a rent right after a return would wait
    /// for one counter's way through memory twice.
    taken: AtomicUsize,
    put: AtomicUsize,
    /// Room for all blocks there are.
    slots: AtomicPtr<Block>,
    /// As many blocks may be left and more, after a rent that has nothing to note: `fewest`, but not below 0.
    floor: AtomicUsize,
    /// Bytes asked for.
    asked: AtomicU64,
    /// Of those, what came back on the home core.
    asked_back: AtomicU64,
    /// The fewest blocks that were not rented, as if there had always been as many blocks as there are now.
    fewest: AtomicIsize,
    /// In checked mode, blocks that are ready; they wait elsewhere, and none is here.
    held: AtomicUsize,
    /// Blocks there are.
    blocks: AtomicUsize,
}

impl Stack {
    /// As [`pop`](Self::pop), and `None` also where the fewest blocks ever would be left: so one comparison is enough.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    #[inline(always)]
    pub(super) unsafe fn pop_noted(&self, requested: u64) -> Option<Block> {
        let ready = self.here();
        if ready <= self.floor.load(Relaxed) {
            return None;
        }
        // SAFETY: promised by the caller; there is a block, as the floor is not below 0.
        Some(unsafe { self.take(ready - 1, requested) })
    }

    /// Takes the block that was put here last, for a buffer of `requested` bytes.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    pub(super) unsafe fn pop(&self, requested: u64) -> Option<Block> {
        let left = self.here().checked_sub(1)?;
        self.note(left);
        // SAFETY: promised by the caller; there is a block.
        Some(unsafe { self.take(left, requested) })
    }

    /// # Safety
    /// The caller is on the home's thread; one more than `left` blocks are ready.
    #[inline(always)]
    unsafe fn take(&self, left: usize, requested: u64) -> Block {
        self.taken.store(self.taken.load(Relaxed).wrapping_add(1), Relaxed);
        self.asked.store(self.asked.load(Relaxed).wrapping_add(requested), Relaxed);
        // SAFETY: below the number of ready blocks, for which there is room.
        let slot = unsafe { self.slots.load(Relaxed).add(left) };
        // SAFETY: `push` wrote it, and only the home's thread comes here.
        unsafe { slot.read() }
    }

    /// Puts a block here that came from elsewhere, or is new.
    ///
    /// # Safety
    /// The caller is on the home's thread, and the block is of this class and was counted by [`grow`](Self::grow).
    #[inline(always)]
    pub(super) unsafe fn push(&self, block: Block) {
        let ready = self.here();
        // SAFETY: there is room for all blocks there are.
        let slot = unsafe { self.slots.load(Relaxed).add(ready) };
        // SAFETY: as above, and only the home's thread comes here.
        unsafe { slot.write(block) };
        self.put.store(self.put.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Puts a block here that was rented for `requested` bytes.
    ///
    /// # Safety
    /// As [`push`](Self::push).
    #[inline(always)]
    pub(super) unsafe fn take_back(&self, block: Block, requested: u64) {
        // SAFETY: promised by the caller.
        unsafe { self.push(block) };
        self.forget(requested);
    }

    /// The bytes of a buffer that came back on the home core are asked for no more.
    #[inline(always)]
    pub(super) fn forget(&self, requested: u64) {
        self.asked_back.store(self.asked_back.load(Relaxed).wrapping_add(requested), Relaxed);
    }

    fn note(&self, left: usize) {
        let left = left as isize;
        if left < self.fewest.load(Relaxed) {
            self.set_fewest(left);
        }
    }

    fn set_fewest(&self, fewest: isize) {
        self.fewest.store(fewest, Relaxed);
        self.floor.store(fewest.max(0) as usize, Relaxed);
    }

    /// In checked mode: there are `held` blocks elsewhere now, one less than before, for a buffer of `requested` bytes.
    pub(super) fn rented_elsewhere(&self, held: usize, requested: u64) {
        self.hold(held);
        self.note(held);
        self.asked.fetch_add(requested, Relaxed);
    }

    /// In checked mode: there are `held` blocks elsewhere now.
    pub(super) fn hold(&self, held: usize) {
        self.held.store(held, Relaxed);
    }

    /// There are `blocks` more.
    pub(super) fn grow(&self, blocks: usize) {
        self.blocks.fetch_add(blocks, Relaxed);
        self.set_fewest(self.fewest.load(Relaxed) + blocks as isize);
    }

    /// There are `blocks` fewer.
    pub(super) fn shrink(&self, blocks: usize) {
        self.blocks.fetch_sub(blocks, Relaxed);
        self.set_fewest(self.fewest.load(Relaxed) - blocks as isize);
    }

    /// The memory of the stack, in which `ready` blocks are.
    ///
    /// # Safety
    /// The caller is on the home's thread; `slots` has room for all blocks there are, starts with `ready` blocks that are ready, and
    /// stays until the next call.
    pub(super) unsafe fn set_slots(&self, slots: *mut Block, ready: usize) {
        self.slots.store(slots, Relaxed);
        self.put.store(self.taken.load(Relaxed).wrapping_add(ready), Relaxed);
    }

    /// Blocks that are ready.
    pub(super) fn ready(&self) -> usize {
        // Another thread may see one counter later than the other.
        (self.here() as isize).max(0) as usize + self.held.load(Relaxed)
    }

    /// Blocks that are ready here; on the home's thread.
    #[inline(always)]
    fn here(&self) -> usize {
        self.put.load(Relaxed).wrapping_sub(self.taken.load(Relaxed))
    }

    /// Blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.load(Relaxed)
    }

    /// Blocks that are not at home.
    pub(super) fn out(&self) -> u64 {
        self.blocks().saturating_sub(self.ready()) as u64
    }

    /// The most blocks that were not at home at once.
    pub(super) fn most_out(&self) -> u64 {
        (self.blocks() as isize - self.fewest.load(Relaxed)).max(0) as u64
    }

    /// Bytes asked for, without those that came back on the home core.
    pub(super) fn requested(&self) -> u64 {
        let back = self.asked_back.load(Relaxed);
        self.asked.load(Relaxed).wrapping_sub(back)
    }
}
