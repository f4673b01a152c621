//! Looking at edges, and changing their policies, while a pipeline runs.

use super::Monitor;
use crate::flow::EdgeWires;
use crate::observe::EdgeRuntimeState;
use crate::policy::{BackpressureStrategy, Checked, DropPolicy, FieldProblem};

/// Names an edge: its position in the graph's edges, or the stages it leads from and to.
///
/// ```
/// use corelane::driver::EdgeRef;
///
/// assert_eq!(EdgeRef::from(("decode", "traces")), EdgeRef::Between("decode", "traces"));
/// assert_eq!(EdgeRef::from(3), EdgeRef::Index(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeRef<'a> {
    /// By its position in [`PipelineGraph::edges`](crate::graph::PipelineGraph::edges).
    Index(usize),
    /// By its ends.
    Between(&'a str, &'a str),
}

impl From<usize> for EdgeRef<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<(&'a str, &'a str)> for EdgeRef<'a> {
    fn from((from, to): (&'a str, &'a str)) -> Self {
        Self::Between(from, to)
    }
}

impl std::fmt::Display for EdgeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "number {index}"),
            Self::Between(from, to) => write!(f, "{from} -> {to}"),
        }
    }
}

/// Why an edge's policy was not changed. Nothing has been.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SetPolicyError {
    /// The graph has no such edge.
    #[error("there is no edge {0}")]
    UnknownEdge(String),
    /// Several edges lead from the one stage to the other: name it by its position.
    #[error("edges {indices:?} all lead {edge}: name one by its position")]
    Ambiguous {
        /// What was asked for.
        edge: String,
        /// The positions of the edges meant.
        indices: Vec<usize>,
    },
    /// Both stages run as one chain: there is no ring between them. Give the edge a buffer or a strategy when building.
    #[error("edge {from} -> {to} is fused: give it a buffer or a strategy when building the pipeline")]
    Fused {
        /// The producing stage.
        from: String,
        /// The consuming stage.
        to: String,
    },
    /// The strategy itself is wrong.
    #[error("{}", .0.iter().map(|p| format!("{} {}", p.field, p.problem)).collect::<Vec<_>>().join("; "))]
    Policy(Vec<FieldProblem>),
}

impl Monitor {
    /// Changes how an edge makes its producers wait. Takes effect at the next step of each end, and only from there on: what
    /// is in the edge stays in it, in order, and nothing is lost beyond what the new policy says.
    ///
    /// [`BackpressureStrategy::Bounded`] also sets the edge's capacity and drop policy; a capacity above that of the
    /// beginning means that one, since rings do not grow ([`EdgeRuntimeState::capacity`] tells). The other strategies leave
    /// both as they are. Credits and requests that are out when the strategy changes stay valid; a token bucket starts empty.
    ///
    /// # Errors
    /// [`SetPolicyError`]: the edge is unknown, ambiguous or fused, or the strategy is wrong by itself.
    pub fn set_policy<'a>(
        &self,
        edge: impl Into<EdgeRef<'a>>,
        strategy: BackpressureStrategy,
    ) -> Result<(), SetPolicyError> {
        let problems = strategy.problems();
        if !problems.is_empty() {
            return Err(SetPolicyError::Policy(problems));
        }
        let index = self.find(edge.into())?;
        let control = self.edges[index].control.as_ref().ok_or_else(|| {
            let edge = &self.graph().edges[index];
            SetPolicyError::Fused { from: edge.from.clone(), to: edge.to.clone() }
        })?;
        control.set(strategy);
        Ok(())
    }

    fn find(&self, edge: EdgeRef<'_>) -> Result<usize, SetPolicyError> {
        let edges = &self.graph().edges;
        match edge {
            EdgeRef::Index(index) if index < edges.len() => Ok(index),
            EdgeRef::Index(_) => Err(SetPolicyError::UnknownEdge(edge.to_string())),
            EdgeRef::Between(from, to) => {
                let meant = |(index, e): (usize, &crate::graph::Edge)| {
                    (e.from == from && e.to == to).then_some(index)
                };
                let indices: Vec<usize> = edges.iter().enumerate().filter_map(meant).collect();
                match indices[..] {
                    [] => Err(SetPolicyError::UnknownEdge(edge.to_string())),
                    [index] => Ok(index),
                    _ => Err(SetPolicyError::Ambiguous { edge: edge.to_string(), indices }),
                }
            }
        }
    }

    /// What an edge is doing, or `None` if it is unknown or ambiguous.
    pub fn inspect_edge<'a>(&self, edge: impl Into<EdgeRef<'a>>) -> Option<EdgeRuntimeState> {
        self.find(edge.into()).ok().map(|index| self.edge_state(index))
    }

    /// What every edge is doing, in the order of the graph's edges.
    pub fn edges(&self) -> Vec<EdgeRuntimeState> {
        (0..self.edges.len()).map(|index| self.edge_state(index)).collect()
    }

    pub(super) fn edge_state(&self, index: usize) -> EdgeRuntimeState {
        let (from, to) = self.ends[index];
        let (from, to) = (self.ids[from].clone(), self.ids[to].clone());
        let wires: &EdgeWires = &self.edges[index];
        let Some(control) = &wires.control else {
            let drop_policy = DropPolicy::Block;
            return EdgeRuntimeState {
                from,
                to,
                fused: true,
                strategy: BackpressureStrategy::Bounded { capacity: 0, drop_policy },
                drop_policy,
                capacity: 0,
                max_bytes: None,
                depth: 0,
                bytes: 0,
                credits: None,
                batch: None,
                tokens: None,
                demand: None,
                dropped_newest: 0,
                dropped_oldest: 0,
            };
        };
        let (policy, cells) = (control.policy(), wires.read());
        let strategy = policy.strategy();
        let when = |holds: bool, value: u64| holds.then_some(value);
        let depth = cells.depth + cells.staged;
        let stated = control.demand().map(crate::partition::Demand::outstanding);
        EdgeRuntimeState {
            from,
            to,
            fused: false,
            strategy,
            drop_policy: policy.drop_policy,
            capacity: policy.capacity,
            max_bytes: policy.max_bytes,
            depth,
            bytes: if wires.weighed { cells.bytes } else { depth.saturating_mul(wires.item_bytes) },
            credits: when(matches!(strategy, BackpressureStrategy::CreditBased { .. }), cells.credits),
            batch: when(matches!(strategy, BackpressureStrategy::Adaptive { .. }), cells.batch),
            tokens: when(matches!(strategy, BackpressureStrategy::RateShaping { .. }), control.tokens()),
            demand: when(
                matches!(strategy, BackpressureStrategy::ReactivePull { .. }),
                stated.unwrap_or(cells.demand),
            ),
            dropped_newest: cells.dropped_newest,
            dropped_oldest: cells.dropped_oldest,
        }
    }
}
