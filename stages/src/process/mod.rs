//! State and timers of your own, for each key.
//!
//! ```
//! use corelane::engine::Engine;
//! use corelane::flow::PipelineBuilder;
//! use corelane::model::Timestamp;
//! use corelane::policy::{AccumulatorPolicy, Watermarks};
//! use corelane_stages::process::{KeyedProcess, OnKey, Process, Timer};
//!
//! /// Says so when a device has not been heard of for 100.
//! #[derive(Clone)]
//! struct Silent;
//!
//! impl Process for Silent {
//!     type In = (u32, i64);
//!     type Key = u32;
//!     type State = i64;
//!     type Out = (u32, i64);
//!
//!     fn init(&mut self, _device: &u32) -> i64 {
//!         0
//!     }
//!     fn process(&mut self, (_, at): (u32, i64), last: &mut i64, key: &mut OnKey<'_, u32, (u32, i64)>) {
//!         *last = at;
//!         key.set_timer(Timer::Event(Timestamp(at + 100)));
//!     }
//!     fn on_timer(&mut self, _timer: Timer, last: &mut i64, key: &mut OnKey<'_, u32, (u32, i64)>) {
//!         let device = *key.key();
//!         key.emit((device, *last));
//!         key.forget();
//!     }
//! }
//!
//! let p = PipelineBuilder::new("devices");
//! let silent = p
//!     .items("signs", [(1, 0), (2, 10), (1, 90), (1, 150), (3, 400)])
//!     .watermarks("time", Watermarks::ascending(), |(_, at)| Timestamp(*at))
//!     .key_by(|(device, _)| *device)
//!     .process("silent", AccumulatorPolicy::until_end(), |_| Ok(Silent))
//!     .collect("out");
//! assert!(Engine::default().run(p.build()?)?.success);
//! let mut silent = silent.take();
//! silent.sort();
//! // Device 3 was heard of last: at the end of the input its timer has not been due.
//! assert_eq!(silent, [(1, 150), (2, 10)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod state;

use std::hash::Hash;
use std::time::Duration;

use corelane::flow::{Keyed, Segment, Stream};
use corelane::keyed::StatefulOp;
use corelane::model::{Now, Timestamp};
use corelane::policy::{AccumulatorPolicy, TimeDomain};
use corelane::stage::{StageError, StageSite};

use state::{Asked, States};

/// When a timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// When a watermark reaches this time, before it goes on.
    Event(Timestamp),
    /// At this time on the monotonic clock of [`OnKey::now`], in nanoseconds.
    Processing(i64),
}

/// What to do with the items of a key, and when its timers are due.
///
/// Each key has its own state, and at most one timer on each clock. All calls come from the instance's core, one at a time.
/// A panic in any of these ends the pipeline, whatever the error policy: the state may be damaged.
pub trait Process: 'static {
    /// What it takes.
    type In: 'static;
    /// What items have in common that share a state.
    type Key: Hash + Eq + 'static;
    /// What is kept for a key.
    type State: 'static;
    /// What it emits.
    type Out: 'static;

    /// The state of a key that has none, before its first item.
    fn init(&mut self, key: &Self::Key) -> Self::State;

    /// Processes an item.
    fn process(&mut self, item: Self::In, state: &mut Self::State, key: &mut OnKey<'_, Self::Key, Self::Out>);

    /// A timer of the key is due.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _state: &mut Self::State,
        _key: &mut OnKey<'_, Self::Key, Self::Out>,
    ) {
    }

    /// The input has ended: the state of the key goes. Timers that are not due yet do not fire.
    fn on_end(&mut self, _state: Self::State, _key: &mut OnKey<'_, Self::Key, Self::Out>) {}
}

/// What a [`Process`] can do about a key.
pub struct OnKey<'a, K, O> {
    key: &'a K,
    now: Now,
    watermark: Timestamp,
    out: &'a mut dyn FnMut(O),
    asked: &'a mut Asked,
}

impl<K, O> OnKey<'_, K, O> {
    /// The key.
    pub const fn key(&self) -> &K {
        self.key
    }

    /// The time of this step.
    pub const fn now(&self) -> Now {
        self.now
    }

    /// How far event time has come: nothing before this follows. [`Timestamp::MIN`] as long as there was no watermark.
    pub const fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Emits one item.
    pub fn emit(&mut self, item: O) {
        (self.out)(item);
    }

    /// Sets the key's timer on that clock; takes the place of the one that was set. A time that has come is due at once,
    /// after the items at hand.
    pub const fn set_timer(&mut self, timer: Timer) {
        self.asked.set(timer);
    }

    /// Takes both timers back.
    pub const fn clear_timers(&mut self) {
        self.asked.clear();
    }

    /// Forgets the key with its state and timers, once this call has ended.
    pub const fn forget(&mut self) {
        self.asked.forget = true;
    }
}

/// Stages with state per key.
pub trait KeyedProcess: Sized {
    /// What flows.
    type Item;
    /// The key.
    type Key;

    /// Runs what `factory` makes, on its own core, one instance for each core of the stage unless asked otherwise.
    ///
    /// `policy` says what bounds the state, as data: it is for the process to keep, by timers, with one exception: a
    /// `completeness_ttl` forgets a key that long after its last item, on the clock of the policy, without a call.
    fn process<P, G>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        factory: G,
    ) -> Stream<impl Segment<Item = P::Out> + use<Self, P, G>>
    where
        P: Process<In = Self::Item, Key = Self::Key>,
        P::Out: Send,
        G: FnOnce(&StageSite) -> Result<P, StageError> + Clone + Send + 'static;
}

impl<S, K, F> KeyedProcess for Keyed<S, F>
where
    S: Segment,
    K: Hash + Eq + Send + 'static,
    F: FnMut(&S::Item) -> K + Clone + Send + 'static,
{
    type Item = S::Item;
    type Key = K;

    fn process<P, G>(
        self,
        name: &str,
        policy: AccumulatorPolicy,
        factory: G,
    ) -> Stream<impl Segment<Item = P::Out> + use<S, K, F, P, G>>
    where
        P: Process<In = S::Item, Key = K>,
        P::Out: Send,
        G: FnOnce(&StageSite) -> Result<P, StageError> + Clone + Send + 'static,
    {
        let ttl = policy.completeness_ttl.map(|ttl| (policy.clock, ttl));
        self.operator(name, policy, states(factory, ttl))
    }
}

/// Not in the method: a closure has the type of everything around it in its own.
#[expect(clippy::type_complexity, reason = "a factory of an operator, spelled out")]
fn states<P, F, G>(
    factory: G,
    ttl: Option<(TimeDomain, Duration)>,
) -> impl FnOnce(F, &StageSite) -> Result<StatefulOp<P::In, States<P, F>>, StageError> + Clone + Send + 'static
where
    P: Process,
    F: FnMut(&P::In) -> P::Key + 'static,
    G: FnOnce(&StageSite) -> Result<P, StageError> + Clone + Send + 'static,
{
    move |key, site: &StageSite| Ok(StatefulOp::new(States::new(factory(site)?, key, ttl), site))
}
