//! The blocks of one size class that are ready to be rented.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize};

use super::slab::Block;

/// The ready blocks of one class of one home: last in, first out, because what was used last is in the cache.
///
/// Its length is also what tells how many blocks are rented, so that a rent and a return count nothing else but the bytes asked
/// for. Written by the home core only; read by anybody for the statistics, so everything is atomic, and nothing is a locked
/// instruction. One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Stack {
    ready: AtomicUsize,
    /// Room for all blocks there are.
    slots: AtomicPtr<Block>,
    /// The fewest blocks that were not rented, as if there had always been as many blocks as there are now.
    fewest: AtomicIsize,
    /// In checked mode, blocks that are ready; they wait elsewhere, and none is here.
    held: AtomicUsize,
    /// Blocks there are.
    blocks: AtomicUsize,
    /// Bytes asked for, without those that came back on the home core.
    requested: AtomicU64,
}

impl Stack {
    /// Takes the block that was put here last, for a buffer of `requested` bytes.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    #[inline(always)]
    pub(super) unsafe fn pop(&self, requested: u64) -> Option<Block> {
        let left = self.ready.load(Relaxed).checked_sub(1)?;
        self.ready.store(left, Relaxed);
        self.note(left);
        self.requested.store(self.requested.load(Relaxed) + requested, Relaxed);
        // SAFETY: below the number of ready blocks, for which there is room.
        let slot = unsafe { self.slots.load(Relaxed).add(left) };
        // SAFETY: `push` wrote it, and only the home's thread comes here.
        Some(unsafe { slot.read() })
    }

    /// Puts a block here that came from elsewhere, or is new.
    ///
    /// # Safety
    /// The caller is on the home's thread, and the block is of this class and was counted by [`grow`](Self::grow).
    #[inline(always)]
    pub(super) unsafe fn push(&self, block: Block) {
        let ready = self.ready.load(Relaxed);
        // SAFETY: there is room for all blocks there are.
        let slot = unsafe { self.slots.load(Relaxed).add(ready) };
        // SAFETY: as above, and only the home's thread comes here.
        unsafe { slot.write(block) };
        self.ready.store(ready + 1, Relaxed);
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
        self.requested.store(self.requested.load(Relaxed) - requested, Relaxed);
    }

    #[inline(always)]
    fn note(&self, left: usize) {
        let left = left as isize;
        if left < self.fewest.load(Relaxed) {
            self.fewest.store(left, Relaxed);
        }
    }

    /// In checked mode: there are `held` blocks elsewhere now, one less than before, for a buffer of `requested` bytes.
    pub(super) fn rented_elsewhere(&self, held: usize, requested: u64) {
        self.hold(held);
        self.note(held);
        self.requested.fetch_add(requested, Relaxed);
    }

    /// In checked mode: there are `held` blocks elsewhere now.
    pub(super) fn hold(&self, held: usize) {
        self.held.store(held, Relaxed);
    }

    /// There are `blocks` more.
    pub(super) fn grow(&self, blocks: usize) {
        self.blocks.fetch_add(blocks, Relaxed);
        self.fewest.fetch_add(blocks as isize, Relaxed);
    }

    /// There are `blocks` fewer.
    pub(super) fn shrink(&self, blocks: usize) {
        self.blocks.fetch_sub(blocks, Relaxed);
        self.fewest.fetch_sub(blocks as isize, Relaxed);
    }

    /// The memory of the stack, in which `ready` blocks are.
    ///
    /// # Safety
    /// The caller is on the home's thread; `slots` has room for all blocks there are, starts with `ready` blocks that are ready, and
    /// stays until the next call.
    pub(super) unsafe fn set_slots(&self, slots: *mut Block, ready: usize) {
        self.slots.store(slots, Relaxed);
        self.ready.store(ready, Relaxed);
    }

    /// Blocks that are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.load(Relaxed) + self.held.load(Relaxed)
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
        self.requested.load(Relaxed)
    }
}
