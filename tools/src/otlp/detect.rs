//! What an input holds, told by its first bytes.
//!
//! The three formats cannot be confused. A length prefix is at most [`MAX_FRAME_BYTES`], so its first byte is
//! at most 4. A bare protobuf request starts with the tag of its only field, `0x0a`. JSON starts with
//! `{` after white space or a byte order mark; white space includes `0x0a`, and `0x7b` is also a
//! protobuf length, so JSON must show the start of a member name as well, which no protobuf tag can be there.

use std::io::{self, BufRead, Chain, Cursor, Read};

use super::error::Codec;
use super::framing::MAX_FRAME_BYTES;

/// The tag of `ExportTraceServiceRequest.resource_spans`: field 1, length-delimited.
const REQUEST_TAG: u8 = 0x0a;
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// White space looked through for the start of a JSON document.
const MAX_LEADING_SPACE: usize = 4096;

/// How requests follow each other inside the uncompressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// 4-byte big-endian length, then a protobuf request; repeated.
    Framed,
    /// One protobuf request, nothing else.
    BareProtobuf,
    /// JSON documents, with white space between them.
    Json,
    /// Nothing, or nothing but white space.
    Empty,
    /// Something else.
    Unknown,
}

/// Bytes looked at before they are read. Asks for no byte more than a decision needs, so that a pipe that
/// delivers slowly is not held up.
pub(super) struct Peek<R> {
    seen: Vec<u8>,
    rest: R,
}

impl<R: BufRead> Peek<R> {
    pub(super) fn new(rest: R) -> Self {
        Peek { seen: Vec::new(), rest }
    }

    /// All bytes from the start, those looked at included.
    pub(super) fn into_inner(self) -> Chain<Cursor<Vec<u8>>, R> {
        Cursor::new(self.seen).chain(self.rest)
    }

    /// The bytes looked at so far.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    fn byte(&mut self, index: usize) -> io::Result<Option<u8>> {
        while self.seen.len() <= index {
            let mut byte = [0];
            match self.rest.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => self.seen.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(self.seen[index]))
    }

    fn starts_with(&mut self, magic: &[u8]) -> io::Result<bool> {
        for (index, &expected) in magic.iter().enumerate() {
            if self.byte(index)? != Some(expected) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn codec(&mut self) -> io::Result<Codec> {
        if self.starts_with(b"\x1f\x8b")? {
            Ok(Codec::Gzip)
        } else if self.starts_with(b"\x28\xb5\x2f\xfd")? {
            Ok(Codec::Zstd)
        } else {
            Ok(Codec::Plain)
        }
    }

    pub(super) fn format(&mut self) -> io::Result<Format> {
        let Some(first) = self.byte(0)? else { return Ok(Format::Empty) };
        if u64::from(first) <= MAX_FRAME_BYTES >> 24 {
            return self.framed();
        }
        match self.json()? {
            Format::Unknown if first == REQUEST_TAG => Ok(Format::BareProtobuf),
            Format::Unknown => self.length_above_limit(),
            found => Ok(found),
        }
    }

    /// A length prefix within the limit: what follows must be a request, or be missing.
    fn framed(&mut self) -> io::Result<Format> {
        let length_is_zero = self.starts_with(&[0; 4])?;
        Ok(match self.byte(4)? {
            None | Some(REQUEST_TAG) => Format::Framed,
            Some(_) if length_is_zero => Format::Framed,
            Some(_) => Format::Unknown,
        })
    }

    /// A length prefix above the limit is still a length prefix (and then an error that says so), unless the four
    /// bytes are text.
    fn length_above_limit(&mut self) -> io::Result<Format> {
        let request_follows = self.byte(4)? == Some(REQUEST_TAG);
        let text = self.seen.iter().take(4).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        Ok(if request_follows && !text { Format::Framed } else { Format::Unknown })
    }

    fn json(&mut self) -> io::Result<Format> {
        let start = if self.starts_with(BYTE_ORDER_MARK)? { BYTE_ORDER_MARK.len() } else { 0 };
        let Some(open) = self.skip_space(start)? else { return Ok(Format::Empty) };
        if self.byte(open)? != Some(b'{') {
            return Ok(Format::Unknown);
        }
        let Some(inside) = self.skip_space(open + 1)? else { return Ok(Format::Json) };
        let member = match self.byte(inside)? {
            Some(b'}') => true,
            Some(b'"') => self.byte(inside + 1)?.is_none_or(|byte| byte.is_ascii_alphabetic()),
            _ => false,
        };
        Ok(if member { Format::Json } else { Format::Unknown })
    }

    /// The index of the first byte from `index` on that is not white space; `None` at the end.
    fn skip_space(&mut self, mut index: usize) -> io::Result<Option<usize>> {
        while let Some(byte) = self.byte(index)? {
            if !byte.is_ascii_whitespace() || index > MAX_LEADING_SPACE {
                return Ok(Some(index));
            }
            index += 1;
        }
        Ok(None)
    }
}
