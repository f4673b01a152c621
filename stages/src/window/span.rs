//! Windows as spans of time, and the grids they lie on.

use std::fmt;
use std::time::Duration;

use corelane::model::Timestamp;
use serde::{Deserialize, Serialize};

/// A span of event time: from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time in it.
    pub start: Timestamp,
    /// The first time after it.
    pub end: Timestamp,
}

impl Window {
    /// All of time: what global windows span.
    pub const ALL: Self = Self { start: Timestamp::MIN, end: Timestamp::MAX };

    /// From `start` to before `end`, in nanoseconds since the epoch.
    pub const fn from_nanos(start: i64, end: i64) -> Self {
        Self { start: Timestamp(start), end: Timestamp(end) }
    }

    /// Whether `time` lies in it.
    pub fn covers(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Why windows cannot be made as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// A length of zero.
    #[error("{field} is zero")]
    Zero {
        /// Which length.
        field: &'static str,
    },
    /// A length of more than 36 years.
    #[error("{field} is longer than 36 years")]
    TooLong {
        /// Which length.
        field: &'static str,
    },
}

/// Lengths stay an eighth of all time, so that no sum of a few of them overflows.
pub(crate) const LONGEST: i64 = i64::MAX / 8;

pub(crate) fn length(field: &'static str, duration: Duration) -> Result<i64, WindowError> {
    match i64::try_from(duration.as_nanos()) {
        Ok(0) => Err(WindowError::Zero { field }),
        Ok(nanos) if nanos <= LONGEST => Ok(nanos),
        _ => Err(WindowError::TooLong { field }),
    }
}

/// Windows of one size, one after the other, without gaps.
///
/// ```
/// use std::time::Duration;
/// use corelane::model::Timestamp;
/// use corelane_stages::window::{Tumbling, Window};
///
/// let minutes = Tumbling::of(Duration::from_nanos(60));
/// assert_eq!(minutes.window_of(Timestamp(-1))?, Window::from_nanos(-60, 0));
/// assert_eq!(minutes.aligned_to(Timestamp(10)).window_of(Timestamp(9))?, Window::from_nanos(-50, 10));
/// # Ok::<(), corelane_stages::window::WindowError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tumbling {
    size: Duration,
    origin: Timestamp,
}

impl Tumbling {
    /// Windows of this size; one starts at the epoch.
    pub const fn of(size: Duration) -> Self {
        Self { size, origin: Timestamp(0) }
    }

    /// One of the windows starts at `origin`.
    #[must_use]
    pub const fn aligned_to(mut self, origin: Timestamp) -> Self {
        self.origin = origin;
        self
    }

    /// The window that `time` lies in.
    ///
    /// # Errors
    /// A size that cannot be.
    pub fn window_of(&self, time: Timestamp) -> Result<Window, WindowError> {
        let frame = self.frame()?;
        let (start, end) = frame.windows.tile(time.as_nanos());
        Ok(Window::from_nanos(start, end))
    }

    pub(crate) const fn size(&self) -> Duration {
        self.size
    }

    pub(crate) fn frame(&self) -> Result<Frame, WindowError> {
        let size = length("size", self.size)?;
        Ok(Frame::new(size, size, self.origin))
    }
}

/// Windows of one size, a new one at every step: a time lies in as many as are open then.
///
/// ```
/// use std::time::Duration;
/// use corelane::model::Timestamp;
/// use corelane_stages::window::{Sliding, Window};
///
/// let windows = Sliding::of(Duration::from_nanos(10)).every(Duration::from_nanos(5));
/// let of_7: Vec<_> = windows.windows_of(Timestamp(7))?.collect();
/// assert_eq!(of_7, [Window::from_nanos(0, 10), Window::from_nanos(5, 15)]);
/// # Ok::<(), corelane_stages::window::WindowError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sliding {
    size: Duration,
    every: Duration,
    origin: Timestamp,
}

impl Sliding {
    /// Windows of this size. Say with [`every`](Self::every) how often one starts; one starts at the epoch.
    pub const fn of(size: Duration) -> Self {
        Self { size, every: size, origin: Timestamp(0) }
    }

    /// A window starts this often. With more than the size, times in the gaps lie in no window.
    #[must_use]
    pub const fn every(mut self, step: Duration) -> Self {
        self.every = step;
        self
    }

    /// One of the windows starts at `origin`.
    #[must_use]
    pub const fn aligned_to(mut self, origin: Timestamp) -> Self {
        self.origin = origin;
        self
    }

    /// The windows that `time` lies in, earliest first.
    ///
    /// # Errors
    /// Sizes that cannot be.
    pub fn windows_of(&self, time: Timestamp) -> Result<impl Iterator<Item = Window>, WindowError> {
        let frame = self.frame()?;
        Ok(frame.starts(time.as_nanos()).map(move |start| frame.window(start)))
    }

    pub(crate) const fn size(&self) -> Duration {
        self.size
    }

    pub(crate) fn frame(&self) -> Result<Frame, WindowError> {
        let (size, every) = (length("size", self.size)?, length("step", self.every)?);
        Ok(Frame::new(size, every, self.origin))
    }
}

/// Spans of equal width, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    width: i64,
    /// Where one of them starts, from 0 to before `width`.
    offset: i64,
}

impl Grid {
    fn new(width: i64, origin: i64) -> Self {
        Self { width, offset: origin.rem_euclid(width) }
    }

    /// How far `time` lies behind the start of its span.
    fn behind(&self, time: i64) -> i64 {
        (time.rem_euclid(self.width) - self.offset).rem_euclid(self.width)
    }

    /// Start and end of the span that `time` lies in, cut at the ends of time.
    pub(crate) fn tile(&self, time: i64) -> (i64, i64) {
        let behind = self.behind(time);
        (time.saturating_sub(behind), time.saturating_add(self.width - behind))
    }

    /// The first start at or after `time`.
    pub(crate) fn at_or_after(&self, time: i64) -> i64 {
        match self.behind(time) {
            0 => time,
            behind => time.saturating_add(self.width - behind),
        }
    }
}

/// Windows that start in equal steps, and the panes they are made of: a pane lies in each window wholly or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) size: i64,
    pub(crate) every: i64,
    pub(crate) windows: Grid,
    pub(crate) panes: Grid,
    /// There is one window only, all of time.
    all: bool,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Frame {
    fn new(size: i64, every: i64, origin: Timestamp) -> Self {
        let grid = |width| Grid::new(width, origin.as_nanos());
        Self { size, every, windows: grid(every), panes: grid(gcd(size, every)), all: false }
    }

    /// One window, all of time.
    pub(crate) fn all() -> Self {
        Self { all: true, ..Self::new(LONGEST, LONGEST, Timestamp(0)) }
    }

    pub(crate) const fn is_tumbling(&self) -> bool {
        self.size == self.every
    }

    /// Whether the windows around `time` lie within the range of time.
    pub(crate) fn fits(&self, time: i64) -> bool {
        let margin = 2 * (self.size + self.every);
        self.all || (i64::MIN + margin..=i64::MAX - margin).contains(&time)
    }

    pub(crate) fn window(&self, start: i64) -> Window {
        Window::from_nanos(start, self.end(start))
    }

    pub(crate) const fn end(&self, start: i64) -> i64 {
        if self.all { i64::MAX } else { start.saturating_add(self.size) }
    }

    /// Windows that end after `end` start at or after this.
    pub(crate) const fn starts_after(&self, end: i64) -> i64 {
        match (self.all, end) {
            (true, i64::MAX) => i64::MAX,
            (true, _) => i64::MIN,
            (false, end) => end.saturating_sub(self.size).saturating_add(1),
        }
    }

    /// The start of the last window that `time` lies in; `None` in a gap.
    pub(crate) fn last_start(&self, time: i64) -> Option<i64> {
        if self.all {
            return Some(i64::MIN);
        }
        let (start, _) = self.windows.tile(time);
        (time - start < self.size).then_some(start)
    }

    /// The starts of all windows that `time` lies in, earliest first.
    pub(crate) fn starts(&self, time: i64) -> impl Iterator<Item = i64> + use<> {
        let (size, every) = (self.size, self.every);
        let last = if self.all { i64::MIN } else { self.windows.tile(time).0 };
        let first = if self.all { last } else { self.windows.at_or_after(time.saturating_sub(size - 1)) };
        std::iter::successors(Some(first), move |start| start.checked_add(every))
            .take_while(move |start| *start <= last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn nanos(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    #[test]
    fn tumbling_windows_hold_their_start_and_not_their_end_also_before_1970() {
        let table = [
            // size, origin, time, start
            (1000, 0, 0, 0),
            (1000, 0, 4999, 4000),
            (1000, 0, 5000, 5000),
            (1000, 0, -1, -1000),
            (1000, 0, -1000, -1000),
            (1000, 0, -1001, -2000),
            (1000, 100, 0, -900),
            (1000, 100, 100, 100),
            (1000, 100, 5099, 4100),
            (1000, 100, 5100, 5100),
            (1000, -100, 0, -100),
            (1000, -100, 899, -100),
            (1000, -100, 900, 900),
            (1000, -100, -101, -1100),
            (1000, 5300, 299, -700),
            (7, 3, -4, -4),
            (7, 3, -5, -11),
            (1, 0, -3, -3),
        ];
        for (size, origin, time, start) in table {
            let windows = Tumbling::of(nanos(size)).aligned_to(Timestamp(origin));
            let expected = Window::from_nanos(start, start + size as i64);
            assert_eq!(windows.window_of(Timestamp(time)), Ok(expected), "{size} at {origin}: {time}");
        }
    }

    #[test]
    fn a_day_that_starts_at_a_local_midnight_is_a_window_aligned_to_one() {
        let hour = 3_600_000_000_000;
        // Eight hours east of Greenwich.
        let days = Tumbling::of(nanos(24 * hour as u64)).aligned_to(Timestamp(-8 * hour));
        let window = days.window_of(Timestamp(0)).unwrap();
        assert_eq!((window.start.0 / hour, window.end.0 / hour), (-8, 16));
    }

    #[test]
    fn sliding_windows_overlap_or_leave_gaps() {
        let table: [(u64, u64, i64, i64, &[i64]); 8] = [
            // size, step, origin, time, starts
            (5000, 1000, 0, 4000, &[0, 1000, 2000, 3000, 4000]),
            (5000, 1000, 0, 0, &[-4000, -3000, -2000, -1000, 0]),
            (5000, 1000, 0, -1, &[-5000, -4000, -3000, -2000, -1000]),
            (5000, 1000, 100, 0, &[-4900, -3900, -2900, -1900, -900]),
            (10, 4, 0, 9, &[0, 4, 8]),
            (10, 4, 0, 10, &[4, 8]),
            (3, 10, 0, 12, &[10]),
            (3, 10, 0, 13, &[]),
        ];
        for (size, step, origin, time, starts) in table {
            let windows = Sliding::of(nanos(size)).every(nanos(step)).aligned_to(Timestamp(origin));
            let found: Vec<_> =
                windows.windows_of(Timestamp(time)).unwrap().map(|window| window.start.0).collect();
            assert_eq!(found, starts, "{size} every {step} at {origin}: {time}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_named() {
        let zero = WindowError::Zero { field: "size" };
        assert_eq!(Tumbling::of(Duration::ZERO).window_of(Timestamp(0)), Err(zero));
        let step = Sliding::of(nanos(1)).every(Duration::ZERO).windows_of(Timestamp(0)).err();
        assert_eq!(step, Some(WindowError::Zero { field: "step" }));
        assert_eq!(
            Tumbling::of(Duration::MAX).window_of(Timestamp(0)).unwrap_err().to_string(),
            "size is longer than 36 years"
        );
    }

    proptest! {
        #[test]
        fn a_time_lies_in_exactly_the_windows_it_is_given(
            size in 1u64..200, step in 1u64..200, origin in -300i64..300, time in -1000i64..1000,
        ) {
            let windows = Sliding::of(nanos(size)).every(nanos(step)).aligned_to(Timestamp(origin));
            let found: Vec<_> = windows.windows_of(Timestamp(time)).unwrap().collect();
            // The dumbest way: every window there is near.
            let all = (-2000..2000).map(|n| origin + n * step as i64).map(|start| Window::from_nanos(start, start + size as i64));
            let expected: Vec<_> = all.filter(|window| window.covers(Timestamp(time))).collect();
            prop_assert_eq!(&found, &expected);
            let frame = windows.frame().unwrap();
            prop_assert_eq!(frame.last_start(time), expected.last().map(|window| window.start.0));
            // The pane of a time lies in the same windows.
            let (start, end) = frame.panes.tile(time);
            prop_assert!(start <= time && time < end);
            for edge in [start, end - 1] {
                prop_assert_eq!(windows.windows_of(Timestamp(edge)).unwrap().collect::<Vec<_>>(), expected.clone());
            }
        }

        #[test]
        fn a_tile_never_overflows(width in 1i64..LONGEST, origin: i64, time: i64) {
            let grid = Grid::new(width, origin);
            let (start, end) = grid.tile(time);
            prop_assert!(start <= time && (time < end || end == i64::MAX));
        }
    }
}
