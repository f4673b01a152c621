//! Percentiles.

use hdrhistogram::Histogram;

use super::Aggregate;

/// Quantiles of a number of each item, within a relative error of 10^-digits, from an HDR histogram.
///
/// The histogram grows with the range of the values: about 2 KiB per power of two with three digits.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles<F> {
    f: F,
    digits: u8,
}

impl<F> Percentiles<F> {
    /// Of what `f` takes from an item, with two digits.
    pub const fn of(f: F) -> Self {
        Self { f, digits: 2 }
    }

    /// With this many significant digits, 1 to 5; more or less than that count as 5 or 1.
    #[must_use]
    pub const fn digits(mut self, digits: u8) -> Self {
        self.digits = digits;
        self
    }
}

/// The distribution of a window's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles(Histogram<u64>);

impl Quantiles {
    /// The value below which this share of the values lies, from 0 to 1; 0 without values.
    pub fn at(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The least value; 0 without values.
    pub fn min(&self) -> u64 {
        self.0.min()
    }

    /// The greatest value; 0 without values.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The histogram they come from.
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl<In, F> Aggregate<In> for Percentiles<F>
where
    F: Fn(&In) -> u64 + Clone + Send + 'static,
{
    type Acc = Histogram<u64>;
    type Out = Quantiles;

    fn init(&self) -> Histogram<u64> {
        match Histogram::new(self.digits.clamp(1, 5)) {
            Ok(histogram) => histogram,
            Err(error) => panic!("internal error: {error}"),
        }
    }
    fn add(&self, acc: &mut Histogram<u64>, item: &In) {
        let value = (self.f)(item);
        // It grows as needed; only what is too great for any histogram is cut.
        if acc.record(value).is_err() {
            acc.saturating_record(value);
        }
    }
    fn merge(&self, acc: &mut Histogram<u64>, other: &Histogram<u64>) {
        if acc.add(other).is_err() {
            other.iter_recorded().for_each(|step| {
                acc.saturating_record_n(step.value_iterated_to(), step.count_at_value());
            });
        }
    }
    fn result(&self, acc: &Histogram<u64>) -> Quantiles {
        Quantiles(acc.clone())
    }
    fn finish(&self, acc: Histogram<u64>) -> Quantiles {
        Quantiles(acc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::aggregate::tests::result;

    #[test]
    fn quantiles_are_right_within_their_digits() {
        let items: Vec<u64> = (1..=1000).map(|n| n * 1000).collect();
        for (digits, error) in [(1, 0.1), (2, 0.01), (3, 0.001)] {
            let quantiles = result(&Percentiles::of(|x: &u64| *x).digits(digits), &items);
            for (share, exact) in
                [(0.5, 500_000.0), (0.99, 990_000.0), (0.999, 999_000.0), (1.0, 1_000_000.0)]
            {
                let off = (quantiles.at(share) as f64 - exact).abs() / exact;
                assert!(off <= error, "{share} with {digits} digits: off by {off}");
            }
            assert_eq!(quantiles.count(), 1000);
        }
    }

    #[test]
    fn no_value_and_the_greatest_value_have_a_place() {
        let none = result(&Percentiles::of(|x: &u64| *x), &[]);
        assert_eq!((none.at(0.5), none.min(), none.max(), none.count()), (0, 0, 0, 0));
        let ends = result(&Percentiles::of(|x: &u64| *x), &[0, u64::MAX]);
        assert_eq!((ends.min(), ends.count()), (0, 2));
        assert!(ends.max() > u64::MAX / 100 * 98);
    }
}
