//! Where the bytes of requests are kept: in buffers of the memory pool.
//!
//! They are written once, by the reader or the decompressor, and are not moved again: a frame is the very buffer, and goes back to
//! the pool on the core that has decoded it.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelane::pool::{LocalPool, MemoryPool, PooledBuffer, RentError};
use corelane::sync::Doorbell;

/// The longest a reader sleeps before it looks for memory again, should it not be woken.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// The reading thread's part of the pool.
pub(super) struct Buffers {
    home: LocalPool,
    bell: Arc<Doorbell>,
}

impl Buffers {
    /// Buffers for the running thread.
    ///
    /// # Errors
    ///
    /// The pool's, when what it should make ready does not fit.
    pub(super) fn open(pool: &MemoryPool) -> Result<Self, RentError> {
        let bell = Arc::new(Doorbell::new());
        let here = thread::current();
        bell.set_waker(move || here.unpark());
        Ok(Buffers { home: pool.open(Some(Arc::clone(&bell)))?, bell })
    }

    /// A buffer of `size` bytes. At the limit of the pool, waits until the cores have returned enough: that holds reading back.
    ///
    /// # Errors
    ///
    /// Sizes that no waiting helps.
    fn rent(&self, size: usize) -> Result<PooledBuffer, RentError> {
        loop {
            self.bell.announce();
            let rented = self.home.rent(size);
            if matches!(rented, Err(RentError::Exhausted { .. })) {
                thread::park_timeout(LONGEST_SLEEP);
            }
            self.bell.retract();
            if !matches!(rented, Err(RentError::Exhausted { .. })) {
                return rented;
            }
        }
    }

    /// An empty request, with room for `size` bytes.
    pub(super) fn collect(&self, size: usize) -> Result<Collecting<'_>, RentError> {
        Ok(Collecting { buffers: self, buffer: self.rent(size)?, length: 0 })
    }

    /// Runs `f` as the home of these buffers: those returned in it go home the short way.
    pub(super) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        self.home.enter(f)
    }
}

/// A request that is being read, in a buffer that grows with what has been seen of it.
pub(super) struct Collecting<'a> {
    buffers: &'a Buffers,
    buffer: PooledBuffer,
    length: usize,
}

impl Collecting<'_> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Room for at least one more byte, unless there are `limit` already.
    fn room(&mut self, limit: usize) -> Result<&mut [u8], RentError> {
        if self.length == self.buffer.len() && self.length < limit {
            let mut larger = self.buffers.rent((2 * self.length).min(limit).max(1))?;
            larger[..self.length].copy_from_slice(&self.buffer);
            self.buffer = larger;
        }
        let end = self.buffer.len().min(limit);
        Ok(&mut self.buffer[self.length..end])
    }

    /// Reads until there are `limit` bytes or the input ends.
    pub(super) fn fill(&mut self, input: &mut impl BufRead, limit: usize) -> Result<(), CollectError> {
        while self.length < limit {
            match input.read(self.room(limit)?) {
                Ok(0) => break,
                Ok(count) => self.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Appends `bytes`, as far as they fit in `limit`.
    pub(super) fn append(&mut self, mut bytes: &[u8], limit: usize) -> Result<(), RentError> {
        while !bytes.is_empty() && self.length < limit {
            let room = self.room(limit)?;
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.length += count;
        }
        Ok(())
    }

    /// What was read: the buffer itself.
    pub(super) fn finish(self) -> Bytes {
        let mut bytes = Bytes::from(self.buffer);
        bytes.truncate(self.length);
        bytes
    }
}

/// Why a request could not be read into a buffer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error(transparent)]
    Rent(#[from] RentError),
    #[error(transparent)]
    Read(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::policy::MemoryPoolOptions;

    fn pool(limit_bytes: u64) -> MemoryPool {
        MemoryPool::new(MemoryPoolOptions { limit_bytes, checked: true, ..MemoryPoolOptions::default() })
    }

    #[test]
    fn a_request_grows_with_what_is_seen_and_ends_as_the_buffer_it_was_read_into() {
        let input: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        let pool = pool(8 << 20);
        let buffers = Buffers::open(&pool).unwrap();
        for (first, limit) in [(1, 100_000), (64, 200_000), (1_000, 1_000), (1_000, 99_999), (4, 0)] {
            let mut request = buffers.collect(first).unwrap();
            request.fill(&mut &input[..], limit).unwrap();
            assert_eq!(request.len(), limit.min(input.len()));
            let place = request.buffer.as_ptr();
            let bytes = request.finish();
            assert!(bytes == input[..limit.min(input.len())] && bytes.as_ptr() == place);
            let rented = pool.statistics().rented_buffers;
            assert_eq!(rented, u64::from(limit > 0), "smaller ones, and the empty one, have been returned");
            let mut appended = buffers.collect(first).unwrap();
            input.chunks(777).for_each(|chunk| appended.append(chunk, limit).unwrap());
            assert_eq!(appended.finish(), bytes);
        }
        assert_eq!(pool.statistics().rented_buffers, 0);
    }

    #[test]
    fn a_reader_waits_at_the_limit_until_another_thread_returns_its_frames() {
        let pool = pool(512 << 10);
        let (frames, taken) = crossbeam::channel::bounded::<Bytes>(8);
        let there = pool.clone();
        let core = thread::Builder::new().spawn(move || {
            let home = there.open(None).unwrap();
            taken.iter().for_each(|frame| home.enter(|| drop(frame)));
        });
        let buffers = Buffers::open(&pool).unwrap();
        for _ in 0..50 {
            frames.send(buffers.collect(100_000).unwrap().finish()).unwrap();
        }
        drop(frames);
        core.unwrap().join().unwrap();
        assert_eq!(pool.statistics().rented_buffers, 0);
        assert!(matches!(buffers.collect(1 << 20), Err(RentError::TooLarge { .. })));
    }
}
