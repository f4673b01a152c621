//! The sink: letters become lines on the core; a thread of its own writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelane::stage::{DeadLetter, Rejected, Sink, StageError, StageSite};
use crossbeam::channel::{Receiver, TryRecvError, bounded};

use super::record::{Content, Record};
use crate::outbox::{Inbox, Outbox, ThreadGone};

/// Bytes that wait on the core for the thread before the sink takes no more.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Makes sinks that append dead letters to a file, for [`Stream::sink`](corelane::flow::Stream::sink).
pub struct FileSink;

impl FileSink {
    /// Appends to the file at `path`, which is created (mode 0600) if it is not there. `encode` says what is kept of an
    /// item; an item that it refuses is refused by the sink, whose own error policy decides.
    ///
    /// A disk that cannot be written fails the pipeline: dead letters are not lost without a word. A slow one holds the
    /// sink back, never the core. When the stream has ended the file is synced.
    pub fn appending<T, E, F>(
        path: impl AsRef<Path>,
        encode: F,
    ) -> impl FnOnce(&StageSite) -> Result<FileLetters<T, F>, StageError> + Clone + Send + 'static
    where
        T: 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: FnMut(&T) -> Result<Content, E> + Clone + Send + 'static,
    {
        let path = path.as_ref().to_path_buf();
        move |site: &StageSite| FileLetters::start(&path, encode, site).map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> StageError {
    StageError::msg(format_args!("dead letters cannot be written to {}: {error}", path.display()))
}

/// The sink itself; see [`FileSink::appending`].
pub struct FileLetters<T, F> {
    path: PathBuf,
    pipeline: Arc<str>,
    encode: F,
    /// Lines.
    outbox: Outbox<Vec<u8>>,
    ended: Receiver<io::Result<()>>,
    /// What the thread has come to, once that is known: it says so only once.
    end: Option<Result<(), String>>,
    items: PhantomData<fn(T)>,
}

impl<T, F> FileLetters<T, F> {
    fn start(path: &Path, encode: F, site: &StageSite) -> io::Result<Self> {
        let file = open(path)?;
        let (outbox, inbox) = Outbox::new();
        let (end, ended) = bounded(1);
        outbox.wake(&site.doorbell);
        // Not a partition: it blocks in the operating system, which a core must never do.
        let thread = std::thread::Builder::new().name("corelane-letters".to_owned());
        thread.spawn(move || {
            let written = write(file, &inbox);
            // There is room for one; and it must be there when the end of `inbox` tells of it.
            let _ = end.send(written);
            drop(inbox);
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            pipeline: Arc::clone(&site.context.pipeline_id),
            encode,
            outbox,
            ended,
            end: None,
            items: PhantomData,
        })
    }

    /// Whether the thread has ended well.
    fn ended_well(&mut self) -> Result<bool, StageError> {
        let gone = || Err("internal error: the thread that writes dead letters has gone".to_owned());
        if self.end.is_none() {
            self.end = match self.ended.try_recv() {
                Ok(Ok(())) => Some(Ok(())),
                Ok(Err(error)) => Some(Err(failed(&self.path, &error).to_string())),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(gone()),
            };
        }
        match &self.end {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(StageError::msg(error)),
            None => Ok(false),
        }
    }
}

/// Opens for appending, behind a line that a crash may have cut off.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() && file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn write(mut file: File, inbox: &Inbox<Vec<u8>>) -> io::Result<()> {
    while let Some(lines) = inbox.take() {
        file.write_all(&lines)?;
        inbox.give_back(lines);
    }
    match file.sync_data() {
        // A pipe or a device that cannot be synced has taken everything.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

impl<T, E, F> Sink for FileLetters<T, F>
where
    T: 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: FnMut(&T) -> Result<Content, E> + 'static,
{
    type Item = DeadLetter<T>;

    fn accept(&mut self, letter: DeadLetter<T>) -> Result<(), Rejected<DeadLetter<T>>> {
        let content = match letter.item.as_ref().map(&mut self.encode) {
            None => Content::default(),
            Some(Ok(content)) => content,
            Some(Err(error)) => return Err(Rejected { item: letter, error: StageError::User(error.into()) }),
        };
        let lines = self.outbox.batch();
        let before = lines.len();
        match serde_json::to_writer(&mut *lines, &Record::new(&self.pipeline, &letter, content)) {
            Ok(()) => {
                lines.push(b'\n');
                Ok(())
            }
            Err(error) => {
                lines.truncate(before);
                Err(Rejected { item: letter, error: StageError::User(error.into()) })
            }
        }
    }

    fn room(&mut self) -> usize {
        self.outbox.room(MAX_WAITING_BYTES)
    }

    fn flush(&mut self) -> Result<(), StageError> {
        match self.outbox.hand_over() {
            Ok(_) => Ok(()),
            Err(ThreadGone) => self.ended_well().map(drop),
        }
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        match self.outbox.finish() {
            Ok(false) => Ok(false),
            Ok(true) | Err(ThreadGone) => self.ended_well(),
        }
    }
}
