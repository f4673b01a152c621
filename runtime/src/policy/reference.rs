//! A policy given in place or by its name in the registry.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy, PolicyRegistry};
use crate::model::help_with_name;

/// A policy that can stand in a [`PolicyRegistry`].
pub trait NamedPolicy: Clone {
    /// The registry's table of such policies, as written in configuration.
    const TABLE: &'static str;

    /// That table.
    fn policies(registry: &PolicyRegistry) -> &BTreeMap<String, Self>;

    /// That table, to be added to.
    fn policies_mut(registry: &mut PolicyRegistry) -> &mut BTreeMap<String, Self>;
}

macro_rules! named_policy {
    ($policy:ty, $field:ident, $table:literal) => {
        impl NamedPolicy for $policy {
            const TABLE: &'static str = $table;
            fn policies(registry: &PolicyRegistry) -> &BTreeMap<String, Self> {
                &registry.$field
            }
            fn policies_mut(registry: &mut PolicyRegistry) -> &mut BTreeMap<String, Self> {
                &mut registry.$field
            }
        }
    };
}

named_policy!(ErrorPolicy, error_policies, "error-policies");
named_policy!(BackpressureStrategy, backpressure_policies, "backpressure-policies");
named_policy!(CircuitBreakerPolicy, circuit_breaker_policies, "circuit-breaker-policies");
named_policy!(BufferPolicy, buffer_policies, "buffer-policies");

/// A name that is not in the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy {name:?} in the registry's {table}: define it there or give the policy in place; {help}")]
pub struct UnknownPolicy {
    /// The name looked for.
    pub name: String,
    /// The table it was looked for in.
    pub table: &'static str,
    /// The nearest name there is, or all of them.
    pub help: String,
}

/// A policy given in place, or `{ ref = "name" }` for one in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRef<P> {
    /// The policy itself.
    Inline(P),
    /// The name of a policy in the [`PolicyRegistry`].
    Named(String),
}

impl<P> PolicyRef<P> {
    /// Refers to the policy `name`.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }
}

impl<P: NamedPolicy> PolicyRef<P> {
    /// The policy meant.
    ///
    /// # Errors
    /// The registry has no policy of that name.
    pub fn resolve<'a>(&'a self, registry: &'a PolicyRegistry) -> Result<&'a P, UnknownPolicy> {
        match self {
            Self::Inline(policy) => Ok(policy),
            Self::Named(name) => {
                let policies = P::policies(registry);
                policies.get(name).ok_or_else(|| UnknownPolicy {
                    name: name.clone(),
                    table: P::TABLE,
                    help: help_with_name(name, policies.keys().map(String::as_str)),
                })
            }
        }
    }
}

impl<P: Default> Default for PolicyRef<P> {
    fn default() -> Self {
        Self::Inline(P::default())
    }
}

impl<P> From<P> for PolicyRef<P> {
    fn from(policy: P) -> Self {
        Self::Inline(policy)
    }
}

impl<P: Serialize> Serialize for PolicyRef<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inline(policy) => policy.serialize(serializer),
            Self::Named(name) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("ref", name)?;
                map.end()
            }
        }
    }
}

impl<'de, P: Deserialize<'de>> Deserialize<'de> for PolicyRef<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RefVisitor(PhantomData))
    }
}

/// Decides by the first key, so that errors inside the policy keep their own words (an untagged enum loses them).
struct RefVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de>> Visitor<'de> for RefVisitor<P> {
    type Value = PolicyRef<P>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy or { ref = \"name\" }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        P::deserialize(StrDeserializer::new(text)).map(PolicyRef::Inline)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first: Option<String> = map.next_key()?;
        if first.as_deref() != Some("ref") {
            let whole = WithFirst { first, map };
            return P::deserialize(MapAccessDeserializer::new(whole)).map(PolicyRef::Inline);
        }
        let name = map.next_value()?;
        match map.next_key::<String>()? {
            Some(extra) => Err(A::Error::custom(format_args!(
                "`{extra}` beside `ref`: a policy is either named or given in place"
            ))),
            None => Ok(PolicyRef::Named(name)),
        }
    }
}

/// A map whose first key was already read.
struct WithFirst<A> {
    first: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithFirst<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(key) => seed.deserialize(StrDeserializer::new(&key)).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
