//! What a window makes of its items.

mod basic;
mod closure;
mod distinct;
mod leaders;
mod list;
mod percentiles;
mod top;

pub use basic::{Count, Max, Mean, Min, Sum};
pub use closure::{Fold, fold};
pub use distinct::{Distinct, DistinctEstimate};
pub use leaders::Leaders;
pub use list::ToVec;
pub use percentiles::{Percentiles, Quantiles};
pub use top::TopK;

/// Turns the items of a window into a value, one item after the other: a window's memory is its accumulator, not its
/// items.
///
/// Merging must be associative and must not depend on the order of items: the parts of a window are made in any order,
/// on one core.
///
/// ```
/// use corelane_stages::window::{Aggregate, Count};
///
/// /// Words and letters.
/// #[derive(Clone)]
/// struct Size;
///
/// impl Aggregate<String> for Size {
///     type Acc = (u64, u64);
///     type Out = (u64, u64);
///
///     fn init(&self) -> (u64, u64) {
///         (0, 0)
///     }
///     fn add(&self, acc: &mut (u64, u64), word: &String) {
///         acc.0 += 1;
///         acc.1 += word.len() as u64;
///     }
///     fn merge(&self, acc: &mut (u64, u64), other: &(u64, u64)) {
///         acc.0 += other.0;
///         acc.1 += other.1;
///     }
///     fn result(&self, acc: &(u64, u64)) -> (u64, u64) {
///         *acc
///     }
/// }
///
/// // Two aggregates at once are an aggregate.
/// let both = (Count, Size);
/// let mut acc = both.init();
/// both.add(&mut acc, &"word".to_owned());
/// assert_eq!(both.result(&acc), (1, (1, 4)));
/// ```
pub trait Aggregate<In>: Clone + Send + 'static {
    /// What is kept for a window.
    type Acc: 'static;
    /// What becomes of it.
    type Out: Send + 'static;

    /// Whether [`skips`](Self::skips) is worth asking before an item is added: where it is true of most items, and adding takes much more.
    const SKIPS: bool = false;

    /// The accumulator of no items.
    fn init(&self) -> Self::Acc;

    /// Adds an item.
    fn add(&self, acc: &mut Self::Acc, item: &In);

    /// Adds an item that nothing else needs: for aggregates that keep items.
    #[inline]
    fn add_owned(&self, acc: &mut Self::Acc, item: In) {
        self.add(acc, &item);
    }

    /// Whether adding `item` would leave `acc` as it is. May be asked for any item, or for none; a false no costs an [`add`](Self::add).
    #[inline]
    fn skips(&self, acc: &Self::Acc, item: &In) -> bool {
        let _ = (acc, item);
        false
    }

    /// Adds the items of another accumulator.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);

    /// Takes the items of `other`, which were merged into `acc`, out of it again, exactly as if they had never been in it, and answers
    /// true. An aggregate that cannot, the default, answers false, always, and `acc` is not used any more. Sliding windows are cheaper
    /// with one that can.
    #[inline]
    fn unmerge(&self, acc: &mut Self::Acc, other: &Self::Acc) -> bool {
        let _ = (acc, other);
        false
    }

    /// The value so far. May be asked for several times, with items added in between.
    fn result(&self, acc: &Self::Acc) -> Self::Out;

    /// The value, when nothing more will be added.
    #[inline]
    fn finish(&self, acc: Self::Acc) -> Self::Out {
        self.result(&acc)
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<In, $($name: Aggregate<In>),+> Aggregate<In> for ($($name,)+) {
            type Acc = ($($name::Acc,)+);
            type Out = ($($name::Out,)+);
            const SKIPS: bool = $($name::SKIPS)&&+;

            #[inline]
            fn init(&self) -> Self::Acc {
                ($(self.$index.init(),)+)
            }
            #[inline]
            fn add(&self, acc: &mut Self::Acc, item: &In) {
                $(self.$index.add(&mut acc.$index, item);)+
            }
            #[inline]
            fn skips(&self, acc: &Self::Acc, item: &In) -> bool {
                $(self.$index.skips(&acc.$index, item))&&+
            }
            fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
                $(self.$index.merge(&mut acc.$index, &other.$index);)+
            }
            fn unmerge(&self, acc: &mut Self::Acc, other: &Self::Acc) -> bool {
                $(self.$index.unmerge(&mut acc.$index, &other.$index))&&+
            }
            fn result(&self, acc: &Self::Acc) -> Self::Out {
                ($(self.$index.result(&acc.$index),)+)
            }
            fn finish(&self, acc: Self::Acc) -> Self::Out {
                ($(self.$index.finish(acc.$index),)+)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Debug;

    use super::*;

    /// Adds `items` to one accumulator, and to several that are merged in another order; both must give the same.
    pub(in crate::window) fn result<In: Clone, A: Aggregate<In>>(aggregate: &A, items: &[In]) -> A::Out
    where
        A::Out: PartialEq + Debug,
    {
        let mut whole = aggregate.init();
        for item in items {
            let skips = A::SKIPS && aggregate.skips(&whole, item);
            let skipped = skips.then(|| aggregate.result(&whole));
            aggregate.add(&mut whole, item);
            assert!(skipped.is_none_or(|skipped| skipped == aggregate.result(&whole)), "not as it was");
        }
        for size in 1..4 {
            let mut merged = aggregate.init();
            for part in items.chunks(size).rev() {
                let mut acc = aggregate.init();
                part.iter().for_each(|item| aggregate.add_owned(&mut acc, item.clone()));
                aggregate.merge(&mut merged, &acc);
            }
            assert_eq!(aggregate.result(&merged), aggregate.result(&whole), "in parts of {size}");
            // Taken out again, if it can.
            let mut other = aggregate.init();
            items.iter().take(size).for_each(|item| aggregate.add(&mut other, item));
            aggregate.merge(&mut merged, &other);
            if aggregate.unmerge(&mut merged, &other) {
                assert_eq!(aggregate.result(&merged), aggregate.result(&whole), "with {size} taken out");
            }
        }
        let value = aggregate.result(&whole);
        assert_eq!(aggregate.finish(whole), value);
        value
    }

    #[test]
    fn aggregates_together_are_those_aggregates() {
        let all = (Count, Sum::of(|x: &i64| *x), Max::of(|x: &i64| *x), Min::of(|x: &i64| *x));
        assert_eq!(result(&all, &[3, -4, 5]), (3, 4, Some(5), Some(-4)));
        let first = (Leaders::of(|x: &i64| *x), TopK::of(2, |x: &i64| *x));
        assert_eq!(result(&first, &[3, 1, 5, 4, 5, 0]), (vec![5, 5], vec![5, 5]));
        assert_eq!(result(&(Count, Mean::of(|x: &f64| *x), Count), &[1.0, 2.0]), (2, Some(1.5), 2));
    }
}
