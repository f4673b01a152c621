//! Everything a run has given, as data: what a record keeps, and what plots and pages are made from.

use serde::Serialize;

use super::marks::{self, Judgement};
use super::{Row, plot, rows};
use crate::cpu_time::Disturbance;
use crate::environment::Environment;
use crate::harness::{Repetition, Results, Runs};
use crate::stats::{Ratio, Summary};

/// A run of the harness. The field names are an interface.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where and from what.
    pub environment: Environment,
    /// What was asked for.
    pub command: Vec<String>,
    /// One for each case that ran.
    pub cases: Vec<CaseRecord>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseRecord {
    /// The workload.
    pub workload: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// Cores used.
    pub cores: usize,
    /// The amount of work.
    pub work: String,
    /// The kind of link whose repetitions are compared.
    pub judged: &'static str,
    /// Who else used the CPUs meanwhile.
    pub disturbance: Option<Disturbance>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Every figure over the judged kind of link.
    pub figures: Vec<Figure>,
    /// Every repetition of every system, the ones not compared too.
    pub systems: Vec<SystemRecord>,
    /// What was to be reached, and whether it was.
    pub marks: Vec<Judgement>,
}

/// One figure of one system.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The system.
    pub system: &'static str,
    /// What the figure is.
    pub metric: &'static str,
    /// Median, spread and interval.
    #[serde(flatten)]
    pub summary: Summary,
    /// For each reference its name and the ratio to it.
    pub ratios: Vec<(&'static str, Option<Ratio>)>,
}

/// What one system did.
#[derive(Clone, Debug, Serialize)]
pub struct SystemRecord {
    /// The system.
    pub system: &'static str,
    /// In the order in which they ran.
    pub repetitions: Vec<RepetitionRecord>,
    /// Of a latency run, all judged repetitions together: quantiles (0 to 1) with nanoseconds.
    pub percentiles: Vec<(f64, f64)>,
    /// Stalls of the machine that it saw: how many a second, the longest in nanoseconds, the share of time lost.
    pub hiccups: Option<(f64, u64, f64)>,
    /// The longest share of its time for which its sender waited for its core, of the compared repetitions.
    pub sender_waited: Option<f64>,
}

/// One repetition.
#[derive(Clone, Debug, Serialize)]
pub struct RepetitionRecord {
    /// How far apart the cores were.
    pub link: &'static str,
    /// Round trips before and after, in nanoseconds.
    pub round_trips_ns: Option<[f64; 2]>,
    /// Page faults of the process meanwhile.
    pub page_faults: Option<u64>,
    /// Metrics with their values.
    pub figures: Vec<(&'static str, f64)>,
    /// The share of its time for which the sender waited for its core.
    pub sender_waited: Option<f64>,
}

impl From<&Repetition> for RepetitionRecord {
    fn from(one: &Repetition) -> Self {
        let figures = one.figures.iter().map(|(metric, value)| (metric.name(), *value)).collect();
        let Repetition { round_trips_ns, page_faults, sender_waited, .. } = *one;
        Self { link: one.link.name(), round_trips_ns, page_faults, figures, sender_waited }
    }
}

impl SystemRecord {
    fn of(runs: &Runs, results: &Results) -> Self {
        let points = runs.spread(results.judged).map(|spread| plot::curve(&spread)).unwrap_or_default();
        let hiccups = runs.hiccups.map(|seen| (seen.per_second(), seen.longest_ns, seen.lost()));
        Self {
            system: runs.system,
            repetitions: runs.repetitions.iter().map(RepetitionRecord::from).collect(),
            percentiles: points.into_iter().map(|(nines, ns)| (1.0 - 10f64.powf(-nines), ns)).collect(),
            hiccups,
            sender_waited: runs.sender_waited(results.judged),
        }
    }
}

impl From<Row> for Figure {
    fn from(row: Row) -> Self {
        Self { system: row.system, metric: row.metric.name(), summary: row.summary, ratios: row.ratios }
    }
}

impl From<&Results> for CaseRecord {
    fn from(results: &Results) -> Self {
        Self {
            workload: results.workload,
            variant: results.variant,
            cores: results.cores,
            work: results.work.clone(),
            judged: results.judged.name(),
            disturbance: results.disturbance,
            notes: results.notes.clone(),
            figures: rows(results).into_iter().map(Figure::from).collect(),
            systems: results.runs.iter().map(|runs| SystemRecord::of(runs, results)).collect(),
            marks: marks::judge(results),
        }
    }
}
