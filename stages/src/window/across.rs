//! What becomes of the values that the keys of a window have when it ends.

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::flow::{Segment, Stream};
use corelane::keyed::StatefulOp;
use corelane::stage::{StageError, StageSite};

use super::kind::SharedWindows;
use super::logic::{DropLate, Logic, Parts, TimeOf};
use super::{Aggregate, AlignedWindows, Pane, Window, Windowed, Windows};

/// Takes the value of each key when a window ends, and says what is given out.
pub trait Values<In, U: Logic<In>>: 'static {
    /// What the stage emits.
    type Out: 'static;
    /// Whether values stay in here until the window is over, and take no room before.
    const GATHERS: bool;

    /// A key's value.
    fn value(&mut self, user: &U, value: Windowed<U::Key, U::Value>) -> Option<Self::Out>;

    /// All keys of the window have given their values.
    fn over(&mut self, window: Window) -> Option<Self::Out>;

    /// An item that is too late for all of its windows.
    fn late(&self, user: &U, item: In) -> Option<Self::Out>;

    /// Forgets what it has gathered.
    fn clear(&mut self);
}

/// Each key's value is given out.
#[derive(Clone, Copy, Debug, Default)]
pub struct EachKey;

impl<In, U: Logic<In>> Values<In, U> for EachKey {
    type Out = U::Out;
    const GATHERS: bool = false;

    #[inline(always)]
    fn value(&mut self, user: &U, value: Windowed<U::Key, U::Value>) -> Option<U::Out> {
        Some(user.emit(value))
    }
    #[inline(always)]
    fn over(&mut self, _window: Window) -> Option<U::Out> {
        None
    }
    fn late(&self, user: &U, item: In) -> Option<U::Out> {
        user.late(item)
    }
    fn clear(&mut self) {}
}

/// One value is made of those of all keys, and given out at the end of the window.
pub struct Across<K, V, X: Aggregate<Windowed<K, V>>> {
    aggregate: X,
    /// Of the window that is ending, if any key has given its value.
    acc: Option<X::Acc>,
    of: PhantomData<fn(K, V)>,
}

impl<K, V, X: Aggregate<Windowed<K, V>>> Across<K, V, X> {
    pub(super) const fn new(aggregate: X) -> Self {
        Self { aggregate, acc: None, of: PhantomData }
    }
}

impl<In, U, X> Values<In, U> for Across<U::Key, U::Value, X>
where
    U: Logic<In>,
    X: Aggregate<Windowed<U::Key, U::Value>>,
{
    type Out = Windowed<(), X::Out>;
    const GATHERS: bool = true;

    #[inline(always)]
    fn value(&mut self, _user: &U, value: Windowed<U::Key, U::Value>) -> Option<Self::Out> {
        let Self { aggregate, acc, .. } = self;
        aggregate.add_owned(acc.get_or_insert_with(|| aggregate.init()), value);
        None
    }
    fn over(&mut self, window: Window) -> Option<Self::Out> {
        let value = self.aggregate.finish(self.acc.take()?);
        Some(Windowed { key: (), window, value, pane: Pane::ONLY })
    }
    fn late(&self, _user: &U, _item: In) -> Option<Self::Out> {
        None
    }
    fn clear(&mut self) {
        self.acc = None;
    }
}

impl<S, K, F, T, W> Windows<S, K, F, T, W>
where
    S: Segment,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
    T: TimeOf<S::Item>,
    W: SharedWindows,
{
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
    {
        let Self { keyed, time, windows, .. } = self;
        let policy = windows.lives();
        keyed.operator(name, policy, made(windows, time, aggregate, across))
    }
}

/// What keeps windows of [`Parts`] and gives out one value for all keys.
type Kept<In, K, F, T, A, X> =
    StatefulOp<In, AlignedWindows<In, Parts<K, F, T, A, DropLate>, Across<K, <A as Aggregate<In>>::Out, X>>>;

/// Not in the method: a closure has the type of everything around it in its own.
#[expect(clippy::type_complexity, reason = "what it makes, and how")]
fn made<In, K, F, T, A, X, W>(
    windows: W,
    time: T,
    aggregate: A,
    across: X,
) -> impl FnOnce(F, &StageSite) -> Result<Kept<In, K, F, T, A, X>, StageError> + Clone + Send + 'static
where
    In: 'static,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&In) -> K + 'static,
    T: TimeOf<In>,
    A: Aggregate<In>,
    X: Aggregate<Windowed<K, A::Out>>,
    W: SharedWindows,
{
    move |key, site: &StageSite| {
        let parts = Parts { key, time, aggregate, late: DropLate, of: PhantomData };
        windows.kept(parts, Across::new(across), site)
    }
}
