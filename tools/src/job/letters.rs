//! Requests that cannot be decoded, as dead letters and back.

use std::sync::Arc;

use corelane_stages::dead_letters::{Content, Payload, Record};

use super::items::Arrived;
use crate::otlp::{Encoding, Frame};

/// What a letter says of its request beside the bytes.
const ENCODING: &str = "encoding";
const INPUT: &str = "input";
const OFFSET: &str = "offset";

/// What is kept of a request: all of its bytes, and where they stood.
pub(super) fn content_of(arrived: &Arrived) -> Result<Content, std::convert::Infallible> {
    let Frame { bytes, encoding, input, offset, .. } = &arrived.frame;
    let encoding = match encoding {
        Encoding::Protobuf => "protobuf",
        Encoding::Json => "json",
    };
    Ok(Content::bytes(&bytes[..])
        .with_header(ENCODING, encoding)
        .with_header(INPUT, &**input)
        .with_header(OFFSET, offset.to_string()))
}

/// The request of a dead letter of this job; `label` is the name of the file it stands in. `None` for anything else.
pub fn frame_of(record: &Record, label: &Arc<str>) -> Option<Frame> {
    let Some(Payload::Base64(bytes)) = &record.content.payload else { return None };
    let header = |name| record.content.headers.get(name).map(String::as_str);
    let encoding = match header(ENCODING)? {
        "protobuf" => Encoding::Protobuf,
        "json" => Encoding::Json,
        _ => return None,
    };
    let offset = header(OFFSET).and_then(|offset| offset.parse().ok()).unwrap_or(0);
    // Numbered by the reader.
    let bytes = bytes.clone().into();
    Some(Frame { bytes, encoding, index: 0, repetition: 0, input: Arc::clone(label), offset })
}
