//! Small-sample statistics: medians, spread, and bootstrap intervals.

use serde::Serialize;

/// How often the samples are drawn again for an interval.
const RESAMPLES: usize = 2_000;

/// splitmix64: the deterministic generator of every workload and of the bootstrap.
#[inline]
pub fn splitmix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Scales a random 64-bit value down to `0..bound`.
#[inline]
pub fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// The middle value; of an even number of values, the mean of the two in the middle. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

/// The value below which `share` (0 to below 1) of the values lie: one of them, no mean. `None` without values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() as f64 * share) as usize).copied()
}

/// A range with both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What is told about one figure over all repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many repetitions.
    pub count: usize,
    /// The median of the repetitions.
    pub median: f64,
    /// The smallest and the largest.
    pub spread: Interval,
    /// The 95 % bootstrap interval of the median.
    pub interval: Interval,
}

/// Summarises `values`; `None` without values.
pub fn summarise(values: &[f64]) -> Option<Summary> {
    let spread = Interval {
        low: values.iter().copied().min_by(f64::total_cmp)?,
        high: values.iter().copied().max_by(f64::total_cmp)?,
    };
    let interval = bootstrap(|draw| median(&draw(values)))?;
    Some(Summary { count: values.len(), median: median(values)?, spread, interval })
}

/// A ratio of medians with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median over median.
    pub value: f64,
    /// Both sides drawn again, independently.
    pub interval: Interval,
}

/// The ratio of the medians of `values` and `reference`; `None` if one of them is empty or the reference is zero.
pub fn ratio(values: &[f64], reference: &[f64]) -> Option<Ratio> {
    let base = median(reference).filter(|base| *base != 0.0)?;
    let value = median(values)? / base;
    let interval = bootstrap(|draw| Some(median(&draw(values))? / median(&draw(reference))?))?;
    Some(Ratio { value, interval })
}

/// The middle 95 % of `statistic` over samples drawn again with replacement, from a fixed seed.
fn bootstrap(statistic: impl Fn(&mut dyn FnMut(&[f64]) -> Vec<f64>) -> Option<f64>) -> Option<Interval> {
    let mut drawn = 0;
    let mut draw = |values: &[f64]| -> Vec<f64> {
        let mut pick = || {
            drawn += 1;
            values[below(splitmix(drawn), values.len() as u64) as usize]
        };
        values.iter().map(|_| pick()).collect()
    };
    let mut results = (0..RESAMPLES).map(|_| statistic(&mut draw)).collect::<Option<Vec<f64>>>()?;
    results.sort_by(f64::total_cmp);
    Some(Interval { low: results[RESAMPLES / 40], high: results[RESAMPLES - 1 - RESAMPLES / 40] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_quantile_is_the_value_with_its_share_below() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.95].map(|share| quantile(&values, share)), [0.0, 50.0, 95.0].map(Some));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn an_interval_lies_within_the_spread_and_around_the_median() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0];
        let summary = summarise(&values).unwrap();
        assert_eq!((summary.count, summary.median), (7, 4.0));
        assert_eq!(summary.spread, Interval { low: 1.0, high: 9.0 });
        assert!(summary.interval.low >= 1.0 && summary.interval.low < 4.0, "{summary:?}");
        assert!(summary.interval.high <= 9.0 && summary.interval.high > 4.0, "{summary:?}");
    }

    #[test]
    fn equal_repetitions_have_an_interval_without_width() {
        let summary = summarise(&[7.0; 5]).unwrap();
        assert_eq!(summary.interval, Interval { low: 7.0, high: 7.0 });
    }

    #[test]
    fn a_ratio_compares_medians_and_its_interval_covers_it() {
        let ratio = ratio(&[8.0, 9.0, 10.0], &[10.0, 20.0, 18.0]).unwrap();
        assert_eq!(ratio.value, 0.5);
        assert!(ratio.interval.low < 0.5 && ratio.interval.high > 0.5);
    }

    #[test]
    fn nothing_is_said_about_no_values() {
        assert_eq!(summarise(&[]), None);
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[1.0], &[]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }

    #[test]
    fn scaled_random_values_stay_below_the_bound_and_reach_all_of_it() {
        let mut seen = [false; 10];
        (0..1_000).for_each(|index| seen[below(splitmix(index), 10) as usize] = true);
        assert_eq!(seen, [true; 10]);
    }
}
