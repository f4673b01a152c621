//! A raw request as spans.
//!
//! The messages are those of the published `opentelemetry-proto` crate, so what is accepted is what it
//! accepts: in OTLP/JSON ids are hex, 64-bit integers are numbers or strings, enums are integers. Attributes it
//! refuses do not lose the request (see `json.rs`).

use std::fmt;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use prost::Message;

use super::framing::{Encoding, Frame};
use super::json::decode_json;
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
        Encoding::Protobuf => ExportTraceServiceRequest::decode(&frame.bytes[..]).map_err(DecodeCause::from),
        Encoding::Json => decode_json(&frame.bytes).map_err(DecodeCause::from),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::testing::{frame, json_frame, proto_span, request};
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    fn decode_text(text: &str) -> Result<Decoded, DecodeError> {
        decode(&json_frame(text.as_bytes()))
    }

    #[test]
    fn protobuf_and_json_of_one_request_give_the_same_spans() {
        let request = request("cart", vec![proto_span(1, 2, 0, 10, 20), proto_span(1, 3, 2, 12, 18)]);
        let from_protobuf = decode(&frame(&request)).unwrap();
        let from_json = decode(&json_frame(&serde_json::to_vec(&request).unwrap())).unwrap();
        assert_eq!(from_protobuf, from_json);
        assert_eq!(from_protobuf.spans.len(), 2);
        assert_eq!(from_protobuf.spans[1].parent, Some(from_protobuf.spans[0].span_id));
        assert_eq!(&*from_protobuf.spans[0].service, "cart");
    }

    /// What the protocol allows in JSON: hex ids of either case, 64-bit integers as strings or numbers, enums as
    /// integers, fields left out, fields that are not known.
    #[test]
    fn the_json_forms_of_the_protocol_are_understood() {
        let decoded = decode_text(
            r#"{"resourceSpans":[{"resource":{"attributes":[
                {"key":"pid","value":{"intValue":"7"}},{"key":"n","value":{"intValue":7}},
                {"key":"service.name","value":{"stringValue":"w\u00e9b"}}]},
              "scopeSpans":[{"scope":{"name":"s"},"spans":[
                {"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"",
                 "name":"GET /","kind":2,"startTimeUnixNano":"1544712660000000001","endTimeUnixNano":1544712661000000002,
                 "status":{"code":2},"flags":257,"droppedEventsCount":1,"somethingNew":{"a":[1]},
                 "attributes":[{"key":"k","value":{"arrayValue":{"values":[{"boolValue":true},{"doubleValue":1}]}}}]},
                {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175",
                 "parentSpanId":"eee19b7ec3c1b174"}]}]}]}"#,
        )
        .unwrap();
        assert_eq!(decoded.bad, []);
        let [first, second] = decoded.spans.as_slice() else { panic!("{decoded:?}") };
        assert_eq!(first.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes());
        assert_eq!((first.start_ns, first.end_ns), (1_544_712_660_000_000_001, 1_544_712_661_000_000_002));
        assert_eq!((first.kind, first.status, first.parent, &*first.name), (2, 2, None, "GET /"));
        assert_eq!(&*first.service, "w\u{e9}b");
        assert_eq!((second.trace_id, second.parent), (first.trace_id, Some(first.span_id)));
        assert_eq!((second.kind, second.status, second.end_ns, &*second.name), (0, 0, 0, ""));
    }

    #[test]
    fn a_span_with_an_unusable_id_is_left_out_and_named_and_the_rest_stays() {
        let mut spans = vec![proto_span(1, 2, 0, 1, 2); 7];
        spans[0].trace_id = vec![1; 15];
        spans[1].trace_id = vec![0; 16];
        spans[2].span_id = vec![];
        spans[3].span_id = vec![0; 8];
        spans[4].parent_span_id = vec![1; 9];
        spans[5].parent_span_id = vec![0; 8];
        let decoded = decode(&frame(&request("s", spans))).unwrap();
        assert_eq!(decoded.spans.len(), 1);
        assert_eq!(
            decoded.bad,
            [
                SpanError::IdLength { field: IdField::Trace, found: 15, expected: 16 },
                SpanError::IdZero { field: IdField::Trace },
                SpanError::IdLength { field: IdField::Span, found: 0, expected: 8 },
                SpanError::IdZero { field: IdField::Span },
                SpanError::IdLength { field: IdField::Parent, found: 9, expected: 8 },
                SpanError::IdZero { field: IdField::Parent },
            ]
        );
        assert_eq!(decoded.bad[2].to_string(), "span_id has 0 bytes, expected 8");
    }

    #[test]
    fn a_missing_or_odd_service_name_is_empty() {
        let spans = || vec![ScopeSpans { spans: vec![proto_span(1, 2, 0, 1, 2)], ..ScopeSpans::default() }];
        let number = AnyValue { value: Some(Value::IntValue(3)) };
        let attribute = KeyValue { key: "service.name".into(), value: Some(number), key_strindex: 0 };
        let odd = Resource { attributes: vec![attribute], ..Resource::default() };
        for resource in [None, Some(Resource::default()), Some(odd)] {
            let resource_spans = ResourceSpans { resource, scope_spans: spans(), ..ResourceSpans::default() };
            let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
            assert_eq!(&*decode(&frame(&request)).unwrap().spans[0].service, "");
        }
    }

    #[test]
    fn what_is_no_request_is_an_error_with_its_place_and_never_a_panic() {
        let whole = frame(&request("cart", vec![proto_span(1, 2, 0, 10, 20)]));
        for length in 1..whole.bytes.len() {
            let cut = Frame { bytes: whole.bytes.slice(..length), offset: 99, index: 4, ..whole.clone() };
            let error = decode(&cut).unwrap_err();
            assert!(error.to_string().contains("request 4 at byte 99"), "{error}");
        }
        let deep = "{\"a\":".repeat(100_000);
        for text in [
            "{",
            "7",
            "{\"resourceSpans\":1}",
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}"#,
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":"1e3"}]}]}]}"#,
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":18446744073709551616}]}]}]}"#,
            &deep,
        ] {
            assert!(matches!(decode_text(text), Err(DecodeError { cause: DecodeCause::Json(_), .. })));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let frame = json_frame(&bytes);
            let _ = decode(&Frame { encoding: Encoding::Protobuf, ..frame.clone() });
            let _ = decode(&frame);
        }
    }
}
