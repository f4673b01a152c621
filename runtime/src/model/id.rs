//! Names of stages and pipelines.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a string is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing in it.
    #[error("an id must not be empty")]
    Empty,
    /// More than 128 bytes.
    #[error("an id has at most 128 bytes, this one has {0}")]
    TooLong(usize),
    /// It starts with a dot.
    #[error("an id must not start with '.'")]
    LeadingDot,
    /// A character other than ASCII letters, digits, dot, underscore, hyphen.
    #[error("an id has only A-Z a-z 0-9 . _ -, not {0:?}")]
    Character(char),
}

/// The name of a stage: `[A-Za-z0-9._-]{1,128}`, not starting with a dot. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StageId(Arc<str>);

impl StageId {
    /// Checks `id` and takes it over.
    ///
    /// # Errors
    /// [`IdError`] names what is wrong with it.
    pub fn new(id: impl AsRef<str>) -> Result<Self, IdError> {
        let id = id.as_ref();
        match id.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            _ if id.is_empty() => Err(IdError::Empty),
            _ if id.len() > 128 => Err(IdError::TooLong(id.len())),
            _ if id.starts_with('.') => Err(IdError::LeadingDot),
            Some(c) => Err(IdError::Character(c)),
            None => Ok(Self(id.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for StageId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::new(s)
    }
}

impl TryFrom<String> for StageId {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        Self::new(s)
    }
}

impl From<StageId> for String {
    fn from(id: StageId) -> String {
        id.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_it_was_written(text in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}") {
            let id = StageId::new(&text).unwrap();
            prop_assert_eq!(id.as_str(), &text);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<StageId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_reason() {
        let cases = [
            ("", IdError::Empty),
            (".a", IdError::LeadingDot),
            ("a b", IdError::Character(' ')),
            ("../a", IdError::LeadingDot),
            ("a/b", IdError::Character('/')),
            ("stage\u{e9}", IdError::Character('\u{e9}')),
            ("nul\0", IdError::Character('\0')),
        ];
        for (text, error) in cases {
            assert_eq!(StageId::new(text), Err(error), "{text:?}");
        }
        assert_eq!(StageId::new("a".repeat(129)), Err(IdError::TooLong(129)));
        assert!(serde_json::from_str::<StageId>("\"a b\"").is_err());
    }
}
