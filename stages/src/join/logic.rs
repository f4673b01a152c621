//! What a join asks of the user's code.

use std::hash::Hash;

use corelane::stage::Pending;

use crate::tally::Tally;

/// An item of one of two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side<L, R> {
    /// Of the first.
    Left(L),
    /// Of the second.
    Right(R),
}

/// The user's code.
pub trait JoinLogic: 'static {
    /// What items of both sides may have in common.
    type Key: Hash + Eq + 'static;
    /// An item of the first side.
    type Left: 'static;
    /// An item of the second side.
    type Right: 'static;
    /// A result.
    type Out: 'static;

    /// The key of an item.
    fn key(&mut self, item: &Side<Self::Left, Self::Right>) -> Self::Key;
    /// When it happened.
    fn time(&self, item: &Side<Self::Left, Self::Right>) -> i64;
    /// What becomes of a pair, or of one without a partner.
    fn result(&mut self, left: Option<&Self::Left>, right: Option<&Self::Right>) -> Option<Self::Out>;
}

/// Lets go of an item that will get no more partners, given as one of its sides: counts it, and gives what becomes of it alone if it had
/// none.
#[inline]
pub(super) fn part<J: JoinLogic>(
    user: &mut J,
    (left, right): (Option<&J::Left>, Option<&J::Right>),
    matched: bool,
    tally: &mut Tally,
    out: &mut Pending<J::Out>,
) {
    let alone = if matched { None } else { user.result(left, right) };
    tally.leave(matched || alone.is_some());
    tally.results += u64::from(alone.is_some());
    out.extend(alone);
}
