//! Files of the glommio driver: `io_uring` beside the step loop, on the partition's own executor.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::io::{BufferedFile, OpenOptions};
use glommio::timer::Timer;

use super::disk_dir::SpillDir;
use crate::disk::{Completion, Disk, DiskAction, DiskError, DiskFault, DiskOp, Disks, FileName};
use crate::sync::Doorbell;

/// Nanoseconds that the step loop works at most while operations are under way: longer, and `io_uring` starves.
pub(super) const WORK_BESIDE_IO: i64 = 50_000;
/// Bytes written or read at once: glommio copies both.
const PIECE: usize = 32 * 1024;
/// How long it then gives way.
const GIVE_WAY: Duration = Duration::from_micros(1);

thread_local! {
    /// Operations under way on this thread's executor.
    static IN_FLIGHT: Cell<usize> = const { Cell::new(0) };
}

/// Whether operations are under way on this executor.
#[inline]
pub(super) fn is_busy() -> bool {
    IN_FLIGHT.get() > 0
}

/// Gives the reactor a turn.
pub(super) async fn give_way() {
    Timer::new(GIVE_WAY).await;
}

/// Waits until nothing is under way on this executor.
pub(super) async fn quiesce() {
    while is_busy() {
        give_way().await;
    }
}

/// The directory of a pipeline; each instance has files of its own in it.
pub(super) struct GlommioDisks {
    dir: Arc<SpillDir>,
    quota: Option<u64>,
}

impl GlommioDisks {
    pub(super) fn new(dir: SpillDir, quota: Option<u64>) -> Self {
        Self { dir: Arc::new(dir), quota }
    }
}

impl Disks for GlommioDisks {
    fn open(&self, doorbell: &Arc<Doorbell>) -> Box<dyn Disk> {
        let shared = Shared {
            dir: Arc::clone(&self.dir),
            doorbell: Arc::clone(doorbell),
            done: RefCell::default(),
            files: RefCell::default(),
        };
        Box::new(GlommioDisk { shared: Rc::new(shared), in_flight: 0 })
    }

    fn quota(&self) -> Option<u64> {
        self.quota
    }

    fn epoch(&self) -> u64 {
        self.dir.epoch()
    }
}

struct Shared {
    dir: Arc<SpillDir>,
    doorbell: Arc<Doorbell>,
    done: RefCell<VecDeque<Completion>>,
    files: RefCell<HashMap<FileName, Rc<BufferedFile>>>,
}

/// The files of one instance.
struct GlommioDisk {
    shared: Rc<Shared>,
    in_flight: usize,
}

fn fault<T>(result: Result<T, glommio::GlommioError<()>>) -> Result<T, DiskFault> {
    result.map_err(|error| match error {
        // As a plain error it would lose the operating system's number.
        glommio::GlommioError::EnhancedIoError { source, .. } => DiskFault::from(source),
        other => DiskFault::from(std::io::Error::from(other)),
    })
}

impl Shared {
    fn file(&self, name: FileName) -> Result<Rc<BufferedFile>, DiskFault> {
        self.files.borrow().get(&name).cloned().ok_or(DiskFault::Gone)
    }

    async fn create(&self, name: FileName) -> Result<Rc<BufferedFile>, DiskFault> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.custom_flags(SpillDir::create_flags().bits().cast_signed());
        let file = Rc::new(fault(options.buffered_open(self.dir.path_of(name)).await)?);
        self.files.borrow_mut().insert(name, Rc::clone(&file));
        Ok(file)
    }

    async fn perform(&self, op: DiskOp) -> (Vec<u8>, Result<(), DiskError>) {
        let (action, buffer, result) = match op {
            DiskOp::Create { file, bytes } => match self.create(file).await {
                Ok(file) => {
                    let written = write(&file, 0, &bytes).await;
                    (DiskAction::Write, bytes, written)
                }
                Err(fault) => (DiskAction::Create, bytes, Err(fault)),
            },
            DiskOp::Write { file, at, bytes } => {
                let result = match self.file(file) {
                    Ok(file) => write(&file, at, &bytes).await,
                    Err(fault) => Err(fault),
                };
                (DiskAction::Write, bytes, result)
            }
            DiskOp::Read { file, at, mut buffer } => {
                let result = match self.file(file) {
                    Ok(file) => read(&file, at, &mut buffer).await,
                    Err(fault) => Err(fault),
                };
                (DiskAction::Read, buffer, result)
            }
            DiskOp::Remove { file } => (DiskAction::Remove, Vec::new(), self.remove(file).await),
        };
        (buffer, result.map_err(|fault| DiskError { action, fault }))
    }

    async fn remove(&self, name: FileName) -> Result<(), DiskFault> {
        let file = self.files.borrow_mut().remove(&name);
        let Some(file) = file else { return Ok(()) };
        if let Ok(file) = Rc::try_unwrap(file) {
            fault(file.close().await)?;
        }
        match fault(glommio::io::remove(self.dir.path_of(name)).await) {
            Err(DiskFault::Gone) => Ok(()),
            other => other,
        }
    }
}

/// Writes all of `bytes`, a piece at a time. A copy of each goes to the kernel: glommio does not hand a buffer back after an
/// error, and these must not be lost.
async fn write(file: &BufferedFile, at: u64, bytes: &[u8]) -> Result<(), DiskFault> {
    let mut done = 0;
    while done < bytes.len() {
        match fault(
            file.write_at(bytes[done..bytes.len().min(done + PIECE)].to_vec(), at + done as u64).await,
        )? {
            0 => return Err(DiskFault::NoSpace),
            n => done += n,
        }
    }
    Ok(())
}

async fn read(file: &BufferedFile, at: u64, buffer: &mut [u8]) -> Result<(), DiskFault> {
    let mut done = 0;
    while done < buffer.len() {
        let part = fault(file.read_at(at + done as u64, PIECE.min(buffer.len() - done)).await)?;
        if part.is_empty() {
            return Err(DiskFault::TooShort);
        }
        buffer[done..done + part.len()].copy_from_slice(&part);
        done += part.len();
    }
    Ok(())
}

/// Counts an operation for as long as it is under way.
struct Underway;

impl Underway {
    fn begin() -> Self {
        IN_FLIGHT.set(IN_FLIGHT.get() + 1);
        Self
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        IN_FLIGHT.set(IN_FLIGHT.get().saturating_sub(1));
    }
}

impl Disk for GlommioDisk {
    fn submit(&mut self, token: u64, op: DiskOp) {
        self.in_flight += 1;
        let (shared, underway) = (Rc::clone(&self.shared), Underway::begin());
        let task = async move {
            let (buffer, result) = shared.perform(op).await;
            shared.done.borrow_mut().push_back(Completion { token, buffer, result });
            shared.doorbell.ring();
            drop(underway);
        };
        glommio::spawn_local(task).detach();
    }

    fn poll(&mut self, _now: i64) -> Option<Completion> {
        let done = self.shared.done.borrow_mut().pop_front();
        self.in_flight -= usize::from(done.is_some());
        done
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The driver has waited until nothing is under way: see [`quiesce`].
    fn close(&mut self) {
        for (name, _) in self.shared.files.borrow_mut().drain() {
            // What cannot be deleted now is deleted when the directory is next opened.
            let _ = self.shared.dir.remove(name);
        }
    }
}
