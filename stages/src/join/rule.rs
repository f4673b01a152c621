//! Which items pair, and how long each waits for partners.

use std::time::Duration;

use corelane::keyed::Stateful;
use corelane::policy::AccumulatorPolicy;

use super::logic::{JoinLogic, Side};
use super::pairs::Pairs;
use super::windowed::{KeptPairs, WindowPairs};
use crate::window::kind::lives;
use crate::window::span::{Frame, LONGEST, length};
use crate::window::{Sliding, Tumbling, WindowError};

/// Which input an item came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Left,
    Right,
}

/// An item's place among those of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Partners lie from here ..
    pub(super) from: i64,
    /// .. to here.
    pub(super) to: i64,
    /// No new partner comes from here on, on the clock of the rule.
    pub(super) expires: i64,
}

/// A rule, ready to use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// The right item's time is this much after the left one's, from and to.
    Within(i64, i64),
    /// Both lie in one window; once for each.
    Windows(Frame),
    /// All that is there, for so long in processing time.
    Kept(i64, i64),
}

impl Rule {
    pub(super) const fn in_event_time(&self) -> bool {
        !matches!(self, Self::Kept(..))
    }

    /// Whether the places of items at `time` lie within the range of time.
    pub(super) fn fits(&self, time: i64) -> bool {
        match self {
            Self::Within(lower, upper) => {
                let margin = lower.unsigned_abs().max(upper.unsigned_abs()).saturating_add(1);
                margin < 1 << 62
                    && (i64::MIN + margin.cast_signed()..=i64::MAX - margin.cast_signed()).contains(&time)
            }
            Self::Windows(frame) => frame.fits(time) && frame.last_start(time).is_some(),
            Self::Kept(..) => true,
        }
    }

    pub(super) fn place(&self, side: From, time: i64, now: i64) -> Place {
        match (*self, side) {
            (Self::Within(lower, upper), From::Left) => {
                Place { from: time + lower, to: time + upper, expires: time + upper + 1 }
            }
            (Self::Within(lower, upper), From::Right) => {
                Place { from: time - upper, to: time - lower, expires: time - lower + 1 }
            }
            (Self::Windows(frame), _) => {
                let first = frame.starts(time).next().unwrap_or(time);
                let end = frame.end(frame.last_start(time).unwrap_or(time));
                Place { from: first, to: end - 1, expires: end }
            }
            (Self::Kept(left, right), side) => {
                let kept = if side == From::Left { left } else { right };
                Place { from: i64::MIN, to: i64::MAX, expires: now.saturating_add(kept) }
            }
        }
    }

    /// How often two items pair that lie in each other's place.
    pub(super) fn pairs(&self, a: i64, b: i64) -> usize {
        match self {
            Self::Windows(frame) if !frame.is_tumbling() => {
                frame.starts(a.max(b)).take_while(|start| *start <= a.min(b)).count()
            }
            _ => 1,
        }
    }
}

/// What pairs: implemented by [`Within`], [`Kept`], [`KeptToTheEnd`], [`Tumbling`] and [`Sliding`].
pub trait JoinRule: Clone + Send + 'static {
    /// What holds the items that wait.
    #[doc(hidden)]
    type State<J: JoinLogic>: Stateful<Side<J::Left, J::Right>, Out = J::Out>;

    #[doc(hidden)]
    fn state<J: JoinLogic>(&self, user: J) -> Result<Self::State<J>, WindowError>;

    /// What bounds the state, as data.
    #[doc(hidden)]
    fn policy(&self) -> AccumulatorPolicy;
}

/// Items pair whose times are near each other.
///
/// ```
/// use std::time::Duration;
/// use corelane_stages::join::Within;
///
/// // The right item from a second before the left one to ten seconds after it, both ends included.
/// let near = Within::before(Duration::from_secs(1)).after(Duration::from_secs(10));
/// # let _ = near;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    before: Duration,
    after: Duration,
}

impl Within {
    /// The right item comes at most this long before the left one, in event time, and not after it.
    pub const fn before(before: Duration) -> Self {
        Self { before, after: Duration::ZERO }
    }

    /// .. or at most this long after it.
    #[must_use]
    pub const fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }
}

/// Items pair while both are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    left: Duration,
    right: Duration,
}

impl Kept {
    /// Every item is kept this long, in processing time, after it came.
    pub const fn for_time(time: Duration) -> Self {
        Self { left: time, right: time }
    }

    /// Every item is kept to the end of the input; the state grows with it.
    pub const fn to_the_end() -> KeptToTheEnd {
        KeptToTheEnd
    }

    /// Items of the right stream are kept this long.
    #[must_use]
    pub const fn right_for(mut self, time: Duration) -> Self {
        self.right = time;
        self
    }
}

/// All items pair that have a key in common. See [`Kept::to_the_end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptToTheEnd;

impl KeptToTheEnd {
    /// Items of the right stream are kept this long, those of the left one to the end.
    #[must_use]
    pub const fn right_for(self, time: Duration) -> Kept {
        Kept { left: Duration::from_nanos(LONGEST as u64), right: time }
    }
}

impl JoinRule for KeptToTheEnd {
    type State<J: JoinLogic> = KeptPairs<J>;

    fn state<J: JoinLogic>(&self, user: J) -> Result<KeptPairs<J>, WindowError> {
        Ok(KeptPairs::new(user))
    }

    fn policy(&self) -> AccumulatorPolicy {
        AccumulatorPolicy::until_end()
    }
}

fn or_zero(field: &'static str, duration: Duration) -> Result<i64, WindowError> {
    if duration.is_zero() { Ok(0) } else { length(field, duration) }
}

impl JoinRule for Within {
    type State<J: JoinLogic> = Pairs<J>;

    fn state<J: JoinLogic>(&self, user: J) -> Result<Pairs<J>, WindowError> {
        let (before, after) = (or_zero("before", self.before)?, or_zero("after", self.after)?);
        Ok(Pairs::new(user, Rule::Within(-before, after)))
    }

    fn policy(&self) -> AccumulatorPolicy {
        // An item at the very time of its partner waits, too.
        let both = self.before.saturating_add(self.after);
        AccumulatorPolicy::ttl(both.max(Duration::from_nanos(1))).in_event_time()
    }
}

impl JoinRule for Kept {
    type State<J: JoinLogic> = Pairs<J>;

    fn state<J: JoinLogic>(&self, user: J) -> Result<Pairs<J>, WindowError> {
        Ok(Pairs::new(user, Rule::Kept(length("left", self.left)?, length("right", self.right)?)))
    }

    fn policy(&self) -> AccumulatorPolicy {
        AccumulatorPolicy::ttl(self.left.max(self.right))
    }
}

impl JoinRule for Sliding {
    type State<J: JoinLogic> = Pairs<J>;

    fn state<J: JoinLogic>(&self, user: J) -> Result<Pairs<J>, WindowError> {
        Ok(Pairs::new(user, Rule::Windows(self.frame()?)))
    }

    fn policy(&self) -> AccumulatorPolicy {
        lives(self.size())
    }
}

impl JoinRule for Tumbling {
    type State<J: JoinLogic> = WindowPairs<J>;

    fn state<J: JoinLogic>(&self, user: J) -> Result<WindowPairs<J>, WindowError> {
        Ok(WindowPairs::new(user, self.frame()?))
    }

    fn policy(&self) -> AccumulatorPolicy {
        lives(self.size())
    }
}
