//! Random graphs as data.

use std::time::Duration;

use corelane::policy::{AfterRetries, Backoff, BufferPolicy, DropPolicy, ErrorPolicy, Parallelism};
use fastrand::Rng;

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
    /// Whether stages have several instances.
    pub parallel: bool,
    /// Longest wait of a timer or before a retry, in nanoseconds.
    pub wait: u64,
}

/// About how many items a stream may grow to.
const LARGEST: u64 = 40_000;

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
        parallel: true,
        wait: 500_000,
    };

    /// Only what gives the same items at the sinks in every run.
    pub const REPEATABLE: Self = Self { drops: false, fails: false, ..Self::ALL };
}

/// A graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Upstream first.
    pub nodes: Vec<Node>,
    /// How many streams connect them.
    pub streams: usize,
}

/// A stage, or two that always go together.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does.
    pub what: What,
    /// Its outputs.
    pub outputs: Vec<StreamId>,
    /// How.
    pub options: Options,
    /// Whether its input, and so its output, comes in the order in which a single thread would make it.
    pub ordered: bool,
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
    /// Passes items on when a timer says so, and refuses one in `error_every`.
    Delay {
        salt: u64,
        nanos: u64,
        error_every: u64,
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
    },
}

impl Op {
    /// It fails on one item in this many; never, if 0.
    pub fn trouble(&self) -> u64 {
        match *self {
            Self::Map { panic_every: every, .. }
            | Self::Filter { panic_every: every, .. }
            | Self::TryMap { every, .. }
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
}

/// A stream that nothing consumes yet.
#[derive(Clone, Copy)]
struct Open {
    id: StreamId,
    instances: Parallelism,
    /// In the order of a single thread.
    ordered: bool,
    /// In that order again behind an ordered edge.
    restorable: bool,
    /// About how many items: what multiplies them must not do so without end.
    size: u64,
}

struct Draft {
    rng: Rng,
    shape: Shape,
    graph: Graph,
    open: Vec<Open>,
    /// Out of 8: how likely each trait is in this graph.
    buffers: u8,
    drops: u8,
    parallel: u8,
    trouble: u8,
    fails: u8,
    ops: [u8; 9],
}

impl Graph {
    /// The graph that `seed` draws within `shape`. What a shape leaves out does not change the draw of the rest.
    pub fn random(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x0067_7261_7068);
        let mut likely = |values: [u8; 4]| values[rng.usize(..4)];
        let (buffers, drops, parallel) = (likely([0, 2, 4, 8]), likely([0, 0, 2, 6]), likely([0, 2, 4, 7]));
        let (trouble, fails) = (likely([0, 2, 4, 8]), likely([0, 0, 0, 3]));
        let mut ops = [0; 9];
        ops.iter_mut().for_each(|weight| *weight = likely([0, 1, 1, 4]));
        let graph = Self { nodes: Vec::new(), streams: 0 };
        let mut draft =
            Draft { rng, shape, graph, open: Vec::new(), buffers, drops, parallel, trouble, fails, ops };
        for _ in 0..[1, 1, 1, 2, 3][draft.rng.usize(..5)] {
            draft.source();
        }
        let stages = draft.rng.usize(1..13);
        for _ in 0..stages.min(shape.stages) {
            draft.stage();
        }
        while !draft.open.is_empty() {
            draft.sink();
        }
        draft.graph
    }

    /// The sinks, in order.
    pub fn sinks(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| matches!(node.what, What::Sink { .. }))
    }
}

impl Draft {
    fn chance(&mut self, out_of_8: u8) -> bool {
        self.rng.u8(..8) < out_of_8
    }

    fn salt(&mut self) -> u64 {
        self.rng.u64(..)
    }

    fn source(&mut self) {
        let items = [0, 1, 40, 400, 1_500][self.rng.usize(..5)].min(self.shape.items);
        let (keys, salt) = ([1, 7, 100, 1_000][self.rng.usize(..4)], self.salt());
        let faltering = self.rng.bool();
        let many = self.chance(self.parallel / 2) && !faltering && self.shape.parallel;
        let instances = if many { Parallelism::Fixed(2) } else { Parallelism::Sequential };
        let options = Options { parallel: many.then_some(instances), ..Options::default() };
        let size = items;
        let what = What::Source { items, keys, salt, faltering };
        self.push(
            "source",
            what,
            options,
            1,
            Open { id: 0, instances, ordered: !many, restorable: false, size },
        );
    }

    /// Takes a random open stream.
    fn take(&mut self) -> Open {
        let at = self.rng.usize(..self.open.len());
        self.open.swap_remove(at)
    }

    /// Adds a node whose outputs continue as `out` says.
    fn push(&mut self, name: &str, what: What, options: Options, outputs: usize, out: Open) {
        let node = self.graph.nodes.len();
        let outputs: Vec<StreamId> = (self.graph.streams..).take(outputs).collect();
        self.graph.streams += outputs.len();
        self.open.extend(outputs.iter().map(|&id| Open { id, ..out }));
        let name = format!("{name}-{node}");
        self.graph.nodes.push(Node { name, what, options, outputs, ordered: out.ordered });
    }

    fn buffer(&mut self) -> Option<BufferPolicy> {
        let (some, drops) = (self.chance(self.buffers), self.chance(self.drops));
        let capacity = [1, 1, 2, 3, 8, 64, 4_096][self.rng.usize(..7)];
        let drop_policy = [DropPolicy::DropNewest, DropPolicy::DropOldest][self.rng.usize(..2)];
        let drop_policy = if drops && self.shape.drops { drop_policy } else { DropPolicy::Block };
        some.then_some(BufferPolicy::new(capacity, drop_policy))
    }

    fn error_policy(&mut self) -> ErrorPolicy {
        let fails = self.chance(self.fails) && self.shape.fails;
        let then = [AfterRetries::DeadLetter, AfterRetries::Ignore][self.rng.usize(..2)];
        let base = Duration::from_nanos(self.rng.u64(1..200_000).min(self.shape.wait));
        let max_retries = self.rng.u32(1..5);
        let kind = self.rng.u8(..4);
        match kind {
            _ if fails && kind < 2 => ErrorPolicy::Fail,
            0 => ErrorPolicy::Ignore,
            1 => ErrorPolicy::DeadLetter,
            _ => ErrorPolicy::retry(max_retries, Backoff::new(base, base * 4)).then(if fails {
                AfterRetries::Fail
            } else {
                then
            }),
        }
    }

    /// How often something goes wrong in a stage: one in this many, or never.
    fn trouble(&mut self, allowed: bool) -> u64 {
        let (some, every) = (self.chance(self.trouble), [2, 9, 50, 400][self.rng.usize(..4)]);
        if some && allowed { every } else { 0 }
    }

    /// Draws options for a stage behind `input`, and what its output then is.
    fn options(&mut self, input: Open, turns_pass: bool) -> (Options, Open) {
        let change = self.chance(self.parallel);
        let wanted =
            [Parallelism::Sequential, Parallelism::Fixed(2), Parallelism::Fixed(3), Parallelism::CpuBound];
        let wanted = wanted[self.rng.usize(..4)];
        let change = change && (self.shape.parallel || wanted == Parallelism::Sequential);
        let instances = if change { wanted } else { input.instances };
        let one = Parallelism::Sequential;
        let (from_one, to_one) = (input.instances == one, instances == one);
        let restore = self.rng.bool() && !from_one && to_one && input.restorable;
        let same = input.instances == instances;
        let ordered = to_one && (if from_one { input.ordered } else { restore });
        let restorable =
            !to_one && turns_pass && (if from_one { input.ordered } else { same && input.restorable });
        let options = Options {
            parallel: change.then_some(instances),
            buffer: self.buffer(),
            input_ordered: restore,
            on_error: Some(self.error_policy()),
        };
        (options, Open { instances, ordered, restorable, ..input })
    }

    fn stage(&mut self) {
        let many_open = self.open.len();
        match self.rng.u8(..10) {
            0 if many_open < 5 => self.branch(true),
            1 if many_open < 5 => self.branch(false),
            2 | 3 if many_open > 1 => self.merge(),
            _ => self.op(),
        }
    }

    fn branch(&mut self, route: bool) {
        let input = self.take();
        let (options, out) = self.options(input, false);
        let options = Options { on_error: None, ..options };
        let (outputs, salt) = (self.rng.usize(2..4), self.salt());
        let input = input.id;
        let what = if route { What::Route { input, salt } } else { What::Broadcast { input } };
        self.push(
            if route { "route" } else { "broadcast" },
            what,
            options,
            outputs,
            Open { restorable: false, ..out },
        );
    }

    fn merge(&mut self) {
        let inputs = self.rng.usize(2..4).min(self.open.len());
        let inputs: Vec<Open> = (0..inputs).map(|_| self.take()).collect();
        let size = inputs.iter().map(|input| input.size).sum();
        let options = Options { buffer: self.buffer(), ..Options::default() };
        let what = What::Merge { inputs: inputs.iter().map(|i| i.id).collect(), priority: self.rng.bool() };
        let instances = Parallelism::Sequential;
        self.push(
            "merge",
            what,
            options,
            1,
            Open { id: 0, instances, ordered: false, restorable: false, size },
        );
    }

    fn op(&mut self) {
        let input = self.take();
        let total: u32 = self.ops.iter().map(|w| u32::from(*w)).sum();
        let mut at = self.rng.u32(..total.max(1));
        let kind = self.ops.iter().position(|&w| {
            let here = at < u32::from(w);
            at = at.saturating_sub(u32::from(w));
            here
        });
        let kind = kind.unwrap_or(0);
        let holds = kind == 4 || kind == 5;
        let kind = if holds && !self.shape.holds { 0 } else { kind };
        // A stage that holds items back lets turns overtake them.
        let (mut options, mut out) = self.options(input, !holds);
        let (panics, errors) = (self.shape.panics, self.shape.errors);
        let (salt, panic_every, every) = (self.salt(), self.trouble(panics), self.trouble(errors));
        let (upto, failures, panicking) = (self.rng.u64(1..6), self.rng.u32(1..7), self.rng.bool() && panics);
        let op = match kind {
            0 => Op::Map { salt, panic_every },
            1 => Op::Filter { salt, one_in: upto, panic_every },
            2 => {
                let upto = if self.rng.u8(..8) == 0 { 60 } else { 3 };
                let upto = if input.size * upto > LARGEST { 1 } else { upto };
                out.size = input.size * upto;
                Op::FlatMap { salt, upto }
            }
            3 => Op::TryMap { salt, every, failures, panics: panicking },
            4 => Op::Delay { salt, nanos: self.rng.u64(1..500_000).min(self.shape.wait), error_every: every },
            5 => Op::StreamFn { salt, window: self.rng.usize(1..6) },
            6 => Op::Trio { salt, upto: 2, every },
            _ => {
                let by_order = input.ordered && input.instances == Parallelism::Sequential;
                if options.parallel.is_none() {
                    out.instances = Parallelism::CpuBound;
                }
                (out.ordered, out.restorable) = (false, false);
                options.input_ordered = false;
                options.on_error = None;
                let (keys, some) = ([1, 5, 90][self.rng.usize(..3)], self.rng.bool());
                let (size, partial, ttl) = (self.rng.u64(1..20), self.rng.bool(), self.rng.u64(1..500_000));
                // Which items are together when time is up is not the same in every run: as if the edge had dropped some.
                let ttl = (some && self.shape.drops).then_some(ttl.min(self.shape.wait));
                let panic_every = if self.shape.fails { panic_every } else { 0 };
                match kind {
                    7 => Op::Fold { salt, keys, by_order, panic_every },
                    _ => Op::Accumulate { keys, size, ttl, partial },
                }
            }
        };
        let name =
            ["map", "filter", "flat-map", "try-map", "delay", "stream-fn", "trio", "fold", "accumulate"]
                [kind];
        self.push(name, What::Op { input: input.id, op }, options, 1, out);
    }

    fn sink(&mut self) {
        let input = self.take();
        let (salt, every, failures) = (self.salt(), self.trouble(self.shape.errors), self.rng.u32(1..4));
        let kind = match self.rng.u8(..4) {
            0 => SinkKind::ForEach,
            1 | 2 if self.shape.errors => SinkKind::Grudging { salt, every, failures },
            _ => SinkKind::Collect,
        };
        let many = input.instances != Parallelism::Sequential;
        let restore = many && input.restorable && self.rng.bool() && !matches!(kind, SinkKind::ForEach);
        let options = match kind {
            SinkKind::Grudging { .. } => Options {
                input_ordered: restore,
                buffer: self.buffer(),
                on_error: Some(self.error_policy()),
                ..Options::default()
            },
            _ => Options::default(),
        };
        let ordered = if many { restore && matches!(kind, SinkKind::Grudging { .. }) } else { input.ordered };
        self.push("sink", What::Sink { input: input.id, kind }, options, 0, Open { ordered, ..input });
    }
}
