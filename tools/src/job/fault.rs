//! The first thing found wrong with the input, shared by whoever may find it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::otlp::{DecodeError, InputError};

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub enum InputFault {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] InputError),
    /// A request cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Holds the first fault in the order of the input. Clones share it.
///
/// A fault does not fail the pipeline: reading ends there, and everything before it still flows out.
#[derive(Debug, Clone, Default)]
pub struct Fault(Arc<Slots>);

#[derive(Debug, Default)]
struct Slots {
    undecodable: AtomicBool,
    decode: Mutex<Option<DecodeError>>,
    read: Mutex<Option<InputError>>,
}

impl Fault {
    /// The inputs cannot be read any further.
    pub(super) fn raise_read(&self, error: InputError) {
        *lock(&self.0.read) = Some(error);
    }

    /// A request cannot be decoded; what comes after it is not wanted.
    pub(super) fn raise_decode(&self, error: DecodeError) {
        lock(&self.0.decode).get_or_insert(error);
        self.0.undecodable.store(true, Ordering::Release);
    }

    /// Whether a request could not be decoded.
    pub(super) fn is_undecodable(&self) -> bool {
        self.0.undecodable.load(Ordering::Acquire)
    }

    /// Takes the first fault out. A request that was read stands before the place where reading ended.
    pub fn take(&self) -> Option<InputFault> {
        let decode = lock(&self.0.decode).take().map(InputFault::from);
        decode.or_else(|| lock(&self.0.read).take().map(InputFault::from))
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
