//! The W3C `tracestate` header: what each tracing system on the way keeps beside the `traceparent`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceStateError {
    /// More than [`TraceState::MOST_MEMBERS`].
    #[error("more than {} members", TraceState::MOST_MEMBERS)]
    Members,
    /// A member without `=`.
    #[error("expected key=value, not {0:?}")]
    Member(String),
    /// A key that is not 1 to 256 of `a-z 0-9 _ - * / @`, the first of them a letter or a digit.
    #[error("not a key: {0:?}")]
    Key(String),
    /// A value that is not 1 to 256 printable ASCII characters other than `,` and `=`, the last of them not a space.
    #[error("not a value: {0:?}")]
    Value(String),
}

/// A list of key and value pairs, the most recently changed first. Keys are unique.
///
/// Displays as, and parses from, the value of a W3C Trace Context `tracestate` header: white space around members and
/// empty members are ignored; of several members with one key the first is kept. Looking up is linear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceState(Vec<(Box<str>, Box<str>)>);

const LONGEST: usize = 256;

fn is_key(key: &str) -> bool {
    let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let rest = |c: u8| first(c) || b"_-*/@".contains(&c);
    key.len() <= LONGEST && key.bytes().next().is_some_and(first) && key.bytes().all(rest)
}

fn is_value(value: &str) -> bool {
    let printable = |c: u8| (0x20..0x7f).contains(&c) && c != b',' && c != b'=';
    (1..=LONGEST).contains(&value.len()) && value.bytes().all(printable) && !value.ends_with(' ')
}

impl TraceState {
    /// The most members that a list may have.
    pub const MOST_MEMBERS: usize = 32;

    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All members, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Sets `key` and moves it to the front, as a system that changes its member must. The last member gives way if the
    /// list is full.
    ///
    /// # Errors
    /// [`TraceStateError::Key`] or [`TraceStateError::Value`]; the list is unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), TraceStateError> {
        let member = member(key, value)?;
        self.0.retain(|(name, _)| **name != *key);
        self.0.truncate(Self::MOST_MEMBERS - 1);
        self.0.insert(0, member);
        Ok(())
    }

    /// Puts together the values of several `tracestate` headers, in their order.
    ///
    /// # Errors
    /// The first fault; the whole list is to be discarded then, not only the member with the fault.
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Self, TraceStateError> {
        let mut state = Self::new();
        let members = headers.into_iter().flat_map(|header| header.split(','));
        for text in members.map(super::trace::trim_blanks).filter(|text| !text.is_empty()) {
            let (key, value) =
                text.split_once('=').ok_or_else(|| TraceStateError::Member(text.to_owned()))?;
            let member = member(key, value)?;
            if state.get(key).is_some() {
                continue;
            }
            if state.len() == Self::MOST_MEMBERS {
                return Err(TraceStateError::Members);
            }
            state.0.push(member);
        }
        Ok(state)
    }
}

fn member(key: &str, value: &str) -> Result<(Box<str>, Box<str>), TraceStateError> {
    if !is_key(key) {
        return Err(TraceStateError::Key(key.to_owned()));
    }
    if !is_value(value) {
        return Err(TraceStateError::Value(value.to_owned()));
    }
    Ok((key.into(), value.into()))
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for TraceState {
    type Err = TraceStateError;

    fn from_str(s: &str) -> Result<Self, TraceStateError> {
        Self::from_headers([s])
    }
}

impl TryFrom<String> for TraceState {
    type Error = TraceStateError;

    fn try_from(s: String) -> Result<Self, TraceStateError> {
        s.parse()
    }
}

impl From<TraceState> for String {
    fn from(state: TraceState) -> String {
        state.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_round_trip(
            members in prop::collection::btree_map("[a-z0-9][a-z0-9_*/@-]{0,9}", "[ -+\\--<>-~]{0,8}[!-+\\--<>-~]", 0..33),
        ) {
            let mut state = TraceState::new();
            // The one set last stands first.
            for (key, value) in members.iter().rev() {
                state.set(key, value).unwrap();
            }
            prop_assert_eq!(state.len(), members.len());
            let again: TraceState = state.to_string().parse().unwrap();
            prop_assert_eq!(again, state);
        }

        #[test]
        fn any_text_is_answered_and_what_is_accepted_prints_as_an_equal_list(text in "[a-cA= ,@\t\u{e9}]{0,40}") {
            if let Ok(state) = text.parse::<TraceState>() {
                prop_assert_eq!(state.to_string().parse::<TraceState>(), Ok(state));
            }
        }
    }

    #[test]
    fn setting_moves_to_the_front_and_pushes_the_last_out() {
        let mut state: TraceState = "a=1,b=2".parse().unwrap();
        state.set("b", "3").unwrap();
        assert_eq!(state.to_string(), "b=3,a=1");
        assert_eq!(state.set("B", "3"), Err(TraceStateError::Key("B".to_owned())));
        assert_eq!(state.set("b", ""), Err(TraceStateError::Value(String::new())));
        (0..TraceState::MOST_MEMBERS).for_each(|i| state.set(&format!("k{i}"), "v").unwrap());
        assert_eq!((state.len(), state.get("a")), (TraceState::MOST_MEMBERS, None));
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| text.parse::<TraceState>().unwrap_err().to_string();
        assert_eq!(fault("a=1,b"), "expected key=value, not \"b\"");
        assert_eq!(fault("A=1"), "not a key: \"A\"");
        assert_eq!(fault("a=b=c"), "not a value: \"b=c\"");
        let many: Vec<String> = (0..33).map(|i| format!("k{i}=v")).collect();
        assert_eq!(fault(&many.join(",")), "more than 32 members");
    }
}
