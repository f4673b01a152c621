//! When which item is due.

use std::time::Duration;

/// Fractions of a nanosecond in a period: so that a rate is kept exactly however high it is.
const FRACTIONS: u64 = 1 << 20;
/// From the start to the first item: enough for partitions to be built.
const SET_UP: Duration = Duration::from_millis(30);

/// Items that are due one after the other, evenly. All times are on the clock of the run, which is zero before the pipeline starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    first_ns: u64,
    /// In fractions.
    period: u64,
    items: u64,
    measured_from_ns: u64,
}

impl Schedule {
    /// `rate` items a second, for so long to warm up and then for so long. The rate is from one in a thousand seconds to a billion.
    pub fn at_rate(rate: f64, warm_up: Duration, measured: Duration) -> Self {
        let rate = rate.clamp(1e-3, 1e9);
        let first_ns = SET_UP.as_nanos() as u64;
        let items = (rate * (warm_up + measured).as_secs_f64()).ceil().max(1.0) as u64;
        Self {
            first_ns,
            period: (1e9 / rate * FRACTIONS as f64).round() as u64,
            items,
            measured_from_ns: first_ns + warm_up.as_nanos() as u64,
        }
    }

    /// How many there are.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// When item `index` is due, in nanoseconds.
    #[inline]
    pub fn due_ns(&self, index: u64) -> u64 {
        self.first_ns + (u128::from(index) * u128::from(self.period) / u128::from(FRACTIONS)) as u64
    }

    /// Only what is due from then on is measured.
    pub fn measured_from_ns(&self) -> u64 {
        self.measured_from_ns
    }

    /// From the start to the last item.
    pub fn lasts(&self) -> Duration {
        Duration::from_nanos(self.due_ns(self.items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_rate_is_kept_to_the_last_item() {
        for rate in [1.0, 3.0, 1_000.0, 700_001.0, 33_333_333.0, 900_000_000.0] {
            let schedule = Schedule::at_rate(rate, Duration::ZERO, SECOND);
            let last = schedule.due_ns(schedule.items()) - schedule.due_ns(0);
            assert!(last.abs_diff(1_000_000_000) as f64 <= 1e9 / rate + 1e3, "{rate}: {last} ns");
        }
    }

    #[test]
    fn times_are_fixed_before_the_run_and_only_those_after_the_warm_up_count() {
        let schedule = Schedule::at_rate(1_000.0, SECOND, SECOND * 2);
        assert_eq!((schedule.items(), schedule.due_ns(7) - schedule.due_ns(6)), (3_000, 1_000_000));
        let measured = (0..schedule.items()).filter(|i| schedule.due_ns(*i) >= schedule.measured_from_ns());
        assert_eq!(measured.count(), 2_000);
    }
}
