//! Closures around those of the user, in free functions: a closure has the type of everything around it in its own, and types of
//! pipelines would double with every stage.

use corelane::stage::{StageError, StageSite};

use super::{Make, Side};

/// What becomes of pairs, and of left items alone.
pub(super) fn left<L, R, O, F>(
    mut f: F,
) -> impl FnMut(Option<&L>, Option<&R>) -> Option<O> + Clone + Send + 'static
where
    F: FnMut(&L, Option<&R>) -> O + Clone + Send + 'static,
{
    move |left, right| Some(f(left?, right))
}

/// What becomes of pairs, and of any item alone.
pub(super) fn full<L, R, O, F>(
    mut f: F,
) -> impl FnMut(Option<&L>, Option<&R>) -> Option<O> + Clone + Send + 'static
where
    F: FnMut(Option<&L>, Option<&R>) -> O + Clone + Send + 'static,
{
    move |left, right| Some(f(left, right))
}

/// The key of an item of either stream.
pub(super) fn key_of_side<L, R, K, KL, KR>(
    (mut left_key, mut right_key): (KL, KR),
) -> impl FnMut(&Side<L, R>) -> K + Clone + Send + 'static
where
    KL: FnMut(&L) -> K + Clone + Send + 'static,
    KR: FnMut(&R) -> K + Clone + Send + 'static,
{
    move |item: &Side<L, R>| match item {
        Side::Left(item) => apart(&mut left_key, item),
        Side::Right(item) => right_key(item),
    }
}

/// Not inlined: where the keys of both sides are read alike, one instruction would read them all. Keys are often far away in memory, and the
/// processor guesses where the next one lies by what the same instruction has read before.
#[inline(never)]
fn apart<T, K>(key: &mut impl FnMut(&T) -> K, item: &T) -> K {
    key(item)
}

/// Makes the stage of a join.
pub(super) fn made<P, W, O>(
    parts: P,
    with: W,
    make: Make<P, W, O>,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    P: Clone + Send + 'static,
    W: Clone + Send + 'static,
    O: 'static,
{
    move |site: &StageSite| make(parts, with, site)
}

/// The same for where a stage is given the key of both sides, too: it has those of each.
pub(super) fn without_key<F, O>(
    made: impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static,
) -> impl FnOnce(F, &StageSite) -> Result<O, StageError> + Clone + Send + 'static {
    move |_key, site: &StageSite| made(site)
}
