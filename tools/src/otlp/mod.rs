//! OTLP trace data: from paths to raw requests ([`RequestReader`]) to spans ([`decode()`]).
//!
//! A request stays in the buffer of the memory pool that it was read, or decompressed, into (`buffers.rs`) until a core has decoded
//! it. What decoding copies is what the published types own: ids and names, each its own allocation; of those, assembly keeps
//! the names.
//!
//! What a file holds is found by its content, never by its name: plain, gzip or zstd, and inside that
//! length-prefixed protobuf, one bare protobuf request, or JSON (one document, or one per line).

mod buffers;
mod decode;
mod detect;
mod error;
mod framing;
mod input;
mod json;
mod repeat;
mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use decode::{DecodeCause, DecodeError, Decoded, IdField, SpanError, decode};
pub use error::{Codec, InputError};
pub use framing::{Encoding, Frame, MAX_FRAME_BYTES};
pub use input::{RequestReader, Requests};
pub use repeat::{Repeat, RepeatError};
pub use source::{InputPath, InputProgress};
