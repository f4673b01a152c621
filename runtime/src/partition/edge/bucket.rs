//! The token bucket behind rate shaping.

/// Units in one token: with them one nanosecond of any whole rate is a whole number, so that nothing is ever rounded.
const UNITS: u64 = 1_000_000_000;

/// A token bucket: in any window of `w` seconds it gives out at most `rate * w + burst` tokens, exactly.
///
/// Full at the start. Time is an argument; one that goes back gives nothing and takes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: u32,
    burst: u32,
    /// What is in it at `at`: at most `burst` tokens, below 2^62 units.
    units: u64,
    /// When it was last refilled.
    at: Option<i64>,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens a second.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self { rate, burst, units: u64::from(burst) * UNITS, at: None }
    }

    /// The same with nothing in it.
    pub(crate) fn emptied(self) -> Self {
        Self { units: 0, ..self }
    }

    fn refill(&mut self, now: i64) {
        let nanos = now.saturating_sub(*self.at.get_or_insert(now));
        if nanos > 0 {
            let full = u64::from(self.burst) * UNITS;
            let gained = u128::from(nanos.unsigned_abs()) * u128::from(self.rate);
            self.units = u64::try_from(u128::from(self.units) + gained).map_or(full, |units| units.min(full));
            self.at = Some(now);
        }
    }

    /// Takes up to `wanted` tokens at `now`; how many.
    pub(crate) fn take(&mut self, wanted: u64, now: i64) -> u64 {
        self.refill(now);
        let taken = wanted.min(self.units / UNITS);
        self.units -= taken * UNITS;
        taken
    }

    /// Puts back tokens that were taken and not used.
    pub(crate) fn put_back(&mut self, tokens: u64) {
        let full = u64::from(self.burst) * UNITS;
        self.units = tokens.saturating_mul(UNITS).saturating_add(self.units).min(full);
    }

    /// The first time after `now` at which there is a token; the next nanosecond, if there is one.
    pub(crate) fn due(&self, now: i64) -> i64 {
        let missing = UNITS.saturating_sub(self.units).div_ceil(u64::from(self.rate.max(1)));
        self.at.unwrap_or(now).saturating_add_unsigned(missing).max(now.saturating_add(1))
    }

    /// Whole tokens in it, as of its last use.
    pub(crate) fn tokens(&self) -> u64 {
        self.units / UNITS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// C17, in whole numbers: tokens given out in every window between two times, both included.
    fn worst_window(rate: u32, burst: u32, given: &[(i64, u64)]) -> Result<(), String> {
        for (i, &(from, _)) in given.iter().enumerate() {
            let mut sum = 0u128;
            for &(to, n) in &given[i..] {
                sum += u128::from(n);
                let window = u128::from((to - from).unsigned_abs());
                let bound = u128::from(rate) * window + u128::from(burst) * u128::from(UNITS);
                if sum * u128::from(UNITS) > bound {
                    return Err(format!("{sum} tokens from {from} to {to} at {rate}/s, burst {burst}"));
                }
            }
        }
        Ok(())
    }

    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![1..5u32, 1..2_000_000u32, (u32::MAX - 3)..=u32::MAX]
    }

    proptest! {
        #[test]
        fn any_window_lets_out_at_most_its_rate_and_one_burst(
            rate in numbers(),
            burst in numbers(),
            start in prop_oneof![Just(0i64), Just(i64::MAX / 2), -5..5i64],
            steps in prop::collection::vec((prop_oneof![0..3i64, 0..2_000_000_000i64], 0..4_000_000_000u64, 0..3u64), 1..60),
        ) {
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut given) = (start, Vec::new());
            for (wait, wanted, unused) in steps {
                now += wait;
                let taken = bucket.take(wanted, now);
                let unused = unused.min(taken);
                bucket.put_back(unused);
                given.push((now, taken - unused));
            }
            prop_assert_eq!(worst_window(rate, burst, &given), Ok(()));
        }

        #[test]
        fn a_token_is_there_when_it_is_due_and_not_a_nanosecond_earlier(rate in numbers(), burst in numbers()) {
            let mut bucket = Bucket::new(rate, burst);
            prop_assert_eq!(bucket.take(u64::MAX, 0), u64::from(burst));
            let due = bucket.due(0);
            prop_assert!(due > 0);
            let mut early = bucket.clone();
            prop_assert!(due == 1 || early.take(1, due - 1) == 0);
            prop_assert_eq!(bucket.take(1, due), 1);
        }

        #[test]
        fn what_is_asked_for_all_the_time_comes_at_the_full_rate(rate in 1..2_000_000u32, burst in 1..100u32) {
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut given) = (0, 0);
            for _ in 0..200 {
                given += bucket.take(u64::MAX, now);
                now = bucket.due(now);
            }
            // Never less than the time that has passed is worth, either.
            let earned = u128::from(rate) * u128::from(now.unsigned_abs()) / u128::from(UNITS);
            prop_assert!(u128::from(given) + u128::from(burst) + 1 >= earned, "{} of {}", given, earned);
        }
    }

    #[test]
    fn time_that_goes_back_neither_gives_nor_takes() {
        let mut bucket = Bucket::new(1_000, 2);
        assert_eq!(bucket.take(9, 5_000_000), 2);
        assert_eq!(bucket.take(9, 1_000_000), 0);
        assert_eq!(bucket.take(9, 6_000_000), 1);
    }

    #[test]
    fn an_emptied_bucket_earns_its_first_token() {
        let mut bucket = Bucket::new(1_000, 5).emptied();
        assert_eq!(bucket.take(9, 7), 0);
        assert_eq!(bucket.due(7), 1_000_007);
        assert_eq!(bucket.take(9, 1_000_007), 1);
    }
}
