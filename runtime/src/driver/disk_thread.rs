//! Files of the thread driver: helper threads that may block, so that no step does.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::disk_dir::SpillDir;
use crate::disk::{Completion, Disk, DiskAction, DiskError, DiskFault, DiskOp, Disks, FileName};
use crate::sync::Doorbell;

/// Operations at the same time.
const THREADS: usize = 2;

/// An operation on its way to a helper thread. Their number is bounded by what each store has under way.
struct Job {
    token: u64,
    op: DiskOp,
    file: Option<Arc<File>>,
    reply: Sender<Reply>,
    doorbell: Arc<Doorbell>,
}

struct Reply {
    completion: Completion,
    /// The file that was made.
    made: Option<(FileName, Arc<File>)>,
}

/// The helper threads of one pipeline and its directory. They end when this is dropped.
pub(super) struct ThreadDisks {
    dir: Arc<SpillDir>,
    quota: Option<u64>,
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadDisks {
    /// Starts the threads.
    pub(super) fn new(dir: SpillDir, quota: Option<u64>) -> std::io::Result<Self> {
        let (jobs, todo) = unbounded::<Job>();
        let dir = Arc::new(dir);
        let mut this = Self { dir, quota, jobs: Mutex::new(Some(jobs)), threads: Vec::new() };
        for n in 0..THREADS {
            let (todo, dir) = (todo.clone(), Arc::clone(&this.dir));
            let thread = std::thread::Builder::new().name(format!("corelane-io-{n}"));
            this.threads.push(thread.spawn(move || todo.iter().for_each(|job| work(job, &dir)))?);
        }
        Ok(this)
    }
}

impl Drop for ThreadDisks {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        for thread in self.threads.drain(..) {
            // It has nothing to say that its replies did not.
            let _ = thread.join();
        }
    }
}

fn work(job: Job, dir: &SpillDir) {
    let Job { token, op, file, reply, doorbell } = job;
    let mut made = None;
    let gone = || std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
    let on = |file: Option<Arc<File>>, f: &mut dyn FnMut(&File) -> std::io::Result<()>| match file {
        Some(file) => f(&file),
        None => Err(gone()),
    };
    let (action, buffer, result) = match op {
        DiskOp::Create { file: name, bytes } => match dir.create(name).map(Arc::new) {
            Ok(file) => {
                let written = file.write_all_at(&bytes, 0);
                made = Some((name, file));
                (DiskAction::Write, bytes, written)
            }
            Err(error) => (DiskAction::Create, bytes, Err(error)),
        },
        DiskOp::Write { at, bytes, .. } => {
            let result = on(file, &mut |file| file.write_all_at(&bytes, at));
            (DiskAction::Write, bytes, result)
        }
        DiskOp::Read { at, mut buffer, .. } => {
            let result = on(file, &mut |file| file.read_exact_at(&mut buffer, at));
            (DiskAction::Read, buffer, result)
        }
        DiskOp::Remove { file: name } => {
            let result = if file.is_some() { dir.remove(name).map_err(Into::into) } else { Ok(()) };
            (DiskAction::Remove, Vec::new(), result)
        }
    };
    let result = result.map_err(|error| DiskError { action, fault: DiskFault::from(error) });
    // Nobody listens any more when the instance has been closed without waiting, which it never is.
    let _ = reply.send(Reply { completion: Completion { token, buffer, result }, made });
    doorbell.ring();
}

impl Disks for ThreadDisks {
    fn open(&self, doorbell: &Arc<Doorbell>) -> Box<dyn Disk> {
        let (reply, replies) = unbounded();
        Box::new(ThreadDisk {
            dir: Arc::clone(&self.dir),
            jobs: self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            doorbell: Arc::clone(doorbell),
            reply,
            replies,
            files: HashMap::new(),
            refused: VecDeque::new(),
            in_flight: 0,
        })
    }

    fn quota(&self) -> Option<u64> {
        self.quota
    }

    fn epoch(&self) -> u64 {
        self.dir.epoch()
    }
}

/// The files of one instance.
struct ThreadDisk {
    dir: Arc<SpillDir>,
    jobs: Option<Sender<Job>>,
    doorbell: Arc<Doorbell>,
    reply: Sender<Reply>,
    replies: Receiver<Reply>,
    files: HashMap<FileName, Arc<File>>,
    /// Operations that no thread took.
    refused: VecDeque<Completion>,
    in_flight: usize,
}

impl ThreadDisk {
    fn take(&mut self, reply: Reply) -> Completion {
        self.in_flight -= 1;
        self.files.extend(reply.made);
        reply.completion
    }
}

impl Disk for ThreadDisk {
    fn submit(&mut self, token: u64, op: DiskOp) {
        let file = match &op {
            DiskOp::Create { .. } => None,
            DiskOp::Write { file, .. } | DiskOp::Read { file, .. } => self.files.get(file).cloned(),
            DiskOp::Remove { file } => self.files.remove(file),
        };
        let (reply, doorbell) = (self.reply.clone(), Arc::clone(&self.doorbell));
        let job = Job { token, op, file, reply, doorbell };
        self.in_flight += 1;
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|refused| refused.into_inner()),
            None => Err(job),
        };
        if let Err(job) = sent {
            self.in_flight -= 1;
            let buffer = match job.op {
                DiskOp::Create { bytes, .. } | DiskOp::Write { bytes, .. } => bytes,
                DiskOp::Read { buffer, .. } => buffer,
                DiskOp::Remove { .. } => Vec::new(),
            };
            let error = DiskError { action: DiskAction::Write, fault: DiskFault::Gone };
            self.refused.push_back(Completion { token, buffer, result: Err(error) });
        }
    }

    fn poll(&mut self, _now: i64) -> Option<Completion> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(refused);
        }
        let reply = self.replies.try_recv().ok()?;
        Some(self.take(reply))
    }

    fn in_flight(&self) -> usize {
        self.in_flight + self.refused.len()
    }

    fn close(&mut self) {
        while self.in_flight > 0
            && let Ok(reply) = self.replies.recv()
        {
            self.take(reply);
        }
        for (name, _) in self.files.drain() {
            // What cannot be deleted now is deleted when the directory is next opened.
            let _ = self.dir.remove(name);
        }
    }
}
