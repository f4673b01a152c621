//! Opening one input: path or standard input, compression, bytes counted for the progress line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::detect::Peek;
use super::error::{Codec, InputError};

/// Bytes asked from the operating system, and from a decompressor, at a time.
const READ_BYTES: usize = 256 * 1024;

/// Where requests come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputPath {
    /// Standard input, written `-`.
    Stdin,
    /// A file, FIFO or character device.
    File(PathBuf),
}

impl InputPath {
    /// `-` is standard input, everything else a path (`./-` names a file called `-`).
    pub fn new(path: &Path) -> Self {
        if path.as_os_str() == "-" { InputPath::Stdin } else { InputPath::File(path.to_path_buf()) }
    }

    /// The name used in messages.
    pub fn label(&self) -> Arc<str> {
        match self {
            InputPath::Stdin => Arc::from("-"),
            InputPath::File(path) => Arc::from(path.to_string_lossy()),
        }
    }

    /// Checks that the input can be opened, without reading it: errors come before anything starts.
    ///
    /// Returns its size in bytes as stored, `None` for standard input, FIFOs and devices.
    pub(super) fn check(&self) -> Result<Option<u64>, InputError> {
        let InputPath::File(path) = self else { return Ok(None) };
        let label = self.label();
        let found = fs::metadata(path).map_err(|error| InputError::from_io(&label, error))?;
        if found.is_dir() {
            return Err(InputError::IsDirectory { input: label });
        }
        if !found.is_file() {
            return Ok(None); // opening a FIFO twice would lose its writer
        }
        File::open(path).map_err(|error| InputError::from_io(&label, error))?;
        if found.len() == 0 && !path.starts_with("/proc") {
            return Err(InputError::Empty { input: label });
        }
        Ok(Some(found.len()))
    }
}

/// How far reading has come. Clones share the count; the reader adds, a progress line on another core loads.
#[derive(Debug, Clone, Default)]
pub struct InputProgress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl InputProgress {
    pub(super) fn new(total: Option<u64>) -> Self {
        InputProgress { read: Arc::default(), total }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes read so far, as stored (compressed).
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes there are, over all inputs and repetitions; `None` when one input has no known size.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total
    }
}

/// A reader that adds what it hands out to the progress.
struct Counted<R> {
    inner: R,
    progress: InputProgress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// One opened input: uncompressed bytes.
pub(super) struct Source {
    pub(super) label: Arc<str>,
    pub(super) codec: Codec,
    pub(super) bytes: Box<dyn BufRead + Send>,
}

impl Source {
    pub(super) fn open(input: &InputPath, progress: &InputProgress) -> Result<Self, InputError> {
        let label = input.label();
        let raw: Box<dyn Read + Send> = match input {
            InputPath::Stdin => Box::new(io::stdin()),
            InputPath::File(path) => {
                Box::new(File::open(path).map_err(|error| InputError::from_io(&label, error))?)
            }
        };
        Self::new(label, raw, progress.clone())
    }

    pub(super) fn new(
        label: Arc<str>,
        raw: Box<dyn Read + Send>,
        progress: InputProgress,
    ) -> Result<Self, InputError> {
        let counted = Counted { inner: raw, progress };
        let mut peek = Peek::new(BufReader::with_capacity(READ_BYTES, counted));
        let codec = peek.codec().map_err(|error| InputError::from_io(&label, error))?;
        let stored = peek.into_inner();
        let bytes: Box<dyn BufRead + Send> = match codec {
            Codec::Plain => Box::new(stored),
            Codec::Gzip => {
                Box::new(BufReader::with_capacity(READ_BYTES, flate2::bufread::MultiGzDecoder::new(stored)))
            }
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(stored)
                    .map_err(|error| InputError::from_io(&label, error))?;
                Box::new(BufReader::with_capacity(READ_BYTES, decoder))
            }
        };
        Ok(Source { label, codec, bytes })
    }
}
