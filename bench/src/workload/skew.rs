//! skew: the keyed sums of two cores over a million keys, used evenly and by Zipf's law, there before and after shards have moved.

use std::sync::Arc;

use super::keyed::Totals;
use crate::case::{Case, Setup};
use crate::lane;
use crate::stats::{below, splitmix};

/// Pairs of a full run.
const PAIRS: u64 = 60_000_000;
/// Keys there are.
const KEYS: usize = 1_000_000;
/// The exponent of Zipf's law: the first key has a fifth of all pairs.
const EXPONENT: f64 = 1.2;
/// Keys that are drawn beforehand; pairs go through them again and again.
const DRAWN: usize = 1 << 22;

/// Keys drawn beforehand, so that making a pair costs the same however its key is chosen.
#[derive(Clone)]
pub struct Keys(Arc<[u32]>);

impl Keys {
    /// Each key as often as any other.
    fn even(keys: usize, drawn: usize) -> Self {
        Self((0..drawn as u64).map(|i| below(splitmix(i), keys as u64) as u32).collect())
    }

    /// Key number `n` with a weight of `1 / n^exponent`, under numbers that say nothing of that.
    fn zipf(keys: usize, exponent: f64, drawn: usize) -> Self {
        let mut sum = 0.0;
        let weight = |n: usize| {
            sum += (n as f64).powf(-exponent);
            sum
        };
        let upto: Vec<f64> = (1..=keys).map(weight).collect();
        let total = upto.last().copied().unwrap_or(0.0);
        let draw = |i: u64| {
            let share = (splitmix(i) >> 11) as f64 / (1u64 << 53) as f64;
            let rank = upto.partition_point(|&sum| sum <= share * total).min(keys - 1);
            below(splitmix(!(rank as u64)), 1 << 32) as u32
        };
        Self((0..drawn as u64).map(draw).collect())
    }

    /// Pair `index`: a key and a value below 2^16.
    #[inline]
    pub fn pair(&self, index: u64) -> (u64, u64) {
        (self.0[index as usize & (self.0.len() - 1)].into(), index & 0xFFFF)
    }

    /// The right answer over `pairs` pairs: one thread, one ordered list.
    fn expected(&self, pairs: u64) -> Totals {
        let mut all: Vec<(u32, u64, u64)> = Vec::with_capacity(self.0.len());
        for (place, &key) in self.0.iter().enumerate() {
            let times = pairs.saturating_sub(place as u64).div_ceil(self.0.len() as u64);
            let values = (0..times).map(|round| (place as u64 + round * self.0.len() as u64) & 0xFFFF);
            if times > 0 {
                all.push((key, values.sum(), times));
            }
        }
        all.sort_unstable_by_key(|entry| entry.0);
        let mut totals = Totals::default();
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            let (sum, count) =
                same.iter().fold((0, 0), |(sum, count), entry| (sum + entry.1, count + entry.2));
            totals.add(same[0].0.into(), sum, count);
        }
        totals
    }
}

/// The comparison: every answer is held against its own oracle, and what the case sees is whether they are equal.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let pairs = setup.scaled(PAIRS);
    let (even, skewed) = (Keys::even(KEYS, DRAWN), Keys::zipf(KEYS, EXPONENT, DRAWN));
    let right = [even.expected(pairs).checksum(), skewed.expected(pairs).checksum()];
    let (before, after) = (skewed.clone(), skewed);
    let case = Case::new("skew", "zipf1.2", 2, 0)
        .work(format!("{} M pairs over a million keys", pairs / 1_000_000))
        .reference("even")
        .try_system("even", move |setup| lane::skew::still(pairs, &even, right[0], setup))
        .try_system("zipf", move |setup| lane::skew::still(pairs, &before, right[1], setup))
        .try_system("zipf, moved", move |setup| lane::skew::moved(pairs, &after, right[1], setup));
    vec![case]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_answer_is_that_of_one_ordered_map() {
        for (keys, pairs) in
            [(Keys::even(100, 64), 1_000), (Keys::zipf(100, 1.2, 128), 777), (Keys::even(5, 8), 3)]
        {
            let mut map = BTreeMap::<u64, (u64, u64)>::new();
            for (key, value) in (0..pairs).map(|index| keys.pair(index)) {
                let (sum, count) = map.entry(key).or_default();
                (*sum, *count) = (*sum + value, *count + 1);
            }
            let mut totals = Totals::default();
            map.into_iter().for_each(|(key, (sum, count))| totals.add(key, sum, count));
            assert_eq!(keys.expected(pairs), totals);
        }
    }

    #[test]
    fn the_first_key_of_zipfs_law_has_its_share() {
        let Keys(drawn) = Keys::zipf(1_000, 1.2, 1 << 16);
        let mut counts = BTreeMap::new();
        drawn.iter().for_each(|key| *counts.entry(key).or_insert(0u32) += 1);
        let most = f64::from(*counts.values().max().unwrap()) / drawn.len() as f64;
        let sum: f64 = (1..=1_000).map(|n| f64::from(n).powf(-1.2)).sum();
        assert!((most - 1.0 / sum).abs() < 0.01, "{most} of {}", 1.0 / sum);
    }
}
