//! Named values beside an item.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One attribute's value.
///
/// In text formats a value is written as what it is (`true`, `3`, `"x"`, `[..]`); bytes are written as
/// `{ bytes = [..] }`, to tell them from a list. A float that is not finite has no such form in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// Text.
    Str(String),
    /// Raw bytes.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Values in order, of any kinds.
    List(Vec<AttributeValue>),
}

impl AttributeValue {
    /// Raw bytes as a value.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes { bytes: bytes.into() }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The whole number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(n) = self { Some(*n) } else { None }
    }

    /// The number as a float, if it is a number of either kind.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            Self::Int(n) => Some(*n as f64),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }
}

macro_rules! from_value {
    ($($from:ty => |$v:ident| $value:expr),* $(,)?) => {$(
        impl From<$from> for AttributeValue {
            fn from($v: $from) -> Self {
                $value
            }
        }
    )*};
}

from_value! {
    bool => |v| Self::Bool(v),
    i64 => |v| Self::Int(v),
    i32 => |v| Self::Int(i64::from(v)),
    u32 => |v| Self::Int(i64::from(v)),
    f64 => |v| Self::Float(v),
    String => |v| Self::Str(v),
    &str => |v| Self::Str(v.to_owned()),
    Vec<AttributeValue> => |v| Self::List(v),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Str(s) => f.write_str(s),
            Self::Bytes { bytes } => bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Self::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A small map from names to `V`, sorted by name, in one allocation.
///
/// Made for a handful of entries: a look-up is a binary search, an insertion moves what lies behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct SmallMap<V> {
    entries: Vec<(String, V)>,
}

/// Named values of any kind.
pub type Attributes = SmallMap<AttributeValue>;

/// Named texts.
pub type Headers = SmallMap<String>;

impl<V> SmallMap<V> {
    /// No entries; does not allocate.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The place of `name` in the order of names.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.find(name).ok()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(n, _)| n.as_str().cmp(name))
    }

    /// Sets `name` to `value`; the value it had before.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<V>) -> Option<V> {
        let (name, value) = (name.into(), value.into());
        match self.find(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (name, value));
                None
            }
        }
    }

    /// Sets `name` to `value` and hands the map back.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<V>) -> Self {
        self.insert(name, value);
        self
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.find(name).ok().map(|at| &self.entries[at].1)
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        self.find(name).ok().map(|at| self.entries.remove(at).1)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &V)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<V> Default for SmallMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Later entries win over earlier ones of the same name.
impl<N: Into<String>, W: Into<V>, V> FromIterator<(N, W)> for SmallMap<V> {
    fn from_iter<I: IntoIterator<Item = (N, W)>>(entries: I) -> Self {
        entries.into_iter().fold(Self::new(), |map, (name, value)| map.with(name, value))
    }
}

impl<V: Serialize> Serialize for SmallMap<V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for SmallMap<V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::collections::BTreeMap::<String, V>::deserialize(deserializer)
            .map(|map| Self { entries: map.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = AttributeValue> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(AttributeValue::Bool),
            any::<i64>().prop_map(AttributeValue::Int),
            (-1e12..1e12f64).prop_map(AttributeValue::Float),
            ".{0,8}".prop_map(AttributeValue::Str),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(AttributeValue::bytes),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(AttributeValue::List)
        })
    }

    proptest! {
        #[test]
        fn json_round_trip_keeps_every_value(entries in prop::collection::vec((".{0,4}", value()), 0..8)) {
            let map: Attributes = entries.into_iter().collect();
            let back: Attributes = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
            prop_assert_eq!(back, map);
        }

        #[test]
        fn small_map_agrees_with_a_btreemap(ops in prop::collection::vec(("[a-e]{1,2}", any::<Option<i64>>()), 0..40)) {
            let (mut map, mut model) = (SmallMap::<i64>::new(), BTreeMap::new());
            for (name, op) in ops {
                match op {
                    Some(v) => prop_assert_eq!(map.insert(name.clone(), v), model.insert(name.clone(), v)),
                    None => prop_assert_eq!(map.remove(&name), model.remove(&name)),
                }
                prop_assert_eq!(map.get(&name), model.get(&name));
                prop_assert_eq!(map.len(), model.len());
            }
            let model: Vec<_> = model.iter().map(|(n, v)| (n.as_str(), v)).collect();
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), model);
        }
    }

    #[test]
    fn whole_floats_stay_floats_and_bytes_stay_bytes() {
        let map = Attributes::new().with("f", 2.0).with("i", 2).with("b", AttributeValue::bytes([1, 2]));
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"b":{"bytes":[1,2]},"f":2.0,"i":2}"#);
        let back: Attributes = serde_json::from_str(&text).unwrap();
        assert_eq!(back.get("f"), Some(&AttributeValue::Float(2.0)));
        assert_eq!(back.get("i").and_then(AttributeValue::as_int), Some(2));
        assert_eq!(back, map);
    }

    #[test]
    fn accessors_answer_only_for_their_kind() {
        let list = AttributeValue::List(vec![1.into(), "x".into(), true.into(), 0.5.into()]);
        assert_eq!(list.to_string(), "[1, x, true, 0.5]");
        assert_eq!(list.as_str().or(AttributeValue::Int(1).as_str()), None);
        assert_eq!(AttributeValue::from(3).as_float(), Some(3.0));
        assert_eq!(AttributeValue::from(true).as_bool(), Some(true));
        assert_eq!(AttributeValue::bytes([0xab, 1]).to_string(), "ab01");
    }

    #[test]
    fn a_header_set_twice_keeps_the_last_value() {
        let headers: Headers = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", &"2".to_owned()), ("b", &"3".to_owned())]);
    }
}
