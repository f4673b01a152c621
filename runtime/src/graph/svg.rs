//! Drawings as SVG.

use std::fmt::Write;

use crate::model::StageKind;

use super::PipelineGraph;
use super::draw::Drawing;
use super::layout::{Layout, Rect, Route, clipped};

const HEAD: &str = r##"<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>
<style>text{font:12px monospace;fill:#111}.detail{font-size:11px;fill:#444}.label{font-size:11px;fill:#333;paint-order:stroke;stroke:#fff;stroke-width:3px}.line{fill:none;stroke:#555;stroke-width:1.5}.back{stroke-dasharray:5 4}</style>
<rect class="paper" width="100%" height="100%" fill="#fff"/>
"##;

impl PipelineGraph {
    /// Draws it as one SVG document, stages in layers from left to right by the longest path to them; boxes do not
    /// overlap and lines go around them. The same text for the same graph. Ends of edges that are no stages, and
    /// edges that close a cycle, are drawn dashed.
    ///
    /// Cost: linear in stages, edges and the layers edges pass (sorting apart).
    pub fn to_svg(&self) -> String {
        let drawing = Drawing::new(self);
        let layout = Layout::new(&drawing);
        let (width, height) = (layout.width, layout.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\">\n<title>{}</title>\n{HEAD}",
            escaped(self.id.as_deref().unwrap_or("pipeline"))
        );
        for route in &layout.routes {
            let class = if route.back { "line back" } else { "line" };
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"{}\" marker-end=\"url(#tip)\"/>", way(route));
        }
        for (shown, rect) in drawing.shown.iter().zip(&layout.rects) {
            stage(&mut svg, shown.title, &shown.detail, shown.kind, rect);
        }
        for (line, route) in drawing.lines.iter().zip(&layout.routes) {
            if !line.label.is_empty() {
                let ((x, y), label) = (route.label_end, escaped(&clipped(&line.label)));
                let _ = writeln!(
                    svg,
                    "<text class=\"label\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>"
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn stage(svg: &mut String, title: &str, detail: &str, kind: Option<StageKind>, rect: &Rect) {
    let (fill, dash) = match kind {
        Some(StageKind::Source) => ("#d8f0d8", ""),
        Some(StageKind::Transform) => ("#e4ecf7", ""),
        Some(StageKind::Accumulator) => ("#fdeccb", ""),
        Some(StageKind::Branch) => ("#f0e0f5", ""),
        Some(StageKind::Merge) => ("#e0f3f3", ""),
        Some(StageKind::Sink) => ("#f5dcdc", ""),
        None => ("#fff", " stroke-dasharray=\"5 4\""),
    };
    let Rect { x, y, width, height } = *rect;
    let (middle, centre) = (x + width / 2, y + height / 2);
    let _ = writeln!(
        svg,
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" \
         fill=\"{fill}\" stroke=\"#555\"{dash}/><text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text class=\"detail\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>",
        escaped(title),
        centre - 3,
        escaped(&clipped(title)),
        centre + 13,
        escaped(&clipped(detail)),
    );
}

/// Curves across gaps, straight through layers; a line that leads back swings below.
fn way(route: &Route) -> String {
    let (x, y) = route.points[0];
    let mut way = format!("M{x},{y}");
    let (mut last_x, mut last_y) = (x, y);
    for (i, &(x, y)) in
        route.points.iter().enumerate().skip(1).filter(|(_, point)| **point != route.points[0])
    {
        let _ = if route.back {
            write!(way, " C{},{} {},{} {x},{y}", last_x + 48, last_y + 72, x - 48, y + 72)
        } else if i % 2 == 1 {
            write!(way, " L{x},{y}")
        } else {
            let middle = last_x + (x - last_x) / 2;
            write!(way, " C{middle},{last_y} {middle},{y} {x},{y}")
        };
        (last_x, last_y) = (x, y);
    }
    way
}

/// For XML text: what XML 1.0 does not allow at all becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            c => escaped.push(c),
        }
    }
    escaped
}
