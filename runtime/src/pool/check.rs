//! The checked mode: what misuse of buffers it finds.

use std::sync::atomic::{AtomicU64, Ordering};

use super::slab::{Block, HEADER_BYTES, Header};
use crate::sync::LINE_BYTES;

/// Bytes before a checked buffer, so that a write in front of it is seen.
pub(super) const FRONT_BYTES: usize = LINE_BYTES;
/// Bytes behind a checked buffer, at least.
pub(super) const BACK_BYTES: usize = LINE_BYTES;

/// Fills memory that is not rented.
const POISON: u8 = 0xa5;
/// Fills what lies around a rented buffer.
const GUARD: u8 = 0xc3;

/// What was done to a buffer that must not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// Returned, though it had been returned before and not rented since.
    #[error("a buffer was returned twice")]
    DoubleReturn,
    /// Returned by a handle of an earlier rent of the same memory.
    #[error("a buffer was returned by a stale handle: its memory has been rented again")]
    StaleReturn,
    /// Written to after its return; found when the memory is rented again.
    #[error("a buffer was written to after its return")]
    WriteAfterReturn,
    /// Written to behind its end.
    #[error("a buffer was written past its end")]
    Overrun,
    /// Written to in front of its start.
    #[error("a buffer was written to before its start")]
    Underrun,
    /// Returned with another length than it was rented with.
    #[error("a buffer was returned with a length that it was not rented with")]
    WrongLength,
    /// An address inside a buffer, or between two, was returned.
    #[error("an address was returned that is not the start of a buffer")]
    InteriorPointer,
    /// An address that is not of this pool was returned.
    #[error("an address was returned that is not of this pool")]
    ForeignPointer,
}

/// Ends the misuse here and now. What the process does with a panic is its choice; the buffer is not used again.
#[cold]
#[inline(never)]
pub(super) fn misuse(kind: Misuse, address: usize) -> ! {
    panic!("misuse of the memory pool at {address:#x}: {kind}")
}

/// What is known of each block of a region: twice the number of times it was rented, plus one while it is rented; and its length.
pub(super) struct Marks(Box<[(AtomicU64, AtomicU64)]>);

impl Marks {
    /// Marks for `blocks` blocks that were never rented.
    pub(super) fn new(blocks: usize) -> Self {
        Self((0..blocks).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect())
    }

    fn of(&self, block: Block, header: &Header) -> Option<&(AtomicU64, AtomicU64)> {
        let offset = block.0.as_ptr().addr().checked_sub(std::ptr::from_ref(header).addr() + HEADER_BYTES)?;
        let bytes = header.block_bytes as usize;
        self.0.get(offset / bytes).filter(|_| offset.is_multiple_of(bytes))
    }
}

/// A checked block.
pub(super) struct Checked<'a> {
    block: Block,
    header: &'a Header,
    mark: &'a (AtomicU64, AtomicU64),
}

impl<'a> Checked<'a> {
    /// `None` unless the region is checked and the block is one of its blocks.
    pub(super) fn new(block: Block, header: &'a Header, marks: Option<&'a Marks>) -> Option<Self> {
        Some(Self { block, header, mark: marks?.of(block, header)? })
    }

    fn address(&self) -> usize {
        self.block.0.as_ptr().addr() + FRONT_BYTES
    }

    fn fill(&self, from: usize, to: usize, with: u8) {
        debug_assert!(from <= to && to <= self.header.block_bytes as usize);
        // SAFETY: inside the block.
        let start = unsafe { self.block.0.add(from) };
        // SAFETY: inside the block, which is not rented or about to be returned by its holder.
        unsafe { start.write_bytes(with, to - from) };
    }

    fn holds(&self, from: usize, to: usize, expected: u8) -> bool {
        // SAFETY: inside the block.
        let start = unsafe { self.block.0.add(from) };
        // SAFETY: inside the block, whose memory has been written to since it was mapped.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), to - from) };
        bytes.iter().all(|byte| *byte == expected)
    }

    /// Prepares a block that was never rented.
    pub(super) fn poison(&self) {
        self.fill(0, self.header.block_bytes as usize, POISON);
    }

    /// Rents the block for `length` bytes; the number of this rent.
    pub(super) fn rent(&self, length: u32) -> u32 {
        let end = self.header.block_bytes as usize;
        // The first line may hold the link of the stack that the block came home on.
        if !self.holds(FRONT_BYTES, end, POISON) {
            misuse(Misuse::WriteAfterReturn, self.address());
        }
        self.fill(0, FRONT_BYTES, GUARD);
        self.fill(FRONT_BYTES + length as usize, end, GUARD);
        self.mark.1.store(u64::from(length), Ordering::Relaxed);
        let rents = self.mark.0.load(Ordering::Relaxed) / 2 + 1;
        self.mark.0.store(2 * rents + 1, Ordering::Release);
        rents as u32
    }

    /// Checks that the block is rented for `length` bytes, for the `generation`th time.
    pub(super) fn verify(&self, length: u32, generation: u32) -> u64 {
        let mark = self.mark.0.load(Ordering::Acquire);
        let rents = (mark / 2) as u32;
        let wrong = match (mark & 1 == 1, rents == generation) {
            (true, true) if self.mark.1.load(Ordering::Relaxed) == u64::from(length) => return mark,
            (true, true) => Misuse::WrongLength,
            (true, false) => Misuse::StaleReturn,
            (false, _) => Misuse::DoubleReturn,
        };
        misuse(wrong, self.address())
    }

    /// Checks the buffer and makes the block one that is not rented.
    pub(super) fn return_it(&self, length: u32, generation: u32) {
        let mark = self.verify(length, generation);
        // From here on a second return is one, also if it comes from another thread at the same moment.
        if self.mark.0.compare_exchange(mark, mark - 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            misuse(Misuse::DoubleReturn, self.address());
        }
        if !self.holds(0, FRONT_BYTES, GUARD) {
            misuse(Misuse::Underrun, self.address());
        }
        if !self.holds(FRONT_BYTES + length as usize, self.header.block_bytes as usize, GUARD) {
            misuse(Misuse::Overrun, self.address());
        }
        self.poison();
    }
}
