//! Memory from the system, cut into blocks behind a header that every block can find.

use std::ptr::NonNull;

use rustix::io::Errno;

use super::check::Marks;
use super::class::bytes_of;
use super::home::Home;
use super::stack::Stack;
use crate::policy::MemoryLocality;
use crate::sync::{BindError, HomeNode, LINE_BYTES, Mapping};

/// Size and alignment of a slab. A block starts in the first slab of its region, so its header is found by rounding down.
pub(super) const SLAB_BYTES: usize = if cfg!(corelane_loom) { 4096 } else { 256 * 1024 };

/// Blocks above this have a region of their own.
const MAX_SHARED_BYTES: usize = if cfg!(corelane_loom) { 1984 } else { SLAB_BYTES / 8 };

/// What the system maps at once when huge pages are asked for.
pub(super) const HUGE_BYTES: usize = 8 * SLAB_BYTES;

const PAGE_BYTES: usize = 4096;

/// The first line of a region. Written by the home core while none of its blocks is rented; read by whoever returns one.
#[repr(C, align(64))]
pub(super) struct Header {
    /// The home, for a return without further checks. In checked mode an address that no home has.
    pub(super) fast: *const Home,
    /// The home. Alive for as long as a block of the region is rented.
    pub(super) home: NonNull<Home>,
    /// The home's number; no two homes of a process have the same.
    pub(super) lane: u64,
    /// The number of its pool.
    pub(super) pool: u64,
    /// The home's index among the open ones of its pool.
    pub(super) slot: u32,
    pub(super) class: u32,
    /// Where ready blocks of this class are.
    pub(super) stack: *const Stack,
    /// Bytes of a block, guards included.
    pub(super) block_bytes: u64,
    /// In checked mode, what is known of each block.
    pub(super) marks: *const Marks,
}

/// Bytes before the first block.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == LINE_BYTES);

/// Memory mapped for one home: one or more slabs, with a header once it has a class.
pub(super) struct Region {
    mapping: Mapping,
    /// Blocks it was cut into; 0 while it has no class.
    pub(super) blocks: usize,
    pub(super) class: usize,
    pub(super) marks: Option<Box<Marks>>,
}

impl Region {
    /// Bytes to map for blocks of `class`.
    pub(super) fn bytes_for(class: usize) -> usize {
        let block = bytes_of(class);
        if block <= MAX_SHARED_BYTES {
            SLAB_BYTES
        } else {
            (HEADER_BYTES + block).next_multiple_of(PAGE_BYTES)
        }
    }

    /// Maps `bytes`, a multiple of the page size, at a multiple of `align`, on the node of `home` if there is one, and writes to every
    /// page, so that otherwise the memory lies where the calling core is.
    pub(super) fn map(
        bytes: usize,
        align: usize,
        huge: bool,
        home: Option<HomeNode>,
    ) -> Result<Self, MapError> {
        let mapping = Mapping::new(bytes, align, huge)?;
        if let Some(home) = home {
            // SAFETY: just mapped, and known to nobody yet.
            let bound = unsafe { mapping.bind_empty(home) };
            // A wish that is not strict is put up with; where the pages lie is reported.
            bound
                .or_else(|error| if home.locality == MemoryLocality::Strict { Err(error) } else { Ok(()) })?;
        }
        // SAFETY: just mapped, and known to nobody yet.
        unsafe { mapping.touch() };
        Ok(Self::from(mapping))
    }

    /// Cuts the region into slabs.
    pub(super) fn into_slabs(self) -> impl Iterator<Item = Self> {
        debug_assert!(self.blocks == 0);
        self.mapping.into_parts(SLAB_BYTES).map(Self::from)
    }

    pub(super) fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    /// Where it starts: the address of its header.
    pub(super) fn address(&self) -> usize {
        self.mapping.base().as_ptr().addr()
    }

    /// Writes the header and says how many blocks there are. None of them is rented.
    pub(super) fn cut(&mut self, header: Header) {
        let block = header.block_bytes as usize;
        self.class = header.class as usize;
        self.blocks = (self.bytes() - HEADER_BYTES) / block;
        // SAFETY: the region is aligned for a header and larger than one; nobody reads it before a block is rented.
        unsafe { self.mapping.base().cast::<Header>().write(header) };
    }

    /// The block at `index`, below [`blocks`](Self::blocks).
    pub(super) fn block(&self, index: usize, block_bytes: usize) -> Block {
        debug_assert!(index < self.blocks);
        // SAFETY: inside the region.
        Block(unsafe { self.mapping.base().add(HEADER_BYTES + index * block_bytes) })
    }
}

impl From<Mapping> for Region {
    fn from(mapping: Mapping) -> Self {
        Self { mapping, blocks: 0, class: 0, marks: None }
    }
}

/// Why there is no region.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapError {
    /// The system has no memory.
    System(Errno),
    /// It does not let it be where it must be.
    Bind(BindError),
}

impl From<Errno> for MapError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl From<BindError> for MapError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

/// Memory that is not rented, or about to be. Owned by whoever holds it; may be sent to another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Block(pub(super) NonNull<u8>);

// SAFETY: a block is memory that only its holder may use.
unsafe impl Send for Block {}

impl Block {
    /// No block: what a slot holds that is not in use.
    pub(super) const NOWHERE: Self = Self(NonNull::dangling());

    /// The address of its region's header.
    #[inline(always)]
    pub(super) fn region(self) -> usize {
        self.0.as_ptr().addr() & !(SLAB_BYTES - 1)
    }

    /// The header of its region.
    ///
    /// # Safety
    /// The region is mapped and stays so while the reference is used.
    #[inline(always)]
    pub(super) unsafe fn header<'a>(self) -> &'a Header {
        let offset = self.0.as_ptr().addr() % SLAB_BYTES;
        let header = self.0.as_ptr().wrapping_sub(offset).cast::<Header>();
        // SAFETY: blocks start in the first slab of their region, which starts with a header.
        unsafe { &*header }
    }

    /// Makes this block point to `next`, in its own memory.
    ///
    /// # Safety
    /// The caller owns the block.
    pub(super) unsafe fn set_next(self, next: *mut u8) {
        // SAFETY: a block is at least a line, aligned to a line, and owned by the caller.
        unsafe { self.0.cast::<*mut u8>().write(next) };
    }

    /// What [`set_next`](Self::set_next) wrote.
    ///
    /// # Safety
    /// The caller owns the block, and `set_next` was the last to write to it.
    pub(super) unsafe fn next(self) -> Option<Self> {
        // SAFETY: promised by the caller.
        let next = unsafe { self.0.cast::<*mut u8>().read() };
        NonNull::new(next).map(Self)
    }
}
