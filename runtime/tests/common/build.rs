//! From a graph as data to a pipeline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::flow::{BoxedStream, Collected, Pipeline, PipelineBuilder, Segment, StageOptions, Stream};
use corelane::partition::MergePolicy;
use corelane::policy::{AccumulatorPolicy, ErrorPolicy};
use corelane::stage::StageSite;
use futures_util::{StreamExt, stream};

use super::graph::{Graph, Node, Op, Options, SinkKind, What};
use super::item::{Item, fold_step, folded};
use super::quiet::{PLANNED, planned_panics};
use super::stages::{Attempts, Delay, Faltering, Groups, Grudging};

/// What a sink has seen.
pub enum Seen {
    Collected(Collected<Item>),
    Shared(Arc<Mutex<Vec<Item>>>),
}

impl Seen {
    /// Hands it out.
    pub fn take(&self) -> Vec<Item> {
        match self {
            Self::Collected(collected) => collected.take(),
            Self::Shared(items) => std::mem::take(&mut *items.lock().unwrap()),
        }
    }
}

/// A pipeline and what its sinks will see, by name.
pub fn build(graph: &Graph) -> (Pipeline, BTreeMap<String, Seen>) {
    planned_panics();
    let builder = PipelineBuilder::new("random");
    let mut streams: Vec<Option<BoxedStream<Item>>> = (0..graph.streams).map(|_| None).collect();
    let mut seen = BTreeMap::new();
    for node in &graph.nodes {
        let mut take = |id: usize| streams[id].take().expect("each stream has one consumer");
        let outputs = match &node.what {
            What::Source { items, keys, salt, faltering } => {
                vec![source(&builder, node, (*items, *keys, *salt), *faltering)]
            }
            What::Op { input, op } => vec![operator(take(*input), &node.name, *op, &node.options)],
            What::Route { input, salt } => route(take(*input), node, *salt),
            What::Broadcast { input } => broadcast(take(*input), node),
            What::Merge { inputs, priority } => {
                let inputs: Vec<_> = inputs.iter().map(|&input| take(input).into_input()).collect();
                let policy = if *priority { MergePolicy::Priority } else { MergePolicy::Fair };
                vec![with(builder.merge(&node.name, policy, inputs), &node.options).boxed()]
            }
            What::Sink { input, kind } => {
                seen.insert(node.name.clone(), sink(take(*input), node, *kind));
                Vec::new()
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

fn max_retries(options: &Options) -> u32 {
    match options.on_error {
        Some(ErrorPolicy::Retry { max_retries, .. }) => max_retries,
        _ => 0,
    }
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

fn operator(input: BoxedStream<Item>, name: &str, op: Op, options: &Options) -> BoxedStream<Item> {
    let max = max_retries(options);
    match op {
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
            let mut attempts = Attempts::default();
            let try_map = move |item: &Item| {
                let failures = if item.hits(salt, every) { failures } else { 0 };
                match attempts.fails(failures, max) {
                    true if panics => panic!("{PLANNED} panic in an attempt"),
                    true => Err(format!("{PLANNED} error")),
                    false => Ok(item.through(salt)),
                }
            };
            with(input.try_map(name, try_map), options).boxed()
        }
        Op::Delay { salt, nanos, error_every } => {
            let delay = move |_: &StageSite| Ok(Delay::new(salt, nanos, error_every));
            with(input.transform(name, delay), options).boxed()
        }
        Op::StreamFn { salt, window } => {
            let windows = move |items: corelane::stage::StreamIn<Item>| {
                items.chunks(window).flat_map(stream::iter).map(move |item| item.through(salt))
            };
            with(input.stream_fn(name, windows), options).boxed()
        }
        Op::Trio { salt, upto, every } => {
            let mut attempts = Attempts::default();
            let try_map = move |item: &Item| {
                let fails = attempts.fails(u32::from(item.hits(salt, every)), max);
                if fails { Err(format!("{PLANNED} error")) } else { Ok(item.through(salt)) }
            };
            let trio = input
                .map(&format!("{name}-a"), move |item| item.through(salt))
                .flat_map(&format!("{name}-b"), move |item| item.expand(salt, upto))
                .try_map(name, try_map);
            with(trio, options).boxed()
        }
        Op::Accumulate { keys, size, ttl, partial } => {
            let policy = match ttl {
                Some(nanos) => AccumulatorPolicy::ttl(Duration::from_nanos(nanos)),
                None => AccumulatorPolicy::until_end(),
            };
            let policy = AccumulatorPolicy { partial_flush: partial, ..policy };
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

fn sink(input: BoxedStream<Item>, node: &Node, kind: SinkKind) -> Seen {
    let (name, taken) = (&node.name, Arc::new(Mutex::new(Vec::new())));
    let shared = Arc::clone(&taken);
    match kind {
        SinkKind::Collect => return Seen::Collected(input.collect(name)),
        SinkKind::ForEach => {
            input.for_each(name, move |item| shared.lock().unwrap().push(item));
        }
        SinkKind::Grudging { salt, every, failures } => {
            let max = max_retries(&node.options);
            let factory = move |_: &StageSite| Ok(Grudging::new(shared, salt, every, failures, max));
            let sink = input.sink(name, factory);
            set(&sink, &node.options);
        }
    }
    Seen::Shared(taken)
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
}
