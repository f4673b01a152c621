//! What a graph must compute: a single thread, vectors, one node after the other.

use std::collections::{BTreeMap, BTreeSet};

use corelane::policy::{AfterRetries, DropPolicy, ErrorPolicy};

use super::graph::{Graph, Node, Op, Options, SinkKind, What};
use super::item::{Item, fold_step, folded, grouped, lettered};

/// What a sink must have seen.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Everything, if nothing is lost on the way; in order, if the sink is `ordered`.
    pub items: Vec<Item>,
    /// Whether the graph promises the order.
    pub ordered: bool,
    /// Whether it promises the order of each key.
    pub keyed: bool,
    /// Whether an edge upstream may drop.
    pub lossy: bool,
    /// Whether there is a fold upstream: then a partial input gives other items, not fewer.
    pub folded: bool,
    /// Whether there is a fold behind an edge that may drop.
    pub tainted: bool,
}

/// What the counters of a stage must say if nothing is lost on edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub filtered: u64,
    pub ignored: u64,
    pub dead_lettered: u64,
    pub absorbed: u64,
    pub delivered: u64,
    pub retries: u64,
}

/// Everything known of a run beforehand.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// By the name of the sink.
    pub sinks: BTreeMap<String, Expected>,
    /// By the name of the stage; only stages behind no edge that may drop.
    pub counts: BTreeMap<String, Counts>,
    /// Stages whose error or panic ends the pipeline, if an item gets there.
    pub fatal: BTreeSet<String>,
    /// Of these, those that items surely reach.
    pub surely_fatal: BTreeSet<String>,
    /// Whether edges into a stage may drop.
    pub drops: BTreeMap<String, bool>,
}

/// What happens to the items of one stage.
struct Visit<'a> {
    name: &'a str,
    options: &'a Options,
    /// What tells its dead letters from those of others.
    mark: u64,
    counts: Counts,
    letters: Vec<Item>,
    /// An item ends the pipeline.
    fatal: bool,
}

impl<'a> Visit<'a> {
    fn new(node: &'a Node, received: usize) -> Self {
        let counts = Counts { received: received as u64, ..Counts::default() };
        let Node { name, options, .. } = node;
        Self { name, options, mark: node.letter_mark(), counts, letters: Vec::new(), fatal: false }
    }

    /// Whether an item that fails `failures` times in a row gets through. If the stage does not hand it back, it is tried
    /// once, and its letter is without it.
    fn passes(&mut self, item: &Item, failures: u32, handed_back: bool) -> bool {
        let letter = lettered(handed_back.then_some(*item), self.mark);
        if self.options.turns_away() {
            // Any item may be turned away.
            self.letters.push(lettered(Some(*item), self.mark));
            if !handed_back {
                self.letters.push(letter);
            }
        }
        if failures == 0 {
            return true;
        }
        let policy = self.options.on_error.unwrap_or_default();
        if let (true, ErrorPolicy::Retry { max_retries, .. }) = (handed_back, policy) {
            self.counts.retries += u64::from(failures.min(max_retries));
            if failures <= max_retries {
                return true;
            }
        }
        match policy.last_resort() {
            AfterRetries::Ignore => self.counts.ignored += 1,
            AfterRetries::DeadLetter => {
                self.counts.dead_lettered += 1;
                if !self.options.turns_away() {
                    self.letters.push(letter);
                }
            }
            AfterRetries::Fail => self.fatal = true,
        }
        false
    }

    /// Whether an item of which stage `salt` fails about one in `every` gets through.
    fn keeps(&mut self, item: &Item, (salt, every): (u64, u64), failures: u32, handed_back: bool) -> bool {
        let failures = if item.hits(salt, every) { failures } else { 0 };
        self.passes(item, failures, handed_back)
    }
}

struct Interpreter<'a> {
    graph: &'a Graph,
    streams: Vec<Expected>,
    out: Reference,
}

/// Computes what `graph` must compute.
pub fn reference(graph: &Graph) -> Reference {
    let streams = vec![Expected::default(); graph.streams];
    let mut run = Interpreter { graph, streams, out: Reference::default() };
    (0..graph.nodes.len()).for_each(|at| run.node(at));
    run.out
}

impl Interpreter<'_> {
    fn node(&mut self, at: usize) {
        let node = &self.graph.nodes[at];
        let name = &node.name;
        let dropping = node.options.buffer.is_some_and(|b| b.drop_policy != DropPolicy::Block);
        self.out.drops.insert(name.clone(), dropping);
        match &node.what {
            What::Source { items, keys, salt, .. } => {
                let items = (0..*items).map(|id| Item::at_source(id, *keys, *salt)).collect();
                self.streams[node.outputs[0]] = Expected { items, ..Expected::default() };
            }
            What::Op { input, op } => {
                let mut stream = self.input(*input, dropping);
                // What a breaker sends away is lost to the main output.
                stream.lossy |= node.options.turns_away();
                let items = std::mem::take(&mut stream.items);
                self.unforeseen(name, &node.options, op.trouble(), &stream);
                if let Op::Fold { panic_every, .. } = *op {
                    self.unforeseen(name, &Options::default(), panic_every, &stream);
                }
                let mut visit = Visit::new(node, items.len());
                stream.items = visit.op(*op, items);
                self.leave(node, visit, &stream);
                if let Op::Accumulate { ttl: Some(_), .. } = op {
                    stream.lossy = true;
                }
                if matches!(op, Op::Fold { .. } | Op::Accumulate { .. }) {
                    stream.folded = true;
                    stream.tainted |= stream.lossy;
                }
                self.streams[node.outputs[0]] = stream;
            }
            What::Route { input, salt } => {
                let stream = self.input(*input, dropping);
                let n = node.outputs.len() as u64;
                for (i, &output) in (0..n).zip(&node.outputs) {
                    let here = stream.items.iter().copied().filter(|item| item.draw(*salt, n) == i);
                    self.streams[output] = Expected { items: here.collect(), ..stream.clone() };
                }
            }
            What::Broadcast { input } => {
                let stream = self.input(*input, dropping);
                node.outputs.iter().for_each(|&output| self.streams[output] = stream.clone());
            }
            What::Merge { inputs, .. } => {
                let mut joined = Expected { lossy: dropping, ..Expected::default() };
                for &input in inputs {
                    let Expected { items, lossy, folded, tainted, .. } = self.input(input, dropping);
                    joined.items.extend(items);
                    joined.lossy |= lossy;
                    joined.folded |= folded;
                    joined.tainted |= tainted;
                }
                self.streams[node.outputs[0]] = joined;
            }
            What::Sink { input, kind } => {
                let mut stream = self.input(*input, dropping);
                stream.lossy |= node.options.turns_away();
                (stream.ordered, stream.keyed) = (node.ordered, node.keyed);
                let mut visit = Visit::new(node, stream.items.len());
                if let SinkKind::Grudging { salt, every, failures } = *kind {
                    self.unforeseen(name, &node.options, every, &stream);
                    stream.items.retain(|item| visit.keeps(item, (salt, every), failures, true));
                }
                visit.counts.delivered = stream.items.len() as u64;
                self.leave(node, visit, &stream);
                self.out.sinks.insert(name.clone(), stream);
            }
        }
    }

    /// Takes down what a visit came to; its dead letters go on like `stream`.
    fn leave(&mut self, node: &Node, visit: Visit<'_>, stream: &Expected) {
        let Visit { name, counts, letters, fatal, .. } = visit;
        if !stream.lossy {
            self.out.counts.insert(name.to_owned(), counts);
        }
        if fatal {
            self.out.fatal.insert(name.to_owned());
            if !stream.lossy {
                self.out.surely_fatal.insert(name.to_owned());
            }
        }
        if let (true, Some(&output)) = (node.options.letters, node.outputs.last()) {
            let Expected { lossy, folded, tainted, .. } = *stream;
            self.streams[output] = Expected { items: letters, lossy, folded, tainted, ..Expected::default() };
        }
    }

    fn input(&mut self, stream: usize, dropping: bool) -> Expected {
        let mut input = std::mem::take(&mut self.streams[stream]);
        input.lossy |= dropping;
        input
    }

    /// A fold over a part of its input makes items of its own: a stage behind it may fail on them and not on others.
    fn unforeseen(&mut self, name: &str, options: &Options, every: u64, input: &Expected) {
        if input.folded
            && every > 0
            && options.on_error.unwrap_or_default().last_resort() == AfterRetries::Fail
        {
            self.out.fatal.insert(name.to_owned());
        }
    }
}

impl Visit<'_> {
    fn op(&mut self, op: Op, mut items: Vec<Item>) -> Vec<Item> {
        match op {
            Op::Map { salt, panic_every } => {
                items.retain(|item| self.keeps(item, (salt, panic_every), 1, false));
                items.into_iter().map(|item| item.through(salt)).collect()
            }
            Op::Filter { salt, one_in, panic_every } => {
                items.retain(|item| self.keeps(item, (salt, panic_every), 1, false));
                let before = items.len();
                items.retain(|item| item.draw(salt, one_in) == 0);
                self.counts.filtered = (before - items.len()) as u64;
                items
            }
            Op::FlatMap { salt, upto } => {
                items.into_iter().flat_map(|item| item.expand(salt, upto)).collect()
            }
            Op::TryMap { salt, every, failures, .. } | Op::KeyedTry { salt, every, failures, .. } => {
                items.retain(|item| self.keeps(item, (salt, every), failures, true));
                items.into_iter().map(|item| item.through(salt)).collect()
            }
            Op::Delay { salt, error_every, hands_back, .. } => {
                // It would refuse it for ever.
                items.retain(|item| self.keeps(item, (salt, error_every), u32::MAX, hands_back));
                items.into_iter().map(|item| item.through(salt)).collect()
            }
            Op::StreamFn { salt, .. } => items.into_iter().map(|item| item.through(salt)).collect(),
            Op::Trio { salt, upto, every } => {
                let items = items.into_iter().map(|item| item.through(salt));
                let mut items: Vec<Item> = items.flat_map(|item| item.expand(salt, upto)).collect();
                self.counts.received = items.len() as u64;
                items.retain(|item| self.keeps(item, (salt, every), 1, true));
                items.into_iter().map(|item| item.through(salt)).collect()
            }
            Op::Accumulate { keys, size, partial, .. } => {
                self.counts.absorbed = items.len() as u64;
                let mut sizes = BTreeMap::<u64, u64>::new();
                items.iter().for_each(|item| *sizes.entry(item.key % keys).or_default() += 1);
                let groups = |(key, all): (u64, u64)| {
                    let rest = Some(all % size).filter(|&rest| rest > 0 && partial);
                    (0..all / size).map(move |_| size).chain(rest).map(move |size| grouped(key, size))
                };
                sizes.into_iter().flat_map(groups).collect()
            }
            Op::Fold { salt, keys, by_order, panic_every } => {
                self.counts.absorbed = items.len() as u64;
                self.fatal |= items.iter().any(|item| item.hits(salt, panic_every));
                let mut states = BTreeMap::<u64, (u64, u64)>::new();
                for item in &items {
                    fold_step(states.entry(item.key % keys).or_default(), item, by_order);
                }
                states.into_iter().map(|(key, state)| folded(key, state)).collect()
            }
        }
    }
}
