//! What only the home core uses: blocks that are ready, memory, and the ways to and from other cores.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ptr::NonNull;
use std::rc::Weak;
use std::sync::Arc;

use super::RentError;
use super::check::{Checked, Marks};
use super::class::{CLASSES, bytes_of};
use super::counters::Counters;
use super::home::Home;
use super::local::Owner;
use super::returns::{Outside, Parked, Peer, Sent};
use super::slab::{Block, HEADER_BYTES, Header, Region};
use super::stack::Stack;
use crate::ring::Consumer;

/// Steps between two looks for idle memory when nothing seems to have changed.
const STEPS_BETWEEN_LOOKS: u32 = 64;

/// What only the home core uses.
pub(super) struct Store {
    counters: Arc<Counters>,
    /// The memory of the stacks, by class.
    slots: [Vec<Block>; CLASSES],
    /// Blocks that are ready in checked mode, where stacks stay empty: first in, first out, so that a late write is seen.
    checked: Option<Box<[VecDeque<Block>; CLASSES]>>,
    /// Buffers that came home over the stack for outsiders.
    pub(super) came_by_stack: u64,
    pub(super) incoming: Vec<Consumer<Parked>>,
    /// Ways to other homes, by slot.
    pub(super) peers: Vec<Option<Box<Peer>>>,
    /// Some peer holds returns that are not visible yet.
    pub(super) is_dirty: bool,
    pub(super) regions: Vec<Region>,
    /// Slabs without a class.
    pub(super) spare: Vec<Region>,
    /// Blocks that were ready when idle memory was last looked for.
    pub(super) looked_at: usize,
    /// Steps since.
    pub(super) steps_since: u32,
    /// Why a buffer was refused last.
    pub(super) refusal: RentError,
    /// The home itself, as it was allocated.
    pub(super) me: NonNull<Home>,
    pub(super) owner: Weak<Owner>,
}

impl Store {
    pub(super) fn new(counters: Arc<Counters>, checked: bool, owner: Weak<Owner>) -> Self {
        Self {
            counters,
            slots: std::array::from_fn(|_| Vec::new()),
            checked: checked.then(|| Box::new(std::array::from_fn(|_| VecDeque::new()))),
            came_by_stack: 0,
            incoming: Vec::new(),
            peers: Vec::new(),
            is_dirty: false,
            regions: Vec::new(),
            spare: Vec::new(),
            looked_at: 0,
            steps_since: 0,
            refusal: RentError::Exhausted { size: 0, limit: 0 },
            me: NonNull::dangling(),
            owner,
        }
    }

    /// Sends a block to the home of its header, if the way there is known.
    #[inline]
    pub(super) fn send(&mut self, block: Block, header: &Header, bytes: u64, requested: u64) -> Option<Sent> {
        let peer =
            self.peers.get_mut(header.slot as usize)?.as_mut().filter(|peer| peer.lane == header.lane)?;
        self.is_dirty = true;
        Some(peer.send(block, bytes, requested))
    }

    /// Adds a way; the one to the home that had the slot before.
    pub(super) fn install(&mut self, slot: usize, peer: Peer) -> Option<Box<Peer>> {
        let slots = self.peers.len().max(slot + 1);
        self.peers.resize_with(slots, || None);
        self.peers[slot].replace(Box::new(peer))
    }

    /// Takes a block for a buffer of `requested` bytes.
    pub(super) fn pop(&mut self, class: usize, requested: u64) -> Option<Block> {
        let stack = &self.counters.stacks[class];
        let Some(checked) = &mut self.checked else {
            // SAFETY: a store is used on its home's thread only.
            return unsafe { stack.pop(requested) };
        };
        let block = checked[class].pop_front()?;
        stack.rented_elsewhere(checked[class].len(), requested);
        Some(block)
    }

    #[inline]
    pub(super) fn push(&mut self, block: Block, class: usize) {
        let stack = &self.counters.stacks[class];
        match &mut self.checked {
            // SAFETY: a store is used on its home's thread only; callers give blocks of this class.
            None => unsafe { stack.push(block) },
            Some(checked) => {
                checked[class].push_back(block);
                stack.hold(checked[class].len());
            }
        }
    }

    /// Takes in blocks that came from elsewhere. How many.
    #[inline]
    fn put_all(&mut self, from: impl Iterator<Item = Block>) -> u64 {
        let (mut blocks, mut bytes) = (0, 0);
        from.for_each(|block| {
            // SAFETY: the block is of one of this home's regions.
            let header = unsafe { block.header() };
            blocks += 1;
            bytes += header.block_bytes;
            if self.checked.is_some() {
                return self.push(block, header.class as usize);
            }
            // SAFETY: the stack lives as long as the home.
            let stack = unsafe { &*header.stack };
            // SAFETY: a store is used on its home's thread only; the header says which class the block is of.
            unsafe { stack.push(block) };
        });
        self.counters.came_home.add_many([blocks, bytes, 0]);
        blocks
    }

    /// Takes in what outsiders have returned.
    pub(super) fn take_in(&mut self, outside: &Outside) {
        self.came_by_stack += self.put_all(outside.take_all());
    }

    /// Whether a ring from another core has something.
    #[inline]
    pub(super) fn has_returns(&mut self) -> bool {
        self.incoming.iter_mut().any(|ring| ring.available() > 0)
    }

    pub(super) fn drain(&mut self) {
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.retain_mut(|ring| {
            let gone = ring.is_abandoned();
            self.put_all(ring.read(usize::MAX).map(Parked::take));
            !gone
        });
        self.incoming = incoming;
    }

    /// Cuts a region into blocks.
    pub(super) fn adopt(&mut self, mut region: Region, class: usize, home: &Home) {
        let block_bytes = bytes_of(class);
        let checked = self.checked.is_some();
        region.marks = checked.then(|| Box::new(Marks::new((region.bytes() - HEADER_BYTES) / block_bytes)));
        region.cut(Header {
            fast: if checked { std::ptr::dangling() } else { self.me.as_ptr() },
            home: self.me,
            lane: home.lane,
            pool: home.pool.id,
            slot: home.slot,
            class: class as u32,
            stack: &raw const self.counters.stacks[class],
            block_bytes: block_bytes as u64,
            marks: region.marks.as_deref().map_or(std::ptr::null(), std::ptr::from_ref),
        });
        let stack = &self.counters.stacks[class];
        stack.grow(region.blocks);
        if checked {
            home.pool.region_is_cut(&region);
        } else {
            // So that returning never allocates.
            let slots = &mut self.slots[class];
            slots.resize(stack.blocks(), Block::NOWHERE);
            // SAFETY: on the home's thread; the memory is kept here and holds what it held.
            unsafe { stack.set_slots(slots.as_mut_ptr(), stack.ready()) };
        }
        // The lowest address is rented first.
        for index in (0..region.blocks).rev() {
            let block = region.block(index, block_bytes);
            // SAFETY: the header has just been written.
            if let Some(checked) = Checked::new(block, unsafe { block.header() }, region.marks.as_deref()) {
                checked.poison();
            }
            self.push(block, class);
        }
        self.regions.push(region);
    }

    fn all_ready(&self) -> usize {
        self.counters.stacks.iter().map(Stack::ready).sum()
    }

    /// Whether idle memory should be looked for, which costs a look at every block that is ready: only if their number has
    /// changed, and now and then without that.
    pub(super) fn may_have_idle(&mut self) -> bool {
        self.steps_since += 1;
        self.all_ready() != self.looked_at || !self.spare.is_empty() || self.steps_since > STEPS_BETWEEN_LOOKS
    }

    /// Takes out all memory of which nothing is rented.
    pub(super) fn take_idle(&mut self) -> Vec<Region> {
        self.steps_since = 0;
        let mut ready = HashMap::<usize, usize>::new();
        for block in self.ready_blocks() {
            *ready.entry(block.region()).or_default() += 1;
        }
        let is_idle = |region: &Region| ready.get(&region.address()) == Some(&region.blocks);
        let addresses: HashSet<usize> =
            self.regions.iter().filter(|region| is_idle(region)).map(Region::address).collect();
        if !addresses.is_empty() {
            (0..CLASSES).for_each(|class| self.retain(class, |block| !addresses.contains(&block.region())));
        }
        let mut idle = std::mem::take(&mut self.spare);
        self.looked_at = self.all_ready();
        idle.extend(self.regions.extract_if(.., |region| addresses.contains(&region.address())));
        idle
    }

    fn ready_blocks(&self) -> impl Iterator<Item = Block> {
        let checked = self.checked.iter().flat_map(|checked| checked.iter().flatten());
        let stacks = self.slots.iter().zip(&self.counters.stacks);
        // In checked mode there are no slots.
        stacks.flat_map(|(slots, stack)| slots.iter().take(stack.ready())).chain(checked).copied()
    }

    /// Gives up the ready blocks of `class` that do not stay.
    fn retain(&mut self, class: usize, stays: impl Fn(&Block) -> bool) {
        let stack = &self.counters.stacks[class];
        let before = stack.ready();
        let after = match &mut self.checked {
            Some(checked) => {
                checked[class].retain(stays);
                stack.hold(checked[class].len());
                checked[class].len()
            }
            None => {
                let slots = &mut self.slots[class];
                slots.truncate(before);
                slots.retain(stays);
                let after = slots.len();
                let unused = stack.blocks() - before;
                slots.resize(after + unused, Block::NOWHERE);
                // SAFETY: on the home's thread; there is room for the blocks that stay, and for those that are rented.
                unsafe { stack.set_slots(slots.as_mut_ptr(), after) };
                after
            }
        };
        stack.shrink(before - after);
    }
}
