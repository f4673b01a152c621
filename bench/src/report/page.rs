//! The files of a run: everything as JSON, a plot for each case, and one page that has them all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::marks::{self, Reached};
use super::plot;
use super::record::{CaseRecord, Record};
use super::{Row, rows, table};
use crate::case::Metric;
use crate::environment::Environment;
use crate::harness::Results;

const STYLE: &str = "body{font-family:sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}\
pre{background:#f4f4f4;padding:.8em;overflow-x:auto;font-size:12px}table{border-collapse:collapse}\
td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}.no{color:#b00020;font-weight:bold}\
.unknown{color:#777}svg{max-width:100%;height:auto}";

/// `text` as it may stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writes `results.json`, `index.html` and `CASE.svg` for each case into `dir`, which is made if it is not there.
///
/// # Errors
/// What could not be written.
pub fn write(dir: &Path, environment: &Environment, command: &[String], all: &[Results]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let record = Record {
        environment: environment.clone(),
        command: command.to_vec(),
        cases: all.iter().map(CaseRecord::from).collect(),
    };
    fs::write(dir.join("results.json"), serde_json::to_vec_pretty(&record)?)?;
    for results in all {
        for (name, svg) in plots(results) {
            fs::write(dir.join(format!("{name}.svg")), svg)?;
        }
    }
    fs::write(dir.join("index.html"), page(environment, command, all))
}

/// Every plot of a case under a name for its file.
fn plots(results: &Results) -> Vec<(String, String)> {
    let case = format!("{}-{}-{}", results.workload, results.variant, results.cores);
    let title = format!("{}/{}, {} core(s)", results.workload, results.variant, results.cores);
    let mut found = Vec::new();
    let spreads = results.runs.iter().filter_map(|runs| Some((runs.system, runs.spread(results.judged)?)));
    let curves = plot::percentiles(&format!("{title}: latency by percentile"), &spreads.collect::<Vec<_>>());
    found.extend(curves.map(|svg| (format!("{case}-percentiles"), svg)));
    let mut by_metric = BTreeMap::<Metric, Vec<Row>>::new();
    for row in rows(results).into_iter().filter(|row| row.metric.quantile().is_none()) {
        by_metric.entry(row.metric).or_default().push(row);
    }
    for (metric, rows) in by_metric {
        let rows: Vec<&Row> = rows.iter().collect();
        let bars = plot::bars(&format!("{title}: {}", plot::unit(metric)), &rows);
        found.extend(bars.map(|svg| (format!("{case}-{}", metric.name()), svg)));
    }
    found
}

/// One page without anything outside it.
fn page(environment: &Environment, command: &[String], all: &[Results]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>corelane-bench</title><style>{STYLE}</style>\n\
         <h1>corelane-bench</h1>\n<pre>{}\ncommand   {}</pre>\n",
        escaped(&environment.to_string()),
        escaped(&command.join(" "))
    );
    html.push_str("<h2>Marks</h2>\n<table><tr><th>case<th>mark<th>found<th>reached</tr>\n");
    for results in all {
        for judgement in marks::judge(results) {
            let (class, verdict) = match judgement.reached {
                Reached::Yes => ("yes", "yes"),
                Reached::No => ("no", "no"),
                Reached::Unknown => ("unknown", "not judged"),
            };
            let _ = writeln!(
                html,
                "<tr><td>{}/{}, {}<td>{}<td>{}<td class=\"{class}\">{verdict}</tr>",
                results.workload,
                results.variant,
                results.cores,
                escaped(&judgement.mark),
                escaped(&judgement.found)
            );
        }
    }
    html.push_str("</table>\n");
    for results in all {
        let (workload, variant, cores) = (results.workload, results.variant, results.cores);
        let _ = writeln!(
            html,
            "<h2>{workload}/{variant}, {cores} core(s)</h2>\n<pre>{}</pre>",
            escaped(&table(results))
        );
        plots(results).iter().for_each(|(_, svg)| html.push_str(svg));
    }
    html
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::case::Spread;
    use crate::harness::{Repetition, Runs};
    use crate::link::Link;

    fn results(
        workload: &'static str,
        variant: &'static str,
        metric: Metric,
        spread: Option<Spread>,
    ) -> Results {
        let spread = spread.map(Rc::new);
        let repetition = Repetition { figures: vec![(metric, 5e8)], spread, ..Repetition::default() };
        let runs = |system| Runs { system, repetitions: vec![repetition.clone(); 3], hiccups: None };
        Results {
            workload,
            variant,
            cores: 1,
            work: "work <of> all".to_owned(),
            references: vec!["loop"],
            runs: vec![runs("corelane"), runs("loop")],
            notes: Vec::new(),
            disturbance: None,
            judged: Link::Single,
        }
    }

    #[test]
    fn a_run_leaves_its_data_its_plots_and_one_page_that_has_them_all() {
        let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        (1..=1_000u64).for_each(|value| histogram.record(value).unwrap());
        let all = [
            results("chain", "bare", Metric::ItemsPerSecond, None),
            results("latency", "rate1m", Metric::P50, Some(Spread { histogram, unit_ns: 1.0 })),
        ];
        let dir = tempfile::tempdir().unwrap();
        let environment =
            Environment::detect(&crate::pin::allowed(), &[], corelane::driver::DriverChoice::Thread);
        write(&dir.path().join("new"), &environment, &["chain".to_owned()], &all).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join("new").join(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
        assert_eq!(json["cases"][0]["figures"][0]["median"], 5e8);
        assert_eq!(json["cases"][0]["figures"][0]["ratios"][0][1]["value"], 1.0);
        assert_eq!(json["cases"][0]["marks"][0]["reached"], "yes");
        assert_eq!(json["cases"][0]["systems"][1]["repetitions"][0]["link"], "single");
        assert_eq!(json["cases"][1]["systems"][0]["percentiles"][0], serde_json::json!([0.0, 1.0]));
        assert!(json["environment"]["commit"].is_string());
        let (bars, curves) = (read("chain-bare-1-items_per_s.svg"), read("latency-rate1m-1-percentiles.svg"));
        let page = read("index.html");
        assert!(page.contains(&bars) && page.contains(&curves));
        assert!(page.contains("work &lt;of&gt; all") && page.contains("at least 0.90 of loop"), "{page}");
        assert!(!page.contains("href") && !page.contains("src="), "nothing is fetched");
    }
}
