//! Writing NDJSON lines to a file or to standard output.
//!
//! A file is created or truncated in place and written from its start. It is not written beside its name and renamed:
//! the target may be a pipe, a device or `/dev/stdout`, and a reader may follow it while it grows. A run that does
//! not end with exit code 0 therefore leaves what it had written, always whole lines but perhaps for the last.
//!
//! A process started with standard output closed (`>&-`) writes to the null device: Rust's start-up puts it
//! there, and afterwards nothing tells it from `> /dev/null`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::otlp::InputPath;

/// Bytes collected before they are handed to the operating system.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why output cannot be written. Every variant names the output as the user wrote it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The reader went away (EPIPE). Not a fault: end quietly.
    #[error("{output}: the reader closed it")]
    Closed {
        /// The output.
        output: String,
    },
    /// No space left on the device, quota used up, or the file size limit reached.
    #[error("{output}: no space left: {source}")]
    NoSpace {
        /// The output.
        output: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path names a directory.
    #[error("{output}: is a directory")]
    IsDirectory {
        /// The output.
        output: String,
    },
    /// The file may not be created or written by this user.
    #[error("{output}: no permission to write it: {source}")]
    NoPermission {
        /// The output.
        output: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory the file is to be in does not exist.
    #[error("{output}: its directory does not exist")]
    NoDirectory {
        /// The output.
        output: String,
    },
    /// The output is one of the inputs, which opening it would have emptied.
    #[error("{output}: is also an input")]
    IsInput {
        /// The output.
        output: String,
    },
    /// Two outputs are one file.
    #[error("{output}: traces and dead letters cannot go to the same file")]
    IsOutput {
        /// The output.
        output: String,
    },
    /// The operating system refused another way.
    #[error("{output}: cannot write: {source}")]
    Io {
        /// The output.
        output: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPath {
    /// Standard output, written `-`.
    Stdout,
    /// A file or device.
    File(PathBuf),
}

impl OutputPath {
    /// `-` is standard output, everything else a path (`./-` names a file called `-`).
    pub fn new(path: &Path) -> Self {
        if path.as_os_str() == "-" { OutputPath::Stdout } else { OutputPath::File(path.to_path_buf()) }
    }
}

/// Collects whole lines and writes them in large pieces.
#[derive(Debug)]
pub struct LineWriter<W = File> {
    label: String,
    sink: W,
    buffer: Vec<u8>,
    written: u64,
}

impl LineWriter<File> {
    /// Opens the output, creating or emptying a file; the descriptor is not inherited by child processes.
    ///
    /// `inputs` are what the run reads: an output that is the same file is refused before it is touched.
    ///
    /// # Errors
    ///
    /// [`OutputError`] of opening; `Closed` and `NoSpace` come later, from writing.
    pub fn open(output: &OutputPath, inputs: &[InputPath]) -> Result<Self, OutputError> {
        let path = match output {
            OutputPath::Stdout => {
                // Not `io::stdout()` itself: it looks for line ends in everything and copies it once more.
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|error| write_error("standard output", error))?;
                return Ok(Self::new("standard output".to_owned(), File::from(stdout)));
            }
            OutputPath::File(path) => path,
        };
        let label = path.to_string_lossy().into_owned();
        if inputs.iter().any(|input| is_same_file(path, input)) {
            return Err(OutputError::IsInput { output: label });
        }
        // The standard library opens with O_CLOEXEC.
        match OpenOptions::new().write(true).create(true).truncate(true).open(path) {
            Ok(file) => Ok(Self::new(label, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OutputError::NoDirectory { output: label })
            }
            Err(error) => Err(write_error(&label, error)),
        }
    }
}

/// Writes all of `text` to standard output.
///
/// # Errors
///
/// What opening and writing met.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut output = LineWriter::open(&OutputPath::Stdout, &[])?;
    output.write(text.as_bytes())?;
    output.finish().map(drop)
}

impl<W: Write> LineWriter<W> {
    /// A writer over any sink; `label` names it in errors.
    pub fn new(label: String, sink: W) -> Self {
        LineWriter { label, sink, buffer: Vec::with_capacity(BUFFER_BYTES), written: 0 }
    }

    /// Takes one or more whole lines, newline included. Does not allocate unless one is longer than the buffer.
    ///
    /// # Errors
    ///
    /// What writing the lines collected before met; the writer must not be used any more then.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), OutputError> {
        if self.buffer.len() + lines.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(lines);
        Ok(())
    }

    /// Hands everything collected to the operating system. Nothing is synced to disk.
    ///
    /// # Errors
    ///
    /// What writing met.
    pub fn flush(&mut self) -> Result<(), OutputError> {
        let result = self.sink.write_all(&self.buffer).and_then(|()| self.sink.flush());
        let length = self.buffer.len() as u64;
        self.buffer.clear(); // also after an error: never written twice
        result.map_err(|error| write_error(&self.label, error))?;
        self.written += length;
        Ok(())
    }

    /// Flushes, and returns the bytes written in all. A writer that is dropped instead loses what it collected.
    ///
    /// # Errors
    ///
    /// What writing met.
    pub fn finish(mut self) -> Result<u64, OutputError> {
        self.flush()?;
        Ok(self.written)
    }
}

/// Finds what keeps a file from being appended to, so that it shows before anything starts; creates it, with no content
/// and for its owner only.
///
/// # Errors
///
/// [`OutputError`] of opening, or when it is an input or the output of the same run.
pub fn check_appendable(path: &Path, inputs: &[InputPath], output: &OutputPath) -> Result<(), OutputError> {
    let label = path.to_string_lossy().into_owned();
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    match opened {
        Ok(_) if inputs.iter().any(|input| is_same_file(path, input)) => {
            Err(OutputError::IsInput { output: label })
        }
        Ok(_) if matches!(output, OutputPath::File(other) if is_same_file(path, &InputPath::File(other.clone()))) => {
            Err(OutputError::IsOutput { output: label })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OutputError::NoDirectory { output: label })
        }
        Err(error) => Err(write_error(&label, error)),
    }
}

/// Gives the usual causes their own variant.
pub(crate) fn write_error(output: &str, source: io::Error) -> OutputError {
    let output = output.to_owned();
    match source.kind() {
        io::ErrorKind::BrokenPipe => OutputError::Closed { output },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            OutputError::NoSpace { output, source }
        }
        io::ErrorKind::IsADirectory => OutputError::IsDirectory { output },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OutputError::NoPermission { output, source }
        }
        _ => OutputError::Io { output, source },
    }
}

/// Whether both name one regular file (through links too). Devices such as a terminal may be both.
fn is_same_file(output: &Path, input: &InputPath) -> bool {
    let InputPath::File(input) = input else { return false };
    match (fs::metadata(output), fs::metadata(input)) {
        (Ok(output), Ok(input)) => {
            output.is_file() && (output.dev(), output.ino()) == (input.dev(), input.ino())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<LineWriter, OutputError> {
        LineWriter::open(&OutputPath::new(path), &[])
    }

    #[test]
    fn lines_arrive_whole_and_in_order_and_old_content_goes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![b'x'; 3 * BUFFER_BYTES]).unwrap();
        let mut writer = open(file.path()).unwrap();
        let lines: Vec<String> = (0..50_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| writer.write(line.as_bytes()).unwrap());
        let expected = lines.concat();
        assert_eq!(writer.finish().unwrap(), expected.len() as u64);
        assert_eq!(fs::read_to_string(file.path()).unwrap(), expected);
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_written() {
        let mut sink = Vec::new();
        let mut writer = LineWriter::new("memory".to_owned(), &mut sink);
        let long = vec![b'a'; 2 * BUFFER_BYTES];
        writer.write(b"short\n").unwrap();
        writer.write(&long).unwrap();
        writer.finish().unwrap();
        assert_eq!(sink, [b"short\n".as_slice(), &long].concat());
    }

    #[test]
    fn a_full_device_is_no_space_fault_44() {
        let mut writer = open(Path::new("/dev/full")).unwrap();
        writer.write(b"line\n").unwrap();
        assert!(matches!(writer.finish(), Err(OutputError::NoSpace { .. })));
    }

    #[test]
    fn a_reader_that_went_away_is_closed_fault_44() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let mut writer = LineWriter::new("pipe".to_owned(), pipe);
        writer.write(b"line\n").unwrap();
        assert!(matches!(writer.finish(), Err(OutputError::Closed { .. })));
    }

    #[test]
    fn directories_are_told_apart_from_missing_ones() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(open(dir.path()), Err(OutputError::IsDirectory { .. })));
        let missing = dir.path().join("missing/out.ndjson");
        assert!(matches!(open(&missing), Err(OutputError::NoDirectory { .. })));
    }

    #[test]
    fn causes_of_the_operating_system_get_their_variant() {
        let variant = |code| write_error("out", io::Error::from_raw_os_error(code));
        assert!(matches!(variant(libc::EACCES), OutputError::NoPermission { .. }));
        assert!(matches!(variant(libc::EROFS), OutputError::NoPermission { .. }));
        assert!(matches!(variant(libc::EDQUOT), OutputError::NoSpace { .. }));
        assert!(matches!(variant(libc::EFBIG), OutputError::NoSpace { .. }));
        assert!(matches!(variant(libc::EIO), OutputError::Io { .. }));
    }

    #[test]
    fn an_output_that_is_an_input_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        let link = dir.path().join("link");
        fs::write(&input, "content").unwrap();
        fs::hard_link(&input, &link).unwrap();
        let inputs = [InputPath::Stdin, InputPath::new(&input)];
        let result = LineWriter::open(&OutputPath::new(&link), &inputs);
        assert!(matches!(result, Err(OutputError::IsInput { .. })));
        assert_eq!(fs::read_to_string(&input).unwrap(), "content");
    }
}
