//! strategies: the keyed exchange with each backpressure strategy on its edge, beside the same without one.

use corelane::policy::BackpressureStrategy::{self, Adaptive, CreditBased, RateShaping, ReactivePull};

use super::keyed::{PAIRS, expected};
use crate::case::{Case, Setup};
use crate::lane::keyed::exchange;

/// Keys, few enough that the table does not hide the edge.
const KEYS: u64 = 1_000;

/// None of them is to hold anything back here: what is measured is what keeping to it costs.
const STRATEGIES: [(&str, BackpressureStrategy); 4] = [
    ("credit-based", CreditBased { initial: 4_096, replenish_threshold: 2_048 }),
    ("rate-shaping", RateShaping { rate: u32::MAX, burst: u32::MAX }),
    ("adaptive", Adaptive { min_batch: 64, max_batch: 4_096 }),
    ("reactive-pull", ReactivePull { window_size: 4_096 }),
];

/// The one comparison: all strategies, each to the plain bounded edge.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let pairs = setup.scaled(PAIRS);
    let plain = Case::new("strategies", "k1000", 2, expected(pairs, KEYS).checksum())
        .work(format!("{} M pairs over {KEYS} keys", pairs / 1_000_000))
        .reference("bounded")
        .try_system("bounded", move |setup| exchange(pairs, KEYS, None, setup));
    let with = |case: Case, (name, strategy)| {
        case.try_system(name, move |setup| exchange(pairs, KEYS, Some(strategy), setup))
    };
    vec![STRATEGIES.into_iter().fold(plain, with)]
}
