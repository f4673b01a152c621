//! Places what a drawing shows in layers from left to right. Whole pixels only, so that a layout is the same
//! everywhere.

use super::draw::Drawing;
use super::order::{Successors, forward};

/// A line across more layers than this in all gets no row of its own in each; such a drawing is past reading.
const MAX_WAYPOINTS: usize = 200_000;
const MARGIN: i64 = 16;
const ROW_GAP: i64 = 18;
const BOX_HEIGHT: i64 = 44;
const WAYPOINT_HEIGHT: i64 = 16;
const PORT: i64 = 18;

/// A stage's rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) width: i64,
    pub(super) height: i64,
}

/// An edge's way.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// From the right side of one stage to the left side of the other: by turns straight through a layer and
    /// curved across a gap. Only start and end when it leads back.
    pub(super) points: Vec<(i64, i64)>,
    /// Where the label ends.
    pub(super) label_end: (i64, i64),
    /// It leads back, against the layers: the graph has a cycle.
    pub(super) back: bool,
}

/// Where everything is.
pub(super) struct Layout {
    pub(super) rects: Vec<Rect>,
    pub(super) routes: Vec<Route>,
    pub(super) width: i64,
    pub(super) height: i64,
}

/// A place in a layer: a stage's, or that of a line passing through.
struct Slot {
    layer: usize,
    height: i64,
    /// Slots of the layer before that lead here.
    before: Vec<usize>,
    rank: usize,
    y: i64,
}

/// Pixels of `text` in a monospaced font of 12 px.
pub(super) fn text_width(text: &str) -> i64 {
    text.chars().map(|c| if c.is_ascii() { 8 } else { 14 }).sum()
}

/// The text as drawn: at most 40 characters.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(40) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

impl Layout {
    pub(super) fn new(drawing: &Drawing<'_>) -> Self {
        let layer = layers(drawing);
        let (mut slots, chains) = slots(drawing, &layer);
        let rows = rows(&mut slots);
        let height = place_rows(&mut slots, &rows);
        let columns = Columns::new(drawing, &layer, rows.len());
        let rects: Vec<Rect> = drawing
            .shown
            .iter()
            .enumerate()
            .map(|(i, shown)| Rect {
                x: columns.left[layer[i]],
                y: slots[i].y,
                width: box_width(shown.title, &shown.detail),
                height: slots[i].height,
            })
            .collect();
        let routes = routes(drawing, &slots, &chains, &columns, &rects);
        Self { rects, routes, width: columns.end, height }
    }
}

fn box_width(title: &str, detail: &str) -> i64 {
    text_width(&clipped(title)).max(text_width(&clipped(detail))) + 20
}

/// Longest path from the left. Of a graph with cycles the tangled stages come last, in their own order.
fn layers(drawing: &Drawing<'_>) -> Vec<usize> {
    let n = drawing.shown.len();
    let pairs: Vec<_> = drawing.lines.iter().map(|line| (line.from, line.to)).collect();
    let successors = Successors::new(n, &pairs);
    let mut order = forward(&successors);
    let mut rank = vec![usize::MAX; n];
    order.iter().enumerate().for_each(|(at, &i)| rank[i] = at);
    for (i, rank) in rank.iter_mut().enumerate().filter(|(_, rank)| **rank == usize::MAX) {
        *rank = order.len();
        order.push(i);
    }
    let mut layer = vec![0; n];
    for &from in &order {
        for &to in successors.of(from) {
            if rank[to] > rank[from] {
                layer[to] = layer[to].max(layer[from] + 1);
            }
        }
    }
    layer
}

/// Slots, the stages' first, and for each line the slots it goes through (none if it leads back).
fn slots(drawing: &Drawing<'_>, layer: &[usize]) -> (Vec<Slot>, Vec<Vec<usize>>) {
    let mut ports = vec![(0i64, 0i64); layer.len()];
    for line in &drawing.lines {
        ports[line.from].1 += 1;
        ports[line.to].0 += 1;
    }
    let slot = |layer, height| Slot { layer, height, before: Vec::new(), rank: 0, y: 0 };
    let mut slots: Vec<Slot> = layer
        .iter()
        .zip(ports)
        .map(|(&layer, (inputs, outputs))| slot(layer, BOX_HEIGHT.max(PORT * (inputs.max(outputs) + 1))))
        .collect();
    let span = |line: &super::draw::Line| layer[line.to].saturating_sub(layer[line.from] + 1);
    let with_waypoints = drawing.lines.iter().map(span).sum::<usize>() <= MAX_WAYPOINTS;
    let mut chains = Vec::with_capacity(drawing.lines.len());
    for line in &drawing.lines {
        let mut chain = Vec::new();
        if layer[line.from] < layer[line.to] {
            chain.push(line.from);
            if with_waypoints {
                for passed in layer[line.from] + 1..layer[line.to] {
                    chain.push(slots.len());
                    slots.push(slot(passed, WAYPOINT_HEIGHT));
                }
            }
            chain.push(line.to);
        }
        for pair in chain.windows(2) {
            slots[pair[1]].before.push(pair[0]);
        }
        chains.push(chain);
    }
    (slots, chains)
}

/// The slots of each layer from top to bottom: each near the middle of those that lead to it.
fn rows(slots: &mut [Slot]) -> Vec<Vec<usize>> {
    let count = slots.iter().map(|slot| slot.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); count];
    for (i, slot) in slots.iter().enumerate() {
        rows[slot.layer].push(i);
    }
    for row in &mut rows {
        let middle = |i: usize| {
            let before = &slots[i].before;
            let sum: usize = before.iter().map(|&b| slots[b].rank).sum();
            (sum * 1024).checked_div(before.len()).unwrap_or(usize::MAX)
        };
        row.sort_by_cached_key(|&i| (middle(i), i));
        for (rank, &i) in row.iter().enumerate() {
            slots[i].rank = rank;
        }
    }
    rows
}

/// Gives each slot its y, layers centred; returns the height of all.
fn place_rows(slots: &mut [Slot], rows: &[Vec<usize>]) -> i64 {
    let height = |row: &Vec<usize>, slots: &[Slot]| {
        row.iter().map(|&i| slots[i].height + ROW_GAP).sum::<i64>() - ROW_GAP
    };
    let tallest = rows.iter().map(|row| height(row, slots)).max().unwrap_or(0);
    for row in rows {
        let mut y = MARGIN + (tallest - height(row, slots)) / 2;
        for &i in row {
            slots[i].y = y;
            y += slots[i].height + ROW_GAP;
        }
    }
    tallest + 2 * MARGIN
}

/// Left and right of each layer. The gap behind a layer has room for the labels of the lines that begin there.
struct Columns {
    left: Vec<i64>,
    right: Vec<i64>,
    end: i64,
}

impl Columns {
    fn new(drawing: &Drawing<'_>, layer: &[usize], count: usize) -> Self {
        let mut width = vec![0; count];
        for (shown, &l) in drawing.shown.iter().zip(layer) {
            width[l] = box_width(shown.title, &shown.detail).max(width[l]);
        }
        let mut gap = vec![0; count];
        for line in &drawing.lines {
            let l = layer[line.from];
            gap[l] = text_width(&clipped(&line.label)).max(gap[l]);
        }
        let (mut left, mut right, mut x) = (Vec::new(), Vec::new(), MARGIN);
        for l in 0..count {
            left.push(x);
            right.push(x + width[l]);
            x += width[l] + if l + 1 < count { 56 + gap[l] } else { 0 };
        }
        Self { left, right, end: x + MARGIN }
    }
}

fn routes(
    drawing: &Drawing<'_>,
    slots: &[Slot],
    chains: &[Vec<usize>],
    columns: &Columns,
    rects: &[Rect],
) -> Vec<Route> {
    // Ports from top to bottom in the order of what they lead to, so that lines of one stage do not cross there.
    let out_key = |e: usize| chains[e].get(1).map_or(usize::MAX, |&s| slots[s].rank);
    let in_key = |e: usize| chains[e].iter().rev().nth(1).map_or(usize::MAX, |&s| slots[s].rank);
    let out_y = ports(drawing.lines.iter().map(|line| line.from), out_key, rects);
    let in_y = ports(drawing.lines.iter().map(|line| line.to), in_key, rects);
    let mut routes = Vec::with_capacity(chains.len());
    for (e, (line, chain)) in drawing.lines.iter().zip(chains).enumerate() {
        let (from, to) = (&rects[line.from], &rects[line.to]);
        let (start, end) = ((from.x + from.width, out_y[e]), (to.x, in_y[e]));
        let back = chain.is_empty();
        let mut points = vec![start];
        if !back {
            points.push((columns.right[slots[line.from].layer], start.1));
        }
        for &passed in chain.iter().skip(1).take(chain.len().saturating_sub(2)) {
            let slot = &slots[passed];
            let y = slot.y + slot.height / 2;
            points.extend([(columns.left[slot.layer], y), (columns.right[slot.layer], y)]);
        }
        points.push(end);
        let (x, y) = if back { start } else { points[2] };
        routes.push(Route { points, label_end: (x - 12, y - 4), back });
    }
    routes
}

/// For each edge the y of its port on one side of the stage `end` gives.
fn ports(end: impl Iterator<Item = usize>, key: impl Fn(usize) -> usize, rects: &[Rect]) -> Vec<i64> {
    let ends: Vec<usize> = end.collect();
    let mut at: Vec<Vec<usize>> = vec![Vec::new(); rects.len()];
    ends.iter().enumerate().for_each(|(e, &stage)| at[stage].push(e));
    let mut y = vec![0; ends.len()];
    for (edges, rect) in at.iter_mut().zip(rects) {
        edges.sort_by_key(|&e| (key(e), e));
        let parts = edges.len() as i64 + 1;
        for (&e, part) in edges.iter().zip(1..) {
            y[e] = rect.y + rect.height * part / parts;
        }
    }
    y
}
