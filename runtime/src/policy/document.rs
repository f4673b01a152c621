//! Reads TOML value by value, so that everything wrong with a text is found at once.

use std::borrow::Cow;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Checked, PolicyProblem};
use crate::model::{Place, Text};

/// Errors of syntax that are named one by one.
const MOST_SYNTAX: usize = 20;

/// One thing wrong with a setting in a text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// Text that is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// The TOML reader's words.
        message: String,
    },
    /// A field that means nothing here.
    #[error("{place}: there is no such field; {help}")]
    UnknownField {
        /// Where.
        place: Place,
        /// The nearest field there is, or all of them.
        help: String,
    },
    /// A value of another type.
    #[error("{place}: expected {expected}, found {found}")]
    WrongType {
        /// Where.
        place: Place,
        /// What should be there.
        expected: &'static str,
        /// The type that is there.
        found: &'static str,
    },
    /// A value that the field cannot have.
    #[error("{place}: {message}")]
    Value {
        /// Where.
        place: Place,
        /// What is wrong with it.
        message: String,
    },
    /// A policy that cannot work.
    #[error("{place}: {problem}")]
    Policy {
        /// Where.
        place: Place,
        /// What is wrong with it.
        problem: PolicyProblem,
    },
    /// A setting made before, in this text or another.
    #[error("{place}: is given already at {first}; remove one")]
    Duplicate {
        /// Where it is given again.
        place: Place,
        /// Where it is given first.
        first: Place,
    },
}

impl SettingError {
    /// Where it is.
    pub fn place(&self) -> &Place {
        match self {
            Self::Syntax { place, .. }
            | Self::UnknownField { place, .. }
            | Self::WrongType { place, .. }
            | Self::Value { place, .. }
            | Self::Policy { place, .. }
            | Self::Duplicate { place, .. } => place,
        }
    }
}

/// The entries of a table in the order of the text.
pub(crate) fn sorted<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Reads values of one text and notes what is wrong with them.
pub(crate) struct SettingReader<'t> {
    pub(crate) text: Text<'t>,
    pub(crate) errors: Vec<SettingError>,
}

impl<'t> SettingReader<'t> {
    pub(crate) fn new(text: Text<'t>) -> Self {
        Self { text, errors: Vec::new() }
    }

    /// Notes what the TOML reader found. A text of another kind has something wrong in each line: the rest is counted.
    pub(crate) fn syntax(&mut self, errors: &[toml::de::Error]) {
        let at = |error: &toml::de::Error| self.text.place("", error.span().unwrap_or_default().start);
        let named = errors.iter().take(MOST_SYNTAX).map(|error| SettingError::Syntax {
            place: at(error),
            message: error.message().replace('\n', ", "),
        });
        let rest = errors.get(MOST_SYNTAX).map(|next| SettingError::Syntax {
            place: at(next),
            message: format!("this and {} more are no TOML either", errors.len() - MOST_SYNTAX - 1),
        });
        let found: Vec<_> = named.chain(rest).collect();
        self.errors.extend(found);
    }

    pub(crate) fn unknown(&mut self, field: &str, key: &Spanned<Cow<'_, str>>, known: &[&str]) {
        let place = self.text.place(field, key.span().start);
        let help = crate::model::help_with_name(key.get_ref(), known.iter().copied());
        self.errors.push(SettingError::UnknownField { place, help });
    }

    /// The table that `value` must be.
    pub(crate) fn table<'v, 'i>(
        &mut self,
        field: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let place = self.text.place(field, value.span().start);
            let found = value.get_ref().type_str();
            self.errors.push(SettingError::WrongType { place, expected: "a table", found });
        }
        table
    }

    /// Reads `value`; the first error in it is noted.
    pub(crate) fn value<'i, T: Deserialize<'i>>(
        &mut self,
        field: &str,
        value: &Spanned<DeValue<'i>>,
    ) -> Option<T> {
        let start = value.span().start;
        match serde_path_to_error::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(read) => Some(read),
            Err(error) => {
                let inner = inner_path(error.path());
                let field = if inner.is_empty() { field.to_owned() } else { format!("{field}.{inner}") };
                let offset = error.inner().span().map_or(start, |span| span.start);
                let message = error.inner().message().replace('\n', ", ");
                self.errors.push(SettingError::Value { place: self.text.place(&field, offset), message });
                None
            }
        }
    }

    /// Notes what is wrong with a policy that was read from `value`.
    pub(crate) fn check(&mut self, field: &str, value: &Spanned<DeValue<'_>>, policy: &impl Checked) {
        for problem in policy.problems() {
            let offset = offset_of(&problem.field, value);
            let place = self.text.place(&super::within(field, problem.clone()).field, offset);
            self.errors.push(SettingError::Policy { place, problem: problem.problem });
        }
    }
}

/// The path within a value, as far as the reader knew it.
fn inner_path(path: &serde_path_to_error::Path) -> String {
    let path = path.to_string();
    path.trim_matches(['.', '?']).to_owned()
}

/// Where `field`, a path with dots, starts in `value`; the nearest table around it, if it is not written out.
fn offset_of(field: &str, value: &Spanned<DeValue<'_>>) -> usize {
    let mut at = value;
    for name in field.split('.') {
        match at.get_ref().get(name) {
            Some(inner) => at = inner,
            None => break,
        }
    }
    at.span().start
}
