//! A request from OTLP/JSON.
//!
//! The published types refuse some JSON that the protocol allows and the OpenTelemetry Collector writes: an empty
//! array (`{"arrayValue":{}}`), a double that is no number (`{"doubleValue":"NaN"}`), `null` for a field that is
//! not set. Nearly all of it stands in attributes, which assembly does not look at. So a request they refuse is
//! tried once more without them; one they accept pays nothing.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::Value;

/// Decodes one JSON document.
///
/// # Errors
///
/// What the published types say about the document as it is, with line and column, if they refuse it without
/// attributes too.
pub(super) fn decode_json(bytes: &[u8]) -> Result<ExportTraceServiceRequest, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|refused| without_attributes(bytes).ok_or(refused))
}

fn without_attributes(bytes: &[u8]) -> Option<ExportTraceServiceRequest> {
    let mut request: Value = serde_json::from_slice(bytes).ok()?;
    remove_nulls(&mut request);
    for resource_spans in members(&mut request, "resourceSpans") {
        if let Some(resource) = resource_spans.get_mut("resource").and_then(Value::as_object_mut) {
            resource.retain(|name, _| name == "attributes");
            if let Some(attributes) = resource.get_mut("attributes").and_then(Value::as_array_mut) {
                attributes.retain(|attribute| attribute["key"] == "service.name");
            }
        }
        for scope_spans in members(resource_spans, "scopeSpans") {
            remove(scope_spans, &["scope"]);
            for span in members(scope_spans, "spans") {
                remove(span, &["attributes", "events", "links"]);
            }
        }
    }
    serde_json::from_value(request).ok()
}

/// In JSON `null` means that a field is not set, at any depth.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, member| !member.is_null());
            object.values_mut().for_each(remove_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The elements of an array member; nothing if it is missing or something else (which decoding then refuses).
fn members<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn remove(value: &mut Value, names: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !names.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175""#;

    fn decode(members: &str) -> Result<ExportTraceServiceRequest, serde_json::Error> {
        let resource = r#"{"attributes":[{"key":"x","value":{"arrayValue":{}}},
            {"key":"service.name","value":{"stringValue":"cart"}}]}"#;
        let text = format!(
            r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"spans":[{{{IDS}{members}}}]}}]}}]}}"#
        );
        decode_json(text.as_bytes())
    }

    #[test]
    fn json_the_published_types_refuse_only_in_attributes_keeps_its_spans_and_service() {
        for members in [
            "",
            r#","attributes":[{"key":"k","value":{"arrayValue":{}}}]"#,
            r#","attributes":[{"key":"k","value":{"kvlistValue":{}}}]"#,
            r#","attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]"#,
            r#","events":[{"attributes":[{"key":"k","value":{"doubleValue":"-Infinity"}}]}],"links":null"#,
            r#","parentSpanId":null,"status":null,"kind":null"#,
        ] {
            let request = decode(&format!(r#"{members},"endTimeUnixNano":"7""#)).unwrap();
            let resource_spans = &request.resource_spans[0];
            let service = &resource_spans.resource.as_ref().unwrap().attributes[0];
            assert_eq!(service.key, "service.name", "{members}");
            let span = &resource_spans.scope_spans[0].spans[0];
            assert_eq!((span.trace_id.len(), span.span_id.len(), span.end_time_unix_nano), (16, 8, 7));
        }
    }

    #[test]
    fn what_is_wrong_outside_attributes_is_refused_with_its_place() {
        for members in [r#","kind":"SERVER""#, r#","endTimeUnixNano":-1"#, r#","traceState":7"#] {
            let error = decode(members).unwrap_err();
            assert!(error.line() > 0 && error.column() > 0, "{error}");
        }
        assert!(decode_json(br#"{"resourceSpans":[7]}"#).is_err());
        assert!(decode_json(br#"{"resourceSpans":{}}"#).is_err());
    }
}
