//! The report as one page, with nothing outside it.

use std::fmt::Write as _;

use super::plot;
use super::report::Report;

const STYLE: &str = "body{font-family:sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}\
pre{background:#f4f4f4;padding:.8em;overflow-x:auto;font-size:12px}table{border-collapse:collapse;font-size:13px}\
td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}svg{max-width:100%;height:auto}";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let (asked, how) = (&report.asked, &report.how);
    let title = format!("{} tuned for {how}", asked.pipeline);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n<p>{1}</p>\n<pre>{2}</pre>\n",
        escaped(&title),
        escaped(&asked.machine),
        escaped(&report.core_map())
    );
    let _ = writeln!(
        html,
        "<p>{}: {}, the median of {} rounds. The interval has what the machine drifts. {} trials of {} of {} candidates \
         took {:.0} s; {} were disturbed by others. The search ended: {}. Seed {}, resolution {:.0} %.</p>",
        escaped(&how.axis()),
        report.figure_told(),
        report.rounds,
        report.trials.len(),
        report.candidates.len(),
        asked.space,
        report.spent_s,
        report.disturbed(),
        report.why_ended(),
        asked.seed,
        asked.resolution * 100.0,
    );
    if let Some(beside) = report.beside_told() {
        let _ = writeln!(html, "<p>{}</p>", escaped(&beside));
    }
    for doubt in report.doubts() {
        let _ = writeln!(html, "<p><b>{}</b></p>", escaped(&doubt));
    }
    for svg in plot::plots(report) {
        html.push_str(&svg);
    }
    html.push_str(
        "<h2>Candidates</h2>\n<table><tr><th>median<th>candidate<th>beside the best<th>core map</tr>\n",
    );
    for ranked in &report.candidates {
        let figure = ranked.figure.map_or("did not hold".to_owned(), |figure| how.told(figure));
        let (candidate, told) = (ranked.candidate.to_string(), report.told(ranked));
        let cells =
            [figure, candidate, told, ranked.line.clone()].map(|cell| format!("<td>{}", escaped(&cell)));
        let _ = writeln!(html, "<tr>{}</tr>", cells.concat());
    }
    html.push_str("</table>\n<h2>Trials</h2>\n<table><tr><th>round<th>figure<th>candidate<th>others<th>longest hiccup<th>remarks</tr>\n");
    for ran in &report.trials {
        let found = &ran.found;
        let figure = found.figure.map_or("did not hold".to_owned(), |figure| how.told(figure));
        let others =
            found.others.map_or("unknown".to_owned(), |o| format!("{:.1} %", (o.others + o.steal) * 100.0));
        let name = report.candidates.get(ran.candidate).map(|ranked| ranked.candidate.to_string());
        let hiccup = super::objective::nanoseconds(found.hiccup_ns as f64);
        let disturbed = if found.disturbed { "disturbed " } else { "" };
        let remarks = format!("{disturbed}{}", found.refused.as_deref().unwrap_or_default());
        let cells = [ran.round.to_string(), figure, name.unwrap_or_default(), others, hiccup, remarks];
        let _ = writeln!(html, "<tr>{}</tr>", cells.map(|cell| format!("<td>{}", escaped(&cell))).concat());
    }
    html.push_str("</table>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
