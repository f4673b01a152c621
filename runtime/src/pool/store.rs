//! What only the home core uses: blocks that are ready, memory, and the ways to and from other cores.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ptr::NonNull;
use std::rc::Weak;
use std::sync::atomic::Ordering::Relaxed;

use super::check::{Checked, Marks};
use super::class::{CLASSES, bytes_of};
use super::counters::Counters;
use super::home::Home;
use super::local::Owner;
use super::returns::{Parked, Peer, Sent, drain};
use super::slab::{Block, HEADER_BYTES, Header, Region};
use crate::ring::Consumer;

/// Steps between two looks for idle memory when nothing seems to have changed.
const STEPS_BETWEEN_LOOKS: u32 = 64;

/// What only the home core uses.
pub(super) struct Store {
    /// Blocks to be rented, by class; last in, first out, because what was used last is in the cache.
    pub(super) ready: [Vec<Block>; CLASSES],
    /// The same in checked mode, where `ready` stays empty: first in, first out, so that a late write is seen.
    pub(super) checked: Option<Box<[VecDeque<Block>; CLASSES]>>,
    /// Where `rented.bytes` must go for a new peak: the peak, plus the bytes that came home from elsewhere.
    pub(super) peak_at: u64,
    pub(super) came_home_bytes: u64,
    /// Buffers that came home through rings.
    pub(super) came_by_ring: u64,
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
    /// The home itself, as it was allocated.
    pub(super) me: NonNull<Home>,
    pub(super) owner: Weak<Owner>,
}

impl Store {
    pub(super) fn new(checked: bool, owner: Weak<Owner>) -> Self {
        Self {
            ready: std::array::from_fn(|_| Vec::new()),
            checked: checked.then(|| Box::new(std::array::from_fn(|_| VecDeque::new()))),
            peak_at: 0,
            came_home_bytes: 0,
            came_by_ring: 0,
            incoming: Vec::new(),
            peers: Vec::new(),
            is_dirty: false,
            regions: Vec::new(),
            spare: Vec::new(),
            looked_at: 0,
            steps_since: 0,
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

    /// Counts a rent.
    #[inline(always)]
    pub(super) fn rented(&mut self, counters: &Counters, bytes: usize, requested: usize) {
        counters.rented.add(bytes as u64, requested as u64);
        let rented = counters.rented.bytes();
        if rented > self.peak_at {
            self.peak_at = rented;
            counters.peak.store(rented - self.came_home_bytes, Relaxed);
        }
    }

    /// How many blocks of `class` are ready.
    pub(super) fn ready(&self, class: usize) -> usize {
        self.checked.as_ref().map_or(self.ready[class].len(), |checked| checked[class].len())
    }

    pub(super) fn pop(&mut self, class: usize) -> Option<Block> {
        match &mut self.checked {
            None => self.ready[class].pop(),
            Some(checked) => checked[class].pop_front(),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, block: Block, class: usize) {
        match &mut self.checked {
            None => self.ready[class].push(block),
            Some(checked) => checked[class].push_back(block),
        }
    }

    /// Takes in a block that came from elsewhere.
    #[inline]
    pub(super) fn put(&mut self, block: Block) {
        // SAFETY: the block is of one of this home's regions.
        let header = unsafe { block.header() };
        self.came_home_bytes += header.block_bytes;
        self.peak_at += header.block_bytes;
        self.push(block, header.class as usize);
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
            self.came_by_ring += drain(ring, |block| self.put(block));
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
            block_bytes: block_bytes as u64,
            marks: region.marks.as_deref().map_or(std::ptr::null(), std::ptr::from_ref),
        });
        if checked {
            home.pool.add_region(region.address(), region.bytes());
        } else {
            // So that returning never allocates.
            let same = self.regions.iter().filter(|region| region.class == class);
            let blocks = same.map(|region| region.blocks).sum::<usize>() + region.blocks;
            let ready = &mut self.ready[class];
            ready.reserve(blocks - ready.len());
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
        (0..CLASSES).map(|class| self.ready(class)).sum()
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
        let checked = self.checked.iter().flat_map(|checked| checked.iter().flatten());
        for block in self.ready.iter().flatten().chain(checked) {
            *ready.entry(block.region()).or_default() += 1;
        }
        let is_idle = |region: &Region| ready.get(&region.address()) == Some(&region.blocks);
        let addresses: HashSet<usize> =
            self.regions.iter().filter(|region| is_idle(region)).map(Region::address).collect();
        let stays = |block: &Block| !addresses.contains(&block.region());
        self.ready.iter_mut().for_each(|ready| ready.retain(stays));
        self.checked.iter_mut().flat_map(|checked| checked.iter_mut()).for_each(|ready| ready.retain(stays));
        let mut idle = std::mem::take(&mut self.spare);
        self.looked_at = self.all_ready();
        idle.extend(self.regions.extract_if(.., |region| addresses.contains(&region.address())));
        idle
    }
}
