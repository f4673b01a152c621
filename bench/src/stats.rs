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
    (!sorted.is_empty()).then(|| middle(sorted.len(), |place| sorted[place]))
}

/// The median of `count` values, at least one, of which `at` tells the one at a place in their order.
fn middle(count: usize, at: impl Fn(usize) -> f64) -> f64 {
    let upper = at(count / 2);
    if count % 2 == 1 { upper } else { (at(count / 2 - 1) + upper) / 2.0 }
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
    let mut again = Redrawn::new(values)?;
    let interval = bootstrap(|draws| again.median(draws));
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
    let (mut above, mut under) = (Redrawn::new(values)?, Redrawn::new(reference)?);
    let interval = bootstrap(|draws| above.median(draws) / under.median(draws));
    Some(Ratio { value, interval })
}

/// The middle 95 % of `statistic` over samples drawn again with replacement, from a fixed seed.
fn bootstrap(mut statistic: impl FnMut(&mut Draws) -> f64) -> Interval {
    let mut draws = Draws(0);
    let mut results: Vec<f64> = (0..RESAMPLES).map(|_| statistic(&mut draws)).collect();
    let mut place = |place| *results.select_nth_unstable_by(place, f64::total_cmp).1;
    Interval { low: place(RESAMPLES / 40), high: place(RESAMPLES - 1 - RESAMPLES / 40) }
}

/// Random places, as many as there have been draws.
struct Draws(u64);

impl Draws {
    fn place(&mut self, of: usize) -> usize {
        self.0 += 1;
        below(splitmix(self.0), of as u64) as usize
    }
}

/// Values that are drawn again and again. They are sorted once: a median of what was drawn is found by counting how often each was.
struct Redrawn {
    sorted: Vec<f64>,
    /// The place in `sorted` of each value as it was given.
    ranks: Vec<usize>,
    /// How often each of `sorted` was drawn.
    times: Vec<usize>,
}

impl Redrawn {
    /// `None` without values.
    fn new(values: &[f64]) -> Option<Self> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ranks = vec![0; values.len()];
        order.iter().enumerate().for_each(|(rank, given)| ranks[*given] = rank);
        let sorted: Vec<f64> = order.iter().map(|given| values[*given]).collect();
        (!values.is_empty()).then(|| Self { times: vec![0; sorted.len()], sorted, ranks })
    }

    /// The median of as many values as there are, drawn with replacement.
    fn median(&mut self, draws: &mut Draws) -> f64 {
        let count = self.sorted.len();
        self.times.fill(0);
        for _ in 0..count {
            self.times[self.ranks[draws.place(count)]] += 1;
        }
        middle(count, |place| self.drawn(place))
    }

    /// The value that comes behind `place` others of those drawn, in their order.
    fn drawn(&self, place: usize) -> f64 {
        let mut upto = 0;
        let at = self.times.iter().position(|times| {
            upto += times;
            upto > place
        });
        self.sorted[at.unwrap_or(self.sorted.len() - 1)]
    }
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
    fn a_median_of_what_was_drawn_again_is_that_of_a_list_of_it() {
        for count in 1..30_u64 {
            let values: Vec<f64> = (0..count).map(|i| below(splitmix(i), 20) as f64 - 10.0).collect();
            let (mut again, mut draws, mut same) =
                (Redrawn::new(&values).unwrap(), Draws(count), Draws(count));
            for _ in 0..20 {
                let list: Vec<f64> = values.iter().map(|_| values[same.place(values.len())]).collect();
                assert_eq!(Some(again.median(&mut draws)), median(&list), "{list:?}");
            }
        }
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
