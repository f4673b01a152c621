//! Drawings of graphs show everything, nothing on top of anything, and the same every time.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod graph_kit;

use std::time::Duration;

use corelane::graph::{ChannelOrdering, Edge, PipelineGraph, StageNode};
use corelane::model::StageKind;
use corelane::policy::{
    AfterRetries, Backoff, BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, DropPolicy, ErrorPolicy,
    MergePolicy, Parallelism, PolicyRef,
};
use proptest::prelude::*;

use graph_kit::{chain, long_chain, three};

/// One stage of each kind: two ways from a branch to a merge, one of them through a transform.
fn sample() -> PipelineGraph {
    use StageKind::{Accumulator, Branch, Merge, Sink, Source, Transform};
    let mut graph = chain(&[Source, Accumulator, Branch, Transform, Merge, Sink]);
    graph.id = Some("sample".into());
    graph.nodes[1].parallelism = Parallelism::CpuBound;
    graph.nodes[3].parallelism = Parallelism::Fixed(3);
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    graph.nodes[3].error_policy = ErrorPolicy::retry(2, backoff).then(AfterRetries::Fail).into();
    graph.nodes[3].circuit_breaker = Some(
        CircuitBreakerPolicy {
            latency_threshold: Duration::from_millis(5),
            cooldown_period: Duration::from_secs(1),
            ..CircuitBreakerPolicy::on_errors(0.5)
        }
        .into(),
    );
    graph.nodes[4].merge = Some(MergePolicy::ByTimestamp);
    graph.nodes[5].buffer = Some(PolicyRef::named("wide"));
    graph.edges[0].channel.ordering = ChannelOrdering::PartitionOrdered { key: Some("user".into()) };
    graph.edges[2].label = Some("slow".into());
    graph.edges[3].channel.buffer = Some(BufferPolicy::new(8, DropPolicy::DropOldest).into());
    graph.edges[3].channel.backpressure =
        Some(BackpressureStrategy::RateShaping { rate: 5, burst: 9 }.into());
    graph.edges.push(Edge::new("c", "e").labelled("rest"));
    graph
}

#[test]
fn dot_shows_every_stage_and_edge() {
    let expected = r#"digraph "sample" {
  rankdir=LR;
  node [fontname="monospace"];
  n0 [label="a\nsource", shape=cds];
  n1 [label="b\naccumulator, one per core", shape=cylinder];
  n2 [label="c\nbranch", shape=triangle, orientation=90];
  n3 [label="d\ntransform x3", shape=box];
  n4 [label="e\nmerge", shape=triangle, orientation=270];
  n5 [label="f\nsink", shape=box, peripheries=2];
  n0 -> n1 [label="by user"];
  n1 -> n2;
  n2 -> n3 [label="slow"];
  n3 -> n4;
  n4 -> n5;
  n2 -> n4 [label="rest"];
}
"#;
    assert_eq!(sample().to_dot(), expected);
}

#[test]
fn mermaid_shows_every_stage_and_edge() {
    let expected = r#"flowchart LR
  n0(["a<br/>source"])
  n1[("b<br/>accumulator, one per core")]
  n2{"c<br/>branch"}
  n3["d<br/>transform x3"]
  n4{{"e<br/>merge"}}
  n5[["f<br/>sink"]]
  n0 -->|"by user"| n1
  n1 --> n2
  n2 -->|"slow"| n3
  n3 --> n4
  n4 --> n5
  n2 -->|"rest"| n4
"#;
    assert_eq!(sample().to_mermaid(), expected);
}

#[test]
fn the_table_shows_stages_edges_and_policies() {
    let expected = "\
sample: 6 stages, 6 edges
  STAGE  KIND         PARALLELISM   ON ERROR                  POLICIES
  a      source       1             fail                      -
  b      accumulator  one per core  fail                      ttl 1s; partial flush
  c      branch       1             fail                      -
  d      transform    3             retry 2 times, 5ms to 1s  breaker at 0.5 of 10s
  e      merge        1             fail                      by timestamp
  f      sink         1             fail                      @wide
  EDGE    LABEL  BUFFER  ORDER      POLICIES
  a -> b  -      4096    by user    -
  b -> c  -      4096    unordered  -
  c -> d  slow   4096    unordered  -
  d -> e  -      4096    unordered  buffer 8 drop-oldest; rate 5/s, burst 9
  e -> f  -      4096    unordered  -
  c -> e  rest   4096    unordered  -
";
    assert_eq!(sample().to_string(), expected);
}

#[derive(Clone, Copy, Debug)]
struct Rect {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rect {
    fn of(points: &[(f64, f64)]) -> Self {
        let min = |values: Vec<f64>| values.into_iter().fold(f64::INFINITY, f64::min);
        let max = |values: Vec<f64>| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let (xs, ys): (Vec<_>, Vec<_>) = points.iter().copied().unzip();
        Self { left: min(xs.clone()), top: min(ys.clone()), right: max(xs), bottom: max(ys) }
    }

    /// They share more than a border.
    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let start = element.find(&format!(" {name}=\"")).expect(name) + name.len() + 3;
    element[start..].split('"').next().unwrap()
}

fn number(element: &str, name: &str) -> f64 {
    attribute(element, name).parse().unwrap()
}

fn elements<'a>(svg: &'a str, start: &str) -> Vec<&'a str> {
    svg.match_indices(start).map(|(at, _)| svg[at..].split('>').next().unwrap()).collect()
}

fn boxes(svg: &str) -> Vec<Rect> {
    let rect = |e: &str| {
        let (x, y) = (number(e, "x"), number(e, "y"));
        Rect::of(&[(x, y), (x + number(e, "width"), y + number(e, "height"))])
    };
    elements(svg, "<rect x=").into_iter().map(rect).collect()
}

/// The rectangles in which the lines lie: a curve lies in that of its control points.
fn line_parts(svg: &str) -> Vec<Rect> {
    let mut parts = Vec::new();
    for path in elements(svg, "<path class=\"line\"") {
        let way = attribute(path, "d").replace(['C', 'L'], "|").replace('M', "");
        let mut last = None;
        for part in way.split('|') {
            let point =
                |text: &str| text.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
            let mut points: Vec<(f64, f64)> =
                part.split_whitespace().map(|text| point(text).unwrap()).collect();
            points.extend(last);
            last = points.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
            parts.push(Rect::of(&points));
        }
    }
    parts
}

fn labels(svg: &str) -> Vec<Rect> {
    let label = |(at, _): (usize, &str)| {
        let element = &svg[at..];
        let text = element.split(['>', '<']).nth(2).unwrap();
        let (x, y) = (number(element, "x"), number(element, "y"));
        Rect::of(&[(x - 7.0 * text.chars().count() as f64, y - 9.0), (x, y)])
    };
    svg.match_indices("<text class=\"label\"").map(label).collect()
}

fn assert_apart(graph: &PipelineGraph) {
    let svg = graph.to_svg();
    let (boxes, labels) = (boxes(&svg), labels(&svg));
    let paper = Rect::of(&[(0.0, 0.0), (number(&svg, "width"), number(&svg, "height"))]);
    assert_eq!(boxes.len(), graph.nodes.len());
    assert_eq!(svg.matches("<path class=\"line").count(), graph.edges.len());
    for (i, a) in boxes.iter().enumerate() {
        assert!(a.left >= 0.0 && a.top >= 0.0 && a.right <= paper.right && a.bottom <= paper.bottom);
        assert!(boxes[i + 1..].iter().all(|b| !a.overlaps(b)), "boxes overlap in {svg}");
        assert!(line_parts(&svg).iter().all(|part| !a.overlaps(part)), "a line crosses {a:?} in {svg}");
        assert!(labels.iter().all(|label| !a.overlaps(label)), "a label covers {a:?} in {svg}");
    }
    for (i, a) in labels.iter().enumerate() {
        assert!(labels[i + 1..].iter().all(|b| !a.overlaps(b)), "labels overlap in {svg}");
    }
}

#[test]
fn svg_shows_every_stage_edge_and_label() {
    let graph = sample();
    assert_apart(&graph);
    let svg = graph.to_svg();
    assert_eq!(labels(&svg).len(), 3);
    for text in [
        "<title>sample</title>",
        ">a<",
        ">accumulator, one per core<",
        ">transform x3<",
        ">slow<",
        ">by user<",
    ] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
    let x: Vec<_> = boxes(&svg).iter().map(|rect| rect.left).collect();
    assert!(x.is_sorted_by(|a, b| a < b), "a chain goes from left to right, the merge behind the longer way");
}

proptest! {
    #[test]
    fn in_an_svg_nothing_lies_on_anything(
        pairs in prop::collection::vec((0usize..12, 0usize..12, 0usize..4), 0..30),
        names in prop::collection::vec("[a-z]{1,50}", 12),
    ) {
        let mut graph = PipelineGraph {
            nodes: (0..12)
                .map(|i| StageNode::new(format!("{i}{}", names[i]), StageKind::Transform))
                .collect(),
            ..Default::default()
        };
        for (a, b, label) in pairs {
            if a != b {
                let id = |i: usize| graph.nodes[i].id.clone();
                let edge = Edge::new(id(a.min(b)), id(a.max(b)));
                graph.edges.push(if label > 0 { edge.labelled("route".repeat(label)) } else { edge });
            }
        }
        assert_apart(&graph);
    }

    #[test]
    fn any_graph_is_drawn_the_same_every_time(
        pairs in prop::collection::vec((0usize..7, 0usize..7), 0..12),
        names in prop::collection::vec(".{0,6}", 5),
    ) {
        let name = |i: usize| names.get(i).cloned().unwrap_or_else(|| "gone".into());
        let mut graph = three(StageKind::Transform);
        graph.nodes.extend(names.iter().map(|name| StageNode::new(name.as_str(), StageKind::Merge)));
        graph.edges.extend(pairs.into_iter().map(|(a, b)| Edge::new(name(a), name(b))));
        for draw in [PipelineGraph::to_dot, PipelineGraph::to_mermaid, PipelineGraph::to_svg, ToString::to_string] {
            prop_assert_eq!(draw(&graph), draw(&graph.clone()));
        }
    }
}

const HOSTILE: &str = "<b>\"a\"&'\\\n\0]|;#`";

#[test]
fn text_from_outside_is_escaped() {
    let mut graph = three(StageKind::Transform);
    graph.id = Some(HOSTILE.into());
    graph.nodes[1].id = HOSTILE.into();
    graph.edges = vec![Edge::new("a", HOSTILE), Edge::new(HOSTILE, "c").labelled(HOSTILE)];

    let svg = graph.to_svg();
    let shown = "&lt;b&gt;&quot;a&quot;&amp;&apos;\\\u{fffd}\u{fffd}]|;#`";
    assert_eq!(svg.matches(shown).count(), 4, "title, box, its tip, label: {svg}");
    assert!(!svg.contains("<b>") && !svg.contains('\0'));

    let dot = graph.to_dot();
    let shown = "<b>\\\"a\\\"&'\\\\\\n\u{fffd}]|;#`";
    assert_eq!(dot.matches(shown).count(), 3, "{dot}");

    let mermaid = graph.to_mermaid();
    let shown = "#60;b#62;#34;a#34;#38;#39;#92;\u{fffd}\u{fffd}#93;#124;#59;#35;#96;";
    assert_eq!(mermaid.matches(shown).count(), 2, "{mermaid}");
    assert_eq!(mermaid.lines().count(), 6);

    let table = graph.to_string();
    assert!(table.contains("\\n\\0]") && table.lines().count() == 1 + 4 + 3, "{table}");
}

#[test]
fn what_is_wrong_with_a_graph_is_drawn_too() {
    let mut graph = three(StageKind::Transform);
    graph.edges.extend([
        Edge::new("c", "b"),
        Edge::new("b", "b"),
        Edge::new("ghost", "a"),
        Edge::new("c", "ghost"),
    ]);
    let dot = graph.to_dot();
    assert_eq!(dot.matches("ghost\\nmissing\", shape=box, style=dashed").count(), 1, "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 6);
    assert_eq!(graph.to_mermaid().matches(" --> ").count(), 6);
    let svg = graph.to_svg();
    assert_eq!((boxes(&svg).len(), svg.matches("<path class=\"line").count()), (4, 6));
    assert!(svg.contains("class=\"line back\""));
    assert!(PipelineGraph::default().to_svg().ends_with("</svg>\n"));
}

#[test]
fn large_graphs_are_drawn_without_recursion() {
    let graph = long_chain(20_000);
    assert_eq!(boxes(&graph.to_svg()).len(), 20_000);
    assert_eq!(graph.to_dot().matches(" -> ").count(), 19_999);
}
