//! The plots of a report: what each candidate came to, how the search went, and latency over percentiles or rates.

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

/// A logarithmic axis, in pixels.
#[derive(Debug, Clone, Copy)]
struct Axis {
    values: (f64, f64),
    pixels: (usize, usize),
}

impl Axis {
    /// Over all of `values` that are more than 0; `None` without any.
    fn over(values: impl Iterator<Item = f64>, pixels: (usize, usize)) -> Option<Self> {
        let good = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = good.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        (high > 0.0).then_some(Self { values: (low / 1.1, high * 1.1), pixels })
    }

    fn at(&self, value: f64) -> usize {
        let (low, high) = (self.values.0.ln(), self.values.1.ln());
        let share = ((value.max(1e-9).ln() - low) / (high - low)).clamp(0.0, 1.0);
        let (from, to) = (self.pixels.0 as f64, self.pixels.1 as f64);
        (from + (to - from) * share).round() as usize
    }

    /// 1, 2 and 5 times the powers of ten on it.
    fn ticks(&self) -> Vec<f64> {
        let (first, last) = (self.values.0.log10().floor() as i32, self.values.1.log10().ceil() as i32);
        let all = (first..=last).flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
        let ticks: Vec<f64> = all.filter(|tick| (self.values.0..=self.values.1).contains(tick)).collect();
        let decades = |tick: &&f64| tick.log10().fract().abs() < 1e-9;
        if ticks.len() > 12 { ticks.iter().filter(decades).copied().collect() } else { ticks }
    }
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
    let axis = Axis::over(figures(report), (LABELS, WIDTH - MARGIN))?;
    let bottom = HEAD + rows * ROW;
    let title = format!("{} by candidate", report.how.axis());
    let mut drawing = Drawing::new(&title, WIDTH, bottom + 12).text((12, 20), "head", "start", &title);
    for tick in axis.ticks() {
        let x = axis.at(tick);
        drawing = drawing.text((x, HEAD - 14), "small", "middle", &report.how.told(tick)).line(
            (x, HEAD - 8),
            (x, bottom),
            GRID,
        );
    }
    let (low, high) = (axis.at(report.interval.low), axis.at(report.interval.high));
    let band = Area { x: low, y: HEAD - 6, width: (high - low).max(1), height: bottom - HEAD + 6 };
    drawing = drawing.block(band, "#dce9f9", "where a second search would find the best");
    for (place, ranked) in report.candidates.iter().take(DRAWN).enumerate() {
        let y = HEAD + place * ROW + ROW / 2;
        let name = ranked.candidate.to_string();
        drawing = drawing.text((LABELS - 8, y + 4), "small", "end", &name);
        for ran in report.trials.iter().filter(|ran| ran.candidate == place) {
            if let Some(figure) = ran.found.figure {
                let hint = format!("{name}, round {}: {}", ran.round, report.how.told(figure));
                drawing = drawing.dot((axis.at(figure), y), 3, colour(report, ran), &hint);
            }
        }
        if let Some(median) = ranked.figure {
            let x = axis.at(median);
            drawing = drawing.line((x, y - 8), (x, y + 8), "#111");
        }
    }
    Some(drawing.finish())
}

/// A dot for each trial, in the order in which they ran.
fn course(report: &Report) -> Option<String> {
    let axis = Axis::over(report.trials.iter().filter_map(|ran| ran.found.figure), (HEAD + HEIGHT, HEAD))?;
    let title = format!("{}, trial by trial: blue the best, green tied, orange disturbed", report.how.axis());
    let mut drawing = frame(&title, &axis, |tick| report.how.told(tick));
    let x = |place: usize| 90 + (WIDTH - 90 - MARGIN) * place / report.trials.len().max(1);
    for (place, ran) in report.trials.iter().enumerate() {
        if let Some(figure) = ran.found.figure {
            let name = report.candidates.get(ran.candidate).map(|ranked| ranked.candidate.to_string());
            let hint = format!("{}: {}", name.unwrap_or_default(), report.how.told(figure));
            drawing = drawing.dot((x(place), axis.at(figure)), 3, colour(report, ran), &hint);
        }
    }
    Some(drawing.finish())
}

/// A sheet with a vertical axis.
fn frame(title: &str, axis: &Axis, told: impl Fn(f64) -> String) -> Drawing {
    let sheet = Drawing::new(title, WIDTH, HEAD + HEIGHT + 40).text((12, 20), "head", "start", title);
    axis.ticks().into_iter().fold(sheet, |drawing, tick| {
        let y = axis.at(tick);
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
            let axis = Axis::over(probes().flat_map(|probe| &probe.curve).map(|(_, ns)| *ns), vertical)?;
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
                    let end = |(share, ns): (f64, f64)| (x(share), axis.at(ns));
                    drawing = drawing.line(end(pair[0]), end(pair[1]), BEST);
                }
            }
            Some(drawing.finish())
        }
        Objective::MaxRate { bound, percentile } => {
            let latency = |probe: &super::trial::Probe| probe.latency_ns;
            let axis = Axis::over(probes().filter_map(latency).chain([bound.as_nanos() as f64]), vertical)?;
            let across = Axis::over(probes().map(|probe| probe.rate), (90, WIDTH - MARGIN))?;
            let title = format!("{percentile} of the best by rate; the line is the bound");
            let mut drawing = frame(&title, &axis, nanoseconds);
            for tick in across.ticks() {
                drawing = drawing.text(
                    (across.at(tick), HEAD + HEIGHT + 18),
                    "small",
                    "middle",
                    &Rate(tick).to_string(),
                );
            }
            let y = axis.at(bound.as_nanos() as f64);
            drawing = drawing.line((90, y), (WIDTH - MARGIN, y), "#b00020");
            for probe in probes() {
                let Some(ns) = probe.latency_ns else { continue };
                let hint = format!("{}: {}", Rate(probe.rate), nanoseconds(ns));
                drawing = drawing.dot((across.at(probe.rate), axis.at(ns)), 3, BEST, &hint);
            }
            Some(drawing.finish())
        }
    }
}
