//! Kinds of windows, and the operators that keep them.

use std::time::Duration;

use corelane::keyed::{AccumulateOp, StatefulOp};
use corelane::policy::AccumulatorPolicy;
use corelane::stage::{Operator, StageError, StageSite};
use serde::{Deserialize, Serialize};

use super::across::{Across, EachKey, Values};
use super::aligned::AlignedWindows;
use super::count::CountWindows;
use super::logic::Logic;
use super::session::SessionWindows;
use super::span::{Frame, length};
use super::triggered::TriggeredWindows;
use super::{Aggregate, Sliding, Trigger, Tumbling, WindowError, Windowed};

/// How items are cut into windows.
///
/// Implemented by [`Tumbling`], [`Sliding`], [`Session`], [`Counted`] and [`Global`], with early and late results by
/// [`Triggered`] versions of them, and with one value for all keys by [`AcrossKeys`] versions of the first two. For windows
/// of your own, write a [`Stateful`](corelane::keyed::Stateful) and implement this for what describes it.
pub trait WindowKind<In, U: Logic<In>>: Clone + Send + 'static {
    /// What is given out: [`Logic::Out`] where each key has a result.
    type Out: Send + 'static;
    /// What keeps the windows.
    type Op: Operator<In, Out = Self::Out>;

    /// Makes it.
    ///
    /// # Errors
    /// Sizes that cannot be; the pipeline does not start.
    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError>;

    /// What bounds its state, as data: shows in the graph.
    fn policy(&self) -> AccumulatorPolicy;
}

/// Windows with a [`Trigger`]; see [`Windows::trigger`](super::Windows::trigger).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered<W> {
    pub(super) windows: W,
    pub(super) trigger: Trigger,
}

/// Windows that give out one value for all keys; see [`Windows::aggregate_across`](super::Windows::aggregate_across).
#[derive(Clone, Copy, Debug)]
pub struct AcrossKeys<W, X> {
    pub(super) windows: W,
    pub(super) across: X,
}

/// Items of a key that follow each other by less than a gap: two that are a whole gap apart are in two sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// Sessions that end this long after their last item.
    pub const fn with_gap(gap: Duration) -> Self {
        Self { gap }
    }
}

/// A number of items of a key. The window spans their times.
///
/// What has not come together at the end of the input, or in the time given, comes as an early result: its count was not
/// reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counted {
    items: u64,
    patience: Option<Duration>,
}

impl Counted {
    /// This many items; at least 1.
    pub const fn of(items: u64) -> Self {
        Self { items, patience: None }
    }

    /// A window waits no longer than this, in processing time, for its items; so rare keys do not stay for good.
    #[must_use]
    pub const fn or_after(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }
}

/// One window for all of time: every key is kept to the end of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Global;

fn refused(error: WindowError) -> StageError {
    StageError::User(Box::new(error))
}

/// Keys live as long as their windows, in event time.
pub(crate) fn lives(size: Duration) -> AccumulatorPolicy {
    AccumulatorPolicy::ttl(size).in_event_time()
}

fn aligned<In: 'static, U: Logic<In>, V: Values<In, U>>(
    frame: Result<Frame, WindowError>,
    user: U,
    values: V,
    site: &StageSite,
) -> Result<StatefulOp<In, AlignedWindows<In, U, V>>, StageError> {
    Ok(StatefulOp::new(AlignedWindows::new(user, values, frame.map_err(refused)?), site))
}

/// Windows that begin and end at the same times for all keys.
macro_rules! framed {
    ($($kind:ty),+) => {$(
        impl<In: 'static, U: Logic<In>> WindowKind<In, U> for $kind {
            type Out = U::Out;
            type Op = StatefulOp<In, AlignedWindows<In, U>>;

            fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
                aligned(self.frame(), user, EachKey, site)
            }

            fn policy(&self) -> AccumulatorPolicy {
                lives(self.size())
            }
        }

        impl<In, U, X> WindowKind<In, U> for AcrossKeys<$kind, X>
        where
            In: 'static,
            U: Logic<In>,
            X: Aggregate<Windowed<U::Key, U::Value>>,
        {
            type Out = Windowed<(), X::Out>;
            type Op = StatefulOp<In, AlignedWindows<In, U, Across<U::Key, U::Value, X>>>;

            fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
                aligned(self.windows.frame(), user, Across::new(self.across), site)
            }

            fn policy(&self) -> AccumulatorPolicy {
                lives(self.windows.size())
            }
        }

        impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Triggered<$kind> {
            type Out = U::Out;
            type Op = StatefulOp<In, TriggeredWindows<In, U>>;

            fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
                let frame = self.windows.frame().map_err(refused)?;
                Ok(StatefulOp::new(TriggeredWindows::new(user, frame, self.trigger), site))
            }

            fn policy(&self) -> AccumulatorPolicy {
                lives(self.windows.size().saturating_add(self.trigger.lateness_time()))
            }
        }
    )+};
}

framed!(Tumbling, Sliding);

impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Session {
    type Out = U::Out;
    type Op = StatefulOp<In, SessionWindows<In, U>>;

    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
        Triggered { windows: self, trigger: Trigger::new() }.operator(user, site)
    }

    fn policy(&self) -> AccumulatorPolicy {
        lives(self.gap)
    }
}

impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Triggered<Session> {
    type Out = U::Out;
    type Op = StatefulOp<In, SessionWindows<In, U>>;

    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
        let gap = length("gap", self.windows.gap).map_err(refused)?;
        Ok(StatefulOp::new(SessionWindows::new(user, gap, self.trigger), site))
    }

    fn policy(&self) -> AccumulatorPolicy {
        lives(self.windows.gap.saturating_add(self.trigger.lateness_time()))
    }
}

impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Counted {
    type Out = U::Out;
    type Op = AccumulateOp<In, CountWindows<U>>;

    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
        let policy = WindowKind::<In, U>::policy(&self);
        Ok(AccumulateOp::new(CountWindows::new(user, self.items), policy, site))
    }

    fn policy(&self) -> AccumulatorPolicy {
        AccumulatorPolicy { max_latency: self.patience, ..AccumulatorPolicy::until_end() }
            .max_items(self.items.max(1))
    }
}

impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Global {
    type Out = U::Out;
    type Op = StatefulOp<In, TriggeredWindows<In, U>>;

    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
        Triggered { windows: self, trigger: Trigger::new() }.operator(user, site)
    }

    fn policy(&self) -> AccumulatorPolicy {
        AccumulatorPolicy::until_end()
    }
}

impl<In: 'static, U: Logic<In>> WindowKind<In, U> for Triggered<Global> {
    type Out = U::Out;
    type Op = StatefulOp<In, TriggeredWindows<In, U>>;

    fn operator(self, user: U, site: &StageSite) -> Result<Self::Op, StageError> {
        Ok(StatefulOp::new(TriggeredWindows::new(user, Frame::all(), self.trigger), site))
    }

    fn policy(&self) -> AccumulatorPolicy {
        AccumulatorPolicy::until_end()
    }
}
