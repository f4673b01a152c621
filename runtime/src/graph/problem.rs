//! One error of a graph.

use std::fmt;

use crate::model::IdError;
use crate::model::StageKind;
use crate::policy::{FieldProblem, UnknownPolicy};

use super::validate::{MAX_EDGES, MAX_STAGES};
use super::{Deadlock, MAX_WAITING_INPUTS};

/// Where in a graph something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// In a stage.
    Stage {
        /// Position among the nodes.
        index: usize,
        /// Its id, as read.
        id: String,
    },
    /// In an edge.
    Edge {
        /// Position among the edges.
        index: usize,
        /// Where it comes from, as read.
        from: String,
        /// Where it goes, as read.
        to: String,
        /// Its label, as read.
        label: Option<String>,
    },
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { id, .. } => write!(f, "stage {}", Quoted(id)),
            Self::Edge { index, from, to, .. } => {
                write!(f, "edge {index} ({} -> {})", Quoted(from), Quoted(to))
            }
        }
    }
}

/// Text from outside: quoted, escaped, and cut after 64 characters.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(64) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}

/// Ids of a path, in order, at most the first sixteen.
struct Path<'a>(&'a [String]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.0.iter().take(16) {
            write!(f, "{} -> ", Quoted(id))?;
        }
        if self.0.len() > 16 {
            write!(f, "... ({} stages) -> ", self.0.len())?;
        }
        self.0.first().map_or(Ok(()), |first| write!(f, "{}", Quoted(first)))
    }
}

/// Says that a policy comes from the registry.
struct Named<'a>(Option<&'a str>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " (policy {} of the registry)", Quoted(name)))
    }
}

fn article(kind: StageKind) -> &'static str {
    if kind == StageKind::Accumulator { "an" } else { "a" }
}

/// Something that keeps a graph from being built. Each message says where it is and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// No stages.
    #[error("the graph has no stages: give it at least a source and a sink")]
    Empty,
    /// More stages than the stated limit.
    #[error("the graph has {0} stages, at most {MAX_STAGES} are allowed: split it")]
    TooManyStages(usize),
    /// More edges than the stated limit.
    #[error("the graph has {0} edges, at most {MAX_EDGES} are allowed: split it")]
    TooManyEdges(usize),
    /// The graph's own id is not an id.
    #[error("field id, {}: {problem}; rename the pipeline", Quoted(id))]
    InvalidPipelineId {
        /// As read.
        id: String,
        /// What is wrong with it.
        problem: IdError,
    },
    /// A stage's id is not an id.
    #[error("{at} (node {}), field id: {problem}; rename it", index_of(at))]
    InvalidStageId {
        /// The stage.
        at: At,
        /// What is wrong with it.
        problem: IdError,
    },
    /// Two stages with one id.
    #[error("nodes {first} and {second} both have the id {}: rename one", Quoted(id))]
    DuplicateStage {
        /// The id.
        id: String,
        /// Position of the first node that has it.
        first: usize,
        /// Position of the other.
        second: usize,
    },
    /// Two ids that differ in upper and lower case only.
    #[error(
        "stages {} and {} differ in upper and lower case only: rename one, or logs, metrics and files confuse them",
        Quoted(first),
        Quoted(second)
    )]
    IdsDifferByCase {
        /// The id that stands first.
        first: String,
        /// The other.
        second: String,
    },
    /// An edge to a stage that is not there.
    #[error("{at}, field to: there is no stage {}: add it or correct the name", Quoted(to_of(at)))]
    UnknownTarget {
        /// The edge.
        at: At,
    },
    /// An edge from a stage that is not there.
    #[error("{at}, field from: there is no stage {}: add it or correct the name", Quoted(from_of(at)))]
    UnknownOrigin {
        /// The edge.
        at: At,
    },
    /// The same edge twice.
    #[error("{at} stands in the graph already as edge {first}: remove one, or give them different labels")]
    DuplicateEdge {
        /// The edge.
        at: At,
        /// Position of the first.
        first: usize,
    },
    /// Two outputs of one branch with the same label and different targets.
    #[error(
        "{at}, field label: edge {first} is output {} of the same branch already: rename one",
        Quoted(label)
    )]
    DuplicateLabel {
        /// The edge.
        at: At,
        /// The label.
        label: String,
        /// Position of the first edge that has it.
        first: usize,
    },
    /// A label that is empty or too long.
    #[error("{at}, field label: has {bytes} bytes; give it 1 to 128, or leave it out")]
    InvalidLabel {
        /// The edge.
        at: At,
        /// Its length.
        bytes: usize,
    },
    /// An edge from a stage to itself.
    #[error("{at} leads back to its own stage: remove it; a graph has no cycles")]
    SelfLoop {
        /// The edge.
        at: At,
    },
    /// Stages that lead back to themselves.
    #[error("cycle {}: remove one of its edges; a graph has no cycles", Path(stages))]
    Cycle {
        /// The stages of a shortest cycle among those that are tangled, in order.
        stages: Vec<String>,
    },
    /// A source with an input.
    #[error(
        "{at} leads into {}, which is a source: remove it or make that stage a merge or a transform",
        Quoted(to_of(at))
    )]
    SourceWithInput {
        /// The edge.
        at: At,
    },
    /// A sink with an output.
    #[error(
        "{at} leads out of {}, which is a sink: remove it or make that stage a branch or a transform",
        Quoted(from_of(at))
    )]
    SinkWithOutput {
        /// The edge.
        at: At,
    },
    /// A stage nothing flows into.
    #[error("{at} is {} {kind} without input: add an edge to it or remove it", article(*kind))]
    NoInput {
        /// The stage.
        at: At,
        /// Its kind.
        kind: StageKind,
    },
    /// A stage whose output nobody takes.
    #[error("{at} is {} {kind} whose output nothing consumes: add an edge from it to a stage or a sink", article(*kind))]
    NoOutput {
        /// The stage.
        at: At,
        /// Its kind.
        kind: StageKind,
    },
    /// Several inputs where only a merge has several.
    #[error("{at} is {} {kind} with {inputs} inputs: put a merge in front of it", article(*kind))]
    SeveralInputs {
        /// The stage.
        at: At,
        /// Its kind.
        kind: StageKind,
        /// How many.
        inputs: usize,
    },
    /// Several outputs where only a branch has several.
    #[error("{at} is {} {kind} with {outputs} outputs: put a branch behind it", article(*kind))]
    SeveralOutputs {
        /// The stage.
        at: At,
        /// Its kind.
        kind: StageKind,
        /// How many.
        outputs: usize,
    },
    /// An edge between stages of different item types.
    #[error(
        "{at}: out-type {} does not fit in-type {}: put a transform between them",
        Quoted(gives),
        Quoted(takes)
    )]
    TypeMismatch {
        /// The edge.
        at: At,
        /// What the producer gives.
        gives: String,
        /// What the consumer takes.
        takes: String,
    },
    /// A field that means nothing on a stage of this kind.
    #[error("{at}, field {field}: means nothing on {} {kind}: remove it or change the kind", article(*kind))]
    Misplaced {
        /// The stage.
        at: At,
        /// Its kind.
        kind: StageKind,
        /// The field.
        field: &'static str,
    },
    /// A field a stage of this kind cannot do without.
    #[error("{at}, field accumulation: an accumulator needs one: give it a policy with a limit")]
    NoAccumulation {
        /// The stage.
        at: At,
    },
    /// A branch some items of which have nowhere to go.
    #[error(
        "{at}, field has-default: a branch without a default loses items no route wants: give it a default output"
    )]
    BranchWithoutDefault {
        /// The stage.
        at: At,
    },
    /// An order by key, without a key.
    #[error(
        "{at}, field channel.ordering.partition-ordered.key: is missing: name the key, or use ordered or unordered"
    )]
    NoPartitionKey {
        /// The edge.
        at: At,
    },
    /// An ordered edge behind parallel instances whose order nobody can restore.
    #[error(
        "{at}, field channel.ordering: is ordered, but {why}: restore the order before that, or run one instance"
    )]
    OrderLost {
        /// The edge.
        at: At,
        /// Where the order is lost.
        why: String,
    },
    /// A merge that can wait for ever.
    #[error("{0}")]
    Deadlock(Deadlock),
    /// More inputs of merges wait for others than can be looked through.
    #[error(
        "{0} inputs of merges wait for others, at most {MAX_WAITING_INPUTS} can be checked: split the graph"
    )]
    TooManyWaiting(usize),
    /// A buffer whose bytes no machine has.
    #[error(
        "{at}, field {field}: {capacity} items of {item_bytes} bytes do not fit in memory addresses: make it smaller"
    )]
    CapacityBytesOverflow {
        /// The edge.
        at: At,
        /// The field the capacity comes from.
        field: String,
        /// Items.
        capacity: u64,
        /// Bytes of one item.
        item_bytes: usize,
    },
    /// Spilling without a place to spill to.
    #[error(
        "{at}, field accumulation.policy.spill-allowed: there is no spill directory: configure one or forbid spilling"
    )]
    NoSpillDirectory {
        /// The stage.
        at: At,
    },
    /// Spilling allowed for state that cannot be written to disk.
    #[error(
        "{at}, field accumulation.policy.spill-allowed: its accumulator cannot write its state to disk: implement \
         spill_schema, serialize_spill and deserialize_spill, or forbid spilling"
    )]
    CannotSpill {
        /// The stage.
        at: At,
    },
    /// Shards of state that cannot move.
    #[error(
        "{at}, field rebalance: its state cannot move between instances: of the keyed stages, folds by key and accumulators made with \
         accumulate_movable can"
    )]
    CannotMove {
        /// The stage.
        at: At,
    },
    /// Shards of which a part may be on disk.
    #[error(
        "{at}, field rebalance: state that may go to disk does not move: forbid spilling, or leave rebalance out"
    )]
    MovesAndSpills {
        /// The stage.
        at: At,
    },
    /// A configuration that names a stage that is not there.
    #[error("the configuration is otherwise at stage {}, which is not in the graph; {help}", Quoted(id))]
    OverrideOfUnknownStage {
        /// The stage.
        id: String,
        /// The nearest stage there is, or all of them.
        help: String,
    },
    /// A configuration that names an input that a stage does not have.
    #[error(
        "{at}, field inputs: the configuration is otherwise at input {}, which it does not have; {help}",
        Quoted(input)
    )]
    OverrideOfUnknownInput {
        /// The stage.
        at: At,
        /// The input.
        input: String,
        /// The nearest input there is, or all of them.
        help: String,
    },
    /// A policy that is not in the registry.
    #[error("{at}, field {field}: {problem}")]
    UnknownPolicy {
        /// Where it is referred to.
        at: At,
        /// The field.
        field: &'static str,
        /// The name and the table.
        problem: UnknownPolicy,
    },
    /// A policy that cannot work.
    #[error("{at}, field {}{}: {}", problem.field, Named(name.as_deref()), problem.problem)]
    Policy {
        /// Where it is used.
        at: At,
        /// The field and what is wrong with it.
        problem: FieldProblem,
        /// The policy's name, when it comes from the registry.
        name: Option<String>,
    },
}

fn index_of(at: &At) -> usize {
    match at {
        At::Stage { index, .. } | At::Edge { index, .. } => *index,
    }
}

fn from_of(at: &At) -> &str {
    match at {
        At::Edge { from, .. } => from,
        At::Stage { id, .. } => id,
    }
}

fn to_of(at: &At) -> &str {
    match at {
        At::Edge { to, .. } => to,
        At::Stage { id, .. } => id,
    }
}
