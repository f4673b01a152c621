//! The greatest few.

use std::cmp::Ordering;

use super::Aggregate;

/// The `k` items with the greatest scores, greatest first; of equal scores those that came first, within one part of a
/// window. Keeps `k` items.
#[derive(Clone, Copy, Debug)]
pub struct TopK<F> {
    k: usize,
    score: F,
}

impl<F> TopK<F> {
    /// The `k` greatest by `score`. A score that compares with nothing (NaN) is below all others.
    pub const fn of(k: usize, score: F) -> Self {
        Self { k, score }
    }
}

/// NaN below everything.
fn compare<S: PartialOrd>(a: &S, b: &S) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.partial_cmp(a).is_some().cmp(&b.partial_cmp(b).is_some()))
}

impl<F> TopK<F> {
    fn offer<In, S: PartialOrd>(&self, acc: &mut Vec<(S, In)>, score: S, item: impl FnOnce() -> In) {
        let at = acc.partition_point(|(other, _)| compare(other, &score) != Ordering::Less);
        if at < self.k {
            acc.truncate(self.k - 1);
            acc.insert(at, (score, item()));
        }
    }
}

impl<In, S, F> Aggregate<In> for TopK<F>
where
    In: Clone + Send + 'static,
    S: PartialOrd + Clone + 'static,
    F: Fn(&In) -> S + Clone + Send + 'static,
{
    /// Greatest first.
    type Acc = Vec<(S, In)>;
    type Out = Vec<In>;
    const SKIPS: bool = true;

    fn init(&self) -> Self::Acc {
        Vec::new()
    }
    fn add(&self, acc: &mut Self::Acc, item: &In) {
        self.offer(acc, (self.score)(item), || item.clone());
    }
    fn add_owned(&self, acc: &mut Self::Acc, item: In) {
        self.offer(acc, (self.score)(&item), || item);
    }
    #[inline]
    fn skips(&self, acc: &Self::Acc, item: &In) -> bool {
        let score = (self.score)(item);
        acc.len() >= self.k && acc.last().is_none_or(|(lowest, _)| compare(lowest, &score) != Ordering::Less)
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        for (score, item) in other {
            self.offer(acc, score.clone(), || item.clone());
        }
    }
    fn result(&self, acc: &Self::Acc) -> Vec<In> {
        acc.iter().map(|(_, item)| item.clone()).collect()
    }
    fn finish(&self, acc: Self::Acc) -> Vec<In> {
        acc.into_iter().map(|(_, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::aggregate::tests::result;

    proptest! {
        #[test]
        fn the_greatest_few_are_the_front_of_all_in_order(items in prop::collection::vec(0u32..50, 0..40), k in 0usize..8) {
            let mut sorted = items.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(k);
            prop_assert_eq!(result(&TopK::of(k, |x: &u32| *x), &items), sorted);
        }
    }

    #[test]
    fn what_is_not_among_the_greatest_is_skipped() {
        let top = TopK::of(2, |x: &f64| *x);
        let mut acc = top.init();
        assert!(!top.skips(&acc, &f64::NAN));
        [2.0, 5.0].iter().for_each(|item| top.add(&mut acc, item));
        assert_eq!([f64::NAN, 1.0, 2.0, 3.0].map(|x| top.skips(&acc, &x)), [true, true, true, false]);
    }

    #[test]
    fn case_87_a_score_that_is_no_number_is_below_all_others() {
        let items = [f64::NAN, -1.0, 2.0];
        let top = result(&TopK::of(2, |x: &f64| *x), &items);
        assert_eq!(top, [2.0, -1.0]);
    }
}
