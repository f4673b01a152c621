//! The files of one store: which is written to, what each still holds, and which can go.

use std::collections::BTreeMap;

/// Segments after which the size of new ones doubles: their number grows with the logarithm of what they hold.
const DOUBLE_EVERY: usize = 32;
/// Bytes that a segment may have: offsets are 32 bits.
const MOST: u64 = 1 << 31;

#[derive(Debug, Default)]
struct Segment {
    /// Bytes written or under way.
    size: u64,
    /// Bytes of records that are still needed.
    live: u64,
    records: usize,
    /// Keys in the order they were written, those that have gone included.
    entries: Vec<u32>,
    /// Where compaction stands in `entries`.
    at: usize,
    /// Where the write under way starts.
    write: Option<u32>,
    /// Its file is there.
    ready: bool,
    /// Nothing is written to it any more.
    closed: bool,
    /// A key in it could not be read: not worth another try.
    unreadable: bool,
    /// Reads under way.
    reads: usize,
}

#[derive(Debug)]
pub(super) struct Segments {
    all: BTreeMap<u32, Segment>,
    next: u32,
    current: Option<u32>,
    compacting: Option<u32>,
    base: u64,
    bytes: u64,
    live: u64,
    /// Entries of all segments.
    listed: usize,
}

impl Segments {
    pub(super) fn new(base: u64) -> Self {
        Self {
            all: BTreeMap::new(),
            next: 0,
            current: None,
            compacting: None,
            base: base.clamp(4096, MOST / 2),
            bytes: 0,
            live: 0,
            listed: 0,
        }
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn memory(&self) -> usize {
        self.listed * size_of::<u32>()
    }

    fn target(&self) -> u64 {
        let doublings = (self.all.len() / DOUBLE_EVERY).min(31) as u32;
        (self.base << doublings).min(MOST / 2)
    }

    /// Which segment the next `len` bytes go to, and where; `None` while that one's file is being made.
    pub(super) fn place(&mut self, len: usize) -> Option<(u32, u32)> {
        if let Some((current, segment)) = self.current.and_then(|n| Some((n, self.all.get(&n)?))) {
            let fits = segment.size < self.target() && segment.size + len as u64 <= MOST;
            if fits && !segment.closed {
                let free = segment.ready && segment.write.is_none();
                return free.then_some((current, segment.size as u32));
            }
        }
        if let Some(full) = self.current.take().and_then(|n| self.all.get_mut(&n)) {
            full.closed = true;
        }
        let number = self.next;
        self.next = self.next.checked_add(1)?;
        self.all.insert(number, Segment::default());
        self.current = Some(number);
        Some((number, 0))
    }

    /// A write of `len` bytes to `segment` has begun.
    pub(super) fn takes(&mut self, segment: u32, len: usize) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.write = Some(segment.size as u32);
            segment.size += len as u64;
            self.bytes += len as u64;
        }
    }

    /// It has ended; where it started. After one that failed nothing more is written there.
    pub(super) fn wrote(&mut self, number: u32, done: bool) -> u32 {
        let Some(segment) = self.all.get_mut(&number) else { return 0 };
        segment.ready |= done;
        if !done {
            segment.closed = true;
            self.current = self.current.filter(|current| *current != number);
        }
        segment.write.take().unwrap_or(0)
    }

    pub(super) fn born(&mut self, segment: u32, id: u32, len: usize) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.entries.push(id);
            self.listed += 1;
            segment.records += 1;
            segment.live += len as u64;
            self.live += len as u64;
        }
    }

    pub(super) fn died(&mut self, segment: u32, len: usize) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.records -= 1;
            segment.live -= len as u64;
            self.live -= len as u64;
        }
    }

    /// A read of it has begun.
    pub(super) fn take_off(&mut self, segment: u32) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.reads += 1;
        }
    }

    /// A read of it has ended.
    pub(super) fn landed(&mut self, segment: u32) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.reads -= 1;
        }
    }

    pub(super) fn unreadable(&mut self, number: u32) {
        if let Some(segment) = self.all.get_mut(&number) {
            segment.unreadable = true;
        }
        self.compacting = self.compacting.filter(|current| *current != number);
    }

    /// A file of `bytes` that could not be deleted.
    pub(super) fn stranded(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// A segment without a key in it, taken out of the books: it is to be deleted. Its number and bytes.
    pub(super) fn take_dead(&mut self) -> Option<(u32, u64)> {
        let dead = |segment: &Segment| {
            segment.records == 0 && segment.write.is_none() && segment.reads == 0 && segment.size > 0
        };
        let number = self.all.iter().find(|(_, segment)| dead(segment)).map(|(number, _)| *number)?;
        let segment = self.all.remove(&number)?;
        self.bytes -= segment.size;
        self.listed -= segment.entries.len();
        self.current = self.current.filter(|current| *current != number);
        self.compacting = self.compacting.filter(|current| *current != number);
        Some((number, segment.size))
    }

    /// The segment that is being compacted, or one that should be: less than half of what is on disk is needed, or the
    /// quota is near.
    pub(super) fn next_to_compact(&mut self, quota: u64) -> Option<u32> {
        if let Some(number) = self.compacting {
            let done = self.all.get(&number).is_none_or(|segment| segment.at >= segment.entries.len());
            if !done {
                return Some(number);
            }
            self.compacting = None;
        }
        let garbage = self.bytes - self.live;
        let much = garbage > self.live + 2 * self.base;
        let near = self.bytes + 2 * self.base > quota && garbage > self.base / 2;
        if !much && !near {
            return None;
        }
        let worth = |segment: &Segment| {
            segment.closed && segment.ready && !segment.unreadable && segment.live * 4 < segment.size * 3
        };
        let candidates = self.all.iter().filter(|(_, segment)| worth(segment));
        let number = *candidates.min_by_key(|(_, segment)| segment.live * 1024 / segment.size.max(1))?.0;
        self.all.get_mut(&number)?.at = 0;
        self.compacting = Some(number);
        Some(number)
    }

    /// The next key of `segment` for compaction.
    pub(super) fn next_entry(&mut self, segment: u32) -> Option<u32> {
        let segment = self.all.get_mut(&segment)?;
        let id = *segment.entries.get(segment.at)?;
        segment.at += 1;
        Some(id)
    }

    /// The last one is to come again.
    pub(super) fn back(&mut self, segment: u32) {
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.at = segment.at.saturating_sub(1);
        }
    }
}
