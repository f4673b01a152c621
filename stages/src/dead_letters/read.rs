//! Reading dead letters back.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::record::{Record, VERSION};

/// The longest line read, in bytes. A longer one is passed over, without being kept in memory, and reported.
pub const MAX_LINE_BYTES: u64 = 256 * 1024 * 1024;

/// A dead letter and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its line, counted from 1.
    pub line: u64,
    /// What stands there.
    pub record: Record,
}

/// Why a line is no dead letter. Reading goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The operating system's error. Nothing follows it.
    #[error("line {line}: cannot read: {source}")]
    Io {
        /// Counted from 1.
        line: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Damaged, cut off, or something else.
    #[error("line {line} is no dead letter: {source}")]
    Damaged {
        /// Counted from 1.
        line: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Written by a later version.
    #[error("line {line} has version {version}, this program reads version {VERSION}")]
    Version {
        /// Counted from 1.
        line: u64,
        /// The version found.
        version: u32,
    },
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    TooLong {
        /// Counted from 1.
        line: u64,
    },
}

/// Dead letters, one after the other. Empty lines are passed over.
pub struct Letters<R> {
    input: R,
    line: u64,
    ended: bool,
    longest: u64,
}

/// Reads the file at `path`.
///
/// # Errors
/// It cannot be opened, or is a directory.
pub fn read(path: impl AsRef<Path>) -> io::Result<Letters<BufReader<File>>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(read_from(BufReader::new(file)))
}

/// Reads any input.
pub fn read_from<R: BufRead>(input: R) -> Letters<R> {
    Letters { input, line: 0, ended: false, longest: MAX_LINE_BYTES }
}

impl<R: BufRead> Letters<R> {
    fn next_line(&mut self) -> Option<Result<Vec<u8>, LetterError>> {
        self.line += 1;
        let line = self.line;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(self.longest + 1).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => None,
            Ok(_) if bytes.len() as u64 > self.longest && bytes.last() != Some(&b'\n') => {
                match self.input.skip_until(b'\n') {
                    Ok(_) => Some(Err(LetterError::TooLong { line })),
                    Err(source) => Some(Err(self.failed(source))),
                }
            }
            Ok(_) => Some(Ok(bytes)),
            Err(source) => Some(Err(self.failed(source))),
        }
    }

    fn failed(&mut self, source: io::Error) -> LetterError {
        self.ended = true;
        LetterError::Io { line: self.line, source }
    }
}

/// Read first: a later version may have changed all the rest.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

impl<R: BufRead> Iterator for Letters<R> {
    type Item = Result<Letter, LetterError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let bytes = match self.next_line()? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error)),
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let line = self.line;
            let damaged = |source| LetterError::Damaged { line, source };
            return Some(match serde_json::from_slice::<Versioned>(&bytes) {
                Ok(Versioned { version: VERSION }) => {
                    serde_json::from_slice(&bytes).map(|record| Letter { line, record }).map_err(damaged)
                }
                Ok(Versioned { version }) => Err(LetterError::Version { line, version }),
                Err(source) => Err(damaged(source)),
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_over_the_limit_is_passed_over_and_the_next_one_is_read() {
        let text = format!("{}\n\n{{\"version\":9}}\nrest", "x".repeat(100));
        let letters = Letters { longest: 50, ..read_from(text.as_bytes()) };
        let errors: Vec<String> = letters.map(|letter| letter.unwrap_err().to_string()).collect();
        assert!(errors[0].starts_with("line 1 is longer"), "{errors:?}");
        assert_eq!(errors[1], "line 3 has version 9, this program reads version 1");
        assert!(errors[2].starts_with("line 4 is no dead letter: "), "{errors:?}");
        assert_eq!(errors.len(), 3);
    }
}
