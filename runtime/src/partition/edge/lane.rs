//! The consuming end's side of an edge's policy: how far producers may push, and how much is taken.
//!
//! Everything here is derived from one mechanism. A *window* bounds what a producer may push, as a position that the consumer
//! grants; without room to push, the producing step takes no more input. A *pace* bounds what the consumer takes in one step;
//! what it leaves fills the ring, and a full ring is no room again.

use std::sync::Arc;

use super::{BatchSize, EdgeControl};
use crate::policy::BackpressureStrategy;

/// What a producer may push beyond what has been taken, in items that were not evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// As many items as there are slots.
    Slots,
    /// Fewer items than there are slots.
    Items(u64),
    /// Credits, given back in lots.
    Credits { initial: u64, threshold: u64 },
    /// Demand that the runtime states for the consumer, as far as that has room.
    Pull(u64),
    /// Demand that the user states; at most this much of it reaches one producer at a time.
    Stated(u64),
}

/// What one ring's producer has been granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    /// It may push so many items since the start.
    pub(crate) upto: u64,
    /// For so many of these, credits have been given back.
    returned: u64,
}

impl Grant {
    pub(crate) const UNBOUND: Self = Self { upto: u64::MAX, returned: 0 };

    /// Items that may still be pushed, when `published` have been.
    pub(crate) fn outstanding(&self, published: u64) -> u64 {
        if self.upto == u64::MAX { 0 } else { self.upto.saturating_sub(published) }
    }
}

impl Window {
    /// The window of an edge's present policy.
    pub(crate) fn of(control: &EdgeControl) -> Self {
        let policy = control.policy();
        let at_least_one = |n: u32| u64::from(n).max(1);
        match policy.strategy {
            Some(BackpressureStrategy::CreditBased { initial, replenish_threshold }) => {
                let (initial, threshold) = (at_least_one(initial), u64::from(replenish_threshold));
                // The ring holds no more, so that more credits than slots could not all be used up.
                let initial = initial.min(policy.capacity);
                Self::Credits { initial, threshold: threshold.min(initial - 1) }
            }
            Some(BackpressureStrategy::ReactivePull { window_size }) => {
                let window = at_least_one(window_size).min(policy.capacity);
                if control.demand().is_some() { Self::Stated(window) } else { Self::Pull(window) }
            }
            _ if policy.capacity < control.slots() => Self::Items(policy.capacity),
            _ => Self::Slots,
        }
    }

    /// Items of a ring of `capacity` that may wait at most.
    pub(crate) fn size(self, capacity: u64) -> u64 {
        match self {
            Self::Slots => capacity,
            Self::Items(size)
            | Self::Credits { initial: size, .. }
            | Self::Pull(size)
            | Self::Stated(size) => size,
        }
    }

    /// The grant to begin with, when the producer has published `published` items and the consumer has taken `taken` of them,
    /// those evicted never counted. Never less than the producer has used already.
    pub(crate) fn first(self, taken: u64, published: u64) -> Grant {
        let upto = match self {
            Self::Slots => return Grant::UNBOUND,
            Self::Items(size) | Self::Credits { initial: size, .. } => taken + size,
            Self::Pull(_) | Self::Stated(_) => 0,
        };
        Grant { upto: upto.max(published), returned: taken }
    }

    /// Grants more, if it is time. `taken` and `published` as in [`first`](Self::first); everything taken has been
    /// processed, and what follows has `room` for more; `demand` is what the user has stated.
    pub(crate) fn more(self, grant: &mut Grant, taken: u64, published: u64, room: u64, demand: u64) -> bool {
        let before = grant.upto;
        match self {
            Self::Slots => {}
            Self::Items(size) => {
                let one = u64::from(cfg!(feature = "bug_capacity_off_by_one"));
                grant.upto = before.max(taken + size + one);
            }
            Self::Credits { initial, threshold } => {
                if before.saturating_sub(published) <= threshold {
                    let lost = u64::from(cfg!(feature = "bug_lost_credit"));
                    let lot = (taken - grant.returned).saturating_sub(lost);
                    // After a change to fewer credits those that were out before must not come back in full.
                    grant.upto = before.max((before + lot).min(taken + initial));
                    grant.returned = taken;
                }
            }
            Self::Pull(window) => {
                let wanted = window.min(room);
                if before.saturating_sub(taken) <= wanted / 2 {
                    grant.upto = before.max(taken + wanted);
                }
            }
            Self::Stated(window) => grant.upto = before.max(taken + window.min(demand)),
        }
        grant.upto != before
    }
}

/// What is taken in one step.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// Whatever there is.
    Free,
    /// As much as there are tokens for.
    Tokens { due: Option<i64> },
    /// One batch.
    Batch(BatchSize),
    /// As much as was asked for.
    Demand,
}

impl Pace {
    fn of(control: &EdgeControl) -> Self {
        match control.policy().strategy {
            Some(BackpressureStrategy::RateShaping { .. }) => Self::Tokens { due: None },
            Some(BackpressureStrategy::Adaptive { min_batch, max_batch }) => {
                Self::Batch(BatchSize::new(min_batch, max_batch))
            }
            Some(BackpressureStrategy::ReactivePull { .. }) if control.demand().is_some() => Self::Demand,
            _ => Self::Free,
        }
    }
}

/// One edge at one consuming instance.
pub(crate) struct Lane {
    pub(crate) control: Arc<EdgeControl>,
    seen: u64,
    pub(crate) window: Window,
    pace: Pace,
    /// Items that may still be taken in this step.
    pub(crate) left: usize,
}

impl Lane {
    pub(crate) fn new(control: Arc<EdgeControl>) -> Self {
        let seen = control.version();
        let (window, pace) = (Window::of(&control), Pace::of(&control));
        Self { control, seen, window, pace, left: usize::MAX }
    }

    /// Whether the edge's policy has changed since it was looked at last.
    #[inline]
    pub(crate) fn is_outdated(&self) -> bool {
        self.control.version() != self.seen
    }

    /// Looks at it again.
    #[cold]
    pub(crate) fn adopt(&mut self) {
        self.finish();
        *self = Self::new(Arc::clone(&self.control));
    }

    /// Whether it needs [`begin`](Self::begin) and [`finish`](Self::finish) in every step.
    pub(crate) fn is_paced(&self) -> bool {
        !matches!(self.pace, Pace::Free)
    }

    /// A step begins in which `available` of `depth` items can be taken.
    pub(crate) fn begin(&mut self, available: usize, depth: usize, now: i64) {
        let Self { control, pace, left, .. } = self;
        *left = match pace {
            Pace::Free => usize::MAX,
            Pace::Batch(size) => size.next(depth),
            Pace::Tokens { due } => {
                // Another instance is at the bucket right now: ask again at once.
                let Some(mut bucket) = control.try_bucket() else {
                    *due = Some(now.saturating_add(1));
                    *left = 0;
                    return;
                };
                let taken = bucket.take(available as u64, now);
                *due = (taken < available as u64).then(|| bucket.due(now));
                // No more than was available.
                taken as usize
            }
            Pace::Demand => match control.demand() {
                Some(demand) => demand.claim(available as u64) as usize,
                None => 0,
            },
        };
    }

    /// `items` were taken.
    #[inline]
    pub(crate) fn took(&mut self, items: usize) {
        if self.left != usize::MAX {
            self.left -= items;
        }
    }

    /// The step ends: gives back what was claimed and not used.
    pub(crate) fn finish(&mut self) {
        if self.left == 0 || self.left == usize::MAX {
            return;
        }
        match self.pace {
            Pace::Free | Pace::Batch(_) => {}
            Pace::Tokens { .. } => {
                if let Some(mut bucket) = self.control.try_bucket() {
                    bucket.put_back(self.left as u64);
                }
            }
            Pace::Demand => {
                if let Some(demand) = self.control.demand() {
                    demand.put_back(self.left as u64);
                }
            }
        }
        self.left = 0;
    }

    /// When the next token is there, if items wait for one.
    pub(crate) fn due(&self) -> Option<i64> {
        match self.pace {
            Pace::Tokens { due } => due,
            _ => None,
        }
    }

    /// The present batch size, if it follows the queue.
    pub(crate) fn batch(&self) -> Option<usize> {
        match self.pace {
            Pace::Batch(size) => Some(size.size()),
            _ => None,
        }
    }

    /// What the user has asked for and not got.
    pub(crate) fn demand(&self) -> u64 {
        self.control.demand().map_or(0, super::Demand::outstanding)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A producer that pushes as far as it may, and a consumer that takes some of it and grants more.
    fn play(window: Window, takes: &[u64]) -> Result<(), TestCaseError> {
        let (size, threshold) = match window {
            Window::Credits { initial, threshold } => (initial, threshold),
            Window::Items(size) => (size, size),
            other => panic!("{other:?}"),
        };
        let (mut taken, mut published) = (0u64, 0u64);
        let mut grant = window.first(0, 0);
        for &n in takes {
            // C12: what was granted is what was used and what is left, and no more than there are credits is anywhere.
            published = grant.upto;
            prop_assert_eq!(grant.outstanding(published), 0);
            prop_assert!(published - taken <= size);
            taken += n.min(published - taken);
            let before = grant;
            let granted = window.more(&mut grant, taken, published, u64::MAX, 0);
            prop_assert!(grant.upto >= before.upto && grant.upto <= taken + size);
            prop_assert_eq!(granted, grant.upto > before.upto);
            // None is lost: all that was used is given back, whenever so few are left.
            if before.outstanding(published) <= threshold {
                prop_assert_eq!(grant.upto, taken + size);
            }
        }
        prop_assert!(takes.iter().all(|&n| n == 0) || published > 0);
        Ok(())
    }

    proptest! {
        #[test]
        fn credits_are_conserved_and_never_run_out_for_good(
            (initial, threshold) in (1..100u64).prop_flat_map(|n| (Just(n), 0..n)),
            takes in prop::collection::vec(0..120u64, 1..60),
        ) {
            play(Window::Credits { initial, threshold }, &takes)?;
            play(Window::Items(initial), &takes)?;
        }

        #[test]
        fn credits_return_in_lots_once_few_are_left(initial in 2..100u64) {
            let window = Window::Credits { initial, threshold: initial / 2 };
            let mut grant = window.first(0, 0);
            let (mut grants, mut at) = (0, 0);
            // One item at a time, processed at once.
            for item in 1..=initial * 10 {
                prop_assert!(grant.upto >= item);
                if window.more(&mut grant, item, item, u64::MAX, 0) {
                    grants += 1;
                    let lot = item - std::mem::replace(&mut at, item);
                    prop_assert_eq!(lot, initial - initial / 2);
                }
            }
            prop_assert!(grants >= 10, "{}", grants);
        }

        #[test]
        fn a_pull_asks_for_what_there_is_room_for_and_never_takes_a_request_back(
            window in 1..50u64,
            rooms in prop::collection::vec((0..60u64, 0..60u64), 1..50),
        ) {
            let pull = Window::Pull(window);
            let (mut taken, mut grant) = (0, pull.first(0, 0));
            prop_assert_eq!(grant.upto, 0, "nothing is asked for before the consumer is there");
            for (room, n) in rooms {
                let before = grant.upto;
                pull.more(&mut grant, taken, taken, room, 0);
                prop_assert!(grant.upto >= before);
                prop_assert!(grant.upto - taken <= window.min(room).max(before - taken));
                prop_assert!(room == 0 || grant.upto > taken, "there is room, so there is demand");
                taken += n.min(grant.upto - taken);
            }
        }
    }

    #[test]
    fn fewer_credits_than_are_out_take_effect_as_they_come_back() {
        let (many, few) =
            (Window::Credits { initial: 10, threshold: 5 }, Window::Credits { initial: 2, threshold: 1 });
        let old = many.first(0, 0);
        assert_eq!(old.upto, 10);
        let mut grant = few.first(0, 7);
        assert_eq!(grant.upto, 7, "what was used stays used");
        assert!(!few.more(&mut grant, 4, 7, u64::MAX, 0), "3 are still out");
        assert!(few.more(&mut grant, 6, 7, u64::MAX, 0));
        assert_eq!(grant.upto, 8);
        assert!(few.more(&mut grant, 8, 8, u64::MAX, 0));
        assert_eq!(grant.upto, 10);
    }

    #[test]
    fn stated_demand_reaches_each_producer_at_most_one_window_at_a_time() {
        let stated = Window::Stated(4);
        let mut grant = stated.first(0, 0);
        assert!(!stated.more(&mut grant, 0, 0, u64::MAX, 0));
        assert!(stated.more(&mut grant, 0, 0, u64::MAX, 3));
        assert_eq!(grant.upto, 3);
        assert!(stated.more(&mut grant, 0, 0, u64::MAX, 100));
        assert_eq!(grant.upto, 4);
    }
}
