//! Why an input cannot be used.

use std::fmt;
use std::io;
use std::sync::Arc;

use corelane::pool::RentError;

/// How the bytes of an input are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    Plain,
    /// One or many gzip members (RFC 1952).
    Gzip,
    /// One or many zstd frames (RFC 8878).
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Plain => "plain",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        })
    }
}

/// Why an input cannot be used. Every variant names the input; offsets count uncompressed bytes from its start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No such file.
    #[error("{input}: no such file")]
    NotFound {
        /// The input as the user wrote it.
        input: Arc<str>,
    },
    /// The path names a directory.
    #[error("{input}: is a directory, not a file of trace requests")]
    IsDirectory {
        /// The input as the user wrote it.
        input: Arc<str>,
    },
    /// The file may not be read by this user.
    #[error("{input}: no permission to read it")]
    NoPermission {
        /// The input as the user wrote it.
        input: Arc<str>,
    },
    /// Standard input can be read only once.
    #[error("-: standard input is named more than once")]
    StdinTwice,
    /// The operating system refused an operation.
    #[error("{input}: cannot read: {source}")]
    Io {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not one byte of data.
    #[error("{input}: is empty")]
    Empty {
        /// The input as the user wrote it.
        input: Arc<str>,
    },
    /// Neither of the known formats.
    #[error(
        "{input}: unknown format (starts with {start}); expected OTLP trace requests: length-prefixed or bare \
         protobuf, or JSON; plain, gzip or zstd"
    )]
    UnknownFormat {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// The first bytes, escaped.
        start: String,
    },
    /// The compressed stream is damaged or ends early.
    #[error("{input}: {codec} stream is damaged or cut off after {offset} uncompressed bytes: {source}")]
    CorruptCompression {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// The compression found.
        codec: Codec,
        /// Uncompressed bytes read before the damage.
        offset: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// The input ends inside a request.
    #[error("{input}: ends inside the request at byte {offset}: {missing} more bytes expected")]
    Truncated {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// Where the request starts (its length field, if it has one).
        offset: u64,
        /// Bytes still missing.
        missing: u64,
    },
    /// The input ends inside a JSON document.
    #[error("{input}: ends inside the JSON document that starts at byte {offset}")]
    TruncatedJson {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// Where the document starts.
        offset: u64,
    },
    /// A request announces, or reaches, a length above [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES).
    #[error("{input}: request at byte {offset} is {length} bytes or longer, the limit is {limit}")]
    FrameTooLong {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// Where the request starts.
        offset: u64,
        /// The announced length, or how much was read before giving up.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A length prefix of zero: what a zero-filled or torn file looks like, and no exporter sends it.
    #[error("{input}: request at byte {offset} has length 0")]
    EmptyFrame {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// Where the request starts.
        offset: u64,
    },
    /// The memory pool cannot hold a request.
    #[error("{input}: no memory for the request at byte {offset}: {cause}")]
    NoBuffer {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// Where the request starts.
        offset: u64,
        /// What the pool said.
        cause: RentError,
    },
    /// JSON whose documents cannot be told apart.
    #[error("{input}: not a JSON document at byte {offset}: {reason}")]
    MalformedJson {
        /// The input as the user wrote it.
        input: Arc<str>,
        /// The byte that does not fit.
        offset: u64,
        /// What was expected.
        reason: &'static str,
    },
}

impl InputError {
    /// Wraps an error of opening or reading `input`, giving the usual causes their own variant.
    pub(super) fn from_io(input: &Arc<str>, source: io::Error) -> Self {
        let input = Arc::clone(input);
        match source.kind() {
            io::ErrorKind::NotFound => InputError::NotFound { input },
            io::ErrorKind::IsADirectory => InputError::IsDirectory { input },
            io::ErrorKind::PermissionDenied => InputError::NoPermission { input },
            _ => InputError::Io { input, source },
        }
    }
}
