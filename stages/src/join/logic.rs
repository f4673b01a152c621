//! What a join asks of the user's code.

use std::hash::Hash;

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
