//! The item that carries everything.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AttributeValue, Attributes, Cost, Costed, Headers, Timestamp, TraceContext};

/// Knows when it happened.
pub trait Timed {
    /// The time of the event this item stands for.
    fn timestamp(&self) -> Timestamp;
}

/// Knows where it stands in a distributed trace.
pub trait Traced {
    /// Its place, if it has one.
    fn trace_context(&self) -> Option<&TraceContext>;
}

/// A payload with its time, its place in a sequence, and room for everything else: 24 bytes over the payload.
///
/// Headers, attributes, trace context and cost lie behind one pointer that is null until the first of them is set;
/// until then an envelope never allocates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope<P> {
    /// What it is about.
    pub payload: P,
    /// When it happened.
    #[serde(default)]
    pub timestamp: Timestamp,
    /// Its number in the sequence of its source.
    #[serde(default)]
    pub seq_id: u64,
    #[serde(default, skip_serializing_if = "Behind::is_empty")]
    extras: Behind,
}

/// What lies behind the pointer. Where nothing does, to drop it is one comparison in the loop that does, and no call: a drop that the
/// compiler makes by itself is a function which saves registers for what there seldom is.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Behind(Option<Box<Extras>>);

impl Behind {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Behind {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(extras) = self.0.take() {
            let_go(extras);
        }
    }
}

#[cold]
#[inline(never)]
fn let_go(extras: Box<Extras>) {
    drop(extras);
}

impl fmt::Debug for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The rarely used part of an [`Envelope`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extras {
    /// Texts by name.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// Values by name.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Where it stands in a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

static NO_HEADERS: Headers = Headers::new();
static NO_ATTRIBUTES: Attributes = Attributes::new();

impl<P> Envelope<P> {
    /// `payload` at the epoch, number 0.
    pub const fn new(payload: P) -> Self {
        Self::at(payload, Timestamp(0), 0)
    }

    /// `payload` at `timestamp`, number `seq_id`.
    pub const fn at(payload: P, timestamp: Timestamp, seq_id: u64) -> Self {
        Self { payload, timestamp, seq_id, extras: Behind(None) }
    }

    /// Changes the payload; all else stays. Does not allocate.
    #[inline]
    pub fn map<Q>(self, f: impl FnOnce(P) -> Q) -> Envelope<Q> {
        let Self { payload, timestamp, seq_id, extras } = self;
        Envelope { payload: f(payload), timestamp, seq_id, extras }
    }

    /// Another payload with the same time, number and extras; copies the extras if there are any.
    pub fn carry<Q>(&self, payload: Q) -> Envelope<Q> {
        Envelope { payload, timestamp: self.timestamp, seq_id: self.seq_id, extras: self.extras.clone() }
    }

    /// The rest, if any of it was set.
    pub fn extras(&self) -> Option<&Extras> {
        self.extras.0.as_deref()
    }

    /// The rest, to be changed. Allocates it if nothing was set so far.
    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.0.get_or_insert_default()
    }

    /// Texts by name; empty if none was set.
    pub fn headers(&self) -> &Headers {
        self.extras.0.as_ref().map_or(&NO_HEADERS, |extras| &extras.headers)
    }

    /// Values by name; empty if none was set.
    pub fn attributes(&self) -> &Attributes {
        self.extras.0.as_ref().map_or(&NO_ATTRIBUTES, |extras| &extras.attributes)
    }

    /// Where it stands in a trace, if that was set.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.extras.0.as_ref()?.trace.as_ref()
    }

    /// Sets when it happened.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// Sets its number in the sequence.
    #[must_use]
    pub fn with_seq_id(mut self, seq_id: u64) -> Self {
        self.seq_id = seq_id;
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extras_mut().headers.insert(name, value);
        self
    }

    /// Sets an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.extras_mut().attributes.insert(name, value);
        self
    }

    /// Sets where it stands in a trace.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceContext) -> Self {
        self.extras_mut().trace = Some(trace);
        self
    }

    /// Sets what it costs.
    #[must_use]
    pub fn with_cost(mut self, cost: Cost) -> Self {
        self.extras_mut().cost = Some(cost);
        self
    }
}

impl<P> Timed for Envelope<P> {
    #[inline]
    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl<P> Traced for Envelope<P> {
    #[inline]
    fn trace_context(&self) -> Option<&TraceContext> {
        self.trace()
    }
}

/// The cost that was set, else none.
impl<P> Costed for Envelope<P> {
    #[inline]
    fn cost(&self) -> Cost {
        self.extras.0.as_ref().and_then(|extras| extras.cost).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SpanId, TraceId};

    fn full() -> Envelope<u64> {
        Envelope::at(7, Timestamp(-5), 9)
            .with_header("tenant", "blue")
            .with_attribute("tries", 2)
            .with_trace(TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), 1))
            .with_cost(Cost::new(64, 0.5).unwrap())
    }

    #[test]
    fn an_envelope_is_24_bytes_over_its_payload() {
        assert_eq!(size_of::<Envelope<u64>>(), 32);
        assert_eq!(size_of::<Envelope<[u64; 4]>>(), 56);
        assert_eq!(size_of::<Envelope<()>>(), 24);
    }

    #[test]
    fn accessors_of_a_bare_envelope_answer_empty_and_do_not_allocate_extras() {
        let bare = Envelope::new("x");
        assert!(bare.headers().is_empty() && bare.attributes().is_empty());
        assert_eq!((bare.trace(), bare.cost(), bare.extras()), (None, Cost::ZERO, None));
        assert!(bare.with_timestamp(Timestamp(1)).with_seq_id(2).extras().is_none());
    }

    #[test]
    fn map_and_carry_keep_everything_but_the_payload() {
        let carried = full().carry("other");
        let mapped = full().map(|n| n.to_string());
        assert_eq!((mapped.payload.as_str(), carried.payload), ("7", "other"));
        assert_eq!(mapped.map(|_| ()), carried.clone().map(|_| ()));
        assert_eq!((carried.timestamp(), carried.seq_id, carried.cost().bytes()), (Timestamp(-5), 9, 64));
        assert_eq!(carried.attributes().get("tries").and_then(AttributeValue::as_int), Some(2));
        assert_eq!(carried.headers().get("tenant").map(String::as_str), Some("blue"));
    }

    #[test]
    fn changing_a_clone_leaves_the_original_alone() {
        let original = full();
        let changed = original.clone().with_header("tenant", "red");
        assert_eq!(original, full());
        assert_ne!(changed, original);
    }

    #[test]
    fn serde_writes_only_what_is_set_and_reads_it_back() {
        assert_eq!(
            serde_json::to_string(&Envelope::at(1, Timestamp(2), 3)).unwrap(),
            r#"{"payload":1,"timestamp":2,"seq_id":3}"#
        );
        let text = serde_json::to_string(&full()).unwrap();
        assert_eq!(serde_json::from_str::<Envelope<u64>>(&text).unwrap(), full());
        assert_eq!(serde_json::from_str::<Envelope<u64>>(r#"{"payload":4}"#).unwrap(), Envelope::new(4));
        assert!(serde_json::from_str::<Envelope<u64>>(r#"{"payload":4,"extra":1}"#).is_err());
    }
}
