//! Random graphs as data.

use corelane::policy::{BufferPolicy, CircuitBreakerPolicy, ErrorPolicy, Parallelism, WhileOpen};

use super::item::mix;

/// An output of a node, counted over the graph.
pub type StreamId = usize;

/// What may be in a graph. Swarm: each seed draws how likely each kind is within these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Stages between sources and sinks at most.
    pub stages: usize,
    /// Items per source at most.
    pub items: u64,
    /// Whether edges may drop.
    pub drops: bool,
    /// Whether stages may return errors.
    pub errors: bool,
    /// Whether stages may panic.
    pub panics: bool,
    /// Whether errors and panics may end the pipeline.
    pub fails: bool,
    /// Whether there are stages that hold items back.
    pub holds: bool,
    /// Whether stages have circuit breakers.
    pub breakers: bool,
    /// Whether accumulators may move keys to disk.
    pub spills: bool,
    /// Whether stages have several instances.
    pub parallel: bool,
    /// Longest wait of a timer or before a retry, in nanoseconds.
    pub wait: u64,
}

impl Shape {
    /// Everything.
    pub const ALL: Self = Self {
        stages: 12,
        items: 1_500,
        drops: true,
        errors: true,
        panics: true,
        fails: true,
        holds: true,
        breakers: true,
        spills: true,
        parallel: true,
        wait: 500_000,
    };

    /// Only what gives the same items at the sinks in every run.
    pub const REPEATABLE: Self = Self { drops: false, fails: false, spills: false, ..Self::ALL };
}

/// A graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Upstream first.
    pub nodes: Vec<Node>,
    /// How many streams connect them.
    pub streams: usize,
    /// Whether calls of stages with a circuit breaker may be slow.
    pub slow: bool,
}

/// A stage, or two that always go together.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: What,
    /// Its outputs; the dead letters, where they are taken, come last.
    pub outputs: Vec<StreamId>,
    /// How.
    pub options: Options,
    /// Whether its input, and so its output, comes in the order in which a single thread would make it.
    pub ordered: bool,
    /// The same for the items of each key.
    pub keyed: bool,
}

impl Node {
    /// What tells its dead letters from those of other stages.
    pub fn letter_mark(&self) -> u64 {
        mix(self.outputs.last().map_or(0, |id| *id as u64), 0x1e77e4)
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum What {
    Source { items: u64, keys: u64, salt: u64, faltering: bool },
    Op { input: StreamId, op: Op },
    Route { input: StreamId, salt: u64 },
    Broadcast { input: StreamId },
    Merge { inputs: Vec<StreamId>, priority: bool },
    Sink { input: StreamId, kind: SinkKind },
}

/// What an operator does.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Map {
        salt: u64,
        panic_every: u64,
    },
    Filter {
        salt: u64,
        one_in: u64,
        panic_every: u64,
    },
    FlatMap {
        salt: u64,
        upto: u64,
    },
    /// Fails on one item in `every`, `failures` times in a row, by a panic or an error.
    TryMap {
        salt: u64,
        every: u64,
        failures: u32,
        panics: bool,
    },
    /// The same behind a key: retries park their key.
    KeyedTry {
        salt: u64,
        keys: u64,
        every: u64,
        failures: u32,
        panics: bool,
    },
    /// Passes items on when a timer says so, and refuses one in `error_every`, which it may hand back.
    Delay {
        salt: u64,
        nanos: u64,
        error_every: u64,
        hands_back: bool,
    },
    /// A stream function: `window` items are held until they are together.
    StreamFn {
        salt: u64,
        window: usize,
    },
    /// Three stages in one chain whose types are known to one another.
    Trio {
        salt: u64,
        upto: u64,
        every: u64,
    },
    /// Panics on one item in `panic_every`, which ends the pipeline.
    Fold {
        salt: u64,
        keys: u64,
        by_order: bool,
        panic_every: u64,
    },
    /// Groups of `size` items of a key; what is left of a group after `ttl`, or at the end, is given out or expires.
    Accumulate {
        keys: u64,
        size: u64,
        ttl: Option<u64>,
        partial: bool,
        spills: bool,
    },
}

impl Op {
    /// It fails on one item in this many; never, if 0.
    pub fn trouble(&self) -> u64 {
        match *self {
            Self::Map { panic_every: every, .. }
            | Self::Filter { panic_every: every, .. }
            | Self::TryMap { every, .. }
            | Self::KeyedTry { every, .. }
            | Self::Delay { error_every: every, .. }
            | Self::Trio { every, .. } => every,
            Self::FlatMap { .. } | Self::StreamFn { .. } | Self::Fold { .. } | Self::Accumulate { .. } => 0,
        }
    }
}

/// What takes the items out.
#[derive(Clone, Copy, Debug)]
pub enum SinkKind {
    Collect,
    /// In each instance of the stage before it.
    ForEach,
    /// Takes a few at a time, sometimes none, refuses one in `every`, `failures` times.
    Grudging {
        salt: u64,
        every: u64,
        failures: u32,
    },
}

/// How a stage runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub parallel: Option<Parallelism>,
    pub buffer: Option<BufferPolicy>,
    pub input_ordered: bool,
    pub on_error: Option<ErrorPolicy>,
    pub breaker: Option<CircuitBreakerPolicy>,
    /// Out of this many calls about one is slow; none if 0.
    pub slow_every: u64,
    /// Whether its dead letters are taken.
    pub letters: bool,
}

impl Options {
    /// Attempts after the first.
    pub fn max_retries(&self) -> u32 {
        match self.on_error {
            Some(ErrorPolicy::Retry { max_retries, .. }) => max_retries,
            _ => 0,
        }
    }

    /// Whether the breaker sends items away: which ones is not the same in every run.
    pub fn turns_away(&self) -> bool {
        self.breaker.is_some_and(|breaker| breaker.while_open == WhileOpen::DeadLetter)
    }
}

impl Graph {
    /// The sinks, in order.
    pub fn sinks(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| matches!(node.what, What::Sink { .. }))
    }
}
