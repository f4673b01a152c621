//! Plots as SVG: bars for figures, and curves over percentiles.

use svg::Document;
use svg::node::element::{Line, Polyline, Rectangle, Text};

use crate::axis::LogAxis;
use crate::case::{Metric, Spread};
use crate::report::Row;

/// Width of a plot in pixels.
const WIDTH: f64 = 860.0;
/// Left and right of what is drawn.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 40.0;
const BAR: f64 = 26.0;
const CURVES: f64 = 360.0;
const GRID: &str = "#ddd";
/// Points of a curve for each nine.
const POINTS: u32 = 12;
/// Okabe and Ito's, told apart by everybody; corelane is the first.
const COLOURS: &[&str] = &[
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999", "#7a5195",
    "#6b8e23",
];

fn colour(system: &str, place: usize) -> &'static str {
    if system == "corelane" { COLOURS[0] } else { COLOURS[1 + place % (COLOURS.len() - 1)] }
}

/// An empty sheet with its title.
fn sheet(height: f64, title: &str) -> Document {
    let paper = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#fff");
    let title = text((LEFT, 22.0), "start", title).set("font-size", 14).set("font-weight", "bold");
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(paper)
        .add(title)
}

/// To a tenth of a pixel: all that can be seen.
fn pixels(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn text((x, y): (f64, f64), anchor: &str, content: &str) -> Text {
    Text::new(content).set("x", pixels(x)).set("y", pixels(y)).set("text-anchor", anchor)
}

fn block((x, y): (f64, f64), width: f64, height: f64, fill: &str) -> Rectangle {
    let place = Rectangle::new().set("x", pixels(x)).set("y", pixels(y));
    place.set("width", pixels(width)).set("height", pixels(height)).set("fill", fill)
}

fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str) -> Line {
    let from = Line::new().set("x1", pixels(x1)).set("y1", pixels(y1));
    from.set("x2", pixels(x2)).set("y2", pixels(y2)).set("stroke", stroke)
}

/// One bar for each row, to the median; a line across from the least to the most; `None` without rows. All rows are of one metric.
pub fn bars(title: &str, rows: &[&Row]) -> Option<String> {
    let most = rows.iter().map(|row| row.summary.spread.high).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let mut drawing = sheet(TOP + BAR * rows.len() as f64 + 20.0, title);
    let scale = |value: f64| LEFT + (WIDTH - LEFT - RIGHT - 110.0) * value / most;
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + BAR * place as f64;
        let (middle, baseline) = (y + BAR / 2.0 - 3.0, y + 15.0);
        let (median, spread) = (row.summary.median, row.summary.spread);
        let (end, low, high) = (scale(median), scale(spread.low), scale(spread.high));
        drawing = drawing
            .add(text((LEFT - 8.0, baseline), "end", row.system))
            .add(block((LEFT, y), end - LEFT, BAR - 6.0, colour(row.system, place)))
            .add(line((low, middle), (high, middle), "#000"))
            .add(text((high.max(end) + 6.0, baseline), "start", &super::scaled(row.metric, median)));
    }
    Some(drawing.to_string())
}

/// The name of a metric beside a bar chart.
pub(super) fn unit(metric: Metric) -> &'static str {
    super::label(metric)
}

/// The points of a curve: nines (0 is no percentile, 1 is 90, 2 is 99) and nanoseconds. It ends where the samples no longer bear it.
pub fn curve(spread: &Spread) -> Vec<(f64, f64)> {
    let nines = (0..).map(|step| f64::from(step) / f64::from(POINTS));
    let points = nines.map(|nines| (nines, 1.0 - 10f64.powf(-nines)));
    let borne = points.take_while(|(nines, quantile)| *nines <= 9.0 && spread.bears(*quantile));
    borne.map(|(nines, quantile)| (nines, spread.ns_at(quantile))).collect()
}

/// A curve for each system, latency over percentiles, both logarithmic; `None` without points.
pub fn percentiles(title: &str, spreads: &[(&str, Spread)]) -> Option<String> {
    let curves: Vec<_> = spreads.iter().map(|(name, spread)| (*name, curve(spread))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let last = points().map(|point| point.0).fold(0.0, f64::max).ceil().max(1.0);
    let axis = LogAxis::decades(points().map(|point| point.1.max(1.0)), (TOP + CURVES, TOP))?;
    let x = |nines: f64| LEFT + (WIDTH - LEFT - RIGHT) * nines / last;
    let mut drawing = sheet(TOP + CURVES + 60.0 + 18.0 * spreads.len() as f64, title);
    let (right, bottom) = (WIDTH - RIGHT, TOP + CURVES);
    for power in axis.powers() {
        let (at, decade) = (axis.at(power), power.log10().round() as i32);
        let label = text((LEFT - 8.0, at + 4.0), "end", &nanoseconds(decade));
        drawing = drawing.add(line((LEFT, at), (right, at), GRID)).add(label);
    }
    for nines in 0..=last as i32 {
        let at = x(f64::from(nines));
        drawing = drawing.add(line((at, TOP), (at, bottom), GRID)).add(text(
            (at, bottom + 18.0),
            "middle",
            &percentile(nines),
        ));
    }
    for (place, (name, points)) in curves.iter().enumerate() {
        let (stroke, legend) = (colour(name, place), bottom + 48.0 + 18.0 * place as f64);
        let path: Vec<String> =
            points.iter().map(|(nines, ns)| format!("{:.1},{:.1}", x(*nines), axis.at(*ns))).collect();
        let curve = Polyline::new().set("fill", "none").set("stroke", stroke).set("stroke-width", 2);
        drawing = drawing
            .add(curve.set("points", path.join(" ")))
            .add(block((LEFT, legend - 6.0), 14.0, 4.0, stroke))
            .add(text((LEFT + 22.0, legend), "start", name));
    }
    Some(drawing.to_string())
}

fn nanoseconds(decade: i32) -> String {
    let units = ["ns", "us", "ms", "s"];
    let unit = (decade.max(0) / 3).min(3);
    format!(
        "{} {}",
        10u64.pow((decade.max(0) - 3 * unit).unsigned_abs()),
        units[unit.unsigned_abs() as usize]
    )
}

fn percentile(nines: i32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat((more - 2).unsigned_abs() as usize)),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::stats;

    fn spread(samples: u64) -> Spread {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1..=samples).for_each(|value| histogram.record(value).unwrap());
        Spread { histogram, unit_ns: 1.0 }
    }

    fn row(system: &'static str, values: &[f64]) -> Row {
        let (metric, summary) = (Metric::ItemsPerSecond, stats::summarise(values).unwrap());
        Row { system, metric, summary, ratios: Vec::new() }
    }

    #[test]
    fn a_curve_ends_where_the_samples_no_longer_bear_it() {
        let points = curve(&spread(100_000));
        let (nines, ns) = *points.last().unwrap();
        assert!((nines - 4.0).abs() < 1e-9, "ten of a hundred thousand lie beyond 99.99 %: {nines}");
        assert!((99_900.0..=100_100.0).contains(&ns), "{ns}");
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1), "percentiles do not fall");
        assert_eq!(curve(&spread(9)), []);
    }

    #[test]
    fn a_bar_is_as_long_as_its_median() {
        let rows = [row("hand", &[2e9]), row("corelane", &[1e9])];
        let svg = bars("chain", &rows.iter().collect::<Vec<_>>()).unwrap();
        let width = |place: usize| -> f64 {
            // The first one is the paper.
            let bar = svg.split("<rect").nth(place + 2).unwrap();
            bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!((width(0) / width(1) - 2.0).abs() < 0.01, "{svg}");
        assert!(svg.contains("2000.0") && svg.contains("corelane"), "{svg}");
    }

    #[test]
    fn every_system_has_a_curve_and_a_name_that_cannot_break_the_picture() {
        let svg = percentiles("a < b", &[("corelane", spread(1_000)), ("x&y", spread(1_000))]).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("x&amp;y"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn without_figures_there_is_no_plot() {
        assert_eq!(bars("nothing", &[]), None);
        assert_eq!(percentiles("nothing", &[("a", spread(3))]), None);
    }

    #[test]
    fn axes_are_labelled_in_units_people_read() {
        assert_eq!([0, 2, 3, 7, 9].map(nanoseconds), ["1 ns", "100 ns", "1 us", "10 ms", "1 s"]);
        assert_eq!([0, 1, 2, 4].map(percentile), ["0 %", "90 %", "99 %", "99.99 %"]);
    }
}
