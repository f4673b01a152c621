//! Windows: the items of a key, cut up by time or number, made into values.
//!
//! ```
//! use std::time::Duration;
//!
//! use corelane::engine::Engine;
//! use corelane::flow::PipelineBuilder;
//! use corelane::model::Timestamp;
//! use corelane::policy::Watermarks;
//! use corelane_stages::window::{Count, KeyedWindows, Tumbling, Window, Windowed};
//!
//! /// Second 0, 1, 2 .. of a day.
//! const SECOND: i64 = 1_000_000_000;
//!
//! let p = PipelineBuilder::new("bids");
//! let counts = p
//!     .generate("bids", 40, |i| (["owl", "fox"][i as usize % 2], Timestamp(i as i64 * SECOND)))
//!     .watermarks("time", Watermarks::ascending(), |(_, time)| *time)
//!     .key_by(|(animal, _)| *animal)
//!     .window_at(|(_, time)| *time, Tumbling::of(Duration::from_secs(10)))
//!     .aggregate("count", Count)
//!     .collect("out");
//! let result = Engine::default().run(p.build()?)?;
//! assert!(result.success);
//!
//! let mut counts = counts.take();
//! counts.sort_by_key(|count| (count.window, count.key));
//! assert_eq!(counts.len(), 8);
//! let Windowed { key, window, value, .. } = counts[0];
//! assert_eq!((key, window, value), ("fox", Window::from_nanos(0, 10 * SECOND), 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | windows | a window is | memory |
//! |---|---|---|
//! | [`Tumbling`] | one after the other, of one size | an accumulator per key and open window |
//! | [`Sliding`] | of one size, a new one at every step | an accumulator per key and pane (the greatest common part of size and step) |
//! | [`Session`] | items that follow each other within a gap | an accumulator per key and open session |
//! | [`Counted`] | a number of items | an accumulator per key |
//! | [`Global`] | everything; with a [`Trigger`] it says so before the end | an accumulator per key |
//!
//! What is made of the items is an [`Aggregate`]: [`Count`], [`Sum`], [`Min`], [`Max`], [`Mean`], [`TopK`], [`Leaders`], [`Distinct`],
//! [`DistinctEstimate`], [`Percentiles`], [`ToVec`], closures by [`fold`], and tuples of these.
//!
//! Windows are in event time, and close when a watermark reaches their end; the end of the input closes all. An item that
//! comes too late for its windows is counted as `late` and dropped, or goes out on its own stream:
//! [`Windows::aggregate_with_late`]. A [`Trigger`] asks for early results, and for late ones with corrections. What a key
//! has is forgotten with its window. [`PerCore`] is for windows in two phases, of which the first one stays on its core;
//! [`Windows::aggregate_across`] makes one value of those of all keys of a window.

mod across;
mod aggregate;
mod aligned;
mod count;
pub(crate) mod kind;
mod late;
mod logic;
pub(crate) mod panes;
mod per_core;
mod running;
mod session;
mod slider;
pub(crate) mod span;
mod stacks;
mod trigger;
mod triggered;

#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::flow::{Keyed, Segment, Stream};
use corelane::model::{Batch, Envelope, Timed, Timestamp};
use corelane::stage::{StageError, StageSite};
use serde::{Deserialize, Serialize};

pub use across::{Across, EachKey, Values};
pub use aggregate::{
    Aggregate, Count, Distinct, DistinctEstimate, Fold, Leaders, Max, Mean, Min, Percentiles, Quantiles, Sum,
    ToVec, TopK, fold,
};
pub use aligned::AlignedWindows;
pub use count::CountWindows;
pub use kind::{AcrossKeys, Counted, Global, Session, Triggered, WindowKind};
pub use late::Fired;
pub use logic::{DropLate, KeepLate, LateItems, Logic, OwnTime, Parts, TimeOf};
pub use per_core::{OwnKeys, OwnWindows, PerCore};
pub use session::SessionWindows;
pub use span::{Sliding, Tumbling, Window, WindowError};
pub use trigger::{Pane, Timing, Trigger};
pub use triggered::TriggeredWindows;

use late::IntoBatch;

/// A value made of the items of a key in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Windowed<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The value.
    pub value: R,
    /// Which of the results of this key and window it is.
    pub pane: Pane,
}

/// When the window was over: what a window of windows is cut by.
impl<K, R> Timed for Windowed<K, R> {
    /// The last time in the window.
    fn timestamp(&self) -> Timestamp {
        Timestamp(self.window.end.as_nanos().saturating_sub(1))
    }
}

/// Windows on a stream with a key.
pub trait KeyedWindows: Sized {
    /// What is upstream.
    type Segment: Segment<Item = Self::Item>;
    /// What flows.
    type Item;
    /// The key.
    type Key;
    /// What tells the key of an item.
    type KeyFn;

    /// Cuts the items of each key into `windows`, by the time they bring with them.
    fn window<W>(self, windows: W) -> Windows<Self::Segment, Self::Key, Self::KeyFn, OwnTime, W>
    where
        Self::Item: Timed;

    /// Cuts the items of each key into `windows`, by the time that `time` tells.
    fn window_at<T, W>(self, time: T, windows: W) -> Windows<Self::Segment, Self::Key, Self::KeyFn, T, W>
    where
        T: Fn(&Self::Item) -> Timestamp + Clone + Send + 'static;
}

impl<S, K, F> KeyedWindows for Keyed<S, F>
where
    S: Segment,
    K: Hash + Eq + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
{
    type Segment = S;
    type Item = S::Item;
    type Key = K;
    type KeyFn = F;

    fn window<W>(self, windows: W) -> Windows<S, K, F, OwnTime, W>
    where
        S::Item: Timed,
    {
        Windows { keyed: self, time: OwnTime, windows, key: PhantomData }
    }

    fn window_at<T, W>(self, time: T, windows: W) -> Windows<S, K, F, T, W>
    where
        T: Fn(&S::Item) -> Timestamp + Clone + Send + 'static,
    {
        Windows { keyed: self, time, windows, key: PhantomData }
    }
}

/// A stream cut into windows; see [`KeyedWindows::window`].
#[must_use = "windows alone do nothing: aggregate them"]
pub struct Windows<S, K, F, T, W> {
    keyed: Keyed<S, F>,
    time: T,
    windows: W,
    key: PhantomData<fn() -> K>,
}

impl<S, K, F, T, W> Windows<S, K, F, T, W> {
    /// Asks for early results, late ones, or both.
    pub fn trigger(self, trigger: Trigger) -> Windows<S, K, F, T, Triggered<W>> {
        let Self { keyed, time, windows, key } = self;
        Windows { keyed, time, windows: Triggered { windows, trigger }, key }
    }
}

impl<S, K, F, T, W> Windows<S, K, F, T, W>
where
    S: Segment,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
    T: TimeOf<S::Item>,
{
    /// Makes a value of each window with `aggregate`. Items that come too late are dropped, and counted.
    ///
    /// One instance for each core of the stage, unless asked otherwise. Results of one window come in no order; windows
    /// come in the order of their ends, before the watermark that closed them goes on. An impossible size is an error at
    /// the start of the pipeline, with the stage's name. A panic in user code ends the pipeline.
    pub fn aggregate<A>(
        self,
        name: &str,
        aggregate: A,
    ) -> Stream<impl Segment<Item = Windowed<K, A::Out>> + use<S, K, F, T, W, A>>
    where
        A: Aggregate<S::Item>,
        W: WindowKind<S::Item, Parts<K, F, T, A, DropLate>, Out = Windowed<K, A::Out>>,
    {
        self.operator(name, aggregate, DropLate)
    }

    /// As [`aggregate`](Self::aggregate); items that come too late go out on the second stream. Both must be used.
    ///
    /// Adds three stages: `name`, `name.outputs` that tells them apart, and one behind each output.
    #[expect(clippy::type_complexity, reason = "two streams of two kinds")]
    pub fn aggregate_with_late<A>(
        self,
        name: &str,
        aggregate: A,
    ) -> (
        Stream<impl Segment<Item = Windowed<K, A::Out>> + use<S, K, F, T, W, A>>,
        Stream<impl Segment<Item = S::Item> + use<S, K, F, T, W, A>>,
    )
    where
        A: Aggregate<S::Item>,
        W: WindowKind<S::Item, Parts<K, F, T, A, KeepLate>, Out = Fired<K, A::Out, S::Item>>,
    {
        let fired = self.operator(name, aggregate, KeepLate);
        let [results, late] = fired.split(&format!("{name}.outputs"), ["results", "late"], Fired::is_result);
        (
            results.filter_map(&format!("{name}.results"), Fired::into_result),
            late.filter_map(&format!("{name}.late"), Fired::into_late),
        )
    }

    /// Makes a value of each window and key with `aggregate`, and of these, for all keys that an instance has, one value of the window with
    /// `across`: which keys lead, or how values are distributed. Only that is emitted, once a window is over; nothing for a window without
    /// items. Items that come too late are dropped, and counted.
    ///
    /// Keys are spread over the instances: with several, combine what they say of a window behind a key that is the same in all of them.
    /// Otherwise as [`aggregate`](Self::aggregate), for less than an `aggregate` and another one behind it: values of keys are not moved.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use corelane::engine::Engine;
    /// use corelane::flow::PipelineBuilder;
    /// use corelane::model::Timestamp;
    /// use corelane::policy::Watermarks;
    /// use corelane_stages::window::{Count, KeyedWindows, Leaders, Tumbling, Windowed};
    ///
    /// let minutes = Tumbling::of(Duration::from_secs(60));
    /// let p = PipelineBuilder::new("most-active");
    /// let most_active = p
    ///     .generate("requests", 600, |i| (if i < 300 { i % 2 } else { i % 3 / 2 }, Timestamp(i as i64 * 1_000_000_000)))
    ///     .watermarks("time", Watermarks::ascending(), |(_, time)| *time)
    ///     .key_by(|(user, _)| *user)
    ///     .window_at(|(_, time)| *time, minutes)
    ///     .aggregate_across("leaders-here", Count, Leaders::of(|user: &Windowed<u64, u64>| user.value))
    ///     .flat_map("candidates", |leaders| leaders.value)
    ///     .key_by(|_| ())
    ///     .window(minutes)
    ///     .aggregate("leaders", Leaders::of(|user: &Windowed<u64, u64>| user.value))
    ///     .collect("out");
    /// assert!(Engine::default().run(p.build()?)?.success);
    ///
    /// let minutes = most_active.take();
    /// assert_eq!(minutes.len(), 10);
    /// // Two users with as many requests each, then one with twice as many as the other.
    /// let leaders = |minute: usize| minutes[minute].value.iter().map(|user| (user.key, user.value)).collect::<Vec<_>>();
    /// assert_eq!(leaders(0).len(), 2);
    /// assert_eq!(leaders(9), [(0, 40)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate_across<A, X>(
        self,
        name: &str,
        aggregate: A,
        across: X,
    ) -> Stream<impl Segment<Item = Windowed<(), X::Out>> + use<S, K, F, T, W, A, X>>
    where
        A: Aggregate<S::Item>,
        X: Aggregate<Windowed<K, A::Out>>,
        AcrossKeys<W, X>: WindowKind<S::Item, Parts<K, F, T, A, DropLate>, Out = Windowed<(), X::Out>>,
    {
        let Self { keyed, time, windows, key } = self;
        let windows = AcrossKeys { windows, across };
        Windows { keyed, time, windows, key }.operator(name, aggregate, DropLate)
    }

    fn operator<A, L>(
        self,
        name: &str,
        aggregate: A,
        late: L,
    ) -> Stream<impl Segment<Item = W::Out> + use<S, K, F, T, W, A, L>>
    where
        A: Aggregate<S::Item>,
        L: LateItems<S::Item, K, A::Out>,
        W: WindowKind<S::Item, Parts<K, F, T, A, L>>,
    {
        let Self { keyed, time, windows, .. } = self;
        let policy = windows.policy();
        keyed.operator(name, policy, made(windows, time, aggregate, late))
    }
}

/// Makes windows. Not in a method: a closure has the type of everything around it in its own, and types of pipelines would
/// double with every stage.
fn made<In, K, F, T, A, L, W>(
    windows: W,
    time: T,
    aggregate: A,
    late: L,
) -> impl FnOnce(F, &StageSite) -> Result<W::Op, StageError> + Clone + Send + 'static
where
    In: 'static,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&In) -> K + 'static,
    T: TimeOf<In>,
    A: Aggregate<In>,
    L: LateItems<In, K, A::Out>,
    W: WindowKind<In, Parts<K, F, T, A, L>>,
{
    move |key, site: &StageSite| windows.operator(Parts { key, time, aggregate, late, of: PhantomData }, site)
}

impl<S, K, F, T, W, P> Windows<S, K, F, T, W>
where
    S: Segment<Item = Envelope<P>>,
    P: Clone + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&Envelope<P>) -> K + Clone + Send + 'static,
    T: TimeOf<Envelope<P>>,
{
    /// The envelopes of each window, as a batch with the window's bounds.
    pub fn batches(
        self,
        name: &str,
    ) -> Stream<impl Segment<Item = Windowed<K, Batch<P>>> + use<S, K, F, T, W, P>>
    where
        W: WindowKind<Envelope<P>, Parts<K, F, T, ToVec, IntoBatch>, Out = Windowed<K, Batch<P>>>,
    {
        self.operator(name, ToVec, IntoBatch)
    }
}
