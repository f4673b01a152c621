//! How many items a task may move in one step.

use super::Seat;

/// Steps that take longer than this on average are not made longer, in nanoseconds.
const SHORT_NANOS: i64 = 8_000;
/// Steps that take longer than this on average are made shorter. More than twice as long: what has just been doubled stays so.
const LONG_NANOS: i64 = 20_000;
/// So many times as many items as usual at most.
const GROWTH: usize = 16;

/// The items of a step: the usual number, and more where full steps are short. What a step costs beside its items (a few hundred
/// instructions, and a break in the stream that the processor reads ahead of) is then shared by more of them, and the step still ends within
/// microseconds.
pub(super) struct Stride {
    usual: usize,
    most: usize,
    items: usize,
    /// No step since the last fitting had fewer items than it might.
    full: bool,
}

/// The most items of a step that usually has `usual`, of a partition whose steps go to or come from `slots` slots at least. More than a
/// quarter of them at a time would leave the other end without work meanwhile.
pub(crate) fn most_in_a_step(usual: usize, slots: Option<u64>) -> usize {
    let quarter = slots.map_or(usize::MAX, |slots| usize::try_from(slots / 4).unwrap_or(usize::MAX));
    usual.saturating_mul(GROWTH).min(quarter).max(usual)
}

impl Stride {
    pub(super) fn new(seat: &Seat) -> Self {
        Self { usual: seat.budget, most: seat.most.max(seat.budget), items: seat.budget, full: false }
    }

    /// Items of the next step.
    #[inline]
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// A step moved so many.
    #[inline]
    pub(super) fn moved(&mut self, items: usize) {
        self.full &= items >= self.items;
    }

    /// There was nothing to move. A burst after that is met with usual steps: nobody knows yet how long its items take.
    #[inline]
    pub(super) fn rest(&mut self) {
        (self.items, self.full) = (self.usual, false);
    }

    /// The steps since the last call took `nanos` each.
    pub(super) fn fit(&mut self, nanos: i64) {
        if nanos > LONG_NANOS {
            self.items = (self.items / 2).max(self.usual);
        } else if self.full && nanos <= SHORT_NANOS {
            self.items = self.items.saturating_mul(2).min(self.most);
        }
        self.full = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stride(slots: Option<u64>) -> Stride {
        Stride { usual: 1_024, most: most_in_a_step(1_024, slots), items: 1_024, full: false }
    }

    /// The items of each of `steps` full steps whose items take `nanos` in thousandths each, timed after every one.
    fn items(stride: &mut Stride, steps: usize, nanos: usize) -> Vec<usize> {
        let step = |_| {
            let items = stride.items();
            stride.moved(items);
            stride.fit((items * nanos / 1_000) as i64);
            items
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn full_short_steps_grow_until_they_take_a_few_microseconds() {
        // The first fitting knows nothing of the steps before it.
        assert_eq!(items(&mut stride(None), 6, 2_000), [1_024, 1_024, 2_048, 4_096, 4_096, 4_096]);
        assert_eq!(items(&mut stride(None), 6, 100)[2..], [2_048, 4_096, 8_192, 16_384]);
        assert_eq!(items(&mut stride(None), 4, 10_000), [1_024; 4]);
    }

    #[test]
    fn steps_that_become_long_shrink_again_down_to_the_usual_number() {
        let mut stride = stride(None);
        items(&mut stride, 5, 100);
        assert_eq!(items(&mut stride, 6, 1_000_000), [16_384, 8_192, 4_096, 2_048, 1_024, 1_024]);
    }

    #[test]
    fn steps_that_were_not_full_do_not_grow_and_an_empty_one_begins_anew() {
        let mut stride = stride(None);
        for _ in 0..4 {
            stride.moved(1_023);
            stride.fit(10);
        }
        assert_eq!(stride.items(), 1_024);
        items(&mut stride, 5, 100);
        stride.rest();
        assert_eq!(stride.items(), 1_024);
        stride.moved(1_024);
        stride.fit(10);
        assert_eq!(stride.items(), 1_024, "not all since the last fitting were full");
    }

    #[test]
    fn a_step_takes_a_quarter_of_its_slots_unless_more_is_usual() {
        assert_eq!(
            [Some(16_384), Some(4_096), Some(64), None].map(|slots| most_in_a_step(1_024, slots)),
            [4_096, 1_024, 1_024, 16_384]
        );
        assert_eq!(most_in_a_step(usize::MAX, None), usize::MAX);
    }
}
