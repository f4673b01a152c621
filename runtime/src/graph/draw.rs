//! What a drawing shows, and drawings as DOT and Mermaid text.

use std::collections::HashMap;
use std::fmt::Write;

use crate::model::StageKind;
use crate::policy::Parallelism;

use super::{ChannelOrdering, Edge, PipelineGraph, StageNode};

/// A stage as drawn; also a name that edges use and no stage has.
pub(super) struct Shown<'a> {
    pub(super) title: &'a str,
    pub(super) detail: String,
    /// `None` for a stage that is missing.
    pub(super) kind: Option<StageKind>,
}

/// An edge as drawn, between positions of what is shown.
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: String,
}

/// Everything of a graph, whether it is valid or not.
pub(super) struct Drawing<'a> {
    pub(super) shown: Vec<Shown<'a>>,
    pub(super) lines: Vec<Line>,
}

impl<'a> Drawing<'a> {
    pub(super) fn new(graph: &'a PipelineGraph) -> Self {
        let mut shown: Vec<_> = graph
            .nodes
            .iter()
            .map(|node| Shown { title: &node.id, detail: detail(node), kind: Some(node.kind) })
            .collect();
        let mut missing: HashMap<&str, usize> = HashMap::new();
        let mut place = |end: Option<usize>, name: &'a str| {
            end.unwrap_or_else(|| {
                *missing.entry(name).or_insert_with(|| {
                    shown.push(Shown { title: name, detail: "missing".to_owned(), kind: None });
                    shown.len() - 1
                })
            })
        };
        let ends = graph.ends().into_iter().zip(&graph.edges);
        let lines = ends
            .map(|((from, to), edge)| Line {
                from: place(from, &edge.from),
                to: place(to, &edge.to),
                label: label(edge),
            })
            .collect();
        Self { shown, lines }
    }
}

fn detail(node: &StageNode) -> String {
    let kind = node.kind;
    match node.parallelism {
        Parallelism::Sequential => kind.to_string(),
        Parallelism::Fixed(n) => format!("{kind} x{n}"),
        Parallelism::CpuBound => format!("{kind}, one per core"),
        Parallelism::IoBound => format!("{kind}, async"),
    }
}

fn label(edge: &Edge) -> String {
    let order = match &edge.channel.ordering {
        ChannelOrdering::Unordered => None,
        ChannelOrdering::Ordered => Some("ordered".to_owned()),
        ChannelOrdering::PartitionOrdered { key: Some(key) } => Some(format!("by {key}")),
        ChannelOrdering::PartitionOrdered { key: None } => Some("by ?".to_owned()),
    };
    let parts: Vec<_> = edge.label.clone().into_iter().chain(order).collect();
    parts.join(", ")
}

impl PipelineGraph {
    /// Draws it in the DOT language of Graphviz; the same text for the same graph. Ends of edges that are no stages
    /// are drawn dashed.
    pub fn to_dot(&self) -> String {
        let drawing = Drawing::new(self);
        let name = self.id.as_deref().unwrap_or("pipeline");
        let mut text = format!("digraph {} {{\n", dot_quoted(name));
        text.push_str("  rankdir=LR;\n  node [fontname=\"monospace\"];\n");
        for (index, shown) in drawing.shown.iter().enumerate() {
            let label = dot_quoted(&format!("{}\n{}", shown.title, shown.detail));
            let shape = match shown.kind {
                Some(StageKind::Source) => "shape=cds",
                Some(StageKind::Transform) => "shape=box",
                Some(StageKind::Accumulator) => "shape=cylinder",
                Some(StageKind::Branch) => "shape=triangle, orientation=90",
                Some(StageKind::Merge) => "shape=triangle, orientation=270",
                Some(StageKind::Sink) => "shape=box, peripheries=2",
                None => "shape=box, style=dashed",
            };
            let _ = writeln!(text, "  n{index} [label={label}, {shape}];");
        }
        for Line { from, to, label } in &drawing.lines {
            let _ = match label.as_str() {
                "" => writeln!(text, "  n{from} -> n{to};"),
                label => writeln!(text, "  n{from} -> n{to} [label={}];", dot_quoted(label)),
            };
        }
        text.push_str("}\n");
        text
    }

    /// Draws it as a Mermaid flow chart; the same text for the same graph. Ends of edges that are no stages are drawn
    /// dashed.
    pub fn to_mermaid(&self) -> String {
        let drawing = Drawing::new(self);
        let mut text = "flowchart LR\n".to_owned();
        for (index, shown) in drawing.shown.iter().enumerate() {
            let label =
                format!("\"{}<br/>{}\"", mermaid_escaped(shown.title), mermaid_escaped(&shown.detail));
            let _ = match shown.kind {
                Some(StageKind::Source) => writeln!(text, "  n{index}([{label}])"),
                Some(StageKind::Transform) => writeln!(text, "  n{index}[{label}]"),
                Some(StageKind::Accumulator) => writeln!(text, "  n{index}[({label})]"),
                Some(StageKind::Branch) => writeln!(text, "  n{index}{{{label}}}"),
                Some(StageKind::Merge) => writeln!(text, "  n{index}{{{{{label}}}}}"),
                Some(StageKind::Sink) => writeln!(text, "  n{index}[[{label}]]"),
                None => writeln!(text, "  n{index}[{label}]\n  style n{index} stroke-dasharray: 5 5"),
            };
        }
        for Line { from, to, label } in &drawing.lines {
            let _ = match label.as_str() {
                "" => writeln!(text, "  n{from} --> n{to}"),
                label => writeln!(text, "  n{from} -->|\"{}\"| n{to}", mermaid_escaped(label)),
            };
        }
        text
    }
}

fn dot_quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(char::REPLACEMENT_CHARACTER),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Everything that could mean something to Mermaid becomes an entity.
fn mermaid_escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            ' ' | ',' | '.' | '_' | '-' => escaped.push(c),
            c if c.is_ascii_punctuation() => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}
