//! How long a reading of the clock is good for.

use crate::model::Now;

/// So many steps go by one reading at most.
const STEPS: u32 = 8;
/// They may, as long as each took no longer than this on average: so a reading is some microseconds old at most, unless one of the
/// steps that it serves turns out to be a long one.
const SHORT_NANOS: i64 = 1_000;

/// A reading of the clock, which serves several steps where steps are short. A reading takes some tens of nanoseconds: as much as the
/// rest of an empty step, and half of what a full one costs beside the work on its items.
pub(super) struct Reading {
    now: Now,
    /// Steps that it has served.
    served: u32,
    /// How long each of the steps took on average that the reading before this one served.
    took: i64,
    /// The steps before it were short.
    lasts: bool,
}

impl Reading {
    /// None yet: the first step reads the clock.
    pub(super) fn none() -> Self {
        Self { now: Now::default(), served: 0, took: i64::MAX, lasts: false }
    }

    /// The time of the next step: this reading if it is still good, else what `read` says. Not before a time that was given out earlier, if
    /// `read` does not go back.
    #[inline]
    pub(super) fn next(&mut self, read: impl FnOnce() -> Now) -> Now {
        if !self.lasts || self.served >= STEPS {
            return self.renew(read());
        }
        self.served += 1;
        self.now
    }

    /// `now` is the time of the next step, just read.
    #[inline]
    pub(super) fn renew(&mut self, now: Now) -> Now {
        let since = now.monotonic.saturating_sub(self.now.monotonic);
        let took = since.checked_div(self.served.into()).unwrap_or(i64::MAX);
        *self = Self { now, served: 1, took, lasts: took <= SHORT_NANOS };
        now
    }

    /// How long the steps before this reading took, each, on average; told for the first step that the reading serves.
    #[inline]
    pub(super) fn step_nanos(&self) -> Option<i64> {
        (self.served == 1).then_some(self.took)
    }

    /// The next step reads the clock: time passes that no step takes.
    #[inline]
    pub(super) fn expire(&mut self) {
        self.lasts = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    /// The times that steps are given, and how many readings that took, if each takes `nanos`.
    fn times(nanos: impl IntoIterator<Item = i64>) -> (Vec<i64>, usize) {
        let (mut clock, mut readings, mut reading) = (1_000_000, 0, Reading::none());
        let step = |nanos| {
            let given = reading.next(|| {
                readings += 1;
                Now { monotonic: clock, wall: Timestamp(clock) }
            });
            clock += nanos;
            given.monotonic - 1_000_000
        };
        let given = nanos.into_iter().map(step).collect();
        (given, readings)
    }

    #[test]
    fn short_steps_share_a_reading_by_eight() {
        let (given, readings) = times([100; 25]);
        assert_eq!(given[..3], [0, 100, 100], "the first says nothing of how long steps take");
        assert_eq!((given[9], given[24]), (900, 1_700));
        assert_eq!(readings, 4);
    }

    #[test]
    fn long_steps_read_the_clock_each() {
        let (given, readings) = times([1_001; 20]);
        assert_eq!(given, (0..20).map(|i| i * 1_001).collect::<Vec<_>>());
        assert_eq!(readings, 20);
    }

    #[test]
    fn behind_a_long_step_the_old_reading_serves_no_more_than_the_rest_of_its_eight() {
        let (given, _) = times([100, 100, 50_000, 100, 100, 100, 100, 100, 100, 100, 100]);
        assert_eq!(given[8], 100, "the second reading serves steps 1 to 8");
        assert_eq!(given[9..], [50_800, 50_900], "and then each step reads the clock until one was short");
    }

    #[test]
    fn a_reading_that_has_expired_serves_no_step() {
        let mut reading = Reading::none();
        let at = |monotonic| Now { monotonic, wall: Timestamp(0) };
        reading.next(|| at(1));
        reading.next(|| at(2));
        assert_eq!(reading.next(|| at(3)), at(2));
        reading.expire();
        assert_eq!(reading.next(|| at(4)), at(4));
    }
}
