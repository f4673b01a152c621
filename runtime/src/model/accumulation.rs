//! The vocabulary of accumulators.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::cost::{NotAnAmount, amount};
use super::{Cost, SmallMap, Timestamp};

/// What an accumulator holds for one key.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct AccumulatorState<K, S> {
    /// The key.
    pub key: K,
    /// What the user's code made of the items so far.
    pub state: S,
    /// Items so far.
    pub size_items: u64,
    /// Their bytes, by their cost.
    pub size_bytes: u64,
    /// The earliest time of an item so far.
    pub first_ts: Timestamp,
    /// The latest time of an item so far.
    pub last_ts: Timestamp,
    /// How complete it is, from 0 to 1, as far as the user's code says.
    pub completeness_score: f64,
}

impl<K, S> AccumulatorState<K, S> {
    /// The state of a key without an item.
    ///
    /// The first [`count`](Self::count) sets both times: until then `first_ts` is the greatest and `last_ts` the least.
    pub const fn new(key: K, state: S) -> Self {
        Self {
            key,
            state,
            size_items: 0,
            size_bytes: 0,
            first_ts: Timestamp::MAX,
            last_ts: Timestamp::MIN,
            completeness_score: 0.0,
        }
    }

    /// Counts an item that has been added to the state. Sizes saturate.
    #[inline]
    pub fn count(&mut self, timestamp: Timestamp, cost: Cost) {
        self.size_items = self.size_items.saturating_add(1);
        self.size_bytes = self.size_bytes.saturating_add(cost.bytes());
        self.first_ts = self.first_ts.min(timestamp);
        self.last_ts = self.last_ts.max(timestamp);
    }
}

/// What a completeness check says of a key. The state itself is changed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness<Out> {
    /// More is to come.
    Incomplete,
    /// All there: this is the result, and the key is closed.
    Complete(Out),
    /// It will not be complete any more: the key is closed, with a partial result or without one.
    Expired(Option<Out>),
}

impl<Out> Completeness<Out> {
    /// Changes the result, if there is one.
    pub fn map<R>(self, f: impl FnOnce(Out) -> R) -> Completeness<R> {
        match self {
            Self::Incomplete => Completeness::Incomplete,
            Self::Complete(out) => Completeness::Complete(f(out)),
            Self::Expired(out) => Completeness::Expired(out.map(f)),
        }
    }

    /// Whether the key is closed.
    pub const fn closes_key(&self) -> bool {
        !matches!(self, Self::Incomplete)
    }

    /// The result, if there is one.
    pub fn into_result(self) -> Option<Out> {
        match self {
            Self::Incomplete => None,
            Self::Complete(out) => Some(out),
            Self::Expired(out) => out,
        }
    }
}

/// A weight that is negative, infinite or not a number.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("weight of {part:?}: {cause}")]
pub struct WeightError {
    /// The part whose weight it is.
    pub part: String,
    /// What is wrong with it.
    #[source]
    pub cause: NotAnAmount,
}

/// The named parts of a complete whole and how much each counts.
///
/// ```
/// use corelane::model::ProgressWeights;
/// let weights = ProgressWeights::new([("order", 3.0), ("invoice", 1.0)])?;
/// assert_eq!(weights.score(["order"]), 0.75);
/// assert_eq!(weights.score(["invoice", "order", "order", "unknown"]), 1.0);
/// # Ok::<(), corelane::model::WeightError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct ProgressWeights {
    weights: SmallMap<f64>,
    greatest: f64,
}

impl ProgressWeights {
    /// Parts and their weights; of two for the same part the last counts.
    ///
    /// # Errors
    /// The first weight that is negative, infinite or not a number.
    pub fn new<N: Into<String>>(weights: impl IntoIterator<Item = (N, f64)>) -> Result<Self, WeightError> {
        let mut this = Self::default();
        for (part, weight) in weights {
            let part = part.into();
            match amount(weight) {
                Ok(weight) => this.weights.insert(part, weight),
                Err(cause) => return Err(WeightError { part, cause }),
            };
        }
        this.greatest = this.iter().map(|(_, weight)| weight).fold(0.0, f64::max);
        Ok(this)
    }

    /// The weight of the parts that are present over the weight of all parts: from 0 to 1, and exactly 1 when every part
    /// that has a weight is there. A part named twice counts once; one without a weight counts nothing.
    ///
    /// Without any weight above zero nothing is known about completeness, and the score is 0. Does not allocate for up
    /// to 32 parts; costs a binary search per name.
    pub fn score<'a>(&self, present: impl IntoIterator<Item = &'a str>) -> f64 {
        if self.greatest == 0.0 {
            return 0.0;
        }
        let mut there = SmallVec::<[bool; 32]>::from_elem(false, self.weights.len());
        for at in present.into_iter().filter_map(|part| self.weights.position(part)) {
            there[at] = true;
        }
        // Relative to the greatest weight, so that no sum overflows; summed in one order, so that all over all is 1.
        let (mut have, mut all) = (0.0, 0.0);
        for ((_, weight), there) in self.iter().zip(there) {
            let share = weight / self.greatest;
            all += share;
            have += if there { share } else { 0.0 };
        }
        have / all
    }

    /// Parts and weights, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.weights.iter().map(|(part, weight)| (part, *weight))
    }

    /// Whether there are no parts.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }
}

impl TryFrom<BTreeMap<String, f64>> for ProgressWeights {
    type Error = WeightError;
    fn try_from(weights: BTreeMap<String, f64>) -> Result<Self, WeightError> {
        Self::new(weights)
    }
}

impl From<ProgressWeights> for BTreeMap<String, f64> {
    fn from(weights: ProgressWeights) -> Self {
        weights.iter().map(|(part, weight)| (part.to_owned(), weight)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn weights() -> impl Strategy<Value = BTreeMap<String, f64>> {
        let weight = prop_oneof![Just(0.0), 0.0..100.0f64, Just(f64::MAX), Just(f64::MIN_POSITIVE)];
        prop::collection::btree_map("[a-f]", weight, 0..6)
    }

    proptest! {
        #[test]
        fn a_score_is_from_0_to_1_and_grows_with_what_is_present(
            weights in weights(),
            present in prop::collection::vec("[a-h]", 0..10),
        ) {
            let weights = ProgressWeights::try_from(weights).unwrap();
            let mut last = 0.0;
            for n in 0..=present.len() {
                let score = weights.score(present[..n].iter().map(String::as_str));
                prop_assert!((last..=1.0).contains(&score), "{score} after {last}");
                last = score;
            }
            let all = weights.score(weights.iter().map(|(part, _)| part));
            prop_assert_eq!(all, if weights.iter().any(|(_, w)| w > 0.0) { 1.0 } else { 0.0 });
        }

        #[test]
        fn a_score_is_the_plain_fraction(
            weights in prop::collection::btree_map("[a-f]", 0.5..100.0f64, 1..6),
            present in prop::collection::btree_set("[a-h]", 0..8),
        ) {
            let sum = |names: &BTreeSet<String>| -> f64 {
                weights.iter().filter(|(n, _)| names.contains(*n)).map(|(_, w)| w).sum()
            };
            let expected = sum(&present) / sum(&weights.keys().cloned().collect());
            let score = ProgressWeights::try_from(weights).unwrap().score(present.iter().map(String::as_str));
            prop_assert!((score - expected).abs() < 1e-9, "{score} {expected}");
        }

        #[test]
        fn weights_read_back_as_they_were_written(weights in weights()) {
            let weights = ProgressWeights::try_from(weights).unwrap();
            let json = serde_json::to_string(&weights).unwrap();
            prop_assert_eq!(&serde_json::from_str::<ProgressWeights>(&json).unwrap(), &weights);
            let toml = toml::to_string(&weights).unwrap();
            prop_assert_eq!(&toml::from_str::<ProgressWeights>(&toml).unwrap(), &weights);
        }
    }

    #[test]
    fn weights_that_are_no_amounts_are_refused_by_name() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1] {
            let error = ProgressWeights::new([("root", 1.0), ("leaf", bad)]).unwrap_err();
            assert_eq!(error.part, "leaf");
        }
        let error = toml::from_str::<ProgressWeights>("leaf = nan").unwrap_err().to_string();
        assert!(error.contains("weight of \"leaf\": must be finite and not negative, not NaN"), "{error}");
    }

    #[test]
    fn no_weight_at_all_scores_zero() {
        assert_eq!(ProgressWeights::default().score(["a"]), 0.0);
        assert_eq!(ProgressWeights::new([("a", 0.0)]).unwrap().score(["a"]), 0.0);
        assert!(ProgressWeights::default().is_empty());
    }

    #[test]
    fn counting_keeps_sizes_and_the_outermost_times() {
        let mut state = AccumulatorState::new("k", Vec::<u8>::new());
        for (ts, bytes) in [(5, 10), (-3, 0), (4, 7)] {
            state.count(Timestamp(ts), Cost::of_bytes(bytes));
        }
        assert_eq!((state.size_items, state.size_bytes), (3, 17));
        assert_eq!((state.first_ts, state.last_ts), (Timestamp(-3), Timestamp(5)));
        state.count(Timestamp(0), Cost::of_bytes(u64::MAX));
        assert_eq!(state.size_bytes, u64::MAX);
    }

    #[test]
    fn an_accumulator_state_reads_back_as_it_was_written() {
        let mut state = AccumulatorState::new("k".to_owned(), vec![1, 2]);
        state.count(Timestamp(5), Cost::of_bytes(3));
        state.completeness_score = 0.5;
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<AccumulatorState<String, Vec<u8>>>(&text).unwrap(), state);
    }

    #[test]
    fn only_incomplete_keeps_the_key_and_only_results_are_mapped() {
        let all = [
            Completeness::Incomplete,
            Completeness::Complete(1),
            Completeness::Expired(None),
            Completeness::Expired(Some(2)),
        ];
        assert_eq!(all.map(|c| c.closes_key()), [false, true, true, true]);
        assert_eq!(all.map(|c| c.map(|n| n * 10).into_result()), [None, Some(10), None, Some(20)]);
    }
}
