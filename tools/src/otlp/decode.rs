//! A raw request as spans.
//!
//! The messages are those of the published `opentelemetry-proto` crate, so what is accepted is what it
//! accepts: in OTLP/JSON ids are hex, 64-bit integers are numbers or strings, enums are integers.

use std::fmt;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use prost::Message;

use super::framing::{Encoding, Frame};
use crate::trace::Span;

/// A request that cannot be decoded at all.
#[derive(Debug, thiserror::Error)]
#[error("{input}: request {index} at byte {offset} is not an ExportTraceServiceRequest: {cause}")]
pub struct DecodeError {
    /// The input the request came from.
    pub input: Arc<str>,
    /// Its position among all requests.
    pub index: u64,
    /// Where it starts in the input.
    pub offset: u64,
    /// What the decoder said.
    #[source]
    pub cause: DecodeCause,
}

/// What the decoder said.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCause {
    /// Not the protobuf message.
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    /// Not the JSON document.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The id of a span that is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdField {
    /// `trace_id`, 16 bytes.
    Trace,
    /// `span_id`, 8 bytes.
    Span,
    /// `parent_span_id`, 8 bytes or empty.
    Parent,
}

impl fmt::Display for IdField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IdField::Trace => "trace_id",
            IdField::Span => "span_id",
            IdField::Parent => "parent_span_id",
        })
    }
}

/// A span that cannot be assembled. The rest of its request is not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// An id of a wrong length.
    #[error("{field} has {found} bytes, expected {expected}")]
    IdLength {
        /// Which id.
        field: IdField,
        /// Its length in bytes.
        found: usize,
        /// The length the protocol asks for.
        expected: usize,
    },
    /// An id of zeros only, which the protocol calls invalid.
    #[error("{field} is all zero")]
    IdZero {
        /// Which id.
        field: IdField,
    },
}

/// The content of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The usable spans, in the order of the request.
    pub spans: Vec<Span>,
    /// One entry for each span left out.
    pub bad: Vec<SpanError>,
}

/// Decodes one request. Allocates for the messages, and one shared service name per resource.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are not a request. A span with an unusable id is no error of the request: it is
/// left out and listed in [`Decoded::bad`].
pub fn decode(frame: &Frame) -> Result<Decoded, DecodeError> {
    let request = match frame.encoding {
        Encoding::Protobuf => {
            ExportTraceServiceRequest::decode(frame.bytes.as_slice()).map_err(DecodeCause::from)
        }
        Encoding::Json => serde_json::from_slice(&frame.bytes).map_err(DecodeCause::from),
    };
    match request {
        Ok(request) => Ok(spans_of(request)),
        Err(cause) => Err(DecodeError {
            input: Arc::clone(&frame.input),
            index: frame.index,
            offset: frame.offset,
            cause,
        }),
    }
}

fn spans_of(request: ExportTraceServiceRequest) -> Decoded {
    let mut decoded = Decoded::default();
    for resource_spans in request.resource_spans {
        let service = service_of(resource_spans.resource.as_ref());
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            match span_of(span, &service) {
                Ok(span) => decoded.spans.push(span),
                Err(error) => decoded.bad.push(error),
            }
        }
    }
    decoded
}

/// The resource's `service.name`, empty when it is missing or not a string.
fn service_of(resource: Option<&Resource>) -> Arc<str> {
    let name = resource
        .and_then(|resource| resource.attributes.iter().find(|attribute| attribute.key == "service.name"))
        .and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
    match name {
        Some(Value::StringValue(name)) => Arc::from(name.as_str()),
        _ => Arc::from(""),
    }
}

fn span_of(span: ProtoSpan, service: &Arc<str>) -> Result<Span, SpanError> {
    let parent = match span.parent_span_id.as_slice() {
        [] => None,
        bytes => Some(id(IdField::Parent, bytes)?),
    };
    Ok(Span {
        trace_id: id(IdField::Trace, &span.trace_id)?,
        span_id: id(IdField::Span, &span.span_id)?,
        parent,
        service: Arc::clone(service),
        name: span.name.into_boxed_str(),
        kind: span.kind,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        status: span.status.map_or(0, |status| status.code),
    })
}

fn id<const N: usize>(field: IdField, bytes: &[u8]) -> Result<[u8; N], SpanError> {
    match <[u8; N]>::try_from(bytes) {
        Err(_) => Err(SpanError::IdLength { field, found: bytes.len(), expected: N }),
        Ok(id) if id == [0; N] => Err(SpanError::IdZero { field }),
        Ok(id) => Ok(id),
    }
}
