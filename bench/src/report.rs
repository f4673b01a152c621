//! Results as a table for people and as JSON lines for programs.

pub mod marks;
pub mod page;
pub mod plot;
pub mod record;

use std::fmt::Write as _;

use corelane::model::columns;
use serde::Serialize;

use crate::case::Metric;
use crate::harness::{Results, Runs};
use crate::link::Link;
use crate::share::SHARED;
use crate::stats::{self, Ratio, Summary};

/// One figure of one system: a line of JSON. The field names are an interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The workload.
    pub workload: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// The system.
    pub system: &'static str,
    /// Cores used.
    pub cores: usize,
    /// What the figure is.
    pub metric: &'static str,
    /// The median of the repetitions that are compared.
    pub value: f64,
    /// The system that `ratio` is taken to.
    pub ratio_to: Option<&'static str>,
    /// Value over the reference's value. Null if the two have no repetitions of the same kind.
    pub ratio: Option<f64>,
}

/// A row of the table: a [`Line`]'s figure with its spread.
#[derive(Clone, Debug)]
pub struct Row {
    /// The system.
    pub system: &'static str,
    /// What the figure is.
    pub metric: Metric,
    /// Median and spread.
    pub summary: Summary,
    /// For each reference its name and the ratio to it.
    pub ratios: Vec<(&'static str, Option<Ratio>)>,
}

/// Every figure of a case, by metric, then in the order of its systems. Only repetitions over the judged kind of
/// link take part; a figure without any is left out.
pub fn rows(results: &Results) -> Vec<Row> {
    let mut metrics: Vec<Metric> = results.runs.iter().flat_map(Runs::metrics).collect();
    metrics.sort();
    metrics.dedup();
    let pairs = metrics.iter().flat_map(|&metric| results.runs.iter().map(move |runs| (metric, runs)));
    pairs.filter_map(|(metric, runs)| row(results, metric, runs)).collect()
}

fn row(results: &Results, metric: Metric, runs: &Runs) -> Option<Row> {
    let values = runs.values(metric, results.judged);
    let to = |&name: &&'static str| {
        let reference = results.runs.iter().find(|runs| runs.system == name);
        (name, reference.and_then(|other| stats::ratio(&values, &other.values(metric, results.judged))))
    };
    let ratios = results.references.iter().map(to).collect();
    Some(Row { system: runs.system, metric, summary: stats::summarise(&values)?, ratios })
}

/// The figures as lines of JSON: one for each system, metric and reference.
///
/// # Errors
/// None in practice: every field can be written as JSON.
pub fn json(results: &Results) -> serde_json::Result<String> {
    let mut text = String::new();
    for row in rows(results) {
        let mut ratios: Vec<_> = row.ratios.iter().map(|(name, ratio)| (Some(*name), *ratio)).collect();
        if ratios.is_empty() {
            ratios.push((None, None));
        }
        for (ratio_to, ratio) in ratios {
            let line = Line {
                workload: results.workload,
                variant: results.variant,
                system: row.system,
                cores: results.cores,
                metric: row.metric.name(),
                value: row.summary.median,
                ratio_to,
                ratio: ratio.map(|ratio| ratio.value),
            };
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The figures as a table, with what must be known to judge them.
pub fn table(results: &Results) -> String {
    let mut text = format!("{}/{}: {}\n", results.workload, results.variant, results.work);
    let _ = writeln!(text, "  {}", kinds(results));
    let mut cells =
        vec![["system", "metric", "median", "min..max", "95% of median", "ratio"].map(String::from)];
    for row in rows(results) {
        let number = |value| scaled(row.metric, value);
        let range = |range: stats::Interval| format!("{}..{}", number(range.low), number(range.high));
        let ratios: Vec<String> = row.ratios.iter().map(|(name, ratio)| ratio_cell(name, *ratio)).collect();
        let (median, all, likely) = (row.summary.median, row.summary.spread, row.summary.interval);
        let names = [row.system.to_owned(), label(row.metric).to_owned()];
        let [system, metric] = names;
        cells.push([system, metric, number(median), range(all), range(likely), ratios.join(", ")]);
    }
    text.push_str(&columns("  ", &cells, 2..5));
    for runs in &results.runs {
        if let Some(seen) = &runs.hiccups {
            let (gaps, longest) = (seen.per_second(), seen.longest_ns as f64 / 1e3);
            let lost = 100.0 * seen.lost();
            let what =
                format!("{gaps:.0} gaps > 1 us a second, longest {longest:.0} us, {lost:.3} % of the time");
            let _ = writeln!(text, "  hiccups ({}): {what}", runs.system);
        }
    }
    text.push_str(&senders(results));
    text.push_str(&page_faults(results));
    results.notes.iter().for_each(|note| {
        let _ = writeln!(text, "  note: {note}");
    });
    marks::judge(results).iter().for_each(|judgement| {
        let _ = writeln!(text, "  mark: {judgement}");
    });
    text
}

/// Whether senders had their cores to themselves.
fn senders(results: &Results) -> String {
    let mut text = String::new();
    for runs in &results.runs {
        let Some(waited) = runs.sender_waited(results.judged) else { continue };
        let verdict = match runs.shared() {
            _ if waited > SHARED => ": IT SHARED ITS CORE, this is no open loop".to_owned(),
            0 => String::new(),
            shared => format!("; {shared} repetitions in which it had to share it are left out"),
        };
        let share = 100.0 * waited;
        let _ = writeln!(
            text,
            "  sender ({}): waited for its core for at most {share:.2} % of its time{verdict}",
            runs.system
        );
    }
    text
}

/// How often memory had to be fetched from the operating system in a repetition, fewest and most.
fn page_faults(results: &Results) -> String {
    let of = |runs: &Runs| {
        let faults = || runs.repetitions.iter().filter_map(|one| one.page_faults);
        Some(format!("{} {}..{}", runs.system, faults().min()?, faults().max()?))
    };
    let all: Vec<String> = results.runs.iter().filter_map(of).collect();
    if all.is_empty() { String::new() } else { format!("  page faults: {}\n", all.join(", ")) }
}

/// How many repetitions there are of which kind, and which are compared.
fn kinds(results: &Results) -> String {
    let disturbance = results
        .disturbance
        .map_or_else(|| "steal and other load unknown".to_owned(), |seen| seen.to_string());
    let repetitions = results.runs.iter().map(|runs| runs.repetitions.len()).max().unwrap_or(0);
    if results.judged == Link::Single {
        return format!("1 core, {repetitions} repetitions each, {disturbance}");
    }
    let count = |link| results.runs.iter().map(|runs| runs.count(link)).sum::<usize>();
    let all = results.runs.iter().flat_map(|runs| &runs.repetitions);
    let round_trips: Vec<f64> = all.filter_map(|one| one.round_trips_ns).flatten().collect();
    let kinds = [Link::Sibling, Link::Near, Link::Far, Link::Mixed];
    let kinds = kinds.map(|link| format!("{} {}", count(link), link.name()));
    let round_trip = stats::summarise(&round_trips).map_or_else(String::new, |seen| {
        format!(", round trip {:.0}..{:.0} ns", seen.spread.low, seen.spread.high)
    });
    let (cores, judged) = (results.cores, results.judged.name());
    let kinds = kinds.join(", ");
    format!(
        "{cores} cores, {repetitions} repetitions each ({kinds}): {judged} ones compared{round_trip}, {disturbance}"
    )
}

fn ratio_cell(name: &str, ratio: Option<Ratio>) -> String {
    match ratio {
        Some(Ratio { value, interval }) => {
            format!("{value:.3} of {name} ({:.3}..{:.3})", interval.low, interval.high)
        }
        None => format!("not comparable to {name}"),
    }
}

fn label(metric: Metric) -> &'static str {
    if metric == Metric::ItemsPerSecond { "M items/s" } else { metric.name() }
}

fn scaled(metric: Metric, value: f64) -> String {
    match metric {
        Metric::ItemsPerSecond => format!("{:.1}", value / 1e6),
        Metric::NsPerPair => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu_time::Disturbance;
    use crate::harness::Repetition;

    fn runs(system: &'static str, repetitions: &[(Link, f64)]) -> Runs {
        let one = |&(link, value): &(Link, f64)| Repetition {
            link,
            round_trips_ns: Some([110.0, 120.0]),
            figures: vec![(Metric::ItemsPerSecond, value)],
            ..Repetition::default()
        };
        Runs { system, repetitions: repetitions.iter().map(one).collect(), hiccups: None }
    }

    fn results(judged: Link, runs: Vec<Runs>) -> Results {
        Results {
            workload: "chain",
            variant: "bare",
            cores: 1,
            work: "some work".to_owned(),
            references: vec!["hand"],
            runs,
            notes: vec!["a note".to_owned()],
            disturbance: Some(Disturbance { steal: 0.125, others: 0.5 }),
            judged,
        }
    }

    #[test]
    fn a_line_of_json_has_the_promised_fields_in_the_promised_order() {
        let single = |name, value| runs(name, &[(Link::Single, value)]);
        let text = json(&results(Link::Single, vec![single("hand", 2e9), single("corelane", 1e9)])).unwrap();
        let expected = concat!(
            r#"{"workload":"chain","variant":"bare","system":"corelane","cores":1,"metric":"items_per_s","#,
            r#""value":1000000000.0,"ratio_to":"hand","ratio":0.5}"#
        );
        assert_eq!(text.lines().nth(1), Some(expected));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn only_repetitions_of_the_judged_kind_take_part() {
        let hand = runs("hand", &[(Link::Near, 100.0), (Link::Far, 10.0), (Link::Mixed, 1.0)]);
        let ours = runs("corelane", &[(Link::Near, 50.0), (Link::Far, 10.0), (Link::Near, 70.0)]);
        let rows = rows(&results(Link::Near, vec![hand, ours]));
        assert_eq!((rows[0].summary.median, rows[1].summary.median), (100.0, 60.0));
        assert_eq!(rows[1].ratios[0].1.unwrap().value, 0.6);
    }

    #[test]
    fn without_repetitions_of_the_same_kind_there_is_no_ratio() {
        let (hand, ours) = (runs("hand", &[(Link::Far, 100.0)]), runs("corelane", &[(Link::Near, 50.0)]));
        let results = results(Link::Near, vec![hand, ours]);
        assert!(json(&results).unwrap().ends_with("\"ratio_to\":\"hand\",\"ratio\":null}\n"));
        assert!(table(&results).contains("not comparable to hand"));
    }

    #[test]
    fn every_reference_has_a_line_of_its_own() {
        let mut results = results(Link::Near, vec![runs("hand", &[(Link::Near, 1.0)])]);
        results.references = vec!["hand", "raw"];
        assert_eq!(json(&results).unwrap().lines().count(), 2);
        results.references.clear();
        assert!(json(&results).unwrap().contains("\"ratio_to\":null"));
    }

    #[test]
    fn a_sender_that_shared_its_core_is_called_out_and_one_that_did_not_is_not() {
        let sender = |waited: [Option<f64>; 2]| {
            let mut hand = runs("hand", &[(Link::Near, 1.0), (Link::Near, 1.0)]);
            for (one, waited) in hand.repetitions.iter_mut().zip(waited) {
                one.sender_waited = waited;
            }
            table(&results(Link::Near, vec![hand]))
        };
        let always = sender([Some(0.4); 2]);
        assert!(always.contains("sender (hand): waited for its core for at most 40.00 %"));
        assert!(always.contains("SHARED"));
        let never = sender([Some(0.001); 2]);
        assert!(never.contains("0.10 %") && !never.contains("SHARED") && !never.contains("left out"));
        let once = sender([Some(0.4), Some(0.001)]);
        assert!(
            once.contains("0.10 %") && once.contains("1 repetitions in which") && !once.contains("SHARED")
        );
        assert!(!sender([None; 2]).contains("sender"));
    }

    #[test]
    fn page_faults_are_told_fewest_and_most_where_they_are_known() {
        let mut hand = runs("hand", &[(Link::Near, 1.0), (Link::Near, 1.0)]);
        assert!(!table(&results(Link::Near, vec![hand.clone()])).contains("page faults"));
        (hand.repetitions[0].page_faults, hand.repetitions[1].page_faults) = (Some(512), Some(0));
        assert!(table(&results(Link::Near, vec![hand])).contains("  page faults: hand 0..512\n"));
    }

    #[test]
    fn the_table_tells_kinds_steal_spread_and_notes() {
        let hand = runs("hand", &[(Link::Near, 1e6), (Link::Near, 3e6), (Link::Far, 9e6)]);
        let text = table(&results(Link::Near, vec![hand]));
        for part in [
            "chain/bare: some work",
            "(0 sibling, 2 near, 1 far, 0 mixed): near ones compared",
            "round trip 110..120 ns",
            "steal 12.50 %, other processes 50 %",
            "1.0..3.0",
            "1.000 of hand",
            "note: a note",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
