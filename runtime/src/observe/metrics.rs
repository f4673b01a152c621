//! Where measurements go.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes measurements from user code and from the runtime.
///
/// The runtime's own counters do not go through here; they are read from [`StageCells`](super::StageCells). To keep and
/// read what stages record, use a [`MetricsRegistry`](super::MetricsRegistry). Called from the cores that run the pipeline: it must not block.
pub trait Metrics: Send + Sync {
    /// Adds `value` to a counter.
    fn record_counter(&self, name: &str, tags: &[(&str, &str)], value: i64);

    /// Sets a gauge to `value`.
    fn record_gauge(&self, name: &str, tags: &[(&str, &str)], value: f64);

    /// Adds a sample to a distribution.
    fn record_histogram(&self, name: &str, tags: &[(&str, &str)], value: f64);
}

/// Forgets everything. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn record_counter(&self, _name: &str, _tags: &[(&str, &str)], _value: i64) {}
    fn record_gauge(&self, _name: &str, _tags: &[(&str, &str)], _value: f64) {}
    fn record_histogram(&self, _name: &str, _tags: &[(&str, &str)], _value: f64) {}
}

/// A series: a name and its tags, sorted.
type Series = (String, Vec<(String, String)>);

fn series(name: &str, tags: &[(&str, &str)]) -> Series {
    let mut tags: Vec<_> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    tags.sort();
    (name.to_owned(), tags)
}

#[derive(Debug, Default)]
struct Recorded {
    counters: BTreeMap<Series, i64>,
    gauges: BTreeMap<Series, f64>,
    histograms: BTreeMap<Series, Vec<f64>>,
}

/// Keeps every series, and every sample, without bound. For tests. The order of tags does not matter.
#[derive(Debug, Default)]
pub struct MemoryMetrics {
    recorded: Mutex<Recorded>,
}

impl MemoryMetrics {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of what was added to a counter; 0 if nothing was. Saturates.
    pub fn counter(&self, name: &str, tags: &[(&str, &str)]) -> i64 {
        self.lock().counters.get(&series(name, tags)).copied().unwrap_or(0)
    }

    /// The sum of a counter over all tags. Saturates.
    pub fn counter_total(&self, name: &str) -> i64 {
        let recorded = self.lock();
        let counts = recorded.counters.iter().filter(|((n, _), _)| n == name).map(|(_, count)| *count);
        counts.fold(0, i64::saturating_add)
    }

    /// The last value of a gauge.
    pub fn gauge(&self, name: &str, tags: &[(&str, &str)]) -> Option<f64> {
        self.lock().gauges.get(&series(name, tags)).copied()
    }

    /// The samples of a distribution, in the order they came.
    pub fn histogram(&self, name: &str, tags: &[(&str, &str)]) -> Vec<f64> {
        self.lock().histograms.get(&series(name, tags)).cloned().unwrap_or_default()
    }
}

impl Metrics for MemoryMetrics {
    fn record_counter(&self, name: &str, tags: &[(&str, &str)], value: i64) {
        let mut recorded = self.lock();
        let count = recorded.counters.entry(series(name, tags)).or_default();
        *count = count.saturating_add(value);
    }

    fn record_gauge(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        self.lock().gauges.insert(series(name, tags), value);
    }

    fn record_histogram(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        self.lock().histograms.entry(series(name, tags)).or_default().push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_per_series_whatever_the_order_of_tags() {
        let memory = MemoryMetrics::default();
        let metrics: &dyn Metrics = &memory;
        metrics.record_counter("items", &[("stage", "a"), ("core", "0")], 2);
        metrics.record_counter("items", &[("core", "0"), ("stage", "a")], 3);
        metrics.record_counter("items", &[("core", "1"), ("stage", "a")], 10);
        metrics.record_counter("other", &[], i64::MAX);
        metrics.record_counter("other", &[], 1);
        assert_eq!(memory.counter("items", &[("stage", "a"), ("core", "0")]), 5);
        assert_eq!((memory.counter_total("items"), memory.counter("items", &[])), (15, 0));
        assert_eq!(memory.counter_total("other"), i64::MAX);
    }

    #[test]
    fn a_gauge_keeps_the_last_value_and_a_histogram_every_sample() {
        let memory = MemoryMetrics::default();
        for value in [1.0, 3.0, 2.0] {
            memory.record_gauge("depth", &[], value);
            memory.record_histogram("latency", &[("q", "x")], value);
        }
        assert_eq!((memory.gauge("depth", &[]), memory.gauge("latency", &[("q", "x")])), (Some(2.0), None));
        assert_eq!(memory.histogram("latency", &[("q", "x")]), [1.0, 3.0, 2.0]);
        assert!(memory.histogram("latency", &[]).is_empty());
    }
}
