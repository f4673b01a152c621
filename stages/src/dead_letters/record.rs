//! One line: a dead letter as it is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corelane::model::{Attributes, Envelope, Extras, Headers, StageId, Timestamp, TraceContext};
use corelane::stage::{DeadLetter, FailureKind};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version written.
pub const VERSION: u32 = 1;

/// What an item was about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// As JSON.
    Json(serde_json::Value),
    /// As bytes, written in base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    Base64(Vec<u8>),
}

impl Payload {
    /// Reads a payload written as JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of that type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(value) => T::deserialize(value),
            Self::Base64(_) => Err(serde_json::Error::custom("the payload is bytes, not JSON")),
        }
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// All that is kept of an item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// What it was about; `None` where it was lost with the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// Its headers.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// Its attributes.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Where it stood in a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Its number in the sequence of its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

impl Content {
    /// An item that serde can write.
    ///
    /// # Errors
    /// It cannot be written as JSON (a map whose keys are no texts, a number that JSON does not have).
    pub fn json<T: Serialize + ?Sized>(item: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::of(Payload::Json(serde_json::to_value(item)?)))
    }

    /// An item as bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Payload::Base64(bytes.into()))
    }

    /// An envelope, of whose payload `payload` is what is written.
    pub fn envelope<P>(envelope: &Envelope<P>, payload: Payload) -> Self {
        let extras: Extras = envelope.extras().cloned().unwrap_or_default();
        Self {
            headers: extras.headers,
            attributes: extras.attributes,
            trace: extras.trace,
            timestamp: Some(envelope.timestamp),
            seq_id: Some(envelope.seq_id),
            ..Self::of(payload)
        }
    }

    fn of(payload: Payload) -> Self {
        Self { payload: Some(payload), ..Self::default() }
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A dead letter as it stands in a file. Fields that are not known are left alone: a later version may add some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The pipeline.
    pub pipeline: String,
    /// The stage that gave the item up.
    pub stage: StageId,
    /// Which of its instances.
    pub instance: usize,
    /// The partition that instance was on.
    pub partition: usize,
    /// What sort of failure it was.
    pub kind: FailureKind,
    /// The error's text.
    pub error: String,
    /// Calls made for the item.
    pub attempts: u32,
    /// When the stage gave up.
    pub time: Timestamp,
    /// The item.
    #[serde(flatten)]
    pub content: Content,
}

impl Record {
    /// The record of `letter`, whose item is kept as `content`.
    pub fn new<T>(pipeline: &str, letter: &DeadLetter<T>, content: Content) -> Self {
        Self {
            version: VERSION,
            pipeline: pipeline.to_owned(),
            stage: letter.stage.clone(),
            instance: letter.instance,
            partition: letter.partition,
            kind: letter.kind,
            error: letter.error.clone(),
            attempts: letter.attempts,
            time: letter.time,
            content,
        }
    }
}
