//! Random graphs with merges that wait, and how their stages behave in one run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corelane::flow::{BoxedStream, Pipeline, PipelineBuilder, Segment, Stream};
use corelane::graph::{Deadlock, GraphErrors};
use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Timestamp};
use corelane::partition::MergePolicy;
use corelane::policy::{AccumulatorPolicy, BufferPolicy, DropPolicy, Parallelism};
use fastrand::Rng;

/// Gives out every item by itself; all items have one key, if there is a `key`, else each has its own.
#[derive(Clone, Copy)]
pub(crate) struct Singles {
    pub(crate) key: Option<u64>,
}

impl Accumulator<u64> for Singles {
    type Key = u64;
    type State = u64;
    type Out = u64;

    fn key(&self, item: &u64) -> u64 {
        self.key.unwrap_or(*item)
    }

    fn init(&mut self, _key: &u64, first: &u64) -> u64 {
        *first
    }

    fn update(&mut self, of: &mut StateOf<u64, Self>, item: u64) {
        of.state = item;
    }

    fn check(&mut self, of: &mut StateOf<u64, Self>, _time: CheckTime) -> Completeness<u64> {
        Completeness::Complete(of.state)
    }

    fn flush_forced(&mut self, of: &mut StateOf<u64, Self>, _reason: FlushReason) -> Option<u64> {
        Some(of.state)
    }
}

/// A stage of a random graph; streams are numbered.
#[derive(Clone, Debug)]
struct Node {
    what: What,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    buffer: BufferPolicy,
    parallelism: Parallelism,
    ordered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Source,
    /// Passes on what the play says.
    Filter,
    /// Keyed, gives everything on.
    Singles,
    /// Keyed, gives nothing before the end.
    Fold,
    Route,
    /// With a filter behind each output.
    Broadcast,
    Fair,
    ByTime,
    Turns,
    Sink,
}

/// A random graph, as data.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    streams: usize,
}

/// How the stages of a graph behave in one run.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    seed: u64,
    /// The output that everything takes, of some branches; at the others items are spread.
    outputs: BTreeMap<String, String>,
    /// Whether every second instance of those branches takes the other output.
    apart: bool,
    /// The one key of all items, if they have one.
    key: Option<u64>,
    /// One item in so many passes a filter; 0: none.
    pass: u64,
    /// Whether times go back.
    backwards: bool,
    items: u64,
    /// Sources that have no more than `few`.
    short: BTreeSet<String>,
    few: u64,
}

impl Play {
    /// Anything.
    pub(crate) fn random(seed: u64, variant: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ variant << 32 ^ 0x706c_6179);
        let outputs = (0..40).filter(|_| rng.bool()).map(|i| (format!("s{i}"), ["a", "b"][i % 2].to_owned()));
        let outputs = outputs.collect();
        let key = rng.bool().then(|| rng.u64(..8));
        let pass = [0, 1, 1, 7][rng.usize(..4)];
        let backwards = rng.bool();
        let items = [10, 500, 1_500][rng.usize(..3)];
        let short = (0..3).filter(|_| rng.bool()).map(|i| format!("s{i}")).collect();
        Self {
            seed: seed ^ variant,
            outputs,
            apart: false,
            key,
            pass,
            backwards,
            items,
            short,
            few: items / 100,
        }
    }
}

/// The position of the stage that a hop of a way starts from, such as `s3-a` or `s3/a`.
fn index_of(hop: &str) -> usize {
    let digits = hop.trim_start_matches('s').split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap()
}

/// Takes any of the streams that nothing consumes yet.
fn take(open: &mut Vec<usize>, rng: &mut Rng) -> usize {
    open.swap_remove(rng.usize(..open.len()))
}

impl Graph {
    /// The graph that `seed` draws: buffers are small, so that ways fill up.
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x6465_6164);
        let mut graph = Self { nodes: Vec::new(), streams: 0 };
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..rng.usize(1..4) {
            graph.add(&mut rng, What::Source, Vec::new(), 1, &mut open);
        }
        for _ in 0..rng.usize(1..10) {
            let kind = rng.u8(..10);
            match kind {
                0..3 => {
                    let what = [What::Route, What::Route, What::Broadcast][rng.usize(..3)];
                    let input = take(&mut open, &mut rng);
                    graph.add(&mut rng, what, vec![input], 2, &mut open);
                }
                3..6 if open.len() > 1 => {
                    let what = [What::Fair, What::ByTime, What::ByTime, What::Turns][rng.usize(..4)];
                    let inputs = 0..rng.usize(2..4).min(open.len());
                    let inputs = inputs.map(|_| take(&mut open, &mut rng)).collect();
                    graph.add(&mut rng, what, inputs, 1, &mut open);
                }
                _ => {
                    let what = [What::Filter, What::Filter, What::Singles, What::Fold][rng.usize(..4)];
                    let input = take(&mut open, &mut rng);
                    graph.add(&mut rng, what, vec![input], 1, &mut open);
                }
            }
        }
        while let Some(input) = open.pop() {
            graph.add(&mut rng, What::Sink, vec![input], 0, &mut open);
        }
        graph
    }

    /// The same graph with buffers that hold hardly anything, but for those that drop: what these keep fills the others.
    pub(crate) fn with_narrow_ways(&self) -> Self {
        let mut graph = self.clone();
        for Node { buffer, .. } in &mut graph.nodes {
            let capacity = if buffer.drop_policy == DropPolicy::Block { 1 } else { 1_024 };
            *buffer = BufferPolicy::new(capacity, buffer.drop_policy);
        }
        graph
    }

    fn add(&mut self, rng: &mut Rng, what: What, inputs: Vec<usize>, outputs: usize, open: &mut Vec<usize>) {
        let outputs: Vec<usize> = (self.streams..self.streams + outputs).collect();
        self.streams += outputs.len();
        open.extend(&outputs);
        // All results of a fold come at once: a small buffer that drops would leave too few to fill anything.
        let folded =
            |stream: &usize| self.nodes.iter().any(|n| n.what == What::Fold && n.outputs.contains(stream));
        let drops = rng.u8(..6) == 0 && !inputs.iter().any(folded);
        let dropping = [DropPolicy::DropNewest, DropPolicy::DropOldest][rng.usize(..2)];
        let drop_policy = if drops { dropping } else { DropPolicy::Block };
        let buffer = BufferPolicy::new([1, 2, 8, 64][rng.usize(..4)], drop_policy);
        let two = rng.u8(..4) == 0 && !matches!(what, What::Source | What::Sink);
        let parallelism = if two { Parallelism::Fixed(rng.u32(2..4)) } else { Parallelism::Sequential };
        let above = |stream: &usize| self.nodes.iter().find(|node| node.outputs.contains(stream));
        // Order can be restored right behind the stage that ran in parallel behind one instance.
        let ordered = inputs.first().and_then(above).is_some_and(|node| {
            let one = |n: &Node| n.parallelism == Parallelism::Sequential;
            node.what == What::Filter && !one(node) && node.inputs.first().and_then(above).is_some_and(one)
        });
        let ordered =
            ordered && parallelism == Parallelism::Sequential && matches!(what, What::Filter | What::Sink);
        self.nodes.push(Node { what, inputs, outputs, buffer, parallelism, ordered });
    }

    /// What brings `deadlock` about: everything takes the way to the full way of each wait and then that, and what comes from
    /// elsewhere soon ends, or does not.
    pub(crate) fn play_against(&self, deadlock: &Deadlock, variant: u64) -> Play {
        let mut wanted: Vec<usize> = deadlock.waits.iter().map(|wait| index_of(&wait.full[0])).collect();
        let mut above = BTreeSet::new();
        // The outputs that lead there, of each branch.
        let mut leading: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        while let Some(index) = wanted.pop() {
            if !above.insert(format!("s{index}")) {
                continue;
            }
            for input in &self.nodes[index].inputs {
                let leads = |node: &Node| node.outputs.iter().position(|output| output == input);
                let origins = self.nodes.iter().enumerate();
                let Some((origin, output)) = origins.into_iter().find_map(|(i, n)| Some((i, leads(n)?)))
                else {
                    continue;
                };
                wanted.push(origin);
                leading.entry(format!("s{origin}")).or_default().insert(["a", "b"][output]);
            }
        }
        let sources = (0..self.nodes.len()).map(|index| format!("s{index}"));
        let only = |(stage, labels): (String, BTreeSet<&str>)| match labels.len() {
            1 => labels.first().map(|label| (stage, (*label).to_owned())),
            // Items are spread over both.
            _ => None,
        };
        let mut outputs: BTreeMap<String, String> = leading.into_iter().filter_map(only).collect();
        let full = deadlock.waits.iter().flat_map(|wait| &wait.full).filter_map(|hop| hop.split_once('/'));
        outputs.extend(full.map(|(stage, label)| (stage.to_owned(), label.to_owned())));
        Play {
            seed: variant,
            outputs,
            // What one instance is full of must not keep the others of the same stage supplied.
            apart: variant & 16 != 0,
            // One key starves all instances but one; many keys let merges in front of the full way go on.
            key: (variant & 4 == 0).then_some(variant),
            pass: 1,
            backwards: variant & 1 == 0,
            items: 3_000,
            short: sources.filter(|source| variant & 8 == 0 && !above.contains(source)).collect(),
            // With even a few of their items merges may take so much that what edges that drop have kept fills nothing.
            few: if variant & 2 == 0 { 0 } else { 30 },
        }
    }

    /// The pipeline; with `trusted`, its merges promise to go on.
    pub(crate) fn build(&self, play: &Play, trusted: bool) -> Result<Pipeline, GraphErrors> {
        let p = PipelineBuilder::new("random");
        let mut streams: Vec<Option<BoxedStream<u64>>> = (0..self.streams).map(|_| None).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<BoxedStream<u64>> =
                node.inputs.iter().map(|&stream| streams[stream].take().unwrap()).collect();
            let outputs = node.build(&p, &format!("s{index}"), inputs, play, trusted);
            node.outputs.iter().zip(outputs).for_each(|(&id, stream)| streams[id] = Some(stream));
        }
        p.build()
    }
}

impl Node {
    fn build(
        &self,
        p: &PipelineBuilder,
        name: &str,
        inputs: Vec<BoxedStream<u64>>,
        play: &Play,
        trusted: bool,
    ) -> Vec<BoxedStream<u64>> {
        let draw = move |x: u64, n: u64, seed: u64| {
            ((x ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % n.max(1)
        };
        let merge = |policy: MergePolicy<u64>, inputs: Vec<BoxedStream<u64>>| {
            let stream = p.merge(name, policy, inputs.into_iter().map(|input| input.into_input()));
            let stream = if trusted && self.what != What::Fair { stream.assume_progress() } else { stream };
            vec![self.with(stream)]
        };
        // Stages draw apart: what one lets through must not be just what the next one refuses.
        let seed = play.seed ^ (index_of(name) as u64) << 32;
        let (pass, items) = (play.pass, play.items);
        match self.what {
            What::Source => {
                let (backwards, start) = (play.backwards, 1 << 40);
                let item = move |i| if backwards { start - i } else { start + i };
                let items = if play.short.contains(name) { play.few } else { items };
                return vec![p.generate(name, items, item).boxed()];
            }
            What::Fair => return merge(MergePolicy::Fair, inputs),
            What::Turns => return merge(MergePolicy::Turns, inputs),
            What::ByTime => {
                let time = |x: &u64| Timestamp::from_nanos(*x as i64);
                return merge(MergePolicy::ByTime(Arc::new(time)), inputs);
            }
            _ => {}
        }
        let input = inputs.into_iter().next().unwrap();
        match self.what {
            What::Filter => {
                let passes = move |x: &u64| pass > 0 && draw(*x, pass, seed) == 0;
                vec![self.with(input.filter(name, passes))]
            }
            What::Singles => {
                let policy = AccumulatorPolicy::ttl(Duration::from_secs(1));
                vec![self.with(input.accumulate(name, policy, Singles { key: play.key }))]
            }
            What::Fold => {
                // As many results as items, so that they can fill what follows.
                let keyed = input.key_by(|x| *x);
                let sums = keyed.fold(name, || 0u64, |sum, x| *sum = sum.wrapping_add(x));
                vec![self.with(sums).map(&format!("{name}-sum"), |(_, sum)| sum).boxed()]
            }
            What::Route => {
                let fixed = play.outputs.get(name).map(|label| usize::from(label == "b"));
                let (apart, next, mut number) = (play.apart, Arc::new(AtomicUsize::new(0)), None);
                let route = move |x: &u64| {
                    // Each instance has a closure of its own, which takes its number at its first item.
                    let number = *number.get_or_insert_with(|| next.fetch_add(1, Ordering::Relaxed));
                    let other = usize::from(apart && number % 2 == 1);
                    fixed.map_or_else(|| draw(*x, 2, seed) as usize, |output| output ^ other)
                };
                self.all(input.route(name, ["a", "b"], route))
            }
            What::Broadcast => {
                let copies = input.broadcast(name, ["a", "b"]);
                let copies = copies.into_iter().zip(["a", "b"]).map(|(copy, label)| {
                    let wanted = play.outputs.get(name).is_none_or(|output| output == label);
                    self.with(copy).filter(&format!("{name}-{label}"), move |_| wanted).boxed()
                });
                copies.collect()
            }
            _ => {
                let sink = input.for_each(name, drop);
                sink.input_buffer(self.buffer).parallel(self.parallelism);
                if self.ordered {
                    sink.input_ordered();
                }
                Vec::new()
            }
        }
    }

    fn with<S: Segment>(&self, stream: Stream<S>) -> BoxedStream<S::Item>
    where
        S::Item: Send,
    {
        let stream = stream.input_buffer(self.buffer).parallel(self.parallelism);
        if self.ordered { stream.input_ordered().boxed() } else { stream.boxed() }
    }

    fn all<S: Segment<Item = u64>>(&self, streams: [Stream<S>; 2]) -> Vec<BoxedStream<u64>> {
        streams.into_iter().map(|stream| self.with(stream)).collect()
    }
}
