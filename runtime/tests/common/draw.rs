//! How a random graph is drawn from a seed.

use std::time::Duration;

use corelane::policy::{
    AfterRetries, Backoff, BufferPolicy, CircuitBreakerPolicy, DropPolicy, ErrorPolicy, Parallelism,
    WhileOpen,
};
use fastrand::Rng;

use super::graph::{Graph, Node, Op, Options, Shape, SinkKind, StreamId, What};

/// About how many items a stream may grow to.
const LARGEST: u64 = 40_000;

/// A stream that nothing consumes yet.
#[derive(Clone, Copy)]
struct Open {
    id: StreamId,
    instances: Parallelism,
    /// In the order of a single thread.
    ordered: bool,
    /// In that order again behind an ordered edge.
    restorable: bool,
    /// The items of each key in the order of a single thread.
    keyed: bool,
    /// By how many stages its items were given up.
    given_up: u8,
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
    letters: u8,
    breakers: u8,
    /// Whether calls may be slow: waits for retries are then not measured.
    slow: bool,
    ops: [u8; 10],
}

impl Graph {
    /// The graph that `seed` draws within `shape`. What a shape leaves out does not change the draw of the rest.
    pub fn random(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x0067_7261_7068);
        let mut likely = |values: [u8; 4]| values[rng.usize(..4)];
        let (buffers, drops, parallel) = (likely([0, 2, 4, 8]), likely([0, 0, 2, 6]), likely([0, 2, 4, 7]));
        let (trouble, fails) = (likely([0, 2, 4, 8]), likely([0, 0, 0, 3]));
        let (letters, breakers) = (likely([0, 2, 4, 8]), likely([0, 0, 3, 6]));
        let mut ops = [0; 10];
        ops.iter_mut().for_each(|weight| *weight = likely([0, 1, 1, 4]));
        let slow = rng.bool();
        let graph = Self { nodes: Vec::new(), streams: 0, slow };
        let open = Vec::new();
        let mut draft = Draft {
            rng,
            shape,
            graph,
            open,
            buffers,
            drops,
            parallel,
            trouble,
            fails,
            letters,
            breakers,
            slow,
            ops,
        };
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
            Open { id: 0, instances, ordered: !many, restorable: false, keyed: !many, size, given_up: 0 },
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
        let Open { ordered, keyed, .. } = out;
        self.graph.nodes.push(Node { name, what, options, outputs, ordered, keyed });
    }

    /// Has the dead letters of the last node taken, if its options say so.
    fn take_letters(&mut self, out: Open) {
        let Some(node) = self.graph.nodes.last_mut().filter(|node| node.options.letters) else { return };
        let id = self.graph.streams;
        self.graph.streams += 1;
        node.outputs.push(id);
        self.open.push(Open { id, restorable: false, given_up: out.given_up + 1, ..out });
    }

    /// Draws what a stage that can fail has beside its error policy.
    fn failing(&mut self, options: Options, input: Open) -> Options {
        let (guarded, letters) = (self.chance(self.breakers), self.chance(self.letters));
        let mut nanos = |most: u64| Duration::from_nanos(self.rng.u64(1..most).min(self.shape.wait));
        let (window_size, cooldown_period) = (nanos(100_000), nanos(100_000));
        let latency_threshold = nanos(10_000);
        let share = |rng: &mut Rng| [0.0, 0.25, 0.5, 1.0][rng.usize(..4)];
        let (error_threshold, slow_call_threshold) = (share(&mut self.rng), share(&mut self.rng));
        let (minimum_throughput, half_open_probes) = (self.rng.u32(1..6), self.rng.u32(1..4));
        let while_open =
            [WhileOpen::Wait, WhileOpen::PauseSources, WhileOpen::DeadLetter][self.rng.usize(..3)];
        // Which items it turns away is not the same in every run: as if the edge had dropped some.
        let while_open = if self.shape.drops { while_open } else { WhileOpen::Wait };
        let slow_every = if self.slow { [0, 3, 20][self.rng.usize(..3)] } else { 0 };
        let breaker = CircuitBreakerPolicy {
            error_threshold,
            latency_threshold,
            slow_call_threshold,
            window_size,
            minimum_throughput,
            cooldown_period,
            half_open_probes,
            while_open,
        };
        let breaker = (guarded && self.shape.breakers).then_some(breaker);
        let slow_every = if breaker.is_some() { slow_every } else { 0 };
        Options {
            breaker,
            slow_every,
            letters: letters && self.open.len() < 6 && input.given_up < 3,
            ..options
        }
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
        let (kind, jitter) = (self.rng.u8(..4), [0, 30, 100][self.rng.usize(..3)]);
        match kind {
            _ if fails && kind < 2 => ErrorPolicy::Fail,
            0 => ErrorPolicy::Ignore,
            1 => ErrorPolicy::DeadLetter,
            _ => ErrorPolicy::retry(max_retries, Backoff::new(base, base * 4).with_jitter(jitter))
                .then(if fails { AfterRetries::Fail } else { then }),
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
            ..Options::default()
        };
        // Between as many instances items stay in their lane.
        let keyed = ordered || input.keyed && (same || to_one);
        (options, Open { instances, ordered, restorable, keyed, ..input })
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
            Open { id: 0, instances, ordered: false, restorable: false, keyed: false, size, given_up: 0 },
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
        let (keys, some) = ([1, 5, 90][self.rng.usize(..3)], self.rng.bool());
        if matches!(kind, 3 | 4 | 6 | 9) {
            options = self.failing(options, input);
        }
        if kind >= 7 {
            if options.parallel.is_none() {
                out.instances = Parallelism::CpuBound;
            }
            (out.ordered, out.restorable, out.keyed) = (false, false, input.keyed && kind == 9);
            options.input_ordered = false;
        }
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
            4 => {
                let nanos = self.rng.u64(1..500_000).min(self.shape.wait);
                Op::Delay { salt, nanos, error_every: every, hands_back: some }
            }
            5 => Op::StreamFn { salt, window: self.rng.usize(1..6) },
            6 => Op::Trio { salt, upto: 2, every },
            7 => {
                options.on_error = None;
                let by_order = input.ordered && input.instances == Parallelism::Sequential;
                let panic_every = if self.shape.fails { panic_every } else { 0 };
                Op::Fold { salt, keys, by_order, panic_every }
            }
            8 => {
                options.on_error = None;
                self.accumulate(keys)
            }
            _ => {
                let parked = [1, 3, 40, 1_024][self.rng.usize(..4)];
                if let Some(ErrorPolicy::Retry { max_parked, .. }) = &mut options.on_error {
                    *max_parked = parked;
                }
                Op::KeyedTry { salt, keys, every, failures, panics: panicking }
            }
        };
        let names = [
            "map",
            "filter",
            "flat-map",
            "try-map",
            "delay",
            "stream-fn",
            "trio",
            "fold",
            "accumulate",
            "keyed-try",
        ];
        self.push(names[kind], What::Op { input: input.id, op }, options, 1, out);
        // A letter without its item has no key.
        let keyless = matches!(op, Op::Delay { hands_back: false, .. });
        self.take_letters(Open { keyed: out.ordered || out.keyed && !keyless, ..out });
    }

    fn accumulate(&mut self, keys: u64) -> Op {
        let (size, partial, some) = (self.rng.u64(1..20), self.rng.bool(), self.rng.bool());
        // Which items are together when time is up is not the same in every run: as if the edge had dropped some.
        let ttl = self.rng.u64(1..500_000).min(self.shape.wait);
        let ttl = (some && self.shape.drops).then_some(ttl);
        let spills = self.rng.bool() && self.shape.spills;
        // Many, and yet no more than can all be on disk at once: half of the memory is for knowing where they are.
        let keys = if spills { 500 } else { keys };
        Op::Accumulate { keys, size, ttl, partial, spills }
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
            SinkKind::Grudging { .. } => {
                let (buffer, on_error) = (self.buffer(), Some(self.error_policy()));
                self.failing(
                    Options { input_ordered: restore, buffer, on_error, ..Options::default() },
                    input,
                )
            }
            _ => Options::default(),
        };
        let ordered = if many { restore && matches!(kind, SinkKind::Grudging { .. }) } else { input.ordered };
        let out =
            Open { ordered, keyed: ordered || input.keyed, instances: Parallelism::Sequential, ..input };
        self.push("sink", What::Sink { input: input.id, kind }, options, 0, out);
        self.take_letters(out);
    }
}
