//! Reading a configuration file (a core map) as text, with every way it can be unusable told apart. What the text
//! means is for its own parser.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest configuration file accepted, in bytes. A core map of every core of the largest machine is far
/// below it.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why a configuration file cannot be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Missing, not readable, a loop of symbolic links.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory, FIFO, socket or device: reading it could wait for ever.
    #[error("{}: is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Longer than [`MAX_CONFIG_BYTES`].
    #[error("{}: is longer than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{}: is not UTF-8 text: byte {offset} is no part of a character", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that is not.
        offset: usize,
    },
    /// The parser of its content refused it.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What the parser said, with the place.
        message: String,
    },
}

/// Reads the whole file. A byte order mark is removed, line ends are left as they are.
///
/// # Errors
///
/// Every [`ConfigError`] but `Invalid`, which is for the caller's parser.
pub fn read_config(path: &Path) -> Result<String, ConfigError> {
    let io_error = |source| ConfigError::Io { path: path.to_path_buf(), source };
    // Before opening: opening a FIFO waits for a writer.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(ConfigError::NotAFile { path: path.to_path_buf() });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error)?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLong { path: path.to_path_buf() });
    }
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::NotText {
        path: path.to_path_buf(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(content: &[u8]) -> Result<String, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        read_config(file.path())
    }

    #[test]
    fn a_byte_order_mark_is_removed_and_line_ends_stay_fault_40() {
        assert_eq!(read(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n").unwrap(), "a = 1\r\nb = 2\r\n");
    }

    #[test]
    fn binary_content_is_named_with_its_place_fault_40() {
        assert!(matches!(read(b"ok\xff"), Err(ConfigError::NotText { offset: 2, .. })));
    }

    #[test]
    fn a_file_above_the_limit_is_refused_fault_40() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        assert!(matches!(read_config(file.path()), Err(ConfigError::TooLong { .. })));
        let fits = vec![b'#'; usize::try_from(MAX_CONFIG_BYTES).unwrap()];
        assert_eq!(read(&fits).unwrap().len(), fits.len());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_opening_it_fault_40() {
        assert!(matches!(read_config(Path::new("/")), Err(ConfigError::NotAFile { .. })));
        assert!(matches!(read_config(Path::new("/dev/zero")), Err(ConfigError::NotAFile { .. })));
    }

    #[test]
    fn missing_files_and_symlink_loops_are_errors_that_name_the_file_faults_40_41() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        assert!(read_config(&a).unwrap_err().to_string().starts_with(&a.display().to_string()));
        symlink(&a, &b).unwrap();
        symlink(&b, &a).unwrap();
        assert!(matches!(read_config(&a), Err(ConfigError::Io { .. })));
    }
}
