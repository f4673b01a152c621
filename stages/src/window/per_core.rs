//! Windows over what each core has, without an exchange.

use std::hash::Hash;
use std::marker::PhantomData;

use corelane::flow::{Segment, Stream};
use corelane::model::{Timed, Timestamp};
use corelane::stage::{StageError, StageSite};

use super::logic::{DropLate, OwnTime, Parts, TimeOf};
use super::{Aggregate, WindowKind, Windowed, made};

/// Windows on what each instance of a stream has, by itself: the first of two phases. What comes out is combined behind a
/// key, and only that is sent to other cores.
///
/// ```
/// use std::time::Duration;
///
/// use corelane::engine::Engine;
/// use corelane::flow::PipelineBuilder;
/// use corelane::model::Timestamp;
/// use corelane::policy::{Parallelism, Watermarks};
/// use corelane_stages::window::{Count, KeyedWindows, PerCore, Sum, Tumbling, Windowed};
///
/// let seconds = Tumbling::of(Duration::from_secs(1));
/// let p = PipelineBuilder::new("requests");
/// let counts = p
///     .generate("requests", 4_000, |i| (i % 3, Timestamp(i as i64 * 1_000_000)))
///     .parallel(Parallelism::CpuBound)
///     .watermarks("time", Watermarks::ascending(), |(_, time)| *time)
///     .per_core(|(user, _)| *user)
///     .window_at(|(_, time)| *time, seconds)
///     .aggregate("count-here", Count)
///     .key_by(|count| count.key)
///     .window(seconds)
///     .aggregate("count", Sum::of(|count: &Windowed<u64, u64>| count.value))
///     .collect("out");
/// assert!(Engine::default().run(p.build()?)?.success);
/// // Four seconds of three users, wherever their requests came in.
/// let counts = counts.take();
/// assert_eq!(counts.len(), 12);
/// assert_eq!(counts.iter().map(|count| count.value).sum::<u64>(), 4_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait PerCore: Sized {
    /// What is upstream.
    type Segment: Segment<Item = Self::Item>;
    /// What flows.
    type Item;

    /// Tells keys apart by `key`, in each instance by itself: a key may have a result from each of them.
    fn per_core<K, F>(self, key: F) -> OwnKeys<Self::Segment, K, F>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&Self::Item) -> K + Clone + Send + 'static;
}

impl<S: Segment> PerCore for Stream<S> {
    type Segment = S;
    type Item = S::Item;

    fn per_core<K, F>(self, key: F) -> OwnKeys<S, K, F>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&S::Item) -> K + Clone + Send + 'static,
    {
        OwnKeys { stream: self, key, of: PhantomData }
    }
}

/// A stream with a key that stays where it is; see [`PerCore::per_core`].
#[must_use = "a key alone does nothing: cut it into windows"]
pub struct OwnKeys<S, K, F> {
    stream: Stream<S>,
    key: F,
    of: PhantomData<fn() -> K>,
}

/// The same, cut into windows.
#[must_use = "windows alone do nothing: aggregate them"]
pub struct OwnWindows<S, K, F, T, W> {
    keys: OwnKeys<S, K, F>,
    time: T,
    windows: W,
}

impl<S, K, F> OwnKeys<S, K, F>
where
    S: Segment,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
{
    /// Cuts the items of each key into `windows`, by the time they bring with them.
    pub fn window<W>(self, windows: W) -> OwnWindows<S, K, F, OwnTime, W>
    where
        S::Item: Timed,
    {
        OwnWindows { keys: self, time: OwnTime, windows }
    }

    /// Cuts the items of each key into `windows`, by the time that `time` tells.
    pub fn window_at<T, W>(self, time: T, windows: W) -> OwnWindows<S, K, F, T, W>
    where
        T: Fn(&S::Item) -> Timestamp + Clone + Send + 'static,
    {
        OwnWindows { keys: self, time, windows }
    }
}

impl<S, K, F, T, W> OwnWindows<S, K, F, T, W>
where
    S: Segment,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
    T: TimeOf<S::Item>,
{
    /// Makes a value of each window of this instance with `aggregate`. Items that come too late are dropped, and counted.
    ///
    /// As many instances as the stage before it; otherwise as [`Windows::aggregate`](super::Windows::aggregate).
    pub fn aggregate<A>(
        self,
        name: &str,
        aggregate: A,
    ) -> Stream<impl Segment<Item = Windowed<K, A::Out>> + use<S, K, F, T, W, A>>
    where
        A: Aggregate<S::Item>,
        W: WindowKind<S::Item, Parts<K, F, T, A, DropLate>, Out = Windowed<K, A::Out>>,
    {
        let Self { keys: OwnKeys { stream, key, .. }, time, windows } = self;
        stream.operator(name, with_key(key, made(windows, time, aggregate, DropLate)))
    }
}

/// Not in the method: a closure has the type of everything around it in its own.
fn with_key<F, G, O>(
    key: F,
    make: G,
) -> impl FnOnce(&StageSite) -> Result<O, StageError> + Clone + Send + 'static
where
    F: Clone + Send + 'static,
    G: FnOnce(F, &StageSite) -> Result<O, StageError> + Clone + Send + 'static,
{
    move |site: &StageSite| make(key, site)
}
