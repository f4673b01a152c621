//! What is handed from block to block in memory.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Renoir asks of all that goes from block to block that it could be written for another host. On one host it never is, and
/// this could not be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<T>(pub(super) T);

impl<T> Serialize for Here<T> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this stays on its host"))
    }
}

impl<'de, T> Deserialize<'de> for Here<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this stays on its host"))
    }
}
