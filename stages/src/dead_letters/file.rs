//! The sink: letters become lines on the core; a thread of its own writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelane::stage::{DeadLetter, Rejected, Sink, StageError, StageSite};
use corelane::sync::Doorbell;
use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::record::{Content, Record};

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
    lines: Vec<u8>,
    /// `None` once everything has been handed over.
    batches: Option<Sender<Vec<u8>>>,
    ended: Receiver<io::Result<()>>,
    /// What the thread has come to, once that is known: it says so only once.
    end: Option<Result<(), String>>,
    items: PhantomData<fn(T)>,
}

impl<T, F> FileLetters<T, F> {
    fn start(path: &Path, encode: F, site: &StageSite) -> io::Result<Self> {
        let file = open(path)?;
        let (batches, filled) = bounded(1);
        let (end, ended) = bounded(1);
        let bell = Arc::clone(&site.doorbell);
        // Not a partition: it blocks in the operating system, which a core must never do.
        let thread = std::thread::Builder::new().name("corelane-letters".to_owned());
        thread.spawn(move || {
            let written = write(file, &filled, &bell);
            let _ = end.send(written); // there is room for one
            drop(filled);
            bell.ring();
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            pipeline: Arc::clone(&site.context.pipeline_id),
            encode,
            lines: Vec::new(),
            batches: Some(batches),
            ended,
            end: None,
            items: PhantomData,
        })
    }

    /// Hands over what has been collected. True if nothing is left here.
    fn hand_over(&mut self) -> Result<bool, StageError> {
        let Some(batches) = &self.batches else { return Ok(true) };
        if self.lines.is_empty() {
            return Ok(true);
        }
        match batches.try_send(std::mem::take(&mut self.lines)) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(lines)) => {
                self.lines = lines;
                Ok(false)
            }
            // It says why before it lets go of the channel.
            Err(TrySendError::Disconnected(_)) => match self.look() {
                Some(Err(error)) => Err(StageError::msg(error)),
                _ => Ok(false),
            },
        }
    }

    /// Takes note of how the thread ended, if it has.
    fn look(&mut self) -> Option<&Result<(), String>> {
        let gone = || Err("internal error: the thread that writes dead letters has gone".to_owned());
        if self.end.is_none() {
            self.end = match self.ended.try_recv() {
                Ok(Ok(())) => Some(Ok(())),
                Ok(Err(error)) => Some(Err(failed(&self.path, &error).to_string())),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(gone()),
            };
        }
        self.end.as_ref()
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

fn write(mut file: File, batches: &Receiver<Vec<u8>>, bell: &Doorbell) -> io::Result<()> {
    for lines in batches {
        file.write_all(&lines)?;
        bell.ring(); // there is room for the next
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
        let before = self.lines.len();
        match serde_json::to_writer(&mut self.lines, &Record::new(&self.pipeline, &letter, content)) {
            Ok(()) => {
                self.lines.push(b'\n');
                Ok(())
            }
            Err(error) => {
                self.lines.truncate(before);
                Err(Rejected { item: letter, error: StageError::User(error.into()) })
            }
        }
    }

    fn room(&mut self) -> usize {
        // Asked on every step, so this is where lines that found the thread busy are tried again. An error is met again,
        // and reported, by `flush` or `finish`.
        match self.hand_over() {
            Ok(_) if self.lines.len() >= MAX_WAITING_BYTES => 0,
            _ => usize::MAX,
        }
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.hand_over().map(drop)
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        if !self.hand_over()? {
            return Ok(false);
        }
        self.batches = None; // the thread sees the end after the last batch
        match self.look() {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(StageError::msg(error)),
            None => Ok(false),
        }
    }
}
