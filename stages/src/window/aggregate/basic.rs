//! Count, sum, least, greatest, mean.

use std::any::Any;
use std::ops::AddAssign;

use super::Aggregate;

/// How many items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count;

impl<In> Aggregate<In> for Count {
    type Acc = u64;
    type Out = u64;

    #[inline(always)]
    fn init(&self) -> u64 {
        0
    }
    #[inline(always)]
    fn add(&self, acc: &mut u64, _item: &In) {
        *acc += 1;
    }
    #[inline]
    fn merge(&self, acc: &mut u64, other: &u64) {
        *acc += other;
    }
    #[inline]
    fn unmerge(&self, acc: &mut u64, other: &u64) -> bool {
        *acc -= other;
        true
    }
    #[inline]
    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// The sum of a number of each item. It overflows as that type does.
#[derive(Clone, Copy, Debug)]
pub struct Sum<F>(F);

impl<F> Sum<F> {
    /// Of what `f` takes from an item.
    pub const fn of(f: F) -> Self {
        Self(f)
    }
}

impl<In, N, F> Aggregate<In> for Sum<F>
where
    N: AddAssign + Default + Copy + Send + 'static,
    F: Fn(&In) -> N + Clone + Send + 'static,
{
    type Acc = N;
    type Out = N;

    #[inline(always)]
    fn init(&self) -> N {
        N::default()
    }
    #[inline(always)]
    fn add(&self, acc: &mut N, item: &In) {
        *acc += (self.0)(item);
    }
    #[inline]
    fn merge(&self, acc: &mut N, other: &N) {
        *acc += *other;
    }
    #[inline]
    fn unmerge(&self, acc: &mut N, other: &N) -> bool {
        take_away(acc, other)
    }
    #[inline]
    fn result(&self, acc: &N) -> N {
        *acc
    }
}

/// Takes a number away if it is an integer: only then is what is left exactly what there was without it. Asks for the type and not for
/// a trait, so that anything that adds can be summed.
#[inline]
fn take_away<N: 'static>(from: &mut N, number: &N) -> bool {
    macro_rules! integers {
        ($($integer:ty)+) => {$(
            if let (Some(from), Some(number)) = (
                (from as &mut dyn Any).downcast_mut::<$integer>(),
                (number as &dyn Any).downcast_ref::<$integer>(),
            ) {
                *from -= *number;
                return true;
            }
        )+};
    }
    integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
    false
}

/// Keeps the better of two by `keep`, the earlier one of equals.
macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $better:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<F>(F);

        impl<F> $name<F> {
            /// Of what `f` takes from an item.
            pub const fn of(f: F) -> Self {
                Self(f)
            }
        }

        impl<In, N, F> Aggregate<In> for $name<F>
        where
            N: PartialOrd + Clone + Send + 'static,
            F: Fn(&In) -> N + Clone + Send + 'static,
        {
            type Acc = Option<N>;
            type Out = Option<N>;

            #[inline(always)]
            fn init(&self) -> Option<N> {
                None
            }
            #[inline(always)]
            fn add(&self, acc: &mut Option<N>, item: &In) {
                let value = (self.0)(item);
                let better = match acc {
                    Some(best) => value $better *best,
                    // Only what compares with itself has an order.
                    None => value.partial_cmp(&value).is_some(),
                };
                if better {
                    *acc = Some(value);
                }
            }
            fn merge(&self, acc: &mut Option<N>, other: &Option<N>) {
                if let Some(value) = other
                    && acc.as_ref().is_none_or(|best| *value $better *best)
                {
                    *acc = Some(value.clone());
                }
            }
            fn result(&self, acc: &Option<N>) -> Option<N> {
                acc.clone()
            }
            fn finish(&self, acc: Option<N>) -> Option<N> {
                acc
            }
        }
    };
}

extreme! {
    /// The least value. What compares with nothing (NaN) is left out; `None` if nothing is left.
    Min, <
}

extreme! {
    /// The greatest value. What compares with nothing (NaN) is left out; `None` if nothing is left.
    Max, >
}

/// The mean of a number of each item; `None` without items.
#[derive(Clone, Copy, Debug)]
pub struct Mean<F>(F);

impl<F> Mean<F> {
    /// Of what `f` takes from an item.
    pub const fn of(f: F) -> Self {
        Self(f)
    }
}

impl<In, N, F> Aggregate<In> for Mean<F>
where
    N: Into<f64>,
    F: Fn(&In) -> N + Clone + Send + 'static,
{
    type Acc = (f64, u64);
    type Out = Option<f64>;

    #[inline(always)]
    fn init(&self) -> (f64, u64) {
        (0.0, 0)
    }
    #[inline(always)]
    fn add(&self, (sum, count): &mut (f64, u64), item: &In) {
        *sum += (self.0)(item).into();
        *count += 1;
    }
    fn merge(&self, acc: &mut (f64, u64), other: &(f64, u64)) {
        acc.0 += other.0;
        acc.1 += other.1;
    }
    fn result(&self, (sum, count): &(f64, u64)) -> Option<f64> {
        (*count > 0).then(|| sum / *count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::aggregate::tests::result;

    #[test]
    fn each_says_what_it_is_called() {
        let items = [5i64, -3, 9, 9, 0];
        assert_eq!(result(&Count, &items), 5);
        assert_eq!(result(&Sum::of(|x: &i64| *x), &items), 20);
        assert_eq!(result(&Min::of(|x: &i64| *x), &items), Some(-3));
        assert_eq!(result(&Max::of(|x: &i64| *x), &items), Some(9));
        assert_eq!(result(&Mean::of(|x: &i64| *x as i32), &items), Some(4.0));
    }

    #[test]
    fn nothing_has_no_extreme_and_no_mean() {
        let none: [f64; 0] = [];
        assert_eq!(result(&Max::of(|x: &f64| *x), &none), None);
        assert_eq!(result(&Mean::of(|x: &f64| *x), &none), None);
        assert_eq!(result(&Sum::of(|x: &f64| *x), &none), 0.0);
    }

    #[test]
    fn case_87_what_is_not_a_number_is_neither_least_nor_greatest() {
        let items = [f64::NAN, 2.0, f64::NAN, 1.0];
        assert_eq!(result(&Max::of(|x: &f64| *x), &items), Some(2.0));
        assert_eq!(result(&Min::of(|x: &f64| *x), &items), Some(1.0));
        assert_eq!(result(&Min::of(|x: &f64| *x), &[f64::NAN]), None);
    }
}
