//! Joins of two kinds of items that come in one stream.

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::flow::{Segment, Stream};
use corelane::model::Timestamp;

use super::logic::{Results, Side};
use super::rule::JoinRule;
use super::{JoinOn, Joined, Of, Parts, closures, pairing};
use crate::window::{OwnTime, TimeOf};

/// Joins within a stream.
///
/// ```
/// use std::time::Duration;
///
/// use corelane::engine::Engine;
/// use corelane::flow::PipelineBuilder;
/// use corelane::model::Timestamp;
/// use corelane::policy::Watermarks;
/// use corelane_stages::join::{Side, SidesJoin, Within};
///
/// #[derive(Clone, Copy)]
/// enum Event {
///     Order(u32, i64),
///     Payment(u32, i64),
///     Visit(i64),
/// }
///
/// let at = |event: &Event| match *event {
///     Event::Order(_, at) | Event::Payment(_, at) | Event::Visit(at) => Timestamp(at),
/// };
/// let p = PipelineBuilder::new("orders");
/// let paid = p
///     .items("events", [Event::Order(1, 10), Event::Visit(11), Event::Payment(1, 12), Event::Order(2, 20)])
///     .watermarks("time", Watermarks::ascending(), at)
///     .filter_map("orders-and-payments", |event| match event {
///         Event::Order(order, at) => Some(Side::Left((order, at))),
///         Event::Payment(order, at) => Some(Side::Right((order, at))),
///         Event::Visit(_) => None,
///     })
///     .join_sides(|order| order.0, |payment| payment.0)
///     .at(|order| Timestamp(order.1), |payment| Timestamp(payment.1))
///     .on(Within::before(Duration::ZERO).after(Duration::from_nanos(50)))
///     .left("paid", |order, payment| (order.0, payment.map(|payment| payment.1)))
///     .collect("out");
/// assert!(Engine::default().run(p.build()?)?.success);
///
/// let mut paid = paid.take();
/// paid.sort();
/// assert_eq!(paid, [(1, Some(12)), (2, None)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SidesJoin<L, R>: Sized {
    /// What is upstream.
    type Segment: Segment<Item = Side<L, R>>;

    /// Joins the left items of the stream with its right ones, by their keys and the times that they bring with them.
    ///
    /// The same results as [`KeyedJoin::join`](super::KeyedJoin::join) of two streams, for less: one stage behind the stream, fused with
    /// it where there is one instance, and one exchange where there are several.
    fn join_sides<K, KL, KR>(
        self,
        left_key: KL,
        right_key: KR,
    ) -> Sides<Self::Segment, L, R, K, KL, KR, OwnTime, OwnTime>
    where
        K: Hash + Eq + Send + 'static,
        KL: FnMut(&L) -> K + Clone + Send + 'static,
        KR: FnMut(&R) -> K + Clone + Send + 'static;
}

impl<S, L, R> SidesJoin<L, R> for Stream<S>
where
    S: Segment<Item = Side<L, R>>,
{
    type Segment = S;

    fn join_sides<K, KL, KR>(self, left_key: KL, right_key: KR) -> Sides<S, L, R, K, KL, KR, OwnTime, OwnTime>
    where
        K: Hash + Eq + Send + 'static,
        KL: FnMut(&L) -> K + Clone + Send + 'static,
        KR: FnMut(&R) -> K + Clone + Send + 'static,
    {
        Sides { stream: self, keys: (left_key, right_key), times: (OwnTime, OwnTime), of: PhantomData }
    }
}

/// A stream of two kinds of items with a key; see [`SidesJoin::join_sides`].
#[must_use = "say what pairs, and what becomes of it"]
pub struct Sides<S, L, R, K, KL, KR, TL, TR> {
    stream: Stream<S>,
    keys: (KL, KR),
    times: (TL, TR),
    of: PhantomData<Of<L, R, K>>,
}

impl<S, L, R, K, KL, KR, TL, TR> Sides<S, L, R, K, KL, KR, TL, TR> {
    /// Goes by the times that `left_time` and `right_time` tell.
    pub fn at<UL, UR>(self, left_time: UL, right_time: UR) -> Sides<S, L, R, K, KL, KR, UL, UR>
    where
        UL: Fn(&L) -> Timestamp + Clone + Send + 'static,
        UR: Fn(&R) -> Timestamp + Clone + Send + 'static,
    {
        let Self { stream, keys, of, .. } = self;
        Sides { stream, keys, times: (left_time, right_time), of }
    }

    /// Says which items pair.
    pub fn on<W: JoinRule>(self, rule: W) -> JoinOn<Self, W> {
        JoinOn { joined: self, rule }
    }
}

impl<S, L, R, K, KL, KR, TL, TR> Joined for Sides<S, L, R, K, KL, KR, TL, TR>
where
    S: Segment<Item = Side<L, R>>,
    L: Send + 'static,
    R: Send + 'static,
    K: Hash + Eq + Send + 'static,
    KL: FnMut(&L) -> K + Clone + Send + 'static,
    KR: FnMut(&R) -> K + Clone + Send + 'static,
    TL: TimeOf<L>,
    TR: TimeOf<R>,
{
    type Left = L;
    type Right = R;

    fn pairs<F: Results<L, R>, W: JoinRule>(
        self,
        name: &str,
        result: F,
        rule: W,
    ) -> Stream<impl Segment<Item = F::Out> + use<S, L, R, K, KL, KR, TL, TR, F, W>> {
        let Self { stream, keys, times, of } = self;
        let key = closures::key_of_side(keys.clone());
        let policy = rule.policy();
        let parts = Parts { keys, times, result, of };
        stream.key_by(key).operator(name, policy, closures::without_key(closures::made(parts, rule, pairing)))
    }
}
