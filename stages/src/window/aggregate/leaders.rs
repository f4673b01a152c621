//! All that share the first place.

use super::Aggregate;

/// All items with the greatest score. Keeps as many items as share it, so a score that few share is best.
///
/// Scores that compare with nothing (NaN) are left out. The items come in no order.
#[derive(Clone, Copy, Debug)]
pub struct Leaders<F>(F);

impl<F> Leaders<F> {
    /// Those with the greatest `score`.
    pub const fn of(score: F) -> Self {
        Self(score)
    }
}

/// The greatest score so far, and all items that have it.
#[derive(Clone, Debug)]
pub struct Leading<S, In> {
    // Not one option of both: whether there is a score would be told by what the items have allocated, which takes more than a flag of its own.
    score: Option<S>,
    items: Vec<In>,
}

impl<S: PartialOrd, In> Leading<S, In> {
    #[inline(always)]
    fn offer(&mut self, score: S, item: impl FnOnce() -> In) {
        match &mut self.score {
            Some(best) if score < *best => {}
            Some(best) if score == *best => self.items.push(item()),
            Some(best) => {
                if score > *best {
                    *best = score;
                    self.items.clear();
                    self.items.push(item());
                }
            }
            None => {
                // Only what compares with itself has an order.
                if score.partial_cmp(&score).is_some() {
                    self.score = Some(score);
                    self.items.push(item());
                }
            }
        }
    }
}

impl<In, S, F> Aggregate<In> for Leaders<F>
where
    In: Clone + Send + 'static,
    S: PartialOrd + Clone + 'static,
    F: Fn(&In) -> S + Clone + Send + 'static,
{
    type Acc = Leading<S, In>;
    type Out = Vec<In>;
    const SKIPS: bool = true;

    fn init(&self) -> Self::Acc {
        Leading { score: None, items: Vec::new() }
    }
    #[inline]
    fn add(&self, acc: &mut Self::Acc, item: &In) {
        acc.offer((self.0)(item), || item.clone());
    }
    #[inline]
    fn add_owned(&self, acc: &mut Self::Acc, item: In) {
        acc.offer((self.0)(&item), || item);
    }
    #[inline]
    fn skips(&self, acc: &Self::Acc, item: &In) -> bool {
        acc.score.as_ref().is_some_and(|best| (self.0)(item) < *best)
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        if let Some(score) = &other.score {
            other.items.iter().for_each(|item| acc.offer(score.clone(), || item.clone()));
        }
    }
    fn result(&self, acc: &Self::Acc) -> Vec<In> {
        acc.items.clone()
    }
    fn finish(&self, acc: Self::Acc) -> Vec<In> {
        acc.items
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::aggregate::tests::result;

    /// A number whose tens are its score.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Scored(u32);

    proptest! {
        #[test]
        fn leaders_are_all_items_with_the_greatest_score(scores in prop::collection::vec(0u32..60, 0..30)) {
            let greatest = scores.iter().map(|score| score / 10).max();
            let count = scores.iter().filter(|score| Some(*score / 10) == greatest).count();
            // Which they are is the same in any order; here all of a score are alike.
            let items: Vec<_> = scores.iter().map(|score| Scored(score / 10)).collect();
            let leaders = result(&Leaders::of(|item: &Scored| item.0), &items);
            prop_assert_eq!(leaders, vec![Scored(greatest.unwrap_or(0)); count]);
        }
    }

    #[test]
    fn most_items_are_skipped_and_no_leader_is() {
        let leaders = Leaders::of(|x: &f64| *x);
        let mut acc = leaders.init();
        assert!(!leaders.skips(&acc, &0.0));
        leaders.add(&mut acc, &2.0);
        assert_eq!([1.0, 2.0, 3.0].map(|x| leaders.skips(&acc, &x)), [true, false, false]);
    }

    #[test]
    fn case_87_a_score_that_is_no_number_leads_nothing() {
        let leaders = Leaders::of(|x: &f64| *x);
        assert_eq!(result(&leaders, &[f64::NAN, 2.0, f64::NAN, 1.0, 2.0]), [2.0, 2.0]);
        assert!(result(&leaders, &[2.0, f64::NAN]).len() == 1);
        let mut nothing = leaders.init();
        leaders.add(&mut nothing, &f64::NAN);
        assert!(leaders.result(&nothing).is_empty());
    }
}
