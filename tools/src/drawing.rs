//! What the drawings of machines, core maps and latencies have in common.

use svg::Document;
use svg::node::element::{Circle, Group, Line, Rectangle, Style, Text, Title};

const STYLE: &str =
    "text{font:12px monospace;fill:#111}.small{font-size:10px;fill:#444}.head{font-weight:bold}";

/// A rectangle, in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// A drawing under way; what is drawn later lies above.
pub(crate) struct Drawing {
    document: Document,
}

impl Drawing {
    /// An empty sheet.
    pub(crate) fn new(title: &str, width: usize, height: usize) -> Self {
        let paper = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#fff");
        let document = Document::new()
            .set("viewBox", (0, 0, width, height))
            .set("width", width)
            .set("height", height)
            .add(Title::new(title))
            .add(Style::new(STYLE))
            .add(paper);
        Self { document }
    }

    /// A filled box; `hint` is shown when it is pointed at.
    pub(crate) fn block(self, area: Area, fill: &str, hint: &str) -> Self {
        let block = Rectangle::new()
            .set("x", area.x)
            .set("y", area.y)
            .set("width", area.width)
            .set("height", area.height)
            .set("rx", 4)
            .set("fill", fill)
            .set("stroke", "#666");
        let group = Group::new().add(Title::new(hint)).add(block);
        Self { document: self.document.add(group) }
    }

    /// A line of text; `class` is `head`, `small` or nothing.
    pub(crate) fn text(self, (x, y): (usize, usize), class: &str, anchor: &str, content: &str) -> Self {
        let text = Text::new(content).set("x", x).set("y", y).set("text-anchor", anchor).set("class", class);
        Self { document: self.document.add(text) }
    }

    /// A straight line.
    pub(crate) fn line(self, from: (usize, usize), to: (usize, usize), colour: &str) -> Self {
        let line = Line::new()
            .set("x1", from.0)
            .set("y1", from.1)
            .set("x2", to.0)
            .set("y2", to.1)
            .set("stroke", colour);
        Self { document: self.document.add(line) }
    }

    /// A dot; `hint` is shown when it is pointed at.
    pub(crate) fn dot(self, (x, y): (usize, usize), radius: usize, fill: &str, hint: &str) -> Self {
        let dot = Circle::new().set("cx", x).set("cy", y).set("r", radius).set("fill", fill);
        Self { document: self.document.add(Group::new().add(Title::new(hint)).add(dot)) }
    }

    /// The text of the SVG document, a newline at its end.
    pub(crate) fn finish(self) -> String {
        format!("{}\n", self.document)
    }
}
