//! Snapshots in the formats of Prometheus, through its own client library. Feature `prometheus`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{MetricFamily, MetricKind, MetricSample, MetricValue, MetricsSnapshot};

/// The `Content-Type` of what [`text`] returns.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// `snapshot` in the Prometheus text format, version 0.0.4.
///
/// What that format does not allow in names becomes `_`; of families and series that become equal by that, the first is
/// kept, and `corelane_exposition_left_out` says how many were not.
///
/// ```
/// use corelane::observe::{Metrics, MetricsRegistry, prometheus};
///
/// let registry = MetricsRegistry::new();
/// registry.record_counter("http.requests", &[("path", "/a\"b")], 2);
/// let text = prometheus::text(&registry.snapshot());
/// assert!(text.contains("http_requests_total{path=\"/a\\\"b\"} 2\n"), "{text}");
/// ```
pub fn text(snapshot: &MetricsSnapshot) -> String {
    let snapshot = snapshot.clone();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SnapshotCollector::new(move || snapshot.clone())));
    let mut text = String::new();
    // Only the writer could fail, and a string does not.
    let written = prometheus_client::encoding::prometheus_text::encode(&mut text, &registry);
    debug_assert!(written.is_ok());
    text
}

/// Puts snapshots into a `prometheus_client` registry of your own: one is taken for each scrape.
pub struct SnapshotCollector<F>(F);

impl<F: Fn() -> MetricsSnapshot + Send + Sync + 'static> SnapshotCollector<F> {
    /// Takes snapshots from `take`, for example `move || monitor.metrics()`.
    pub fn new(take: F) -> Self {
        Self(take)
    }
}

impl<F> fmt::Debug for SnapshotCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotCollector")
    }
}

impl<F: Fn() -> MetricsSnapshot + Send + Sync + 'static> Collector for SnapshotCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in clean((self.0)()).families {
            let kind = match family.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(&family.name, &family.help, None, kind)?;
            for MetricSample { labels, value } in &family.samples {
                let mut series = metric.encode_family(labels)?;
                match (family.kind, value) {
                    (MetricKind::Counter, MetricValue::Count(n)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(n, None)?;
                    }
                    (MetricKind::Counter, MetricValue::Number(n)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(n, None)?;
                    }
                    (_, MetricValue::Count(n)) => series.encode_gauge(n)?,
                    (_, MetricValue::Number(n)) => series.encode_gauge(n)?,
                    (_, MetricValue::Distribution(d)) => {
                        series.encode_histogram::<NoLabelSet>(d.sum, d.count, &d.buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The snapshot with the names that the format allows.
fn clean(snapshot: MetricsSnapshot) -> MetricsSnapshot {
    let mut cleaned = MetricsSnapshot::default();
    let mut left_out = 0;
    for mut family in snapshot.families {
        let fits = family.samples.len();
        family.samples.retain(|sample| {
            matches!(sample.value, MetricValue::Distribution(_)) == (family.kind == MetricKind::Histogram)
        });
        left_out += fits - family.samples.len();
        let samples = std::mem::take(&mut family.samples);
        family.name = metric_name(family.name, family.kind);
        // A line break in the help would end it; some readers take even an escaped one amiss.
        family.help = family.help.replace(char::is_control, " ").into();
        for mut sample in samples {
            sample.labels = label_names(sample.labels);
            let one = MetricFamily { samples: vec![sample], ..family.clone() };
            left_out += cleaned.merge(MetricsSnapshot { families: vec![one] });
        }
    }
    if left_out > 0 {
        let help = "Series left out because their names are equal in this format.";
        let about = ("corelane_exposition_left_out", help, MetricKind::Gauge);
        cleaned.add(about, Vec::new(), MetricValue::Count(left_out as u64));
    }
    cleaned
}

fn name(text: Cow<'static, str>) -> Cow<'static, str> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
    if !text.is_empty() && !digit_first && text.chars().all(good) {
        return text;
    }
    let replaced = text.chars().map(|c| if good(c) { c } else { '_' });
    let first = (digit_first || text.is_empty()).then_some('_');
    first.into_iter().chain(replaced).collect::<String>().into()
}

/// The format gives suffixes to the series of counters and histograms: no name may look as if it had one.
fn metric_name(text: Cow<'static, str>, kind: MetricKind) -> Cow<'static, str> {
    let name = name(text);
    if kind == MetricKind::Counter {
        return match name.strip_suffix("_total") {
            Some(bare) if !bare.is_empty() => bare.to_owned().into(),
            _ => name,
        };
    }
    let taken = ["_total", "_count", "_sum", "_bucket"];
    if taken.iter().any(|suffix| name.ends_with(suffix)) { format!("{name}_value").into() } else { name }
}

fn label_names(labels: Vec<super::Label>) -> Vec<super::Label> {
    let mut used = BTreeSet::from(["le".to_owned(), "quantile".to_owned()]);
    let unique = |(label, value): super::Label| {
        let mut label = name(label);
        // Names that start with two are the system's own.
        if let Some(rest) = label.strip_prefix("__") {
            label = rest.trim_start_matches('_').to_owned().into();
            label = name(label);
        }
        while !used.insert(label.to_string()) {
            label = format!("{label}_").into();
        }
        (label, value)
    };
    labels.into_iter().map(unique).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Metrics, MetricsRegistry};

    fn line(registry: &MetricsRegistry, start: &str) -> String {
        let text = text(&registry.snapshot());
        let found = text.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
    }

    #[test]
    fn each_kind_is_written_in_its_own_way() {
        let registry = MetricsRegistry::new();
        registry.record_counter("items_total", &[], 7);
        registry.record_gauge("depth", &[("stage", "a")], 2.5);
        registry.record_histogram("wait_seconds", &[], 0.3);
        registry.record_histogram("wait_seconds", &[], 1e9);
        assert_eq!(line(&registry, "items_total"), "items_total 7");
        assert_eq!(line(&registry, "# TYPE items"), "# TYPE items_total counter");
        assert_eq!(line(&registry, "depth{"), "depth{stage=\"a\"} 2.5");
        assert_eq!(line(&registry, "wait_seconds_bucket{le=\"0.25\"}"), "wait_seconds_bucket{le=\"0.25\"} 0");
        assert_eq!(line(&registry, "wait_seconds_bucket{le=\"0.5\"}"), "wait_seconds_bucket{le=\"0.5\"} 1");
        assert_eq!(line(&registry, "wait_seconds_bucket{le=\"+Inf\"}"), "wait_seconds_bucket{le=\"+Inf\"} 2");
        assert_eq!(line(&registry, "wait_seconds_count"), "wait_seconds_count 2");
    }

    #[test]
    fn values_of_labels_are_escaped_and_names_are_replaced_fault_104() {
        let registry = MetricsRegistry::new();
        registry.record_gauge(
            "9 lives\n",
            &[("a.b", "q\"uo\nte\\"), ("gr\u{f6}\u{df}e", "\u{e9}\u{1f600}")],
            1.0,
        );
        let expected = "_9_lives_{a_b=\"q\\\"uo\\nte\\\\\",gr__e=\"\u{e9}\u{1f600}\"} 1.0";
        assert_eq!(line(&registry, "_9_lives_{"), expected);
    }

    #[test]
    fn names_that_become_equal_or_look_like_a_suffix_do_not_clash() {
        let registry = MetricsRegistry::new();
        registry.record_counter("a.b", &[], 1);
        registry.record_counter("a_b", &[], 2);
        registry.record_gauge("a_b_total", &[], 3.0);
        registry.record_gauge("h_count", &[("le", "x"), ("__le", "y"), ("l.e", "z"), ("l-e", "")], 4.0);
        registry.record_histogram("h", &[], 5.0);
        assert_eq!(line(&registry, "a_b_total"), "a_b_total 1");
        assert_eq!(line(&registry, "a_b_total_value"), "a_b_total_value 3.0");
        assert_eq!(line(&registry, "h_count"), "h_count 1");
        let labels = line(&registry, "h_count_value{");
        assert_eq!(labels, "h_count_value{le_=\"y\",l_e=\"\",l_e_=\"z\",le__=\"x\"} 4.0");
        assert_eq!(line(&registry, "corelane_exposition_left_out"), "corelane_exposition_left_out 1");
    }
}
