//! Telling requests apart inside the uncompressed bytes of one input.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use super::detect::{BYTE_ORDER_MARK, Format, Peek};
use super::error::{Codec, InputError};
use super::source::Source;

/// The longest request accepted, in bytes. A length above it is refused before anything is allocated.
pub const MAX_FRAME_BYTES: u64 = 64 * 1024 * 1024;

/// Memory set aside for a request before its bytes have been seen: an announced length is only a claim.
const MAX_RESERVED_BYTES: u64 = 1024 * 1024;

/// How a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary protobuf.
    Protobuf,
    /// OTLP/JSON.
    Json,
}

/// One raw `ExportTraceServiceRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The encoded request.
    pub bytes: Vec<u8>,
    /// Its encoding.
    pub encoding: Encoding,
    /// Its position among all requests of all inputs and repetitions, from 0.
    pub index: u64,
    /// The pass over the inputs it belongs to, from 0 (`--repeat`).
    pub repetition: u32,
    /// The input it came from.
    pub input: Arc<str>,
    /// Where it starts in the uncompressed bytes of that input.
    pub offset: u64,
}

/// The requests of one input, one after the other.
pub(super) struct Framing {
    label: Arc<str>,
    codec: Codec,
    format: Format,
    bytes: Box<dyn BufRead + Send>,
    offset: u64,
}

/// One request as found: its bytes and where they start.
pub(super) type Found = (u64, Vec<u8>);

impl Framing {
    pub(super) fn new(source: Source) -> Result<Self, InputError> {
        let Source { label, codec, bytes } = source;
        let mut peek = Peek::new(bytes);
        let format = peek.format().map_err(|error| read_error(&label, codec, 0, error))?;
        match format {
            Format::Empty => return Err(InputError::Empty { input: label }),
            Format::Unknown => {
                let start = peek.seen().iter().take(16).copied().collect::<Vec<_>>();
                return Err(InputError::UnknownFormat {
                    input: label,
                    start: format!("\"{}\"", start.escape_ascii()),
                });
            }
            Format::Framed | Format::BareProtobuf | Format::Json => {}
        }
        Ok(Framing { label, codec, format, bytes: Box::new(peek.into_inner()), offset: 0 })
    }

    pub(super) fn encoding(&self) -> Encoding {
        if self.format == Format::Json { Encoding::Json } else { Encoding::Protobuf }
    }

    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The next request, `None` at the end. After an error the position is undefined.
    pub(super) fn next(&mut self) -> Result<Option<Found>, InputError> {
        match self.format {
            Format::Framed => self.next_framed(),
            Format::BareProtobuf => self.whole(),
            Format::Json => self.next_json(),
            Format::Empty | Format::Unknown => Ok(None),
        }
    }

    fn next_framed(&mut self) -> Result<Option<Found>, InputError> {
        let start = self.offset;
        let prefix = self.read_at_most(4)?;
        if prefix.is_empty() {
            return Ok(None);
        }
        let Ok(prefix) = <[u8; 4]>::try_from(prefix.as_slice()) else {
            return Err(self.truncated(start, 4 - prefix.len() as u64));
        };
        let length = u64::from(u32::from_be_bytes(prefix));
        if length == 0 {
            return Err(InputError::EmptyFrame { input: Arc::clone(&self.label), offset: start });
        }
        if length > MAX_FRAME_BYTES {
            return Err(self.too_long(start, length));
        }
        let request = self.read_at_most(length)?;
        match length - request.len() as u64 {
            0 => Ok(Some((start, request))),
            missing => Err(self.truncated(start, missing)),
        }
    }

    /// Everything there is, once.
    fn whole(&mut self) -> Result<Option<Found>, InputError> {
        let start = self.offset;
        let request = self.read_at_most(MAX_FRAME_BYTES + 1)?;
        match request.len() as u64 {
            0 => Ok(None),
            length if length > MAX_FRAME_BYTES => Err(self.too_long(start, length)),
            _ => Ok(Some((start, request))),
        }
    }

    /// One JSON object: from `{` to the bracket that closes it. Only brackets and strings are looked at; whether
    /// it is a request is for the decoder to say.
    fn next_json(&mut self) -> Result<Option<Found>, InputError> {
        if !self.skip_to_object()? {
            return Ok(None);
        }
        let start = self.offset;
        let mut document = Vec::new();
        let mut scan = ObjectScan::default();
        loop {
            let chunk = match self.bytes.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(&self.label, self.codec, self.offset, error)),
            };
            if chunk.is_empty() {
                return Err(InputError::TruncatedJson { input: Arc::clone(&self.label), offset: start });
            }
            let step = scan.advance(chunk);
            let used = step.used();
            document.extend_from_slice(&chunk[..used]);
            self.bytes.consume(used);
            self.offset += used as u64;
            if document.len() as u64 > MAX_FRAME_BYTES {
                return Err(self.too_long(start, document.len() as u64));
            }
            match step {
                Step::More(_) => {}
                Step::Closed(_) => return Ok(Some((start, document))),
                Step::NewlineInString(_) => {
                    return Err(self.malformed(self.offset - 1, "a string runs over the end of its line"));
                }
            }
        }
    }

    /// Moves to the next `{`; false at the end.
    fn skip_to_object(&mut self) -> Result<bool, InputError> {
        loop {
            let first = match self.bytes.fill_buf() {
                Ok(chunk) => chunk.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(&self.label, self.codec, self.offset, error)),
            };
            match first {
                None => return Ok(false),
                Some(b'{') => return Ok(true),
                Some(byte) if byte.is_ascii_whitespace() || self.in_byte_order_mark(byte) => {
                    self.bytes.consume(1);
                    self.offset += 1;
                }
                Some(_) => return Err(self.malformed(self.offset, "expected the `{` of the next request")),
            }
        }
    }

    fn in_byte_order_mark(&self, byte: u8) -> bool {
        usize::try_from(self.offset).ok().and_then(|offset| BYTE_ORDER_MARK.get(offset)) == Some(&byte)
    }

    /// Reads `wanted` bytes, or fewer at the end of the input.
    fn read_at_most(&mut self, wanted: u64) -> Result<Vec<u8>, InputError> {
        let reserve = usize::try_from(wanted.min(MAX_RESERVED_BYTES)).unwrap_or(0);
        let mut bytes = Vec::with_capacity(reserve);
        let result = self.bytes.by_ref().take(wanted).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match result {
            Ok(_) => Ok(bytes),
            Err(error) => Err(read_error(&self.label, self.codec, self.offset, error)),
        }
    }

    fn truncated(&self, offset: u64, missing: u64) -> InputError {
        InputError::Truncated { input: Arc::clone(&self.label), offset, missing }
    }

    fn too_long(&self, offset: u64, length: u64) -> InputError {
        InputError::FrameTooLong { input: Arc::clone(&self.label), offset, length, limit: MAX_FRAME_BYTES }
    }

    fn malformed(&self, offset: u64, reason: &'static str) -> InputError {
        InputError::MalformedJson { input: Arc::clone(&self.label), offset, reason }
    }
}

/// Errors without an error number come from the decompressor, not from the operating system.
fn read_error(label: &Arc<str>, codec: Codec, offset: u64, source: io::Error) -> InputError {
    if codec != Codec::Plain && source.raw_os_error().is_none() {
        InputError::CorruptCompression { input: Arc::clone(label), codec, offset, source }
    } else {
        InputError::from_io(label, source)
    }
}

/// Where a scan over one chunk stopped, with the bytes used.
enum Step {
    More(usize),
    Closed(usize),
    NewlineInString(usize),
}

impl Step {
    fn used(&self) -> usize {
        match *self {
            Step::More(used) | Step::Closed(used) | Step::NewlineInString(used) => used,
        }
    }
}

/// Finds the end of a JSON object across chunks.
#[derive(Default)]
struct ObjectScan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl ObjectScan {
    fn advance(&mut self, chunk: &[u8]) -> Step {
        for (index, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                match byte {
                    b'\n' => return Step::NewlineInString(index + 1),
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Step::Closed(index + 1);
                    }
                }
                _ => {}
            }
        }
        Step::More(chunk.len())
    }
}
