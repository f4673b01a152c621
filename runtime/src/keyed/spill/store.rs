//! The keys of one instance that are on disk, or on their way there or back.

use std::collections::VecDeque;

use super::format::{self, ALIGN, HEADER, Identity, Kind, MAX_PAYLOAD, Spot, record_len};
use super::segments::Segments;
use super::terms::{Back, Gone, LostState, StoreLimits, StoreStats};
use crate::disk::{Completion, Disk, DiskError, DiskOp};
use crate::keyed::SpillError;
use crate::keyed::table::KeyedTable;
use crate::keyed::wheel::TimerId;

/// Writes at the same time.
const MAX_WRITES: usize = 2;
/// Reads at the same time.
const MAX_READS: usize = 8;
/// The first wait after a failed write, in nanoseconds; doubled at each further one.
const BACKOFF: i64 = 10_000_000;
/// Times that it is doubled.
const MOST_DOUBLINGS: u32 = 9;

/// How far on its way a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// In the batch that is being filled; the offset is within that.
    Batch,
    /// Under way to its file.
    Writing,
    /// In its file.
    File,
    /// In its file, and being read.
    Reading,
}

/// A key that is not in memory.
#[derive(Debug)]
struct Cold {
    segment: u32,
    offset: u32,
    payload: u32,
    stand: Stand,
    /// Somebody waits for it.
    wanted: bool,
    items: u64,
    deadline: i64,
}

/// What keys are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Somebody wants them.
    Fetch,
    /// To be written elsewhere.
    Compact,
    /// Another try at one that was damaged or could not be read.
    Again,
}

/// What is under way.
enum Flight {
    Write { segment: u32, ids: Vec<u32> },
    Read { segment: u32, start: u32, ids: Vec<u32>, purpose: Purpose },
    Remove { bytes: u64 },
}

pub(in crate::keyed) struct Store {
    disk: Box<dyn Disk>,
    identity: Identity,
    limits: StoreLimits,
    cold: KeyedTable<Cold, Option<TimerId>>,
    segments: Segments,
    /// Records that are not on their way yet, and the keys in it.
    batch: Vec<u8>,
    batch_ids: Vec<u32>,
    flights: Vec<(u64, Flight)>,
    next_token: u64,
    writes: usize,
    /// Their bytes.
    writing: usize,
    reads: usize,
    /// A read for compaction is under way; it is not among `reads`.
    compacting: bool,
    /// Bytes of buffers that are with the disk.
    away: usize,
    /// Keys in the batch, and keys on disk, that somebody waits for.
    in_batch: Vec<u32>,
    wants: VecDeque<u32>,
    wanted: usize,
    spare: Option<Vec<u8>>,
    /// Buffers of reads, all of one size: they are used again and again.
    readers: Vec<Vec<u8>>,
    /// No write before this, after one that failed.
    retry_at: Option<i64>,
    failures: u32,
    last_error: Option<DiskError>,
    stats: StoreStats,
}

impl Store {
    pub(in crate::keyed) fn new(disk: Box<dyn Disk>, identity: Identity, limits: StoreLimits) -> Self {
        Self {
            disk,
            identity,
            limits,
            cold: KeyedTable::new(),
            segments: Segments::new(limits.segment),
            batch: Vec::new(),
            batch_ids: Vec::new(),
            flights: Vec::new(),
            next_token: 0,
            writes: 0,
            writing: 0,
            reads: 0,
            compacting: false,
            away: 0,
            in_batch: Vec::new(),
            wants: VecDeque::new(),
            wanted: 0,
            spare: None,
            readers: Vec::new(),
            retry_at: None,
            failures: 0,
            last_error: None,
            stats: StoreStats::default(),
        }
    }

    /// Keys in it.
    pub(in crate::keyed) fn len(&self) -> usize {
        self.cold.len()
    }

    pub(in crate::keyed) fn is_empty(&self) -> bool {
        self.cold.is_empty()
    }

    /// A key with this hash.
    pub(in crate::keyed) fn find(&self, hash: u64) -> Option<u32> {
        self.cold.find_hash(hash)
    }

    /// When key `id` is due, if it is here.
    pub(in crate::keyed) fn deadline(&mut self, id: u32) -> Option<i64> {
        self.cold.get_mut(id).map(|cold| cold.deadline)
    }

    /// The place for the timer of key `id`.
    pub(in crate::keyed) fn timer(&mut self, id: u32) -> &mut Option<TimerId> {
        self.cold.per_place(id)
    }

    /// Bytes of memory that it takes: buffers, and the index of its keys.
    pub(in crate::keyed) fn memory(&self) -> usize {
        let kept: usize = self.readers.iter().chain(&self.spare).map(Vec::capacity).sum();
        self.batch.capacity() + kept + self.away + self.index()
    }

    /// Bytes of memory that go on knowing where each key is.
    pub(in crate::keyed) fn index(&self) -> usize {
        self.cold.memory() + self.segments.memory()
    }

    pub(in crate::keyed) fn stats(&self) -> StoreStats {
        StoreStats { keys: self.cold.len() as u64, disk_bytes: self.segments.bytes(), ..self.stats }
    }

    /// The last error of the disk that lost nothing, handed out once.
    pub(in crate::keyed) fn take_error(&mut self) -> Option<DiskError> {
        self.last_error.take()
    }

    /// Whether a key can be put at `now`.
    pub(in crate::keyed) fn can_put(&self, now: i64) -> bool {
        self.batch.len() < self.limits.batch && self.retry_at.is_none_or(|at| at <= now) && !self.is_full()
    }

    /// Whether the quota is used up.
    pub(in crate::keyed) fn is_full(&self) -> bool {
        // What compaction needs to make room is kept free.
        let kept = self.limits.segment.min(self.limits.quota / 4);
        self.segments.bytes() + (self.batch.len() + self.limits.batch) as u64 + kept > self.limits.quota
    }

    /// When writing is to be tried again, while it must wait for that.
    pub(in crate::keyed) fn retry_at(&self) -> Option<i64> {
        self.retry_at
    }

    /// When something is ready, where the disk knows.
    pub(in crate::keyed) fn next_deadline(&self) -> Option<i64> {
        self.disk.next_deadline()
    }

    /// Whether [`poll`](Self::poll) may have something to do.
    pub(in crate::keyed) fn is_busy(&self) -> bool {
        !self.flights.is_empty()
            || self.retry_at.is_some()
            || !self.in_batch.is_empty()
            || !self.wants.is_empty()
    }

    /// Keys asked for that have not come back yet.
    pub(in crate::keyed) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Bytes of memory that will be free once what is in the batch or under way is written.
    pub(in crate::keyed) fn leaving(&self) -> usize {
        self.batch.len() + self.writing
    }

    /// Asks for keys that have been here longest, until `most` are asked for.
    pub(in crate::keyed) fn fetch_first(&mut self, most: usize) {
        let mut next = self.cold.first();
        while self.wanted < most
            && let Some(id) = next
        {
            self.fetch(id);
            next = self.cold.after(id);
        }
    }

    /// Takes a key, whose payload `write` appends; its number here.
    pub(in crate::keyed) fn put(
        &mut self,
        hash: u64,
        items: u64,
        deadline: i64,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), SpillError>,
    ) -> Result<u32, SpillError> {
        let start = self.batch.len();
        if self.batch.capacity() == 0 {
            self.batch.reserve_exact(self.limits.batch + self.limits.batch / 4);
        }
        self.batch.resize(start + HEADER, 0);
        let written = write(&mut self.batch);
        let payload = self.batch.len().saturating_sub(start + HEADER);
        let fits = payload <= MAX_PAYLOAD && start + record_len(payload) <= u32::MAX as usize / 2;
        let outcome = written.and(if fits { Ok(()) } else { Err(SpillError::TooLarge(payload)) });
        if let Err(error) = outcome {
            self.batch.truncate(start);
            return Err(error);
        }
        self.batch.resize(start + record_len(payload), 0);
        let (offset, payload) = (start as u32, payload as u32);
        let cold = Cold { segment: 0, offset, payload, stand: Stand::Batch, wanted: false, items, deadline };
        let id = self.cold.insert(hash, cold);
        self.batch_ids.push(id);
        Ok(id)
    }

    /// Asks for a key: [`poll`](Self::poll) gives it back when it is here. Idempotent.
    pub(in crate::keyed) fn fetch(&mut self, id: u32) {
        let Some(cold) = self.cold.get_mut(id) else { return };
        if std::mem::replace(&mut cold.wanted, true) {
            return;
        }
        self.wanted += 1;
        match cold.stand {
            Stand::Batch => self.in_batch.push(id),
            Stand::File => self.wants.push_back(id),
            Stand::Writing | Stand::Reading => {}
        }
    }

    /// Goes on with everything: takes completions, gives keys back to `sink`, starts reads and writes. `reads` bounds the
    /// reads under way; `push` writes a batch that is not full as well. True if anything was completed or given back.
    pub(in crate::keyed) fn poll(
        &mut self,
        now: i64,
        reads: usize,
        push: bool,
        sink: &mut dyn FnMut(Back<'_>),
    ) -> bool {
        let mut moved = false;
        self.retry_at = self.retry_at.filter(|at| *at > now);
        while let Some(completion) = self.disk.poll(now) {
            self.complete(completion, now, sink);
            moved = true;
        }
        if !self.in_batch.is_empty() {
            self.give_from_batch(sink);
            moved = true;
        }
        self.start_reads(reads.min(MAX_READS));
        if self.batch.len() >= self.limits.batch || (push && self.writes == 0) {
            self.start_write(now);
        }
        self.compact();
        moved
    }

    /// Deletes everything. May block.
    pub(in crate::keyed) fn close(&mut self) {
        self.disk.close();
        let (identity, limits, stats) = (self.identity, self.limits, self.stats);
        let disk = std::mem::replace(&mut self.disk, Box::new(super::NoDisk));
        *self = Self { stats, ..Self::new(disk, identity, limits) };
    }

    fn submit(&mut self, op: DiskOp, flight: Flight) {
        let token = self.next_token;
        self.next_token += 1;
        self.away += match &op {
            DiskOp::Create { bytes, .. } | DiskOp::Write { bytes, .. } => bytes.capacity(),
            DiskOp::Read { buffer, .. } => buffer.capacity(),
            DiskOp::Remove { .. } => 0,
        };
        self.flights.push((token, flight));
        self.disk.submit(token, op);
    }

    fn complete(&mut self, done: Completion, now: i64, sink: &mut dyn FnMut(Back<'_>)) {
        let Some(at) = self.flights.iter().position(|(token, _)| *token == done.token) else { return };
        let (_, flight) = self.flights.swap_remove(at);
        let Completion { buffer, result, .. } = done;
        self.away = self.away.saturating_sub(buffer.capacity());
        match flight {
            Flight::Write { segment, ids } => {
                self.writes -= 1;
                self.writing -= buffer.len();
                self.written(segment, &ids, &buffer, result, now, sink);
                self.keep(buffer);
            }
            Flight::Read { segment, start, ids, purpose } => {
                self.reads -= usize::from(purpose != Purpose::Compact);
                self.compacting &= purpose != Purpose::Compact;
                self.segments.landed(segment);
                self.have_read(segment, start, &ids, purpose, &buffer, result, sink);
                if buffer.capacity() == self.limits.span {
                    self.readers.push(buffer);
                }
            }
            Flight::Remove { bytes } if result.is_err() => {
                // It still takes its place on the disk until the end, when it is tried once more.
                self.segments.stranded(bytes);
                self.failed(result);
            }
            Flight::Remove { .. } => {}
        }
    }

    fn failed(&mut self, result: Result<(), DiskError>) {
        self.stats.errors += 1;
        self.last_error = result.err();
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        let wanted = self.limits.batch + self.limits.batch / 2;
        if self.spare.is_none() && buffer.capacity() <= 2 * wanted {
            buffer.clear();
            self.spare = Some(buffer);
        }
    }

    fn written(
        &mut self,
        segment: u32,
        ids: &[u32],
        buffer: &[u8],
        result: Result<(), DiskError>,
        now: i64,
        sink: &mut dyn FnMut(Back<'_>),
    ) {
        let start = self.segments.wrote(segment, result.is_ok());
        if result.is_err() {
            self.retry_at = Some(now.saturating_add(BACKOFF << self.failures.min(MOST_DOUBLINGS)));
            self.failures += 1;
            self.failed(result);
        } else {
            (self.retry_at, self.failures) = (None, 0);
            self.stats.written += ids.len() as u64;
        }
        for &id in ids {
            let Some(cold) = self.cold.get_mut(id) else { continue };
            if result.is_ok() && !cold.wanted {
                cold.stand = Stand::File;
            } else {
                // Wanted meanwhile, or not written: its bytes are still here.
                let from = (cold.offset - start) as usize + HEADER;
                let bytes = &buffer[from..from + cold.payload as usize];
                self.give(id, Ok(bytes), sink);
            }
        }
        self.sweep();
    }

    /// Lets `id` go.
    fn give(&mut self, id: u32, bytes: Result<&[u8], LostState>, sink: &mut dyn FnMut(Back<'_>)) {
        let timer = self.cold.per_place(id).take();
        let hash = self.cold.hash_at(id);
        let Some(cold) = self.cold.remove(id) else { return };
        self.wanted -= usize::from(cold.wanted);
        if cold.stand != Stand::Batch {
            self.segments.died(cold.segment, record_len(cold.payload as usize));
        }
        sink((Gone { id, hash, items: cold.items, deadline: cold.deadline, timer }, bytes));
    }

    fn give_from_batch(&mut self, sink: &mut dyn FnMut(Back<'_>)) {
        let batch = std::mem::take(&mut self.batch);
        for id in std::mem::take(&mut self.in_batch) {
            // Since it was asked for it may have gone on its way, and is given back when that ends.
            let Some(cold) = self.cold.get_mut(id).filter(|cold| cold.stand == Stand::Batch) else {
                continue;
            };
            let from = cold.offset as usize + HEADER;
            let bytes = &batch[from..from + cold.payload as usize];
            self.give(id, Ok(bytes), sink);
            self.batch_ids.retain(|other| *other != id);
        }
        self.batch = batch;
        if self.batch_ids.is_empty() {
            self.batch.clear();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one flight")]
    fn have_read(
        &mut self,
        segment: u32,
        start: u32,
        ids: &[u32],
        purpose: Purpose,
        buffer: &[u8],
        result: Result<(), DiskError>,
        sink: &mut dyn FnMut(Back<'_>),
    ) {
        if result.is_err() {
            self.failed(result);
        }
        for &id in ids {
            let Some(cold) = self.cold.get_mut(id) else { continue };
            let (from, spot) = ((cold.offset - start) as usize, Spot { segment, offset: cold.offset });
            let checked = result.map_err(LostState::Disk).and_then(|()| {
                let record = buffer.get(from..).unwrap_or_default();
                format::open(record, &self.identity, spot, cold.payload as usize).map_err(LostState::Record)
            });
            match checked {
                Ok(payload) if cold.wanted => {
                    self.stats.read += 1;
                    self.give(id, Ok(payload), sink);
                }
                Ok(payload) => self.move_to_batch(id, payload),
                // Once more, alone: a bit may have flipped on the way.
                Err(_) if purpose != Purpose::Again => self.read_again(id),
                Err(lost) if cold.wanted => {
                    self.stats.errors += u64::from(result.is_ok());
                    self.give(id, Err(lost), sink);
                }
                Err(_) => {
                    // Nobody needs it yet: it stays where it is until somebody does.
                    cold.stand = Stand::File;
                    self.segments.unreadable(segment);
                }
            }
        }
        self.sweep();
    }

    /// Puts a key that was read into the batch, to be written to another file.
    fn move_to_batch(&mut self, id: u32, payload: &[u8]) {
        let Some(cold) = self.cold.get_mut(id) else { return };
        let start = self.batch.len();
        self.segments.died(cold.segment, record_len(payload.len()));
        (cold.stand, cold.offset) = (Stand::Batch, start as u32);
        self.batch.resize(start + HEADER, 0);
        self.batch.extend_from_slice(payload);
        self.batch.resize(start + record_len(payload.len()), 0);
        self.batch_ids.push(id);
    }

    fn read_again(&mut self, id: u32) {
        let Some(cold) = self.cold.get_mut(id) else { return };
        let (segment, start) = (cold.segment, cold.offset);
        let len = record_len(cold.payload as usize);
        self.start_read(segment, start, len, vec![id], Purpose::Again);
    }

    fn start_read(&mut self, segment: u32, start: u32, len: usize, ids: Vec<u32>, purpose: Purpose) {
        let mut buffer = self.readers.pop().unwrap_or_else(|| Vec::with_capacity(self.limits.span));
        buffer.resize(len, 0);
        let file = self.identity.file_name(segment);
        self.segments.take_off(segment);
        self.reads += usize::from(purpose != Purpose::Compact);
        let op = DiskOp::Read { file, at: start.into(), buffer };
        self.submit(op, Flight::Read { segment, start, ids, purpose });
    }

    fn start_reads(&mut self, most: usize) {
        while self.reads < most.max(1)
            && let Some(first) = self.wants.pop_front()
        {
            let Some(cold) = self.cold.get_mut(first).filter(|c| c.wanted && c.stand == Stand::File) else {
                continue;
            };
            cold.stand = Stand::Reading;
            let (segment, start) = (cold.segment, cold.offset);
            let mut end = start + record_len(cold.payload as usize) as u32;
            let mut ids = vec![first];
            // What is wanted next and stands close behind comes with it.
            while let Some(&next) = self.wants.front() {
                let Some(cold) = self.cold.get_mut(next) else { break };
                let until = cold.offset.saturating_add(record_len(cold.payload as usize) as u32);
                let near =
                    cold.segment == segment && cold.offset >= end && until - start <= self.limits.span as u32;
                if !near || cold.stand != Stand::File {
                    break;
                }
                cold.stand = Stand::Reading;
                end = until;
                ids.push(next);
                self.wants.pop_front();
            }
            self.start_read(segment, start, (end - start) as usize, ids, Purpose::Fetch);
        }
    }

    /// Reads the next keys of a file that holds little else, so that they are written anew and it can go.
    fn compact(&mut self) {
        let busy = self.compacting || self.batch.len() >= 2 * self.limits.batch;
        if busy || self.retry_at.is_some() {
            return;
        }
        let Some(segment) = self.segments.next_to_compact(self.limits.quota) else { return };
        let mut ids = Vec::new();
        let (mut start, mut end) = (0, 0);
        while let Some(id) = self.segments.next_entry(segment) {
            let Some(cold) = self.cold.get_mut(id).filter(|c| c.segment == segment && c.stand == Stand::File)
            else {
                continue;
            };
            let until = cold.offset + record_len(cold.payload as usize) as u32;
            if ids.is_empty() {
                start = cold.offset;
            } else if cold.offset < end || until - start > self.limits.span as u32 {
                self.segments.back(segment);
                break;
            }
            cold.stand = Stand::Reading;
            end = until;
            ids.push(id);
        }
        if !ids.is_empty() {
            self.compacting = true;
            self.start_read(segment, start, (end - start) as usize, ids, Purpose::Compact);
        }
    }

    /// Sends the batch on its way, if it has any keys and there is a file to take it.
    fn start_write(&mut self, now: i64) {
        if self.batch_ids.is_empty() || self.writes >= MAX_WRITES || self.retry_at.is_some_and(|at| at > now)
        {
            return;
        }
        if self.segments.bytes() + (self.batch.len() + HEADER) as u64 > self.limits.quota {
            return;
        }
        let Some((segment, start)) = self.segments.place(self.batch.len()) else { return };
        let mut ids = std::mem::take(&mut self.batch_ids);
        let mut bytes = std::mem::replace(&mut self.batch, self.spare.take().unwrap_or_default());
        let create = start == 0;
        if create {
            bytes.splice(0..0, format::file_header(&self.identity, segment));
        }
        let shift = start + if create { HEADER as u32 } else { 0 };
        ids.retain(|&id| {
            let Some(cold) = self.cold.get_mut(id).filter(|cold| cold.stand == Stand::Batch) else {
                return false;
            };
            (cold.segment, cold.offset, cold.stand) = (segment, cold.offset + shift, Stand::Writing);
            let payload = cold.payload as usize;
            let at = (cold.offset - start) as usize;
            let spot = Spot { segment, offset: cold.offset };
            format::seal(&mut bytes[at..at + record_len(payload)], Kind::Key, &self.identity, spot, payload);
            self.segments.born(segment, id, record_len(payload));
            true
        });
        debug_assert!(bytes.len().is_multiple_of(ALIGN));
        self.segments.takes(segment, bytes.len());
        self.writes += 1;
        self.writing += bytes.len();
        let file = self.identity.file_name(segment);
        let op = if create {
            DiskOp::Create { file, bytes }
        } else {
            DiskOp::Write { file, at: start.into(), bytes }
        };
        self.submit(op, Flight::Write { segment, ids });
    }

    /// Deletes files that hold no key any more.
    fn sweep(&mut self) {
        while let Some((segment, bytes)) = self.segments.take_dead() {
            let file = self.identity.file_name(segment);
            self.submit(DiskOp::Remove { file }, Flight::Remove { bytes });
        }
    }
}
