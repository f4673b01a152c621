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

/// What of a join has results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Each pair, and items without partners if the user's code has one for them.
    PairsAndAlone,
    /// Each pair.
    Pairs,
    /// Each left item that has partners, once, however many there are.
    LeftOnce,
}

/// The user's code.
pub trait JoinLogic: 'static {
    /// What has results.
    const GIVES: Gives;
    /// What items of both sides may have in common.
    type Key: Hash + Eq + 'static;
    /// An item of the first side.
    type Left: 'static;
    /// An item of the second side.
    type Right: 'static;
    /// A result.
    type Out: 'static;

    /// The key of a left item.
    fn left_key(&mut self, item: &Self::Left) -> Self::Key;
    /// The key of a right item.
    fn right_key(&mut self, item: &Self::Right) -> Self::Key;
    /// When a left item happened.
    fn left_time(&self, item: &Self::Left) -> i64;
    /// When a right item happened.
    fn right_time(&self, item: &Self::Right) -> i64;
    /// What becomes of a pair, or of one without a partner; with [`LeftOnce`](Gives::LeftOnce), of a left item that has partners, given alone.
    fn result(&mut self, left: Option<&Self::Left>, right: Option<&Self::Right>) -> Option<Self::Out>;

    /// Whether a left item that has partners has one result, however many there are.
    #[inline(always)]
    fn once() -> bool {
        Self::GIVES == Gives::LeftOnce
    }

    /// The key of an item.
    fn key(&mut self, item: &Side<Self::Left, Self::Right>) -> Self::Key {
        match item {
            Side::Left(item) => self.left_key(item),
            Side::Right(item) => self.right_key(item),
        }
    }

    /// When it happened.
    fn time(&self, item: &Side<Self::Left, Self::Right>) -> i64 {
        match item {
            Side::Left(item) => self.left_time(item),
            Side::Right(item) => self.right_time(item),
        }
    }
}

/// What becomes of pairs, and of items alone. Implemented for closures of both sides, and by [`Inner`] and [`Semi`].
pub trait Results<L, R>: Clone + Send + 'static {
    /// A result.
    type Out: Send + 'static;
    /// What has one.
    const GIVES: Gives;

    /// See [`JoinLogic::result`].
    fn result(&mut self, left: Option<&L>, right: Option<&R>) -> Option<Self::Out>;
}

impl<L, R, O, F> Results<L, R> for F
where
    O: Send + 'static,
    F: FnMut(Option<&L>, Option<&R>) -> Option<O> + Clone + Send + 'static,
{
    type Out = O;
    const GIVES: Gives = Gives::PairsAndAlone;

    #[inline(always)]
    fn result(&mut self, left: Option<&L>, right: Option<&R>) -> Option<O> {
        self(left, right)
    }
}

/// One result for each pair.
#[derive(Clone)]
pub(super) struct Inner<F>(pub(super) F);

impl<L, R, O, F> Results<L, R> for Inner<F>
where
    O: Send + 'static,
    F: FnMut(&L, &R) -> O + Clone + Send + 'static,
{
    type Out = O;
    const GIVES: Gives = Gives::Pairs;

    #[inline(always)]
    fn result(&mut self, left: Option<&L>, right: Option<&R>) -> Option<O> {
        Some((self.0)(left?, right?))
    }
}

/// One result for each left item that has partners.
#[derive(Clone)]
pub(super) struct Semi<F>(pub(super) F);

impl<L, R, O, F> Results<L, R> for Semi<F>
where
    O: Send + 'static,
    F: FnMut(&L) -> O + Clone + Send + 'static,
{
    type Out = O;
    const GIVES: Gives = Gives::LeftOnce;

    #[inline(always)]
    fn result(&mut self, left: Option<&L>, _right: Option<&R>) -> Option<O> {
        left.map(&mut self.0)
    }
}

/// Gives a result, if there is one.
#[inline(always)]
pub(super) fn give<J: JoinLogic>(
    user: &mut J,
    (left, right): (Option<&J::Left>, Option<&J::Right>),
    tally: &mut Tally,
    out: &mut Pending<J::Out>,
) {
    if let Some(result) = user.result(left, right) {
        tally.results += 1;
        out.push(result);
    }
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
    let alone = if matched || J::GIVES != Gives::PairsAndAlone { None } else { user.result(left, right) };
    tally.leave(matched || alone.is_some());
    tally.results += u64::from(alone.is_some());
    out.extend(alone);
}
