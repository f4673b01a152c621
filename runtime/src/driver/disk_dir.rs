//! The directory of spilled state: owned by one process, and only its own files are ever deleted.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::FileName;
use crate::keyed::is_spill_file_of;
use crate::policy::SpillOptions;

/// Held locked while the directory is in use; stays when it is not.
const LOCK: &str = "corelane.lock";
/// Read of a file to see whose it is.
const START: usize = 80;

/// Why a directory cannot be spilled to.
#[derive(Debug, thiserror::Error)]
pub enum SpillDirError {
    /// The operating system refused something.
    #[error("spill directory {}: cannot {action}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was refused.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It belongs to another user.
    #[error("spill directory {} belongs to user {owner}, not to user {me}", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        me: u32,
    },
    /// Others may put files into it.
    #[error("spill directory {} may be written to by other users (mode {mode:o}): chmod go-w it", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another pipeline uses it, of this process or of another.
    #[error("spill directory {} is in use by process {}", dir.display(), pid.map_or("?".to_owned(), |pid| pid.to_string()))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
}

/// An open, locked directory.
#[derive(Debug)]
pub(super) struct SpillDir {
    path: PathBuf,
    dir: OwnedFd,
    /// Locked as long as it is open: the kernel lets go of it however the process ends.
    _lock: File,
    epoch: u64,
}

impl SpillDir {
    /// Opens and locks the directory of `options`, and deletes what a run of the same pipeline that died left there.
    pub(super) fn open(options: &SpillOptions, pipeline_id: &str) -> Result<Self, SpillDirError> {
        let path = options.dir.clone();
        let io = |action| {
            let dir = path.clone();
            move |source: std::io::Error| SpillDirError::Io { dir, action, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io("make it"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| io("open it")(e.into()))?;
        let stat = rustix::fs::fstat(&dir).map_err(|e| io("look at it")(e.into()))?;
        let me = rustix::process::geteuid().as_raw();
        if stat.st_uid != me {
            return Err(SpillDirError::NotOurs { dir: path, owner: stat.st_uid, me });
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(SpillDirError::Open { dir: path, mode: stat.st_mode & 0o7777 });
        }
        let lock = Self::lock(&dir, &path)?;
        let this = Self { dir, _lock: lock, epoch: fastrand::u64(1..), path: path.clone() };
        this.delete_orphans(pipeline_id).map_err(|e| io("look through it")(e.into()))?;
        Ok(this)
    }

    fn lock(dir: &OwnedFd, path: &Path) -> Result<File, SpillDirError> {
        let io = |source| SpillDirError::Io { dir: path.to_owned(), action: "lock it", source };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(|e| io(e.into()))?;
        let mut lock = File::from(lock);
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Whatever stands there is only shown.
                let _ = lock.take(20).read_to_string(&mut pid);
                return Err(SpillDirError::InUse { dir: path.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(error) => return Err(io(error.into())),
        }
        lock.set_len(0).map_err(io)?;
        lock.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(lock)
    }

    fn delete_orphans(&self, pipeline_id: &str) -> Result<(), Errno> {
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().and_then(FileName::parse) else { continue };
            if self.is_orphan_of(name, pipeline_id) {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// Whether the file `name` was written by `pipeline_id`, or is one of that name that nothing was written to.
    fn is_orphan_of(&self, name: FileName, pipeline_id: &str) -> bool {
        // Not blocking: something else may stand at that name.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.dir, name.to_string(), flags, Mode::empty()) else {
            return false;
        };
        let Ok(stat) = rustix::fs::fstat(&file) else { return false };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return false;
        }
        let mut start = Vec::new();
        let read = File::from(file).take(START as u64).read_to_end(&mut start).is_ok();
        read && (start.is_empty() || is_spill_file_of(&start, pipeline_id))
    }

    /// Tells the files of this run from all others.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Makes a file that nothing may stand in the way of, not even a link.
    pub(super) fn create(&self, name: FileName) -> std::io::Result<File> {
        let flags = Self::create_flags() | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::openat(&self.dir, name.to_string(), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// Flags of a new file beside those that every way of opening has.
    pub(super) fn create_flags() -> OFlags {
        OFlags::NOFOLLOW | OFlags::CLOEXEC
    }

    /// Where `name` is, for whoever can only open by path: through the open directory, so that a directory put in its
    /// place is not followed, where `/proc` is there to say so.
    pub(super) fn path_of(&self, name: FileName) -> PathBuf {
        let through = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        let base = if through.exists() { &through } else { &self.path };
        base.join(name.to_string())
    }

    pub(super) fn remove(&self, name: FileName) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.dir, name.to_string(), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}
