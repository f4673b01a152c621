//! Distributions of times: recorded on one core, published now and then, read from anywhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant decimal digits kept of each sample.
const DIGITS: u8 = 2;
/// Samples are kept in parts of this many to the unit: nanoseconds, where the unit is a second.
const PARTS: f64 = 1e9;
/// Nanoseconds between two publications of a recorder. Adding up a whole histogram costs microseconds.
const PUBLISH_EVERY: i64 = 100_000_000;

/// A distribution in short. Times in seconds, to two digits; all zero without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencySummary {
    /// Samples.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are not above this.
    pub p50: f64,
    /// Nine of ten are not above this.
    pub p90: f64,
    /// 99 of 100 are not above this.
    pub p99: f64,
    /// 999 of 1 000 are not above this.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl LatencySummary {
    /// Its numbers by name, `prefix` before each; none without samples.
    pub fn named(&self, prefix: &str) -> impl Iterator<Item = (String, f64)> + use<> {
        let Self { count, mean, p50, p90, p99, p999, max } = *self;
        let all = [
            ("count", count as f64),
            ("mean", mean),
            ("p50", p50),
            ("p90", p90),
            ("p99", p99),
            ("p999", p999),
            ("max", max),
        ];
        let named = all.map(|(name, value)| (format!("{prefix}_{name}"), value));
        named.into_iter().take(if count == 0 { 0 } else { usize::MAX })
    }
}

/// A distribution as counts of samples by size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Samples.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// For each upper bound, from the lowest, the samples that are above the bound before it and not above this one. What is
    /// above the last bound is only in `count`. The bounds are always the same: 1, 2.5 and 5 times the powers of ten from
    /// 1e-7 to 1e6.
    pub buckets: Vec<(f64, u64)>,
}

/// Upper bounds of the buckets of every [`Distribution`].
fn bounds() -> impl Iterator<Item = f64> {
    // From text, so that each bound is the number that its decimal digits say.
    let exponents = -7..=6;
    exponents.flat_map(|e| ["1", "2.5", "5"].map(|m| format!("{m}e{e}").parse().unwrap_or(f64::INFINITY)))
}

/// Samples of one distribution.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    histogram: Histogram<u64>,
    sum: f64,
}

impl Default for Samples {
    fn default() -> Self {
        let Ok(histogram) = Histogram::new(DIGITS) else { unreachable!("0 to 5 digits are allowed") };
        Self { histogram, sum: 0.0 }
    }
}

impl Samples {
    /// Adds a sample of 0 or more. False, and nothing is added, for any other number.
    pub(super) fn record(&mut self, value: f64) -> bool {
        let fits = value >= 0.0 && value * PARTS < u64::MAX as f64;
        if fits {
            self.count((value * PARTS).round() as u64);
            self.sum += value;
        }
        fits
    }

    fn record_nanos(&mut self, nanos: i64) {
        let nanos = u64::try_from(nanos).unwrap_or(0);
        self.count(nanos);
        self.sum += nanos as f64 / PARTS;
    }

    fn count(&mut self, parts: u64) {
        // It grows as it must, so that recording always succeeds.
        let recorded = self.histogram.record(parts);
        debug_assert!(recorded.is_ok());
    }

    fn add(&mut self, other: &Self) {
        // As in `count`.
        let added = self.histogram.add(&other.histogram);
        debug_assert!(added.is_ok());
        self.sum += other.sum;
    }

    fn summary(&self) -> LatencySummary {
        let count = self.histogram.len();
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / PARTS;
        LatencySummary {
            count,
            mean: if count == 0 { 0.0 } else { self.sum / count as f64 },
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max() as f64 / PARTS,
        }
    }

    pub(super) fn distribution(&self) -> Distribution {
        let mut buckets: Vec<(f64, u64)> = bounds().map(|bound| (bound, 0)).collect();
        for step in self.histogram.iter_recorded() {
            // The highest value that a recorded one stands for is within its digits of it.
            let value = step.value_iterated_to() as f64 / PARTS;
            let at = buckets.partition_point(|(bound, _)| *bound < value);
            if let Some((_, count)) = buckets.get_mut(at) {
                *count += step.count_at_value();
            }
        }
        Distribution { count: self.histogram.len(), sum: self.sum, buckets }
    }
}

/// A distribution as anybody may read it at any time. One writer, through its [`LatencyRecorder`].
#[derive(Debug, Default)]
pub struct LatencyCell(Mutex<Option<Box<Samples>>>);

impl LatencyCell {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Samples>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been published, in short. The writer does not wait for readers: while one reads, it keeps its samples.
    pub fn summary(&self) -> LatencySummary {
        self.lock().as_ref().map(|samples| samples.summary()).unwrap_or_default()
    }

    /// What has been published.
    pub fn distribution(&self) -> Distribution {
        self.lock()
            .as_ref()
            .map_or_else(|| Samples::default().distribution(), |samples| samples.distribution())
    }

    /// Adds what `cells` have published, in short.
    pub fn summary_of<'a>(cells: impl IntoIterator<Item = &'a Self>) -> LatencySummary {
        let mut sum = Samples::default();
        cells.into_iter().for_each(|cell| cell.lock().iter().for_each(|samples| sum.add(samples)));
        sum.summary()
    }
}

/// Records times on the core that owns it.
///
/// A sample costs a few nanoseconds and no memory, once the range of values has been seen.
#[derive(Debug, Default)]
pub struct LatencyRecorder {
    local: Samples,
    publish_at: i64,
}

impl LatencyRecorder {
    /// Adds a sample in nanoseconds; one below zero (a clock that was set back) counts as zero.
    #[inline]
    pub fn record(&mut self, nanos: i64) {
        self.local.record_nanos(nanos);
    }

    /// Hands the samples to `cell` if it is time to, by the monotonic time `now`, and nobody reads just then.
    #[inline]
    pub fn publish(&mut self, cell: &LatencyCell, now: i64) {
        if now >= self.publish_at && !self.local.histogram.is_empty() {
            self.hand_over(cell, now);
        }
    }

    #[cold]
    fn hand_over(&mut self, cell: &LatencyCell, now: i64) {
        if let Ok(mut shared) = cell.0.try_lock() {
            shared.get_or_insert_default().add(&self.local);
            self.local.histogram.reset();
            self.local.sum = 0.0;
            self.publish_at = now.saturating_add(PUBLISH_EVERY);
        }
    }

    /// Hands everything to `cell`; waits for a reader.
    pub fn finish(&mut self, cell: &LatencyCell) {
        if !self.local.histogram.is_empty() {
            cell.lock().get_or_insert_default().add(&std::mem::take(&mut self.local));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn samples_are_read_back_to_two_digits_once_published() {
        let (cell, mut recorder) = (LatencyCell::default(), LatencyRecorder::default());
        (1..=1_000).for_each(|ms| recorder.record(ms * 1_000_000));
        assert_eq!(cell.summary(), LatencySummary::default());
        recorder.publish(&cell, SECOND);
        let LatencySummary { count, mean, p50, p90, p99, p999, max } = cell.summary();
        assert_eq!(count, 1_000);
        for (found, expected) in
            [(mean, 0.5005), (p50, 0.5), (p90, 0.9), (p99, 0.99), (p999, 0.999), (max, 1.0)]
        {
            assert!((found / expected - 1.0).abs() < 0.011, "{found} for {expected}");
        }
    }

    #[test]
    fn publishing_is_paced_by_time_and_does_not_wait_for_readers() {
        let (cell, mut recorder) = (LatencyCell::default(), LatencyRecorder::default());
        recorder.record(5);
        recorder.publish(&cell, 0);
        recorder.record(7);
        recorder.publish(&cell, PUBLISH_EVERY - 1);
        assert_eq!(cell.summary().count, 1);
        let reading = cell.lock();
        recorder.publish(&cell, PUBLISH_EVERY);
        drop(reading);
        assert_eq!(cell.summary().count, 1);
        recorder.publish(&cell, PUBLISH_EVERY);
        assert_eq!(cell.summary().count, 2);
        recorder.record(-3);
        recorder.finish(&cell);
        recorder.finish(&cell);
        assert_eq!((cell.summary().count, cell.summary().max), (3, 7e-9));
    }

    #[test]
    fn buckets_hold_every_sample_once_and_what_is_above_the_last_is_in_the_count() {
        let mut samples = Samples::default();
        for value in [0.0, 1e-9, 1e-7, 0.3, 2.0, 9e9] {
            assert!(samples.record(value), "{value}");
        }
        for value in [-1.0, f64::NAN, f64::INFINITY, 1e11] {
            assert!(!samples.record(value), "{value}");
        }
        let all = samples.distribution();
        assert_eq!((all.count, all.buckets.len()), (6, 42));
        assert!(all.buckets.is_sorted_by(|a, b| a.0 < b.0));
        let filled: Vec<_> = all.buckets.iter().filter(|(_, n)| *n > 0).copied().collect();
        assert_eq!(filled, [(1e-7, 3), (0.5, 1), (2.5, 1)]);
        assert!((all.sum - 9e9).abs() < 10.0);
    }

    #[test]
    fn cells_add_up() {
        let cells = [LatencyCell::default(), LatencyCell::default(), LatencyCell::default()];
        for (cell, nanos) in cells.iter().zip([10, 20]) {
            let mut recorder = LatencyRecorder::default();
            recorder.record(nanos);
            recorder.finish(cell);
        }
        let sum = LatencyCell::summary_of(&cells);
        assert_eq!((sum.count, sum.max, sum.p50), (2, 2e-8, 1e-8));
    }
}
