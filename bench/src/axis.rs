//! Logarithmic axes of plots.

/// A logarithmic axis: values, and where on a sheet they lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogAxis {
    /// The first and the last value, both above 0; the last one is larger.
    pub values: (f64, f64),
    /// Where these two lie, in pixels.
    pub pixels: (f64, f64),
}

/// So many ticks are still told apart.
const MOST_TICKS: usize = 12;

impl LogAxis {
    /// Over all of `values` that are above 0, with some room at both ends; `None` without any.
    pub fn over(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Option<Self> {
        let (low, high) = range(values)?;
        Some(Self { values: (low / 1.1, high * 1.1), pixels })
    }

    /// The same from a power of ten to a power of ten, at least one decade.
    pub fn decades(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Option<Self> {
        let (low, high) = range(values)?;
        let first = low.log10().floor();
        let last = high.log10().ceil().max(first + 1.0);
        Some(Self { values: (10f64.powf(first), 10f64.powf(last)), pixels })
    }

    /// Where `value` lies, in pixels; at an end if it is beyond that.
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = (self.values.0.ln(), self.values.1.ln());
        let share = ((value.max(f64::MIN_POSITIVE).ln() - low) / (high - low)).clamp(0.0, 1.0);
        self.pixels.0 + (self.pixels.1 - self.pixels.0) * share
    }

    /// The values to write beside it: 1, 2 and 5 times the powers of ten, or the powers alone if those are too many.
    pub fn ticks(&self) -> Vec<f64> {
        let ticks = self.multiples(&[1.0, 2.0, 5.0]);
        if ticks.len() > MOST_TICKS { self.powers() } else { ticks }
    }

    /// The powers of ten on it.
    pub fn powers(&self) -> Vec<f64> {
        self.multiples(&[1.0])
    }

    fn multiples(&self, digits: &[f64]) -> Vec<f64> {
        let (low, high) = self.values;
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
        // The ends are on it, whatever the last bit of a logarithm says.
        all.filter(|tick| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(tick)).collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let good = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = good.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    (high > 0.0).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equally_long_and_what_is_beyond_stays_at_the_end() {
        let axis = LogAxis { values: (10.0, 1_000.0), pixels: (300.0, 100.0) };
        assert_eq!([10.0, 100.0, 1_000.0].map(|value| axis.at(value).round()), [300.0, 200.0, 100.0]);
        assert_eq!([0.0, 1.0, 1e9].map(|value| axis.at(value)), [300.0, 300.0, 100.0]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |values| LogAxis { values, pixels: (0.0, 1.0) }.ticks();
        assert_eq!(ticks((9.0, 110.0)), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(ticks((1.0, 1e9)).len(), 10);
    }

    #[test]
    fn an_axis_covers_its_values_and_there_is_none_without_any() {
        let values = || [0.0, f64::NAN, 30.0, 700.0].into_iter();
        let axis = LogAxis::over(values(), (0.0, 1.0)).unwrap();
        assert!(axis.values.0 < 30.0 && axis.values.1 > 700.0);
        let decades = LogAxis::decades(values(), (0.0, 1.0)).unwrap();
        assert_eq!(decades.powers().len(), 3, "10, 100, 1000");
        assert_eq!(LogAxis::decades([1.0].into_iter(), (0.0, 1.0)).unwrap().powers().len(), 2);
        assert_eq!(LogAxis::over([0.0, f64::INFINITY].into_iter(), (0.0, 1.0)), None);
    }
}
