//! The buffer that is rented.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use bytes::Bytes;

use super::check::{Checked, FRONT_BYTES, Misuse, misuse};
use super::home::Home;
use super::local::current;
use super::shared::Shared;
use super::slab::{Block, Header};

/// Bytes rented from a [`MemoryPool`](super::MemoryPool), returned when dropped, on whatever thread that is.
///
/// Starts at a multiple of 64 bytes and shares no cache line with another buffer. Two words large. Its length is the size that
/// was asked for; what is in it at first is left over from earlier use.
///
/// ```
/// use bytes::Bytes;
/// use corelane::pool::MemoryPool;
///
/// let pool = MemoryPool::default();
/// let core = pool.open(None)?;
/// let mut buffer = core.rent(5)?;
/// buffer.copy_from_slice(b"hello");
///
/// let bytes = Bytes::from(buffer); // the same memory
/// let tail = bytes.slice(1..);
/// drop(bytes);
/// assert_eq!(pool.statistics().rented_buffers, 1);
///
/// std::thread::spawn(move || assert_eq!(&tail[..], b"ello")).join().unwrap();
/// assert_eq!(pool.statistics().rented_buffers, 0);
/// # Ok::<(), corelane::pool::RentError>(())
/// ```
///
/// A buffer cannot be used after its return, or returned twice:
///
/// ```compile_fail,E0382
/// let core = corelane::pool::MemoryPool::default().open(None).unwrap();
/// let buffer = core.rent(64).unwrap();
/// drop(buffer);
/// println!("{}", buffer[0]);
/// ```
/// ```compile_fail,E0599
/// let core = corelane::pool::MemoryPool::default().open(None).unwrap();
/// let buffer = core.rent(64).unwrap();
/// let second = buffer.clone();
/// ```
/// ```compile_fail,E0505
/// let core = corelane::pool::MemoryPool::default().open(None).unwrap();
/// let buffer = core.rent(64).unwrap();
/// let slice: &[u8] = &buffer;
/// drop(buffer);
/// println!("{}", slice[0]);
/// ```
pub struct PooledBuffer {
    start: NonNull<u8>,
    /// The length in the low half; in checked mode, in the high half, for the how manieth time its memory is rented.
    ///
    /// One word and not two halves: so a buffer is moved in two registers. What is written to memory in three parts and read back
    /// in two stalls the core, which made a rent half as dear again.
    tag: u64,
}

// SAFETY: a buffer owns its memory; returning it is made for any thread.
unsafe impl Send for PooledBuffer {}
// SAFETY: a shared buffer can only be read.
unsafe impl Sync for PooledBuffer {}

impl PooledBuffer {
    #[inline(always)]
    pub(super) fn new(start: NonNull<u8>, len: u32, generation: u32) -> Self {
        Self { start, tag: u64::from(len) | u64::from(generation) << 32 }
    }

    #[inline(always)]
    fn size(&self) -> u32 {
        self.tag as u32
    }

    #[inline(always)]
    fn generation(&self) -> u32 {
        (self.tag >> 32) as u32
    }

    /// Takes the buffer apart. It counts as rented until it is put together again with
    /// [`MemoryPool::from_raw`](super::MemoryPool::from_raw).
    pub fn into_raw(self) -> RawBuffer {
        let buffer = ManuallyDrop::new(self);
        RawBuffer { start: buffer.start, len: buffer.size(), generation: buffer.generation() }
    }

    /// # Safety
    /// As [`MemoryPool::from_raw`](super::MemoryPool::from_raw).
    pub(super) unsafe fn from_raw(pool: &Shared, raw: RawBuffer) -> Self {
        let RawBuffer { start, len, generation } = raw;
        if pool.options.checked {
            let address = start.as_ptr().addr();
            let Some(region) = pool.region_of(address) else { misuse(Misuse::ForeignPointer, address) };
            let header = start.as_ptr().with_addr(region).cast::<Header>();
            // SAFETY: the pool has mapped a region here.
            let header = unsafe { &*header };
            // SAFETY: as above.
            let marks = unsafe { header.marks.as_ref() };
            let block = NonNull::new(start.as_ptr().wrapping_sub(FRONT_BYTES)).map(Block);
            match block.and_then(|block| Checked::new(block, header, marks)) {
                Some(checked) => drop(checked.verify(len, generation)),
                None => misuse(Misuse::InteriorPointer, address),
            }
        }
        Self::new(start, len, generation)
    }
}

/// A [`PooledBuffer`] taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawBuffer {
    /// Its first byte.
    pub start: NonNull<u8>,
    /// Its length in bytes.
    pub len: u32,
    /// In checked mode, for the how manieth time this memory is rented; otherwise 0.
    pub generation: u32,
}

impl Drop for PooledBuffer {
    #[inline]
    fn drop(&mut self) {
        let block = Block(self.start);
        // SAFETY: the buffer is rented, so its region is mapped.
        let header = unsafe { block.header() };
        let here = current();
        if ptr::eq(header.fast, here) {
            // SAFETY: the stack lives as long as the home, which is alive while a block of its is rented.
            let stack = unsafe { &*header.stack };
            // SAFETY: this is the home's thread, the block is of the header's class, and is given up.
            unsafe { stack.take_back(block, u64::from(self.size())) };
        } else {
            // SAFETY: the buffer is rented for so many bytes, and given up.
            unsafe { Home::return_elsewhere(self.start, self.size(), self.generation()) };
        }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is this buffer's, and was initialised when it was mapped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size() as usize) }
    }
}

impl DerefMut for PooledBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size() as usize) }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<PooledBuffer> for Bytes {
    /// The same memory, returned with the last clone. Costs one small allocation, for the count of clones.
    fn from(buffer: PooledBuffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBuffer").field("len", &self.size()).finish_non_exhaustive()
    }
}
