//! States as bytes, for accumulators whose key and state are `rkyv` types.

use std::any::type_name;
use std::cell::RefCell;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::keyed::SpillError;

/// The layout of a spilled state: what was written under one is never read under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpillSchema(u64);

impl SpillSchema {
    /// The layout of `T` as [`to_archive`] writes it: its name, and the size and alignment of its archive.
    pub fn archive_of<T: Archive>() -> Self {
        let text = format!(
            "rkyv 0.8 {} {} {}",
            type_name::<T>(),
            size_of::<T::Archived>(),
            align_of::<T::Archived>()
        );
        Self::named(&text)
    }

    /// A layout of your own; a name with a version number, for example.
    pub fn named(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }

    pub(in crate::keyed) fn hash(self) -> u64 {
        self.0
    }
}

thread_local! {
    /// Kept from one state to the next: a buffer of another size for each would leave the heap full of holes.
    static SCRATCH: RefCell<AlignedVec> = RefCell::default();
}

fn format_error(error: Error) -> SpillError {
    SpillError::Format(Box::new(error))
}

/// Appends `value` to `into`.
///
/// Keep hash tables and shared pointers out of spilled types: write a sorted `Vec` of pairs, and own what is shared.
///
/// # Errors
/// [`SpillError::Format`] if it cannot be archived.
pub fn to_archive<T>(value: &T, into: &mut Vec<u8>) -> Result<(), SpillError>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
{
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let bytes =
            rkyv::api::high::to_bytes_in::<_, Error>(value, std::mem::take(scratch)).map_err(format_error)?;
        into.extend_from_slice(&bytes);
        *scratch = bytes;
        Ok(())
    })
}

/// Reads back what [`to_archive`] wrote. Every access is checked.
///
/// # Errors
/// [`SpillError::Format`] if `bytes` are not an archive of a `T`.
///
/// ```
/// use corelane::keyed::{from_archive, to_archive};
/// let mut bytes = Vec::new();
/// to_archive(&vec!["a".to_owned(), "b".to_owned()], &mut bytes)?;
/// assert_eq!(from_archive::<Vec<String>>(&bytes)?, ["a", "b"]);
/// assert!(from_archive::<Vec<String>>(&bytes[1..]).is_err());
/// # Ok::<(), corelane::keyed::SpillError>(())
/// ```
pub fn from_archive<T>(bytes: &[u8]) -> Result<T, SpillError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
    // Archives must stand at multiples of their alignment, which a slice does not promise.
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.extend_from_slice(bytes);
        rkyv::from_bytes::<T, Error>(scratch).map_err(format_error)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{AccumulatorState, Timestamp};

    type State = AccumulatorState<String, Vec<(u64, Option<String>)>>;

    fn state() -> State {
        let items = vec![(1, None), (2, Some("two".to_owned())), (u64::MAX, Some(String::new()))];
        let mut of = AccumulatorState::new("key".to_owned(), items);
        (of.size_items, of.size_bytes, of.completeness_score) = (3, 1 << 40, 0.25);
        (of.first_ts, of.last_ts) = (Timestamp(-5), Timestamp::MAX);
        of
    }

    #[test]
    fn a_state_comes_back_as_it_was_from_anywhere_in_a_buffer() {
        for before in 0..17 {
            let mut bytes = vec![0xFF; before];
            to_archive(&state(), &mut bytes).unwrap();
            assert_eq!(from_archive::<State>(&bytes[before..]).unwrap(), state());
        }
    }

    #[test]
    fn fault_46_an_archive_cut_off_anywhere_is_refused() {
        let mut bytes = Vec::new();
        to_archive(&state(), &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(from_archive::<State>(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn layouts_have_their_own_schemas() {
        let schemas = [
            SpillSchema::archive_of::<State>(),
            SpillSchema::archive_of::<AccumulatorState<u64, u64>>(),
            SpillSchema::archive_of::<AccumulatorState<u64, u32>>(),
            SpillSchema::named("mine 1"),
            SpillSchema::named("mine 2"),
        ];
        let distinct: std::collections::HashSet<_> = schemas.iter().collect();
        assert_eq!(distinct.len(), schemas.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = from_archive::<State>(&bytes);
        }

        #[test]
        fn any_flipped_bytes_of_an_archive_are_read_or_refused_without_a_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
        ) {
            let mut bytes = Vec::new();
            to_archive(&state(), &mut bytes).unwrap();
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            let _ = from_archive::<State>(&bytes);
        }
    }
}
