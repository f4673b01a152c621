//! Graphs and registries of policies as TOML and JSON.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Text;
use crate::policy::PolicyRegistry;

use super::PipelineGraph;

/// A text that is not what it should be: where, in which field, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// `"TOML"` or `"JSON"`.
    pub format: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole line is meant.
    pub column: usize,
    /// The field, such as `nodes[2].accumulation.policy.max-latency`; empty for the text as a whole.
    pub field: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}, column {}", self.format, self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, ", field {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ParseError {}

/// A value the text form has no words for, such as a number that is not finite in JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written as {format}: {message}")]
pub struct PrintError {
    /// `"TOML"` or `"JSON"`.
    pub format: &'static str,
    /// Why.
    pub message: String,
}

macro_rules! text_forms {
    ($what:ty) => {
        impl $what {
            /// Writes it as TOML; durations as text.
            ///
            /// # Errors
            /// The value has no TOML form; none is known.
            pub fn to_toml(&self) -> Result<String, PrintError> {
                toml::to_string_pretty(self)
                    .map_err(|error| PrintError { format: "TOML", message: error.to_string() })
            }

            /// Reads it from JSON. Fields that are not known are refused.
            ///
            /// # Errors
            /// [`ParseError`] says where and why.
            pub fn from_json(text: &str) -> Result<Self, ParseError> {
                parse_json(text)
            }

            /// Writes it as JSON; durations as text.
            ///
            /// # Errors
            /// A number is not finite, which JSON has no words for.
            pub fn to_json(&self) -> Result<String, PrintError> {
                print_json(self)
            }
        }
    };
}

impl PipelineGraph {
    /// Reads it from TOML. Fields that are not known are refused.
    ///
    /// # Errors
    /// [`ParseError`] says where and why.
    pub fn from_toml(text: &str) -> Result<Self, ParseError> {
        parse_toml(text)
    }
}

text_forms!(PipelineGraph);
text_forms!(PolicyRegistry);

fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, ParseError> {
    let failed = |field: String, error: &toml::de::Error| {
        let (line, column) =
            error.span().and_then(|span| Text::of(text).place("", span.start).at).unwrap_or((1, 0));
        ParseError { format: "TOML", line, column, field, message: error.message().to_owned() }
    };
    let document = toml::Deserializer::parse(text).map_err(|error| failed(String::new(), &error))?;
    serde_path_to_error::deserialize(document).map_err(|error| failed(field(error.path()), error.inner()))
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, ParseError> {
    let failed = |field: String, error: &serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        // The position stands in fields of its own.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        ParseError { format: "JSON", line, column, field, message }
    };
    let mut document = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut document)
        .map_err(|error| failed(field(error.path()), error.inner()))?;
    document.end().map_err(|error| failed(String::new(), &error))?;
    Ok(value)
}

fn print_json<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, PrintError> {
    let failed = |message: String| PrintError { format: "JSON", message };
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string()))?;
    // A number that is not finite would be written as null without a word.
    match parse_json::<T>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(failed(format!("field {} has no JSON form ({})", error.field, error.message))),
    }
}

fn field(path: &serde_path_to_error::Path) -> String {
    let path = path.to_string();
    if path == "." { String::new() } else { path }
}
