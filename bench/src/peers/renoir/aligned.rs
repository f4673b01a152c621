//! Windows as SQL has them, for Renoir's window operator.
//!
//! Renoir's own windows in event time begin with the first item of their key, and an item that is older than that one, which
//! with two sources there will be, is in none. The results depend on who comes first. These begin at whole multiples of their step.

use std::collections::VecDeque;
use std::time::Duration;

use renoir::operator::window::{WindowAccumulator, WindowDescription, WindowManager, WindowResult};
use renoir::operator::{StreamElement, Timestamp};

/// Windows of a size, one at every whole multiple of a step, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aligned {
    size: Timestamp,
    every: Timestamp,
}

impl Aligned {
    /// One after the other.
    pub(super) const fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// A window of `size` at each `every`.
    pub(super) const fn sliding(size: Duration, every: Duration) -> Self {
        Self { size: size.as_nanos() as Timestamp, every: every.as_nanos() as Timestamp }
    }
}

/// The last moment of the window whose result `element` is; of anything else, 0.
pub(super) fn last_moment<T>(element: &StreamElement<T>) -> Timestamp {
    element.timestamp().copied().unwrap_or_default()
}

impl<T> WindowDescription<T> for Aligned {
    type Manager<A: WindowAccumulator<In = T>> = Windows<A>;

    fn build<A: WindowAccumulator<In = T>>(&self, accumulator: A) -> Windows<A> {
        Windows { frame: *self, init: accumulator, open: VecDeque::new(), first: 0 }
    }
}

/// The open windows of a key.
#[derive(Clone)]
pub(super) struct Windows<A> {
    frame: Aligned,
    init: A,
    /// Those that begin from step `first` on; `None` where nothing has come.
    open: VecDeque<Option<A>>,
    first: Timestamp,
}

impl<A: WindowAccumulator> Windows<A> {
    /// Makes room for the windows that begin at the steps from `from` to `to`.
    fn cover(&mut self, from: Timestamp, to: Timestamp) {
        if self.open.is_empty() {
            self.first = from;
        }
        while from < self.first {
            self.open.push_front(None);
            self.first -= 1;
        }
        while self.first + (self.open.len() as Timestamp) <= to {
            self.open.push_back(None);
        }
    }

    /// Takes the windows that have ended by `time`. A result is of the last moment of its window, so that windows over
    /// windows are cut as one would think.
    fn ended(&mut self, time: Timestamp) -> Vec<WindowResult<A::Out>> {
        let mut results = Vec::new();
        while !self.open.is_empty() {
            let end = self.first.saturating_mul(self.frame.every).saturating_add(self.frame.size);
            if end > time {
                break;
            }
            let window = self.open.pop_front().flatten();
            results.extend(window.map(|window| WindowResult::Timestamped(window.output(), end - 1)));
            self.first += 1;
        }
        results
    }
}

impl<A: WindowAccumulator> WindowManager for Windows<A> {
    type In = A::In;
    type Out = A::Out;
    type Output = Vec<WindowResult<A::Out>>;

    #[inline]
    fn process(&mut self, element: StreamElement<A::In>) -> Self::Output {
        match element {
            StreamElement::Timestamped(item, at) => {
                let Aligned { size, every } = self.frame;
                let last = at.div_euclid(every);
                let first = (at - size).div_euclid(every) + 1;
                self.cover(first, last);
                let place = (first - self.first) as usize;
                for window in self.open.range_mut(place..=place + (last - first) as usize) {
                    window.get_or_insert_with(|| self.init.clone()).process(&item);
                }
                Vec::new()
            }
            StreamElement::Watermark(time) => self.ended(time),
            StreamElement::FlushAndRestart | StreamElement::Terminate => self.ended(Timestamp::MAX),
            StreamElement::Item(_) | StreamElement::FlushBatch => Vec::new(),
        }
    }

    fn recycle(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Items(Vec<Timestamp>);

    impl WindowAccumulator for Items {
        type In = Timestamp;
        type Out = Vec<Timestamp>;

        fn process(&mut self, item: &Timestamp) {
            self.0.push(*item);
        }

        fn output(self) -> Vec<Timestamp> {
            self.0
        }
    }

    fn results(
        windows: &mut Windows<Items>,
        element: StreamElement<Timestamp>,
    ) -> Vec<(Timestamp, Vec<Timestamp>)> {
        let result = |result| match result {
            WindowResult::Timestamped(items, last) => (last, items),
            WindowResult::Item(items) => panic!("{items:?} has no time"),
        };
        windows.process(element).into_iter().map(result).collect()
    }

    fn windows(size: u64, every: u64) -> Windows<Items> {
        Aligned::sliding(Duration::from_nanos(size), Duration::from_nanos(every)).build(Items::default())
    }

    #[test]
    fn a_window_has_what_is_in_it_also_what_comes_after_younger_items() {
        let mut tumbling = windows(10, 10);
        for at in [25, 12, 19, 20] {
            assert_eq!(results(&mut tumbling, StreamElement::Timestamped(at, at)), []);
        }
        assert_eq!(results(&mut tumbling, StreamElement::Watermark(20)), [(19, vec![12, 19])]);
        assert_eq!(results(&mut tumbling, StreamElement::Terminate), [(29, vec![25, 20])]);
        assert!(tumbling.recycle());
    }

    #[test]
    fn windows_overlap_and_empty_ones_have_no_result() {
        let mut sliding = windows(4, 2);
        for at in [1, 9] {
            assert_eq!(results(&mut sliding, StreamElement::Timestamped(at, at)), []);
        }
        let all = results(&mut sliding, StreamElement::FlushAndRestart);
        assert_eq!(all, [(1, vec![1]), (3, vec![1]), (9, vec![9]), (11, vec![9])]);
    }
}
