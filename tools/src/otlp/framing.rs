//! Telling requests apart inside the uncompressed bytes of one input.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::Bytes;
use corelane::pool::RentError;

use super::buffers::{Buffers, CollectError};
use super::detect::{BYTE_ORDER_MARK, Format, Peek};
use super::error::{Codec, InputError};
use super::source::Source;

/// The longest request accepted, in bytes. A length above it is refused before anything is allocated.
pub const MAX_FRAME_BYTES: u64 = 64 * 1024 * 1024;

/// Memory set aside for a request before its bytes have been seen: an announced length is only a claim.
const MAX_RESERVED_BYTES: u64 = 1024 * 1024;

/// Memory set aside for a JSON document, of which no length is announced.
const FIRST_JSON_BYTES: usize = 64 * 1024;

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
    pub bytes: Bytes,
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
pub(super) type Found = (u64, Bytes);

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
    pub(super) fn next(&mut self, buffers: &Buffers) -> Result<Option<Found>, InputError> {
        match self.format {
            Format::Framed => self.next_framed(buffers),
            Format::BareProtobuf => self.whole(buffers),
            Format::Json => self.next_json(buffers),
            Format::Empty | Format::Unknown => Ok(None),
        }
    }

    fn next_framed(&mut self, buffers: &Buffers) -> Result<Option<Found>, InputError> {
        let start = self.offset;
        let Some(length) = self.read_prefix()? else { return Ok(None) };
        let length = u64::from(length);
        if length == 0 {
            return Err(InputError::EmptyFrame { input: Arc::clone(&self.label), offset: start });
        }
        if length > MAX_FRAME_BYTES {
            return Err(self.too_long(start, length));
        }
        let request = self.read_at_most(length, buffers)?;
        match length - request.len() as u64 {
            0 => Ok(Some((start, request))),
            missing => Err(self.truncated(start, missing)),
        }
    }

    /// Everything there is, once.
    fn whole(&mut self, buffers: &Buffers) -> Result<Option<Found>, InputError> {
        let start = self.offset;
        let request = self.read_at_most(MAX_FRAME_BYTES + 1, buffers)?;
        match request.len() as u64 {
            0 => Ok(None),
            length if length > MAX_FRAME_BYTES => Err(self.too_long(start, length)),
            _ => Ok(Some((start, request))),
        }
    }

    /// One JSON object: from `{` to the bracket that closes it. Only brackets and strings are looked at; whether
    /// it is a request is for the decoder to say.
    fn next_json(&mut self, buffers: &Buffers) -> Result<Option<Found>, InputError> {
        if !self.skip_to_object()? {
            return Ok(None);
        }
        let start = self.offset;
        let refused = |framing: &Self, error| framing.no_buffer(start, error);
        let mut document = buffers.collect(FIRST_JSON_BYTES).map_err(|error| refused(self, error))?;
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
            let appended = document.append(&chunk[..used], MAX_FRAME_BYTES as usize + 1);
            self.bytes.consume(used);
            self.offset += used as u64;
            appended.map_err(|error| refused(self, error))?;
            if document.len() as u64 > MAX_FRAME_BYTES {
                return Err(self.too_long(start, document.len() as u64));
            }
            match step {
                Step::More(_) => {}
                Step::Closed(_) => return Ok(Some((start, document.finish()))),
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
    fn read_at_most(&mut self, wanted: u64, buffers: &Buffers) -> Result<Bytes, InputError> {
        let start = self.offset;
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let first = bytes(wanted.min(MAX_RESERVED_BYTES));
        let mut request = buffers.collect(first).map_err(|error| self.no_buffer(start, error))?;
        let result = request.fill(&mut self.bytes, bytes(wanted));
        self.offset += request.len() as u64;
        match result {
            Ok(()) => Ok(request.finish()),
            Err(CollectError::Read(error)) => Err(read_error(&self.label, self.codec, self.offset, error)),
            Err(CollectError::Rent(error)) => Err(self.no_buffer(start, error)),
        }
    }

    /// The length in front of a request; `None` at the end of the input.
    fn read_prefix(&mut self) -> Result<Option<u32>, InputError> {
        let start = self.offset;
        let mut prefix = [0; 4];
        let mut seen = 0;
        while seen < prefix.len() {
            match self.bytes.read(&mut prefix[seen..]) {
                Ok(0) if seen == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated(start, (prefix.len() - seen) as u64)),
                Ok(count) => {
                    seen += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(&self.label, self.codec, self.offset, error)),
            }
        }
        Ok(Some(u32::from_be_bytes(prefix)))
    }

    fn no_buffer(&self, offset: u64, cause: RentError) -> InputError {
        InputError::NoBuffer { input: Arc::clone(&self.label), offset, cause }
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
