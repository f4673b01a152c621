//! What was measured between cores, as tables and as a heat map.

use corelane::model::columns;
use corelane::topology::CoreLinks;

use crate::drawing::{Area, Drawing};

/// Both tables, rows send and columns receive.
pub(super) fn tables(links: &CoreLinks) -> String {
    if links.cpus.len() < 2 {
        return format!("CPU {}: there is no other one to reach\n", links.cpus);
    }
    let latency = matrix(links, &links.one_way_ns, |ns| format!("{ns:.0}"));
    let rate = matrix(links, &links.items_per_s, |rate| format!("{:.0}", rate / 1e6));
    format!(
        "nanoseconds of one item from the CPU of the row to that of the column (half a round trip)\n{latency}\n\
         million items of 8 bytes a second\n{rate}"
    )
}

fn matrix(links: &CoreLinks, table: &[Vec<f64>], cell: impl Fn(f64) -> String) -> String {
    let mut rows =
        vec![std::iter::once(String::new()).chain(links.cpus.iter().map(|c| c.to_string())).collect()];
    for (a, (cpu, row)) in links.cpus.iter().zip(table).enumerate() {
        let cells = row.iter().enumerate().map(|(b, value)| if a == b { "-".into() } else { cell(*value) });
        rows.push(std::iter::once(cpu.to_string()).chain(cells).collect::<Vec<String>>());
    }
    columns("", &rows, 0..usize::MAX)
}

const CELL: usize = 44;
const LABEL: usize = 56;
const HEAD: usize = 56;

/// A square for each pair, from light (the shortest way) to dark (the longest).
pub(super) fn heat_map(links: &CoreLinks) -> String {
    let n = links.cpus.len();
    let ways = links.one_way_ns.iter().flatten().copied().filter(|ns| *ns > 0.0);
    let (least, most) = ways.fold((f64::INFINITY, 0.0), |(least, most), ns| (ns.min(least), ns.max(most)));
    let title = "core to core: nanoseconds one way";
    let width = (LABEL + n * CELL + 12).max(300);
    let mut drawing = Drawing::new(title, width, HEAD + n * CELL + 12).text((12, 20), "head", "start", title);
    for (at, cpu) in links.cpus.iter().enumerate() {
        let label = format!("CPU {cpu}");
        drawing = drawing
            .text((LABEL + at * CELL + CELL / 2, HEAD - 8), "small", "middle", &cpu.to_string())
            .text((LABEL - 6, HEAD + at * CELL + CELL / 2 + 4), "small", "end", &label);
    }
    for (a, (from, row)) in links.cpus.iter().zip(&links.one_way_ns).enumerate() {
        for (b, (to, ns)) in links.cpus.iter().zip(row).enumerate().filter(|(b, _)| *b != a) {
            let rate = links.items_per_s[a][b] / 1e6;
            let hint = format!("CPU {from} to {to}: {ns} ns, {rate:.0} million items a second");
            let area = Area { x: LABEL + b * CELL, y: HEAD + a * CELL, width: CELL - 2, height: CELL - 2 };
            let middle = (area.x + area.width / 2, area.y + area.height / 2 + 4);
            drawing = drawing.block(area, &shade(*ns, least, most), &hint).text(
                middle,
                "",
                "middle",
                &format!("{ns:.0}"),
            );
        }
    }
    drawing.finish()
}

/// From yellow to red.
fn shade(ns: f64, least: f64, most: f64) -> String {
    let share = if most > least { ((ns - least) / (most - least)).clamp(0.0, 1.0) } else { 0.0 };
    let part = |low: f64, high: f64| (low + (high - low) * share).round() as u8;
    format!("#{:02x}{:02x}{:02x}", part(255.0, 214.0), part(245.0, 90.0), part(200.0, 70.0))
}
