//! The batch size of an adaptive edge.

/// Steps from the smallest batch to the largest.
const RISE: usize = 16;

/// A batch size that follows the queue: up by a fixed amount while batches leave a queue behind, down by half when they
/// find the queue short (additive increase, multiplicative decrease).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    min: usize,
    max: usize,
    now: usize,
}

impl BatchSize {
    /// Starts with `min`. `min` is at least 1, `max` at least `min`.
    pub(crate) fn new(min: u32, max: u32) -> Self {
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).max(1);
        let (min, max) = (size(min), size(max));
        Self { min, max: max.max(min), now: min }
    }

    /// The size of the next batch, in front of which `depth` items wait.
    pub(crate) fn next(&mut self, depth: usize) -> usize {
        if depth > self.now {
            let rise = ((self.max - self.min) / RISE).max(1);
            self.now = self.now.saturating_add(rise).min(self.max);
        } else if depth <= self.now / 2 {
            self.now = (self.now / 2).max(self.min);
        }
        self.now
    }

    /// The present size.
    pub(crate) fn size(&self) -> usize {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rises_by_steps_while_a_queue_stands_and_halves_when_it_is_gone() {
        let mut batch = BatchSize::new(16, 176);
        let risen: Vec<usize> = (0..12).map(|_| batch.next(1_000)).collect();
        assert_eq!(risen, [26, 36, 46, 56, 66, 76, 86, 96, 106, 116, 126, 136]);
        let fallen: Vec<usize> = (0..5).map(|_| batch.next(0)).collect();
        assert_eq!(fallen, [68, 34, 17, 16, 16]);
        assert_eq!(batch.next(16), 16, "a queue of one batch is neither long nor short");
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_reaches_both(
            (min, max) in (1..2_000u32, 0..5_000u32).prop_map(|(min, more)| (min, min + more)),
            depths in prop::collection::vec(0..10_000usize, 0..50),
        ) {
            let mut batch = BatchSize::new(min, max);
            let bounds = min as usize..=max as usize;
            for depth in depths {
                prop_assert!(bounds.contains(&batch.next(depth)));
            }
            (0..2 * RISE + 2).for_each(|_| { batch.next(usize::MAX); });
            prop_assert_eq!(batch.size(), max as usize);
            (0..32).for_each(|_| { batch.next(0); });
            prop_assert_eq!(batch.size(), min as usize);
        }
    }
}
