//! skew: the keyed sums of two cores over a million keys, used evenly and by Zipf's law: with the frequent keys where they happen to be, before
//! and after shards have moved, and with keys so chosen that both cores have the same to do.

use std::sync::Arc;

use corelane::keyed::hash_key;
use corelane::policy::RebalancePolicy;
use corelane::shard::ShardTable;

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

    /// The key of rank `n`, from 1, with a weight of `1 / n^exponent`, under the number that `numbers` gives that rank, less 1.
    fn zipf(exponent: f64, numbers: &[u32], drawn: usize) -> Self {
        let mut sum = 0.0;
        let weight = |n: usize| {
            sum += (n as f64).powf(-exponent);
            sum
        };
        let upto: Vec<f64> = (1..=numbers.len()).map(weight).collect();
        let total = upto.last().copied().unwrap_or(0.0);
        let draw = |i: u64| {
            let share = (splitmix(i) >> 11) as f64 / (1u64 << 53) as f64;
            numbers[upto.partition_point(|&sum| sum <= share * total).min(numbers.len() - 1)]
        };
        Self((0..drawn as u64).map(draw).collect())
    }

    /// The share of the busier of two cores: 0.5 to 1.
    pub fn busier(&self, shards: &ShardTable) -> f64 {
        let first = self.0.iter().filter(|key| core(shards, **key) == 0).count();
        let share = first as f64 / self.0.len() as f64;
        share.max(1.0 - share)
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

/// The core of a key, before any shard moves.
fn core(shards: &ShardTable, key: u32) -> usize {
    shards.owner(hash_key(&u64::from(key)))
}

/// Number `index` of a sequence of keys that is as good as random.
fn number(index: u64) -> u32 {
    below(splitmix(!index), 1 << 32) as u32
}

/// A number for each rank, which says nothing of the rank.
fn any_numbers(keys: usize) -> Vec<u32> {
    (0..keys as u64).map(number).collect()
}

/// A number for each rank, so that two cores have the same to do under Zipf's law: from the most frequent key on, each goes to the core that
/// has less so far. Which number of that core says nothing of the rank.
fn even_numbers(keys: usize, exponent: f64, shards: &ShardTable) -> Vec<u32> {
    let (mut loads, mut numbers) = ([0.0; 2], (0..).map(number));
    let numbered = |rank: usize| {
        let lighter = usize::from(loads[1] < loads[0]);
        loads[lighter] += (rank as f64).powf(-exponent);
        numbers.find(|number| core(shards, *number) == lighter)
    };
    (1..=keys).filter_map(numbered).collect()
}

/// The comparison: every answer is held against its own oracle, and what the case sees is whether they are equal.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let pairs = setup.scaled(PAIRS);
    let shards = ShardTable::even(RebalancePolicy::default().shards_for(2), 2);
    let even = Keys::even(KEYS, DRAWN);
    let skewed = Keys::zipf(EXPONENT, &any_numbers(KEYS), DRAWN);
    let ideal = Keys::zipf(EXPONENT, &even_numbers(KEYS, EXPONENT, &shards), DRAWN);
    let work = format!(
        "{} M pairs over a million keys; the busier core has {:.1} % of zipf, {:.1} % of zipf ideal",
        pairs / 1_000_000,
        skewed.busier(&shards) * 100.0,
        ideal.busier(&shards) * 100.0
    );
    let right = [&even, &skewed, &ideal].map(|keys| keys.expected(pairs).checksum());
    let (before, after) = (skewed.clone(), skewed);
    let case = Case::new("skew", "zipf1.2", 2, 0)
        .work(work)
        .reference("zipf, ideal")
        .try_system("zipf, ideal", move |setup| lane::skew::still(pairs, &ideal, right[2], setup))
        .try_system("zipf", move |setup| lane::skew::still(pairs, &before, right[1], setup))
        .try_system("zipf, moved", move |setup| lane::skew::moved(pairs, &after, right[1], setup))
        .try_system("even", move |setup| lane::skew::still(pairs, &even, right[0], setup));
    vec![case]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_answer_is_that_of_one_ordered_map() {
        let zipf = Keys::zipf(1.2, &any_numbers(100), 128);
        for (keys, pairs) in [(Keys::even(100, 64), 1_000), (zipf, 777), (Keys::even(5, 8), 3)] {
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
        let Keys(drawn) = Keys::zipf(1.2, &any_numbers(1_000), 1 << 16);
        let mut counts = BTreeMap::new();
        drawn.iter().for_each(|key| *counts.entry(key).or_insert(0u32) += 1);
        let most = f64::from(*counts.values().max().unwrap()) / drawn.len() as f64;
        let sum: f64 = (1..=1_000).map(|n| f64::from(n).powf(-1.2)).sum();
        assert!((most - 1.0 / sum).abs() < 0.01, "{most} of {}", 1.0 / sum);
    }

    #[test]
    fn the_ideal_keys_have_the_same_frequencies_and_load_both_cores_alike() {
        let shards = ShardTable::even(256, 2);
        let [any, ideal] = [any_numbers(10_000), even_numbers(10_000, 1.2, &shards)]
            .map(|numbers| Keys::zipf(1.2, &numbers, 1 << 18));
        assert!(ideal.busier(&shards) < 0.505, "{}", ideal.busier(&shards));
        let counts = |keys: &Keys| {
            let mut counts = BTreeMap::new();
            keys.0.iter().for_each(|key| *counts.entry(*key).or_insert(0u32) += 1);
            let mut counts: Vec<u32> = counts.into_values().collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(counts(&any), counts(&ideal));
    }
}
