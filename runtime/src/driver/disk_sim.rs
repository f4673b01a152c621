//! A disk that is only memory, with the faults of real ones, drawn from a seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Completion, Disk, DiskAction, DiskError, DiskFault, DiskOp, Disks, FileName};
use crate::sync::Doorbell;

/// Unit in which writes tear.
const SECTOR: usize = 512;

/// What goes wrong, each with its probability per operation.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskFaults {
    /// A file cannot be made.
    pub create_error: f64,
    /// A write fails, after any part of it.
    pub write_error: f64,
    /// A write succeeds, and a part of it is lost: what follows a sector boundary stays as it was.
    pub torn_write: f64,
    /// A write lands, or a read looks, in the wrong place of the file.
    pub misdirected: f64,
    /// A read fails.
    pub read_error: f64,
    /// One bit of what is read is flipped, this time only.
    pub flip_on_read: f64,
    /// One bit of what is written is flipped for good.
    pub flip_on_write: f64,
    /// A file cannot be deleted.
    pub remove_error: f64,
    /// Bytes that all files of one instance may take before a write fails at that very byte.
    pub space: u64,
    /// How long an operation takes, in nanoseconds.
    pub latency: Range<u64>,
}

impl DiskFaults {
    /// A disk without faults that takes 10 to 200 microseconds.
    pub const NONE: Self = Self {
        create_error: 0.0,
        write_error: 0.0,
        torn_write: 0.0,
        misdirected: 0.0,
        read_error: 0.0,
        flip_on_read: 0.0,
        flip_on_write: 0.0,
        remove_error: 0.0,
        space: u64::MAX,
        latency: 10_000..200_000,
    };

    /// Faults that spilling survives without a loss: everything but damage to what was written.
    pub fn harmless(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut some = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            create_error: some(0.5),
            write_error: some(0.3),
            remove_error: some(0.2),
            latency: [0..1, 10_000..200_000, 0..5_000_000_000][rng.usize(..3)].clone(),
            ..Self::NONE
        }
    }

    /// Faults of every kind.
    pub fn any(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(!seed);
        let mut some = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            torn_write: some(0.2),
            misdirected: some(0.1),
            read_error: some(0.3),
            flip_on_read: some(0.3),
            flip_on_write: some(0.2),
            ..Self::harmless(seed)
        }
    }
}

/// Counts over all disks of a [`SimDisks`].
#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    faults: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    most_bytes: AtomicU64,
    operations: AtomicU64,
}

/// Makes simulated disks, each with its own files and its own faults.
#[derive(Clone, Debug)]
pub struct SimDisks {
    seed: u64,
    faults: Arc<Mutex<DiskFaults>>,
    quota: Option<u64>,
    counts: Arc<Counts>,
}

impl SimDisks {
    /// Disks with `faults`, drawn from `seed`.
    pub fn new(seed: u64, faults: DiskFaults) -> Self {
        Self { seed, faults: Arc::new(Mutex::new(faults)), quota: None, counts: Arc::default() }
    }

    /// Bounds the bytes on all of them together.
    #[must_use]
    pub fn with_quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.counts.operations.load(Ordering::Relaxed)
    }

    /// Files there are now: none once a pipeline has ended.
    pub fn files(&self) -> u64 {
        self.counts.files.load(Ordering::Relaxed)
    }

    /// The most bytes there were at the same time.
    pub fn most_bytes(&self) -> u64 {
        self.counts.most_bytes.load(Ordering::Relaxed)
    }
}

impl Disks for SimDisks {
    fn open(&self, _doorbell: &Arc<Doorbell>) -> Box<dyn Disk> {
        let number = self.counts.opened.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Box::new(SimDisk {
            rng: fastrand::Rng::with_seed(seed),
            faults: Arc::clone(&self.faults),
            counts: Arc::clone(&self.counts),
            files: BTreeMap::new(),
            pending: Vec::new(),
            now: 0,
        })
    }

    fn quota(&self) -> Option<u64> {
        self.quota
    }

    fn epoch(&self) -> u64 {
        self.seed
    }
}

struct SimDisk {
    rng: fastrand::Rng,
    faults: Arc<Mutex<DiskFaults>>,
    counts: Arc<Counts>,
    files: BTreeMap<FileName, Vec<u8>>,
    /// Each with the time at which it completes.
    pending: Vec<(i64, u64, DiskOp)>,
    now: i64,
}

impl SimDisk {
    fn strikes(&mut self, probability: f64) -> bool {
        let strikes = self.rng.f64() < probability;
        self.counts.faults.fetch_add(strikes.into(), Ordering::Relaxed);
        strikes
    }

    fn perform(&mut self, op: DiskOp) -> (Vec<u8>, Result<(), DiskError>) {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.counts.operations.fetch_add(1, Ordering::Relaxed);
        let failed = |action, fault| Err(DiskError { action, fault });
        match op {
            DiskOp::Create { file, bytes } => {
                if self.strikes(faults.create_error) {
                    return (bytes, failed(DiskAction::Create, DiskFault::TooManyFiles));
                }
                if self.files.contains_key(&file) {
                    return (bytes, failed(DiskAction::Create, DiskFault::Exists));
                }
                self.files.insert(file, Vec::new());
                self.counts.files.fetch_add(1, Ordering::Relaxed);
                let result = self.write(&faults, file, 0, &bytes);
                (bytes, result)
            }
            DiskOp::Write { file, at, bytes } => {
                let result = self.write(&faults, file, at as usize, &bytes);
                (bytes, result)
            }
            DiskOp::Read { file, at, mut buffer } => {
                let result = self.read(&faults, file, at as usize, &mut buffer);
                (buffer, result)
            }
            DiskOp::Remove { file } => {
                if self.strikes(faults.remove_error) {
                    return (Vec::new(), failed(DiskAction::Remove, DiskFault::Denied));
                }
                self.forget(file);
                (Vec::new(), Ok(()))
            }
        }
    }

    fn forget(&mut self, file: FileName) {
        if let Some(bytes) = self.files.remove(&file) {
            self.counts.files.fetch_sub(1, Ordering::Relaxed);
            self.counts.bytes.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    fn misdirected(&mut self, faults: &DiskFaults, at: usize) -> usize {
        if self.strikes(faults.misdirected) { at + SECTOR * self.rng.usize(1..9) } else { at }
    }

    fn write(
        &mut self,
        faults: &DiskFaults,
        file: FileName,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        let failed = |fault| Err(DiskError { action: DiskAction::Write, fault });
        let used: usize = self.files.values().map(Vec::len).sum();
        let room = usize::try_from(faults.space).unwrap_or(usize::MAX).saturating_sub(used);
        let wrong = self.strikes(faults.write_error);
        let torn = self.strikes(faults.torn_write);
        let at = self.misdirected(faults, at);
        let Some(here) = self.files.get_mut(&file) else { return failed(DiskFault::Gone) };
        let part = if wrong {
            self.rng.usize(..=bytes.len())
        } else if torn {
            self.rng.usize(..=bytes.len()) / SECTOR * SECTOR
        } else {
            bytes.len()
        };
        let part = part.min(room);
        let before = here.len();
        here.resize(before.max(at + if wrong || part == room { part } else { bytes.len() }), 0);
        here[at..at + part].copy_from_slice(&bytes[..part]);
        let flips = part > 0 && self.rng.f64() < faults.flip_on_write;
        if flips {
            here[at + self.rng.usize(..part)] ^= 1 << self.rng.u8(..8);
            self.counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        let grown = (here.len() - before) as u64;
        let now = self.counts.bytes.fetch_add(grown, Ordering::Relaxed) + grown;
        self.counts.most_bytes.fetch_max(now, Ordering::Relaxed);
        if wrong {
            failed(DiskFault::Os(5))
        } else if part == room && part < bytes.len() {
            self.counts.faults.fetch_add(1, Ordering::Relaxed);
            failed(DiskFault::NoSpace)
        } else {
            Ok(())
        }
    }

    fn read(
        &mut self,
        faults: &DiskFaults,
        file: FileName,
        at: usize,
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        let failed = |fault| Err(DiskError { action: DiskAction::Read, fault });
        if self.strikes(faults.read_error) {
            return failed(DiskFault::Os(5));
        }
        let at = self.misdirected(faults, at);
        let Some(there) = self.files.get(&file) else { return failed(DiskFault::Gone) };
        let Some(bytes) = there.get(at..at + buffer.len()) else { return failed(DiskFault::TooShort) };
        buffer.copy_from_slice(bytes);
        if !buffer.is_empty() && self.strikes(faults.flip_on_read) {
            buffer[self.rng.usize(..buffer.len())] ^= 1 << self.rng.u8(..8);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, token: u64, op: DiskOp) {
        let latency = self.faults.lock().unwrap_or_else(PoisonError::into_inner).latency.clone();
        let latency = if latency.is_empty() { 0 } else { self.rng.u64(latency) };
        self.pending.push((self.now.saturating_add_unsigned(latency), token, op));
    }

    fn poll(&mut self, now: i64) -> Option<Completion> {
        self.now = self.now.max(now);
        let (at, _) = self
            .pending
            .iter()
            .enumerate()
            .min_by_key(|(_, (due, token, _))| (*due, *token))
            .filter(|(_, (due, _, _))| *due <= now)?;
        let (_, token, op) = self.pending.swap_remove(at);
        let (buffer, result) = self.perform(op);
        Some(Completion { token, buffer, result })
    }

    fn in_flight(&self) -> usize {
        self.pending.len()
    }

    fn next_deadline(&self) -> Option<i64> {
        self.pending.iter().map(|(due, _, _)| *due).min()
    }

    fn close(&mut self) {
        self.pending.clear();
        while let Some(file) = self.files.keys().next().copied() {
            self.forget(file);
        }
    }
}
