//! From a graph as data to a pipeline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::flow::{
    BoxedStream, Collected, FallibleSegment, Pipeline, PipelineBuilder, Segment, StageOptions, Stream,
};
use corelane::observe::VirtualClock;
use corelane::partition::MergePolicy;
use corelane::policy::{AccumulatorPolicy, SpillOptions};
use corelane::stage::{DeadLetter, FailureKind, StageSite};
use futures_util::{StreamExt, stream};

use super::calls::{Calls, Witness};
use super::graph::{Graph, Node, Op, Options, SinkKind, What};
use super::item::{Item, fold_step, folded, lettered};
use super::quiet::{PLANNED, planned_panics};
use super::stages::{Delay, Faltering, Groups, Grudging};

/// Memory of an accumulator that may move keys to disk.
const MEMORY: u64 = 128 * 1024;

/// What is seen of a run: by sinks and by stages that may fail, by name.
#[derive(Default)]
pub struct Seen {
    pub sinks: BTreeMap<String, Taken>,
    pub calls: BTreeMap<String, Witness>,
}

/// What a sink has taken.
pub enum Taken {
    Collected(Collected<Item>),
    Shared(Arc<Mutex<Vec<Item>>>),
}

impl Taken {
    /// Hands it out.
    pub fn take(&self) -> Vec<Item> {
        match self {
            Self::Collected(collected) => collected.take(),
            Self::Shared(items) => std::mem::take(&mut *items.lock().unwrap()),
        }
    }
}

/// A pipeline and what will be seen of it.
pub fn build(graph: &Graph) -> (Pipeline, Seen) {
    build_on(graph, None)
}

/// The same, on the clock of a simulation: calls may be slow, and circuit breakers and waits are watched.
pub fn build_on(graph: &Graph, clock: Option<&VirtualClock>) -> (Pipeline, Seen) {
    planned_panics();
    let builder = PipelineBuilder::new("random").spill_to(SpillOptions::new("simulated"));
    let mut streams: Vec<Option<BoxedStream<Item>>> = (0..graph.streams).map(|_| None).collect();
    let mut seen = Seen::default();
    for node in &graph.nodes {
        let mut calls = |trouble| {
            let witness = seen.calls.entry(node.name.clone()).or_default();
            Calls::new(trouble, node, clock, graph.slow, witness)
        };
        let mut take = |id: usize| streams[id].take().expect("each stream has one consumer");
        let outputs = match &node.what {
            What::Source { items, keys, salt, faltering } => {
                vec![source(&builder, node, (*items, *keys, *salt), *faltering)]
            }
            What::Op { input, op } => operator(take(*input), node, *op, &mut calls),
            What::Route { input, salt } => route(take(*input), node, *salt),
            What::Broadcast { input } => broadcast(take(*input), node),
            What::Merge { inputs, priority } => {
                let inputs: Vec<_> = inputs.iter().map(|&input| take(input).into_input()).collect();
                let policy = if *priority { MergePolicy::Priority } else { MergePolicy::Fair };
                vec![with(builder.merge(&node.name, policy, inputs), &node.options).boxed()]
            }
            What::Sink { input, kind } => {
                let (taken, letters) = sink(take(*input), node, *kind, &mut calls);
                seen.sinks.insert(node.name.clone(), taken);
                letters.into_iter().collect()
            }
        };
        node.outputs.iter().zip(outputs).for_each(|(&id, stream)| streams[id] = Some(stream));
    }
    (builder.build().expect("the graph is valid"), seen)
}

fn with<S: Segment>(mut stream: Stream<S>, options: &Options) -> Stream<S> {
    if let Some(parallel) = options.parallel {
        stream = stream.parallel(parallel);
    }
    if let Some(buffer) = options.buffer {
        stream = stream.input_buffer(buffer);
    }
    if options.input_ordered {
        stream = stream.input_ordered();
    }
    if let Some(policy) = options.on_error {
        stream = stream.on_error(policy);
    }
    stream
}

/// Options and dead letters of a stage that can fail.
fn fallible<S>(stream: Stream<S>, node: &Node) -> Vec<BoxedStream<Item>>
where
    S: FallibleSegment<Item = Item, Input = Item>,
{
    let mut stream = with(stream, &node.options);
    if let Some(policy) = node.options.breaker {
        stream = stream.circuit_breaker(policy);
    }
    if !node.options.letters {
        return vec![stream.boxed()];
    }
    let (stream, letters) = stream.dead_letters();
    vec![stream, opened(letters, node)]
}

/// Dead letters as items. Each must say who gave the item up, and after how many attempts.
fn opened(letters: BoxedStream<DeadLetter<Item>>, node: &Node) -> BoxedStream<Item> {
    let (stage, mark, options) = (node.name.clone(), node.letter_mark(), node.options);
    let open = move |letter: DeadLetter<Item>| {
        let most = options.max_retries() + 1;
        let fits = match (letter.kind, letter.item) {
            (FailureKind::BreakerOpen, Some(_)) => options.turns_away() && letter.attempts < most,
            (_, Some(_)) => letter.attempts == most && letter.error.contains(PLANNED),
            (_, None) => letter.attempts == 1 && letter.error.contains(PLANNED),
        };
        assert!(fits && letter.stage.as_str() == stage, "{letter:?}");
        lettered(letter.item, mark)
    };
    letters.map(&format!("{}-letters", node.name), open).boxed()
}

fn source(
    builder: &PipelineBuilder,
    node: &Node,
    (items, keys, salt): (u64, u64, u64),
    faltering: bool,
) -> BoxedStream<Item> {
    let make = move |id| Item::at_source(id, keys, salt);
    if faltering {
        let source = builder.source(&node.name, move |_: &StageSite| Ok(Faltering::new(items, salt, make)));
        with(source, &node.options).boxed()
    } else {
        with(builder.generate(&node.name, items, make), &node.options).boxed()
    }
}

fn operator(
    input: BoxedStream<Item>,
    node: &Node,
    op: Op,
    calls: &mut impl FnMut((u64, u64, u32)) -> Calls,
) -> Vec<BoxedStream<Item>> {
    let (name, options) = (&node.name, &node.options);
    let stream = match op {
        Op::Map { salt, panic_every } => {
            let map = move |item: Item| {
                assert!(!item.hits(salt, panic_every), "{PLANNED} panic in a map");
                item.through(salt)
            };
            with(input.map(name, map), options).boxed()
        }
        Op::Filter { salt, one_in, panic_every } => {
            let filter = move |item: &Item| {
                assert!(!item.hits(salt, panic_every), "{PLANNED} panic in a filter");
                item.draw(salt, one_in) == 0
            };
            with(input.filter(name, filter), options).boxed()
        }
        Op::FlatMap { salt, upto } => {
            with(input.flat_map(name, move |item| item.expand(salt, upto)), options).boxed()
        }
        Op::TryMap { salt, every, failures, panics } => {
            let call = call((salt, panics), calls((salt, every, failures)));
            return fallible(input.try_map(name, call), node);
        }
        Op::KeyedTry { salt, keys, every, failures, panics } => {
            let call = call((salt, panics), calls((salt, every, failures)));
            return fallible(input.key_by(move |item| item.key % keys).try_map(name, call), node);
        }
        Op::Delay { salt, nanos, error_every, hands_back } => {
            let calls = calls((salt, error_every, u32::MAX));
            let calls = if hands_back { calls } else { calls.without_retries() };
            let delay = move |_: &StageSite| Ok(Delay::new(salt, nanos, calls, hands_back));
            return fallible(input.transform(name, delay), node);
        }
        Op::StreamFn { salt, window } => {
            let windows = move |items: corelane::stage::StreamIn<Item>| {
                items.chunks(window).flat_map(stream::iter).map(move |item| item.through(salt))
            };
            with(input.stream_fn(name, windows), options).boxed()
        }
        Op::Trio { salt, upto, every } => {
            let trio = input
                .map(&format!("{name}-a"), move |item| item.through(salt))
                .flat_map(&format!("{name}-b"), move |item| item.expand(salt, upto))
                .try_map(name, call((salt, false), calls((salt, every, 1))));
            return fallible(trio, node);
        }
        Op::Accumulate { keys, size, ttl, partial, spills } => {
            let policy = match ttl {
                Some(nanos) => AccumulatorPolicy::ttl(Duration::from_nanos(nanos)),
                None => AccumulatorPolicy::until_end(),
            };
            let policy = AccumulatorPolicy { partial_flush: partial, ..policy };
            let policy = if spills { policy.spill_beyond(MEMORY) } else { policy };
            with(input.accumulate(name, policy, Groups { keys, size }), options).boxed()
        }
        Op::Fold { salt, keys, by_order, panic_every } => {
            let fold = move |state: &mut (u64, u64), item: Item| {
                assert!(!item.hits(salt, panic_every), "{PLANNED} panic in a fold");
                fold_step(state, &item, by_order);
            };
            let folds = input.key_by(move |item| item.key % keys).fold(name, <(u64, u64)>::default, fold);
            with(folds, options).map(&format!("{name}-out"), |(key, state)| folded(key, state)).boxed()
        }
    };
    vec![stream]
}

/// A function that fails by plan, with an error or a panic.
fn call(
    (salt, panics): (u64, bool),
    mut calls: Calls,
) -> impl FnMut(&Item) -> Result<Item, String> + Clone + Send + 'static {
    move |item| match calls.fails(item) {
        true if panics => panic!("{PLANNED} panic in an attempt"),
        true => Err(format!("{PLANNED} error")),
        false => Ok(item.through(salt)),
    }
}

fn route(input: BoxedStream<Item>, node: &Node, salt: u64) -> Vec<BoxedStream<Item>> {
    let name = &node.name;
    let n = node.outputs.len() as u64;
    let index = move |item: &Item| item.draw(salt, n) as usize;
    match n {
        2 => boxed_all(input.route(name, ["a", "b"], index), node),
        _ => boxed_all(input.route(name, ["a", "b", "c"], index), node),
    }
}

fn broadcast(input: BoxedStream<Item>, node: &Node) -> Vec<BoxedStream<Item>> {
    match node.outputs.len() {
        2 => boxed_all(input.broadcast(&node.name, ["a", "b"]), node),
        _ => boxed_all(input.broadcast(&node.name, ["a", "b", "c"]), node),
    }
}

fn boxed_all<S: Segment<Item = Item>, const N: usize>(
    streams: [Stream<S>; N],
    node: &Node,
) -> Vec<BoxedStream<Item>> {
    // Options set on any output are the branch's.
    let mut options = Some(&node.options);
    let set = |stream| match options.take() {
        Some(options) => with(stream, options),
        None => stream,
    };
    streams.map(set).into_iter().map(Stream::boxed).collect()
}

fn sink(
    input: BoxedStream<Item>,
    node: &Node,
    kind: SinkKind,
    calls: &mut impl FnMut((u64, u64, u32)) -> Calls,
) -> (Taken, Option<BoxedStream<Item>>) {
    let (name, taken) = (&node.name, Arc::new(Mutex::new(Vec::new())));
    let (shared, mut letters) = (Arc::clone(&taken), None);
    match kind {
        SinkKind::Collect => return (Taken::Collected(input.collect(name)), None),
        SinkKind::ForEach => {
            input.for_each(name, move |item| shared.lock().unwrap().push(item));
        }
        SinkKind::Grudging { salt, every, failures } => {
            let calls = calls((salt, every, failures));
            let sink = input.sink(name, move |_: &StageSite| Ok(Grudging::new(shared, salt, calls)));
            set(&sink, &node.options);
            letters = node.options.letters.then(|| opened(sink.dead_letters(), node));
        }
    }
    (Taken::Shared(taken), letters)
}

fn set(stage: &StageOptions, options: &Options) {
    if let Some(buffer) = options.buffer {
        stage.input_buffer(buffer);
    }
    if let Some(policy) = options.on_error {
        stage.on_error(policy);
    }
    if options.input_ordered {
        stage.input_ordered();
    }
    if let Some(policy) = options.breaker {
        stage.circuit_breaker(policy);
    }
}
