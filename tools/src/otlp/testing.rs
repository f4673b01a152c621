//! Requests for tests, made of the published message types.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::framing::{Encoding, Frame};

/// A span; parent 0 stands for none.
pub(crate) fn proto_span(trace: u128, id: u64, parent: u64, start_ns: u64, end_ns: u64) -> Span {
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: format!("span {id}"),
        kind: 1,
        start_time_unix_nano: start_ns,
        end_time_unix_nano: end_ns,
        ..Span::default()
    }
}

/// A request of one service.
pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let name = AnyValue { value: Some(Value::StringValue(service.to_owned())) };
    let attribute = KeyValue { key: "service.name".to_owned(), value: Some(name), key_strindex: 0 };
    let resource = Resource { attributes: vec![attribute], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

fn raw(bytes: Vec<u8>, encoding: Encoding) -> Frame {
    Frame { bytes: bytes.into(), encoding, index: 0, repetition: 0, input: Arc::from("test"), offset: 0 }
}

pub(crate) fn frame(request: &ExportTraceServiceRequest) -> Frame {
    raw(request.encode_to_vec(), Encoding::Protobuf)
}

pub(crate) fn json_frame(text: &[u8]) -> Frame {
    raw(text.to_vec(), Encoding::Json)
}

/// `count` different requests.
pub(crate) fn requests(count: u64) -> Vec<ExportTraceServiceRequest> {
    (1..=count).map(|id| request("s", vec![proto_span(u128::from(id), id, 0, id, id + 1)])).collect()
}

/// Length-prefixed.
pub(crate) fn framed(requests: &[ExportTraceServiceRequest]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        let request = request.encode_to_vec();
        bytes.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&request);
    }
    bytes
}
