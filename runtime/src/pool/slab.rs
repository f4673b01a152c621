//! Memory from the system, cut into blocks behind a header that every block can find.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::check::Marks;
use super::class::{LINE_BYTES, bytes_of};
use super::home::Home;
use super::stack::Stack;

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
    base: NonNull<u8>,
    bytes: usize,
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

    /// Maps `bytes`, a multiple of the page size, at a multiple of `align`, and writes to every page, so that the memory lies
    /// where the calling core is.
    pub(super) fn map(bytes: usize, align: usize, huge: bool) -> Result<Self, Errno> {
        let padded = bytes + align;
        // SAFETY: a new private mapping overlaps nothing.
        let start = unsafe {
            mmap_anonymous(null_mut(), padded, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let before = start.cast::<u8>().align_offset(align);
        let base = start.cast::<u8>().wrapping_add(before);
        unmap(start, before);
        unmap(base.wrapping_add(bytes).cast(), padded - before - bytes);
        let Some(base) = NonNull::new(base) else { return Err(Errno::NOMEM) };
        let region = Self { base, bytes, blocks: 0, class: 0, marks: None };
        if huge {
            // SAFETY: the range is ours. The system may refuse: then pages are small.
            let _ = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        region.touch();
        Ok(region)
    }

    fn touch(&self) {
        for page in (0..self.bytes).step_by(PAGE_BYTES) {
            // SAFETY: inside the region.
            let page = unsafe { self.base.add(page) };
            // SAFETY: the region is ours, writable, and nothing refers to it yet.
            unsafe { page.write_volatile(0) };
        }
    }

    /// Cuts the region into slabs.
    pub(super) fn into_slabs(self) -> impl Iterator<Item = Self> {
        debug_assert!(self.blocks == 0 && self.bytes.is_multiple_of(SLAB_BYTES));
        let whole = std::mem::ManuallyDrop::new(self);
        (0..whole.bytes / SLAB_BYTES).map(move |index| {
            // SAFETY: inside the region.
            let base = unsafe { whole.base.add(index * SLAB_BYTES) };
            Self { base, bytes: SLAB_BYTES, blocks: 0, class: 0, marks: None }
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it starts: the address of its header.
    pub(super) fn address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// Writes the header and says how many blocks there are. None of them is rented.
    pub(super) fn cut(&mut self, header: Header) {
        let block = header.block_bytes as usize;
        self.class = header.class as usize;
        self.blocks = (self.bytes - HEADER_BYTES) / block;
        // SAFETY: the region is aligned for a header and larger than one; nobody reads it before a block is rented.
        unsafe { self.base.cast::<Header>().write(header) };
    }

    /// The block at `index`, below [`blocks`](Self::blocks).
    pub(super) fn block(&self, index: usize, block_bytes: usize) -> Block {
        debug_assert!(index < self.blocks);
        // SAFETY: inside the region.
        Block(unsafe { self.base.add(HEADER_BYTES + index * block_bytes) })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.base.as_ptr().cast(), self.bytes);
    }
}

fn unmap(start: *mut c_void, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the range was mapped by `Region::map`, and nothing refers to it any more.
        let unmapped = unsafe { munmap(start, bytes) };
        debug_assert!(unmapped.is_ok(), "munmap: {unmapped:?}");
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
