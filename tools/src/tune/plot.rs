//! The plots of a report: what each candidate came to, how the search went, and latency over percentiles or rates.

use corelane_bench::axis::LogAxis;

use super::objective::{Objective, Rate, nanoseconds};
use super::report::{Ran, Report};
use super::search::Standing;
use crate::drawing::{Area, Drawing};

const WIDTH: usize = 900;
const LABELS: usize = 330;
const MARGIN: usize = 30;
const HEAD: usize = 56;
const ROW: usize = 22;
const HEIGHT: usize = 280;
/// Candidates that are drawn.
const DRAWN: usize = 24;

const BEST: &str = "#1b6ac9";
const TIED: &str = "#2e9e6b";
const OTHER: &str = "#9a9a9a";
const DISTURBED: &str = "#e08a1e";
const GRID: &str = "#ddd";

/// An axis in whole pixels.
fn over(values: impl Iterator<Item = f64>, (from, to): (usize, usize)) -> Option<LogAxis> {
    LogAxis::over(values, (from as f64, to as f64))
}

fn at(axis: &LogAxis, value: f64) -> usize {
    axis.at(value).round() as usize
}

/// Every plot that there is something for.
pub(super) fn plots(report: &Report) -> Vec<String> {
    [candidates(report), course(report), curves(report)].into_iter().flatten().collect()
}

fn colour(report: &Report, ran: &Ran) -> &'static str {
    match report.candidates.get(ran.candidate).map(|ranked| ranked.standing) {
        _ if ran.found.disturbed => DISTURBED,
        Some(Standing::Best) => BEST,
        Some(Standing::Tied { .. }) => TIED,
        _ => OTHER,
    }
}

fn figures(report: &Report) -> impl Iterator<Item = f64> + '_ {
    report.trials.iter().filter(|ran| ran.candidate < DRAWN).filter_map(|ran| ran.found.figure)
}

/// A row for each candidate, the best first; a dot for each of its trials, a line at its median, and the interval of the best as a band.
fn candidates(report: &Report) -> Option<String> {
    let rows = report.candidates.len().min(DRAWN);
    let axis = over(figures(report), (LABELS, WIDTH - MARGIN))?;
    let bottom = HEAD + rows * ROW;
    let title = format!("{} by candidate", report.how.axis());
    let mut drawing = Drawing::new(&title, WIDTH, bottom + 12).text((12, 20), "head", "start", &title);
    for tick in axis.ticks() {
        let x = at(&axis, tick);
        drawing = drawing.text((x, HEAD - 14), "small", "middle", &report.how.told(tick)).line(
            (x, HEAD - 8),
            (x, bottom),
            GRID,
        );
    }
    let (low, high) = (at(&axis, report.interval.low), at(&axis, report.interval.high));
    let band = Area { x: low, y: HEAD - 6, width: (high - low).max(1), height: bottom - HEAD + 6 };
    drawing = drawing.block(band, "#dce9f9", "where a second search would find the best");
    for (place, ranked) in report.candidates.iter().take(DRAWN).enumerate() {
        let y = HEAD + place * ROW + ROW / 2;
        let name = ranked.candidate.to_string();
        drawing = drawing.text((LABELS - 8, y + 4), "small", "end", &name);
        for ran in report.trials.iter().filter(|ran| ran.candidate == place) {
            if let Some(figure) = ran.found.figure {
                let hint = format!("{name}, round {}: {}", ran.round, report.how.told(figure));
                drawing = drawing.dot((at(&axis, figure), y), 3, colour(report, ran), &hint);
            }
        }
        if let Some(median) = ranked.figure {
            let x = at(&axis, median);
            drawing = drawing.line((x, y - 8), (x, y + 8), "#111");
        }
    }
    Some(drawing.finish())
}

/// A dot for each trial, in the order in which they ran.
fn course(report: &Report) -> Option<String> {
    let axis = over(report.trials.iter().filter_map(|ran| ran.found.figure), (HEAD + HEIGHT, HEAD))?;
    let title = format!("{}, trial by trial: blue the best, green tied, orange disturbed", report.how.axis());
    let mut drawing = frame(&title, &axis, |tick| report.how.told(tick));
    let x = |place: usize| 90 + (WIDTH - 90 - MARGIN) * place / report.trials.len().max(1);
    for (place, ran) in report.trials.iter().enumerate() {
        if let Some(figure) = ran.found.figure {
            let name = report.candidates.get(ran.candidate).map(|ranked| ranked.candidate.to_string());
            let hint = format!("{}: {}", name.unwrap_or_default(), report.how.told(figure));
            drawing = drawing.dot((x(place), at(&axis, figure)), 3, colour(report, ran), &hint);
        }
    }
    Some(drawing.finish())
}

/// A sheet with a vertical axis.
fn frame(title: &str, axis: &LogAxis, told: impl Fn(f64) -> String) -> Drawing {
    let sheet = Drawing::new(title, WIDTH, HEAD + HEIGHT + 40).text((12, 20), "head", "start", title);
    axis.ticks().into_iter().fold(sheet, |drawing, tick| {
        let y = at(axis, tick);
        drawing.line((90, y), (WIDTH - MARGIN, y), GRID).text((84, y + 4), "small", "end", &told(tick))
    })
}

/// Latency of the best candidate: over percentiles at one rate, or over rates.
fn curves(report: &Report) -> Option<String> {
    let of_best = || report.trials.iter().filter(|ran| ran.candidate == 0);
    let probes = || of_best().flat_map(|ran| &ran.found.probes);
    let vertical = (HEAD + HEIGHT, HEAD);
    match report.how {
        Objective::MinLatency { .. } => {
            let axis = over(probes().flat_map(|probe| &probe.curve).map(|(_, ns)| *ns), vertical)?;
            let nines = |share: f64| -(1.0 - share).log10();
            let most =
                probes().flat_map(|probe| &probe.curve).map(|(share, _)| nines(*share)).fold(1.0, f64::max);
            let x = |share: f64| 90 + ((WIDTH - 90 - MARGIN) as f64 * nines(share) / most) as usize;
            let mut drawing = frame("latency of the best by percentile, trial by trial", &axis, nanoseconds);
            for share in
                [0.5, 0.9, 0.99, 0.999, 0.9999].into_iter().filter(|share| nines(*share) <= most + 1e-9)
            {
                let label = format!("p{}", (share * 1e6_f64).round() / 1e4);
                drawing = drawing.text((x(share), HEAD + HEIGHT + 18), "small", "middle", &label);
            }
            for probe in probes() {
                for pair in probe.curve.windows(2) {
                    let end = |(share, ns): (f64, f64)| (x(share), at(&axis, ns));
                    drawing = drawing.line(end(pair[0]), end(pair[1]), BEST);
                }
            }
            Some(drawing.finish())
        }
        Objective::MaxRate { bound, percentile } => {
            let latency = |probe: &super::trial::Probe| probe.latency_ns;
            let axis = over(probes().filter_map(latency).chain([bound.as_nanos() as f64]), vertical)?;
            let across = over(probes().map(|probe| probe.rate), (90, WIDTH - MARGIN))?;
            let title = format!("{percentile} of the best by rate; the line is the bound");
            let mut drawing = frame(&title, &axis, nanoseconds);
            for tick in across.ticks() {
                drawing = drawing.text(
                    (at(&across, tick), HEAD + HEIGHT + 18),
                    "small",
                    "middle",
                    &Rate(tick).to_string(),
                );
            }
            let y = at(&axis, bound.as_nanos() as f64);
            drawing = drawing.line((90, y), (WIDTH - MARGIN, y), "#b00020");
            for probe in probes() {
                let Some(ns) = probe.latency_ns else { continue };
                let hint = format!("{}: {}", Rate(probe.rate), nanoseconds(ns));
                drawing = drawing.dot((at(&across, probe.rate), at(&axis, ns)), 3, BEST, &hint);
            }
            Some(drawing.finish())
        }
    }
}
