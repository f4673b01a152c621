//! Measurements at one time, as data: what adapters turn into the formats of other systems.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Distribution;

/// What the numbers of a family mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// Counts since the start; they never go down.
    Counter,
    /// What is so now.
    Gauge,
    /// Distributions since the start.
    Histogram,
}

/// A number of a family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricValue {
    /// A whole number, exact.
    Count(u64),
    /// Any number.
    Number(f64),
    /// A distribution, in families of that kind only.
    Distribution(Distribution),
}

impl From<u64> for MetricValue {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// One series of a family: its labels, and its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// Names and values; names are unique.
    pub labels: Vec<(Cow<'static, str>, String)>,
    /// The value.
    pub value: MetricValue,
}

/// All series of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricFamily {
    /// Its name, with the unit, without the suffix `_total` that some formats give to counters.
    pub name: Cow<'static, str>,
    /// What it says, in a sentence.
    pub help: Cow<'static, str>,
    /// What its numbers mean.
    pub kind: MetricKind,
    /// Its series; no two have the same labels.
    pub samples: Vec<MetricSample>,
}

/// Measurements at one time. Names of families are unique.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsSnapshot {
    /// In the order in which they were added.
    pub families: Vec<MetricFamily>,
}

/// A label of a [`MetricSample`].
pub type Label = (Cow<'static, str>, String);

impl MetricsSnapshot {
    /// The family called `name`.
    pub fn family(&self, name: &str) -> Option<&MetricFamily> {
        self.families.iter().find(|family| family.name == name)
    }

    /// Starts a family that may have no series yet.
    pub fn declare(&mut self, name: &'static str, help: &'static str, kind: MetricKind) {
        let (name, help) = (name.into(), help.into());
        self.families.push(MetricFamily { name, help, kind, samples: Vec::new() });
    }

    /// Adds a series; starts its family if need be. The caller sees to it that no series comes twice.
    pub fn add(
        &mut self,
        (name, help, kind): (impl Into<Cow<'static, str>>, impl Into<Cow<'static, str>>, MetricKind),
        labels: Vec<Label>,
        value: MetricValue,
    ) {
        let (name, sample) = (name.into(), MetricSample { labels, value });
        // The family added last first: series come family by family.
        match self.families.iter_mut().rev().find(|family| family.name == name) {
            Some(family) => family.samples.push(sample),
            None => self.families.push(MetricFamily { name, help: help.into(), kind, samples: vec![sample] }),
        }
    }

    /// Adds everything in `other`. A family or a series that is there already stays as it is, and the other is left out: the
    /// number of series that were.
    pub fn merge(&mut self, other: Self) -> usize {
        let mut left_out = 0;
        let mut places: BTreeMap<Cow<'static, str>, usize> =
            self.families.iter().enumerate().map(|(at, family)| (family.name.clone(), at)).collect();
        for family in other.families {
            let Some(&at) = places.get(&family.name) else {
                places.insert(family.name.clone(), self.families.len());
                self.families.push(family);
                continue;
            };
            let own = &mut self.families[at];
            for sample in family.samples {
                if own.kind == family.kind && own.samples.iter().all(|s| s.labels != sample.labels) {
                    own.samples.push(sample);
                } else {
                    left_out += 1;
                }
            }
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &'static str, kind: MetricKind, label: &str, value: u64) -> MetricsSnapshot {
        let mut snapshot = MetricsSnapshot::default();
        snapshot.add((name, "Help.", kind), vec![("l".into(), label.to_owned())], MetricValue::Count(value));
        snapshot
    }

    #[test]
    fn series_of_one_name_form_one_family() {
        let mut all = snapshot("a", MetricKind::Counter, "x", 1);
        assert_eq!(all.merge(snapshot("a", MetricKind::Counter, "y", 2)), 0);
        assert_eq!(all.merge(snapshot("b", MetricKind::Gauge, "x", 3)), 0);
        assert_eq!(all.families.len(), 2);
        assert_eq!(all.family("a").unwrap().samples.len(), 2);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<MetricsSnapshot>(&text).unwrap(), all);
    }

    #[test]
    fn a_series_that_is_there_and_a_name_of_another_kind_are_left_out_and_counted() {
        let mut all = snapshot("a", MetricKind::Counter, "x", 1);
        assert_eq!(all.merge(snapshot("a", MetricKind::Counter, "x", 2)), 1);
        assert_eq!(all.merge(snapshot("a", MetricKind::Gauge, "y", 2)), 1);
        assert_eq!(all, snapshot("a", MetricKind::Counter, "x", 1));
    }
}
