//! Durations as text in configuration: `"30s"`, `"5ms"`, `"1h 30m"`. For `#[serde(with = ..)]`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(DurationVisitor)
}

/// The same for a duration that may be absent.
pub(super) mod option {
    use super::{Deserializer, Duration, DurationVisitor, Serializer, Visitor};
    use serde::de::Error;
    use std::fmt;

    pub(in crate::policy) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::policy) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_option(OptionVisitor)
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Duration>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            DurationVisitor.expecting(f)
        }
        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration as text, such as \"30s\" or \"5ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        if text.trim_start().starts_with('-') {
            return Err(E::custom(format_args!("a duration cannot be negative: {text:?}")));
        }
        humantime::parse_duration(text)
            .map_err(|error| E::custom(format_args!("{text:?} is not a duration: {error}")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        if number < 0 {
            return Err(E::custom(format_args!("a duration cannot be negative: {number}")));
        }
        Err(E::invalid_type(Unexpected::Signed(number), &self))
    }
}
