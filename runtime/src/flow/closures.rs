//! The closures that a stream puts around those of the user.
//!
//! They stand in free functions because a closure has all generic parameters around it in its type: written in a method of
//! `Stream<S>`, each would name everything upstream once more, and types would double with every stage.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use crate::keyed::{Accumulator, hash_key};
use crate::partition::Route;
use crate::stage::{StageError, StageSite, StepCx};

/// Makes a stage around `f` by `new`.
pub(super) fn stage_of<F, O>(
    f: F,
    new: fn(F, &StageSite) -> O,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    F: Clone + Send + 'static,
    O: 'static,
{
    move |site: &StageSite| Ok(new(f, site))
}

/// Makes a stage around an accumulator by `new`.
pub(super) fn accumulator_of<A, P, O>(
    accumulator: A,
    policy: P,
    new: fn(A, P, &StageSite) -> O,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    A: Clone + Send + 'static,
    P: Clone + Send + 'static,
    O: 'static,
{
    move |site: &StageSite| Ok(new(accumulator, policy, site))
}

/// As [`stage_of`], around what `factory` makes.
pub(super) fn stage_from<M, F, O>(
    factory: M,
    new: fn(F, &StageSite) -> O,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    M: FnOnce(&StageSite) -> Result<F, StageError> + Clone + Send + 'static,
    F: 'static,
    O: 'static,
{
    move |site: &StageSite| Ok(new(factory(site)?, site))
}

/// As [`stage_from`], for a factory that is given the key function.
pub(super) fn stage_with_key<F, G, O>(
    key: F,
    factory: G,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    F: Clone + Send + 'static,
    G: FnOnce(F, &StageSite) -> Result<O, StageError> + Clone + Send + 'static,
{
    move |site: &StageSite| factory(key, site)
}

/// Makes a keyed stage around the key function and `with` by `new`.
pub(super) fn keyed_stage_of<F, X, O>(
    with: X,
    new: fn(F, X, &StageSite) -> O,
) -> impl FnOnce(F, &StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    F: 'static,
    X: Clone + Send + 'static,
    O: 'static,
{
    move |key, site: &StageSite| Ok(new(key, with, site))
}

/// A mapping closure that takes no notice of the step.
pub(super) fn in_any_step<T, U, F>(mut f: F) -> impl FnMut(T, &StepCx) -> Option<U> + Clone + Send + 'static
where
    F: FnMut(T) -> Option<U> + Clone + Send + 'static,
{
    move |item, _: &StepCx| f(item)
}

/// Errors of the user as errors of a stage.
pub(super) fn with_user_errors<T, U, E, F>(
    mut f: F,
) -> impl FnMut(&T) -> Result<U, StageError> + Clone + Send + 'static
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: FnMut(&T) -> Result<U, E> + Clone + Send + 'static,
{
    move |item: &T| f(item).map_err(|e| StageError::User(e.into()))
}

/// The hash of an item's key.
pub(super) fn hash_by<T, K, F>(mut key: F) -> impl FnMut(&T) -> u64 + Clone + Send + 'static
where
    K: Hash,
    F: FnMut(&T) -> K + Clone + Send + 'static,
{
    move |item: &T| hash_key(&key(item))
}

/// The hash of an item's key, as an accumulator tells it.
pub(super) fn hash_of_accumulator<T, A>(accumulator: A) -> impl FnMut(&T) -> u64 + Clone + Send + 'static
where
    A: Accumulator<T> + Clone + Send,
{
    move |item: &T| hash_key(&accumulator.key(item))
}

/// Routes by index.
pub(super) fn routing<F: Clone + Send + 'static>(f: F) -> impl FnOnce() -> Route<F> + Clone + Send + 'static {
    move || Route(f)
}

/// The index of the first output where `f` is true, else of the second.
pub(super) fn splitting<T, F>(mut f: F) -> impl FnMut(&T) -> usize + Clone + Send + 'static
where
    F: FnMut(&T) -> bool + Clone + Send + 'static,
{
    move |item: &T| usize::from(!f(item))
}

/// Adds an item to a list.
pub(super) fn pushing<T>() -> impl FnMut(Vec<T>, T) -> Vec<T> + Clone + Send + 'static {
    |mut all: Vec<T>, item| {
        all.push(item);
        all
    }
}

/// Adds what an instance has come to, to what all have.
pub(super) fn handing_over<T: Send + 'static, A: 'static>(
    shared: Arc<Mutex<Vec<T>>>,
    add: fn(&mut Vec<T>, A),
) -> impl FnOnce(A) + Clone + Send + 'static {
    move |value| add(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), value)
}
