//! Measurements of user code, kept for adapters to read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam::sync::ShardedLock;

use super::latency::Samples;
use super::{MetricKind, MetricValue, Metrics, MetricsSnapshot};

/// Series of one registry at most. A tag with endless values (an id, a time) would otherwise fill the memory.
const MOST_SERIES: usize = 10_000;

/// Keeps what stages record through [`Metrics`], one number or distribution per name and tags.
///
/// Recording looks the series up under a lock that recording threads share and that only a new series takes for itself;
/// nobody waits for a reader of numbers, and of a distribution no longer than it takes to read that one. Still, it costs
/// a look-up by text: a stage on the hot path counts in a field of its own and records once per batch.
///
/// Histograms take numbers from 0 to 1.8e10 in steps of 1e-9, to two significant digits. A number that does not fit, a
/// counter that would go down, a name that was used for another kind, and series beyond 10 000 are not recorded
/// but counted: see [`rejected`](Self::rejected).
#[derive(Debug, Default)]
pub struct MetricsRegistry {
    series: ShardedLock<BTreeMap<String, Named>>,
    count: AtomicU64,
    rejected: AtomicU64,
}

/// All series of one name. Few tags' sets are common, many are not: a list that is searched in order of age.
#[derive(Debug)]
struct Named {
    kind: MetricKind,
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    /// Sorted by name.
    tags: Vec<(String, String)>,
    cell: Cell,
}

#[derive(Debug)]
enum Cell {
    Counter(AtomicU64),
    /// The bits of an `f64`.
    Gauge(AtomicU64),
    Histogram(Mutex<Samples>),
}

impl Cell {
    fn new(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter(AtomicU64::new(0)),
            MetricKind::Gauge => Self::Gauge(AtomicU64::new(0)),
            MetricKind::Histogram => Self::Histogram(Mutex::default()),
        }
    }

    /// True if `value` was recorded.
    fn record(&self, value: Recorded) -> bool {
        match (self, value) {
            (Self::Counter(cell), Recorded::Count(n)) => {
                let saturated = |count: u64| Some(count.saturating_add(n));
                cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturated).is_ok()
            }
            (Self::Gauge(cell), Recorded::Gauge(value)) => {
                cell.store(value.to_bits(), Ordering::Relaxed);
                true
            }
            (Self::Histogram(samples), Recorded::Sample(value)) => {
                samples.lock().unwrap_or_else(PoisonError::into_inner).record(value)
            }
            _ => false,
        }
    }

    fn read(&self) -> MetricValue {
        match self {
            Self::Counter(cell) => MetricValue::Count(cell.load(Ordering::Relaxed)),
            Self::Gauge(cell) => MetricValue::Number(f64::from_bits(cell.load(Ordering::Relaxed))),
            Self::Histogram(samples) => {
                let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                MetricValue::Distribution(samples.distribution())
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Recorded {
    Count(u64),
    Gauge(f64),
    Sample(f64),
}

impl Recorded {
    fn kind(self) -> MetricKind {
        match self {
            Self::Count(_) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
            Self::Sample(_) => MetricKind::Histogram,
        }
    }
}

/// Whether `tags`, in any order, are these sorted ones.
fn same(sorted: &[(String, String)], tags: &[(&str, &str)]) -> bool {
    sorted.len() == tags.len()
        && tags.iter().all(|(name, value)| {
            let at = sorted.binary_search_by(|(own, _)| own.as_str().cmp(name));
            at.is_ok_and(|at| sorted[at].1 == *value)
        })
}

impl MetricsRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Recordings that did not fit and are not in any number.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Everything recorded so far, by name; and [`rejected`](Self::rejected) as `corelane_metrics_rejected`.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let mut snapshot = MetricsSnapshot::default();
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        for (name, named) in &*all {
            let help = format!("Recorded by stages as {name}.");
            for series in &named.series {
                let labels = series.tags.iter().map(|(name, value)| (name.clone().into(), value.clone()));
                let about = (name.clone(), help.clone(), named.kind);
                snapshot.add(about, labels.collect(), series.cell.read());
            }
        }
        drop(all);
        let about = (
            "corelane_metrics_rejected",
            "Measurements of stages that did not fit and were left out.",
            MetricKind::Counter,
        );
        snapshot.add(about, Vec::new(), MetricValue::Count(self.rejected()));
        snapshot
    }

    fn record(&self, name: &str, tags: &[(&str, &str)], value: Recorded) {
        if !self.try_record(name, tags, value) && !self.record_new(name, tags, value) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True if the series is there and took the value.
    fn try_record(&self, name: &str, tags: &[(&str, &str)], value: Recorded) -> bool {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let named = all.get(name).filter(|named| named.kind == value.kind());
        let series = named.and_then(|named| named.series.iter().find(|series| same(&series.tags, tags)));
        series.is_some_and(|series| series.cell.record(value))
    }

    #[cold]
    fn record_new(&self, name: &str, tags: &[(&str, &str)], value: Recorded) -> bool {
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        sorted.sort();
        let unique = sorted.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let is_full = self.count.load(Ordering::Relaxed) >= MOST_SERIES as u64;
        if !unique || is_full {
            return false;
        }
        let kind = value.kind();
        let named = all.entry(name.to_owned()).or_insert_with(|| Named { kind, series: Vec::new() });
        // Another thread may have been first; and what the series refused it would refuse again.
        if named.kind != kind || named.series.iter().any(|series| series.tags == sorted) {
            let series = named.series.iter().find(|series| series.tags == sorted);
            return named.kind == kind && series.is_some_and(|series| series.cell.record(value));
        }
        let cell = Cell::new(kind);
        let fits = cell.record(value);
        if fits {
            self.count.fetch_add(1, Ordering::Relaxed);
            named.series.push(Series { tags: sorted, cell });
        }
        fits
    }
}

impl Metrics for MetricsRegistry {
    fn record_counter(&self, name: &str, tags: &[(&str, &str)], value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record(name, tags, Recorded::Count(value)),
            Err(_) => _ = self.rejected.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn record_gauge(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        self.record(name, tags, Recorded::Gauge(value));
    }

    fn record_histogram(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        self.record(name, tags, Recorded::Sample(value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::MemoryMetrics;

    fn count(registry: &MetricsRegistry, name: &str, tags: &[(&str, &str)]) -> Option<MetricValue> {
        let snapshot = registry.snapshot();
        let found = snapshot.family(name)?.samples.iter().find(|sample| {
            let labels: Vec<_> = sample.labels.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
            same(&labels, tags)
        });
        found.map(|sample| sample.value.clone())
    }

    proptest! {
        #[test]
        fn counters_and_gauges_agree_with_the_plain_keeper(
            recordings in prop::collection::vec((0u8..2, 0usize..3, 0usize..4, 0u32..100), 0..60),
        ) {
            let (registry, plain) = (MetricsRegistry::new(), MemoryMetrics::default());
            let tags: [&[(&str, &str)]; 4] = [&[], &[("a", "1")], &[("a", "1"), ("b", "2")], &[("b", "2"), ("a", "1")]];
            for (kind, name, t, value) in recordings {
                for to in [&registry as &dyn Metrics, &plain] {
                    match kind {
                        0 => to.record_counter(["c0", "c1", "c2"][name], tags[t], value.into()),
                        _ => to.record_gauge(["g0", "g1", "g2"][name], tags[t], value.into()),
                    }
                }
            }
            for name in ["c0", "c1", "c2"] {
                for tags in tags {
                    let found = count(&registry, name, tags).unwrap_or(MetricValue::Count(0));
                    prop_assert_eq!(found, MetricValue::Count(plain.counter(name, tags).try_into().unwrap()));
                }
            }
            for name in ["g0", "g1", "g2"] {
                for tags in tags {
                    prop_assert_eq!(count(&registry, name, tags), plain.gauge(name, tags).map(MetricValue::Number));
                }
            }
            prop_assert_eq!(registry.rejected(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_changes_nothing() {
        let registry = MetricsRegistry::new();
        registry.record_counter("n", &[], 3);
        registry.record_counter("n", &[], -1);
        registry.record_gauge("n", &[], 1.0);
        registry.record_counter("n", &[("a", "1"), ("a", "2")], 1);
        registry.record_histogram("h", &[], -0.5);
        assert_eq!((registry.rejected(), count(&registry, "n", &[])), (4, Some(MetricValue::Count(3))));
        assert_eq!(count(&registry, "h", &[]), None);
        let snapshot = registry.snapshot();
        let rejected = &snapshot.family("corelane_metrics_rejected").unwrap().samples[0];
        assert_eq!(rejected.value, MetricValue::Count(4));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let registry = MetricsRegistry::new();
        for i in 0..MOST_SERIES + 5 {
            // Under many names, as the tags of one name are searched in order.
            registry.record_counter(&format!("n{}", i % 1_000), &[("id", &i.to_string())], 1);
        }
        assert_eq!(registry.rejected(), 5);
        let series: usize = registry.snapshot().families.iter().map(|family| family.samples.len()).sum();
        assert_eq!(series, MOST_SERIES + 1, "and the rejected ones");
    }

    #[test]
    fn threads_that_record_at_the_same_time_lose_nothing() {
        let registry = MetricsRegistry::new();
        std::thread::scope(|scope| {
            for thread in ["0", "1", "2", "3"] {
                let registry = &registry;
                scope.spawn(move || {
                    for i in 0..1_000 {
                        registry.record_counter("shared", &[], 1);
                        registry.record_histogram("size", &[("thread", thread)], f64::from(i));
                    }
                });
            }
        });
        assert_eq!(count(&registry, "shared", &[]), Some(MetricValue::Count(4_000)));
        let Some(MetricValue::Distribution(sizes)) = count(&registry, "size", &[("thread", "2")]) else {
            panic!("no distribution");
        };
        assert_eq!((sizes.count, sizes.sum), (1_000, 499_500.0));
    }
}
