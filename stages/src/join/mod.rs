//! Joins: items of two streams that have a key in common.
//!
//! ```
//! use std::time::Duration;
//!
//! use corelane::engine::Engine;
//! use corelane::flow::PipelineBuilder;
//! use corelane::model::Timestamp;
//! use corelane::policy::Watermarks;
//! use corelane_stages::join::{KeyedJoin, Within};
//!
//! let p = PipelineBuilder::new("orders");
//! let orders = p.items("orders", [(1, 10), (2, 20), (3, 30)]);
//! let payments = p.items("payments", [(1, 12), (3, 95)]);
//! let time = |(_, at): &(u32, i64)| Timestamp(*at);
//! let orders = orders.watermarks("order-time", Watermarks::ascending(), time).key_by(|order| order.0);
//! let payments = payments.watermarks("payment-time", Watermarks::ascending(), time).key_by(|payment| payment.0);
//!
//! let paid = orders
//!     .join_at(time, payments, time)
//!     .on(Within::before(Duration::ZERO).after(Duration::from_nanos(50)))
//!     .left("paid", |order, payment| (order.0, payment.map(|payment| payment.1)))
//!     .collect("out");
//! assert!(Engine::default().run(p.build()?)?.success);
//!
//! let mut paid = paid.take();
//! paid.sort();
//! assert_eq!(paid, [(1, Some(12)), (2, None), (3, None)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | [`on`](Join::on) | what pairs | how long an item waits |
//! |---|---|---|
//! | [`Within`] | times that are near each other | until the watermark is past its last partner |
//! | [`Tumbling`](crate::window::Tumbling), [`Sliding`](crate::window::Sliding) | times in one window; once for each window | until its last window ends |
//! | [`Kept`] | whatever is kept on the other side | for a processing time |
//!
//! and then [`inner`](JoinOn::inner), [`left`](JoinOn::left), [`full`](JoinOn::full) or [`semi`](JoinOn::semi). Pairs come as soon as
//! both items are there; items that found nobody come when nobody can come any more. An item that is behind the watermark and whose
//! partners are all past is late: counted, and dropped. One that leaves an inner or a semi join alone counts as expired.
//!
//! Where both kinds of items come in one stream, [`join_sides`](SidesJoin::join_sides) joins them there: nothing is taken apart and
//! put together again.
//!
//! [`Join::as_of`] gives each item of the left stream the row that was valid at its time in a table which the right stream
//! changes.

mod closures;
mod logic;
mod meeting;
mod pairs;
mod rule;
mod sides;
mod table;
mod windowed;

#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::flow::{Keyed, PortSegment, Segment, Stream};
use corelane::keyed::{Stateful, StatefulOp};
use corelane::model::{Timed, Timestamp};
use corelane::stage::{StageError, StageSite};

use crate::window::{OwnTime, TimeOf};
pub use logic::Side;
use logic::{Gives, Inner, JoinLogic, Results, Semi};
pub use rule::{JoinRule, Kept, KeptToTheEnd, Within};
pub use sides::{Sides, SidesJoin};
use table::AsOf;

/// What a join is of.
type Of<L, R, K> = fn() -> (L, R, K);

/// Makes the stage of a join; what of it is not the same for all joins.
type Make<P, W, O> = fn(P, W, &StageSite) -> Result<O, StageError>;

struct Parts<L, R, K, KL, KR, TL, TR, F> {
    keys: (KL, KR),
    times: (TL, TR),
    result: F,
    of: PhantomData<Of<L, R, K>>,
}

impl<L, R, K, KL: Clone, KR: Clone, TL: Clone, TR: Clone, F: Clone> Clone
    for Parts<L, R, K, KL, KR, TL, TR, F>
{
    fn clone(&self) -> Self {
        let Self { keys, times, result, of } = self;
        Self { keys: keys.clone(), times: times.clone(), result: result.clone(), of: *of }
    }
}

impl<L, R, K, KL, KR, TL, TR, F> JoinLogic for Parts<L, R, K, KL, KR, TL, TR, F>
where
    L: 'static,
    R: 'static,
    K: Hash + Eq + 'static,
    KL: FnMut(&L) -> K + 'static,
    KR: FnMut(&R) -> K + 'static,
    TL: TimeOf<L>,
    TR: TimeOf<R>,
    F: Results<L, R>,
{
    const GIVES: Gives = F::GIVES;
    type Key = K;
    type Left = L;
    type Right = R;
    type Out = F::Out;

    #[inline(always)]
    fn left_key(&mut self, item: &L) -> K {
        (self.keys.0)(item)
    }
    #[inline(always)]
    fn right_key(&mut self, item: &R) -> K {
        (self.keys.1)(item)
    }
    #[inline(always)]
    fn left_time(&self, item: &L) -> i64 {
        self.times.0.time_of(item).as_nanos()
    }
    #[inline(always)]
    fn right_time(&self, item: &R) -> i64 {
        self.times.1.time_of(item).as_nanos()
    }
    #[inline(always)]
    fn result(&mut self, left: Option<&L>, right: Option<&R>) -> Option<F::Out> {
        self.result.result(left, right)
    }
}

/// Joins of streams with keys.
pub trait KeyedJoin: Sized {
    /// What is upstream.
    type Segment: Segment<Item = Self::Item>;
    /// What flows.
    type Item;
    /// The key.
    type Key;
    /// What tells the key of an item.
    type KeyFn;

    /// Joins with `right`, by the times that items bring with them.
    fn join<S, F>(
        self,
        right: Keyed<S, F>,
    ) -> Join<Self::Segment, S, Self::Key, Self::KeyFn, F, OwnTime, OwnTime>
    where
        S: Segment,
        F: FnMut(&S::Item) -> Self::Key + Clone + Send + 'static,
        Self::Item: Timed,
        S::Item: Timed;

    /// Joins with `right`, by the times that `left_time` and `right_time` tell.
    fn join_at<S, F, TL, TR>(
        self,
        left_time: TL,
        right: Keyed<S, F>,
        right_time: TR,
    ) -> Join<Self::Segment, S, Self::Key, Self::KeyFn, F, TL, TR>
    where
        S: Segment,
        F: FnMut(&S::Item) -> Self::Key + Clone + Send + 'static,
        TL: Fn(&Self::Item) -> Timestamp + Clone + Send + 'static,
        TR: Fn(&S::Item) -> Timestamp + Clone + Send + 'static;
}

impl<L, K, F> KeyedJoin for Keyed<L, F>
where
    L: Segment,
    K: Hash + Eq + Send + 'static,
    F: FnMut(&L::Item) -> K + Clone + Send + 'static,
{
    type Segment = L;
    type Item = L::Item;
    type Key = K;
    type KeyFn = F;

    fn join<S, G>(self, right: Keyed<S, G>) -> Join<L, S, K, F, G, OwnTime, OwnTime>
    where
        S: Segment,
        G: FnMut(&S::Item) -> K + Clone + Send + 'static,
        L::Item: Timed,
        S::Item: Timed,
    {
        Join { left: self, right, times: (OwnTime, OwnTime), key: PhantomData }
    }

    fn join_at<S, G, TL, TR>(
        self,
        left_time: TL,
        right: Keyed<S, G>,
        right_time: TR,
    ) -> Join<L, S, K, F, G, TL, TR>
    where
        S: Segment,
        G: FnMut(&S::Item) -> K + Clone + Send + 'static,
        TL: Fn(&L::Item) -> Timestamp + Clone + Send + 'static,
        TR: Fn(&S::Item) -> Timestamp + Clone + Send + 'static,
    {
        Join { left: self, right, times: (left_time, right_time), key: PhantomData }
    }
}

/// Two streams with a key; see [`KeyedJoin::join`].
#[must_use = "say what pairs, and what becomes of it"]
pub struct Join<L, R, K, KL, KR, TL, TR> {
    left: Keyed<L, KL>,
    right: Keyed<R, KR>,
    times: (TL, TR),
    key: PhantomData<fn() -> K>,
}

/// What is joined, [`Join`] or [`Sides`], and a rule for what pairs; see [`Join::on`] and [`Sides::on`].
#[must_use = "say what becomes of a pair"]
pub struct JoinOn<J, W> {
    joined: J,
    rule: W,
}

/// What can be joined: two streams, or the two kinds of items of one. Implemented by [`Join`] and [`Sides`].
pub trait Joined: Sized {
    /// An item of the left side.
    type Left;
    /// An item of the right side.
    type Right;

    #[doc(hidden)]
    fn pairs<F: Results<Self::Left, Self::Right>, W: JoinRule>(
        self,
        name: &str,
        result: F,
        rule: W,
    ) -> Stream<impl Segment<Item = F::Out> + use<Self, F, W>>;
}

impl<L, R, K, KL, KR, TL, TR> Join<L, R, K, KL, KR, TL, TR>
where
    L: Segment,
    R: Segment,
    K: Hash + Eq + Send + 'static,
    KL: FnMut(&L::Item) -> K + Clone + Send + 'static,
    KR: FnMut(&R::Item) -> K + Clone + Send + 'static,
    TL: TimeOf<L::Item>,
    TR: TimeOf<R::Item>,
{
    /// Says which items pair.
    pub fn on<W: JoinRule>(self, rule: W) -> JoinOn<Self, W> {
        JoinOn { joined: self, rule }
    }

    /// Gives each item of the left stream the row of its key that was valid at its time: the latest of the right stream
    /// that is not later, or `None`. An item waits until the watermark is past its time, so that the answer does not
    /// depend on which of the two was faster. Items of a key come in the order of their times.
    ///
    /// Keeps the last row of every key to the end of the input, and those before it that may still be asked for. Items and
    /// rows that are late are counted, and take part as far as they still can.
    pub fn as_of<O, F>(self, name: &str, f: F) -> Stream<PortSegment<O>>
    where
        O: Send + 'static,
        F: FnMut(&L::Item, Option<&R::Item>) -> O + Clone + Send + 'static,
    {
        self.operator(name, closures::left(f), (), |parts, (), site| {
            Ok(StatefulOp::new(AsOf::new(parts), site))
        })
    }

    #[expect(clippy::type_complexity, reason = "all of the user's code has its own type")]
    fn operator<F, S, W>(
        self,
        name: &str,
        result: F,
        with: W,
        make: Make<Parts<L::Item, R::Item, K, KL, KR, TL, TR, F>, W, StatefulOp<Side<L::Item, R::Item>, S>>,
    ) -> Stream<PortSegment<F::Out>>
    where
        F: Results<L::Item, R::Item>,
        S: Stateful<Side<L::Item, R::Item>, Out = F::Out>,
        W: Clone + Send + 'static,
    {
        let Self { left, right, times, .. } = self;
        let ((left, left_key), (right, right_key)) = (left.into_parts(), right.into_parts());
        let keys = (left_key, right_key);
        let key = closures::key_of_side(keys.clone());
        let left = left.map(&format!("{name}.left"), Side::Left).key_by(key.clone()).into_input();
        let right = right.map(&format!("{name}.right"), Side::Right).key_by(key).into_input();
        let parts = Parts { keys, times, result, of: PhantomData };
        left.operator(name, [right], closures::made(parts, with, make))
    }
}

impl<L, R, K, KL, KR, TL, TR> Joined for Join<L, R, K, KL, KR, TL, TR>
where
    L: Segment,
    R: Segment,
    K: Hash + Eq + Send + 'static,
    KL: FnMut(&L::Item) -> K + Clone + Send + 'static,
    KR: FnMut(&R::Item) -> K + Clone + Send + 'static,
    TL: TimeOf<L::Item>,
    TR: TimeOf<R::Item>,
{
    type Left = L::Item;
    type Right = R::Item;

    fn pairs<F: Results<L::Item, R::Item>, W: JoinRule>(
        self,
        name: &str,
        result: F,
        rule: W,
    ) -> Stream<impl Segment<Item = F::Out> + use<L, R, K, KL, KR, TL, TR, F, W>> {
        self.operator(name, result, rule, pairing)
    }
}

impl<J: Joined, W: JoinRule> JoinOn<J, W> {
    /// A result for each pair.
    ///
    /// Adds a stage `name`; of two streams also one in front of each that says which it is. One instance for each core
    /// of the stage, unless asked otherwise. An impossible length is an error at the start of the pipeline; a panic in user
    /// code ends it.
    pub fn inner<O, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = O> + use<J, W, O, F>>
    where
        O: Send + 'static,
        F: FnMut(&J::Left, &J::Right) -> O + Clone + Send + 'static,
    {
        self.pairs(name, Inner(f))
    }

    /// A result for each pair, and for each item of the left stream without a partner.
    pub fn left<O, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = O> + use<J, W, O, F>>
    where
        O: Send + 'static,
        F: FnMut(&J::Left, Option<&J::Right>) -> O + Clone + Send + 'static,
    {
        self.pairs(name, closures::left(f))
    }

    /// A result for each pair, and for each item without a partner. At least one of the two is there.
    pub fn full<O, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = O> + use<J, W, O, F>>
    where
        O: Send + 'static,
        F: FnMut(Option<&J::Left>, Option<&J::Right>) -> O + Clone + Send + 'static,
    {
        self.pairs(name, closures::full(f))
    }

    /// A result for each item of the left stream that has a partner: one, however many there are, also of windows that overlap.
    ///
    /// Of the right stream, windows and [`Kept::to_the_end`] keep keys and no items.
    pub fn semi<O, F>(self, name: &str, f: F) -> Stream<impl Segment<Item = O> + use<J, W, O, F>>
    where
        O: Send + 'static,
        F: FnMut(&J::Left) -> O + Clone + Send + 'static,
    {
        self.pairs(name, Semi(f))
    }

    fn pairs<F: Results<J::Left, J::Right>>(
        self,
        name: &str,
        result: F,
    ) -> Stream<impl Segment<Item = F::Out> + use<J, W, F>> {
        self.joined.pairs(name, result, self.rule)
    }
}

/// The stage that pairs by a rule.
type PairingOp<J, W> =
    StatefulOp<Side<<J as JoinLogic>::Left, <J as JoinLogic>::Right>, <W as JoinRule>::State<J>>;

/// Makes it.
fn pairing<J: JoinLogic, W: JoinRule>(
    user: J,
    rule: W,
    site: &StageSite,
) -> Result<PairingOp<J, W>, StageError> {
    let state = rule.state(user).map_err(|error| StageError::User(Box::new(error)))?;
    Ok(StatefulOp::new(state, site))
}
