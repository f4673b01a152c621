//! Whether a graph can come to a standstill.
//!
//! Every edge leads forward, so a task that only waits for room gets it in the end: sinks always take. Not so at a merge
//! that *waits*: by timestamp it takes nothing while one input is empty, and in turns nothing but the input whose turn it
//! is. It stands still for good when that input gets nothing *because* another is full: both come from one *split*, which
//! gives to none of its outputs while one of them is full.
//!
//! ```text
//!            +--> filter ---> (empty) --+
//! -> branch -+                          +--> merge by timestamp
//!            +-----> (full) ------------+
//! ```
//!
//! So there is a graph of waits over the inputs of waiting merges: input `a` waits for input `c` when some split has a way
//! to `a` and another way, on which every edge can be full, to an input that its merge does not take while `c` is empty.
//! A cycle in it is a standstill that data can bring about: all items take the full way. Without a cycle there is none.
//!
//! Instances count: two stand for many, of which one may be full while the other has nothing. An exchange by key gives to
//! none of them while one is full. One that gives to whoever has room only stops when all are full, and then none of them is empty.

use std::fmt;

use super::order::{Successors, cycles};
use super::problem::Quoted;
use super::{At, ValidatedGraph};
use crate::model::StageKind;
use crate::policy::{AccumulationDescriptor, DropPolicy, MergePolicy};

/// Inputs of waiting merges that a graph has at most.
pub const MAX_WAITING_INPUTS: usize = 1_024;

/// How an edge connects the instances of its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// One to one, or all to the one there is.
    Straight,
    /// Each item to an instance that has room.
    Shared,
    /// Each item to the owner of its key; no item while one of them is full.
    ByKey,
}

/// A split, and the two ways from it that bring about a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Stages from the split to the merge that waits, an output of a branch as `stage/label`: nothing comes this way.
    pub empty: Vec<String>,
    /// Stages from the split to a merge that takes nothing: this way is full, so that the split gives nothing.
    pub full: Vec<String>,
}

/// A standstill that a graph can come to: each wait is kept up by the next, the last by the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// The first merge that waits.
    pub at: At,
    /// One for each merge that is part of it.
    pub waits: Vec<Wait>,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can wait for ever:", self.at)?;
        for (i, Wait { empty, full }) in self.waits.iter().enumerate() {
            let split = full.first().and_then(|split| split.split('/').next()).unwrap_or_default();
            let also = if i == 0 { "" } else { ", and" };
            write!(f, "{also} nothing comes by {} once {} is full", Way(empty), Way(full))?;
            write!(f, ", because {} gives to no output while one has no room", Quoted(split))?;
        }
        f.write_str(
            "; merge fairly, let a buffer on each way drop, or say assume-progress if every input is sure to go on \
             (watermarks that keep up are enough)",
        )
    }
}

struct Way<'a>(&'a [String]);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, id) in self.0.iter().enumerate() {
            // The middle of a long way says little.
            match i {
                8.. if i + 2 < self.0.len() => continue,
                _ if i > 0 => f.write_str(" -> ")?,
                _ => {}
            }
            if i == 8 && self.0.len() > 10 { f.write_str("...")? } else { write!(f, "{}", Quoted(id))? }
        }
        Ok(())
    }
}

/// Every standstill that `graph` can come to, one for each merge or ring of merges; or, in `Err`, how many inputs wait
/// if they are more than [`MAX_WAITING_INPUTS`].
///
/// `many` says of each stage whether it has several instances, `crossings` of each edge how it connects them.
///
/// Cost: stages and edges times waiting inputs, in bits; linear where nothing waits.
pub(crate) fn deadlocks(
    graph: &ValidatedGraph,
    many: &[bool],
    crossings: &[Crossing],
) -> Result<Vec<Deadlock>, usize> {
    let waits = |stage: usize| Waiting::of(graph, stage).is_some();
    if !(0..graph.stages().len()).any(waits) {
        return Ok(Vec::new());
    }
    let net = Net::new(graph, many, crossings);
    if net.waiting.len() > MAX_WAITING_INPUTS {
        return Err(net.waiting.len());
    }
    Ok(Search::new(&net).standstills())
}

/// What a merge waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Any of its inputs.
    ForAny,
    /// The inputs before those it has not come to.
    ForEarlier,
}

impl Waiting {
    fn of(graph: &ValidatedGraph, stage: usize) -> Option<Self> {
        let node = &graph.graph().nodes[stage];
        match node.merge {
            _ if node.assume_progress => None,
            Some(MergePolicy::ByTimestamp) => Some(Self::ForAny),
            Some(MergePolicy::Turns) => Some(Self::ForEarlier),
            Some(MergePolicy::Fair | MergePolicy::Priority) | None => None,
        }
    }
}

/// A channel between two instances.
#[derive(Clone, Copy)]
struct Lane {
    to: usize,
    edge: usize,
    /// Whether its producer waits when it is full.
    blocks: bool,
    /// Whether its producer gives to other instances of the same stage instead.
    shared: bool,
}

/// The graph with its stages taken apart into instances, at most two of each.
struct Net<'a> {
    graph: &'a ValidatedGraph,
    /// The stage of each instance; instances of one stage stand together.
    stage: Vec<usize>,
    lanes: Vec<Lane>,
    /// The lanes out of each instance.
    out: Vec<Vec<usize>>,
    /// Whether an instance takes whatever comes and gives nothing before its input ends: nothing before it fills up.
    absorbs: Vec<bool>,
    /// Instances such that every lane leads forward.
    order: Vec<usize>,
    /// The lanes into merges that wait, and what those wait for.
    waiting: Vec<(usize, Waiting)>,
}

impl<'a> Net<'a> {
    fn new(graph: &'a ValidatedGraph, many: &[bool], crossings: &[Crossing]) -> Self {
        let mut first = Vec::with_capacity(many.len());
        let mut stage = Vec::new();
        for (index, &many) in many.iter().enumerate() {
            first.push(stage.len());
            stage.extend(std::iter::repeat_n(index, 1 + usize::from(many)));
        }
        let absorbs = stage.iter().map(|&stage| absorbs(graph, stage)).collect();
        let instances = |stage: usize| first[stage]..first[stage] + 1 + usize::from(many[stage]);
        let order = graph.order().iter().flat_map(|&stage| instances(stage)).collect();
        let out = vec![Vec::new(); stage.len()];
        let mut net = Self { graph, stage, lanes: Vec::new(), out, absorbs, order, waiting: Vec::new() };
        // By consumer, so that the lanes into a merge stand together, in the order of its inputs.
        for to in (0..graph.stages().len()).flat_map(instances) {
            let consumer = net.stage[to];
            let waiting = Waiting::of(graph, consumer);
            for &edge in &graph.stages()[consumer].inputs {
                let producer = graph.edges()[edge].from;
                for from in instances(producer) {
                    let pairs = many[producer] == many[consumer];
                    let across = from - first[producer] != to - first[consumer];
                    if !(pairs && across && crossings[edge] == Crossing::Straight) {
                        net.lane(from, to, edge, crossings[edge] == Crossing::Shared, waiting);
                    }
                }
            }
        }
        let lanes = &net.lanes;
        net.out.iter_mut().for_each(|out| out.sort_by_key(|&lane| lanes[lane].edge));
        net
    }

    fn lane(&mut self, from: usize, to: usize, edge: usize, shared: bool, waiting: Option<Waiting>) {
        let resolved = &self.graph.edges()[edge];
        let blocks = resolved.drop_policy == DropPolicy::Block || resolved.backpressure.is_some();
        self.out[from].push(self.lanes.len());
        self.waiting.extend(waiting.map(|waiting| (self.lanes.len(), waiting)));
        self.lanes.push(Lane { to, edge, blocks, shared });
    }

    /// The lanes out of an instance, put together where items go to whoever has room.
    fn ways(&self, instance: usize) -> impl Iterator<Item = &[usize]> {
        let lane = |at: &usize| self.lanes[*at];
        self.out[instance].chunk_by(move |a, b| lane(a).shared && lane(a).edge == lane(b).edge)
    }

    /// The waiting inputs of the same merge as `input`, itself among them.
    fn siblings(&self, input: usize) -> impl Iterator<Item = usize> {
        let merge = |input: &usize| self.lanes[self.waiting[*input].0].to;
        let of = merge(&input);
        let first = (0..input).rev().take_while(move |other| merge(other) == of).last().unwrap_or(input);
        (first..self.waiting.len()).take_while(move |other| merge(other) == of)
    }

    /// Whether waiting input `other` is not taken from while waiting input `empty` has nothing.
    fn holds(&self, empty: usize, other: usize) -> bool {
        let ((empty, waiting), (other, _)) = (self.waiting[empty], self.waiting[other]);
        self.lanes[empty].to == self.lanes[other].to
            && match waiting {
                Waiting::ForAny => empty != other,
                Waiting::ForEarlier => empty < other,
            }
    }
}

/// Whether a stage holds all of its input until that ends.
fn absorbs(graph: &ValidatedGraph, stage: usize) -> bool {
    let node = &graph.graph().nodes[stage];
    let holds = |accumulation: &AccumulationDescriptor| accumulation.policy.holds_until_end();
    node.kind == StageKind::Accumulator && node.accumulation.as_ref().is_some_and(holds)
}

/// Sets of waiting inputs, one for each instance.
struct Sets {
    words: usize,
    bits: Vec<u64>,
}

impl Sets {
    fn new(sets: usize, members: usize) -> Self {
        let words = members.div_ceil(64);
        Self { words, bits: vec![0; sets * words] }
    }

    fn of(&self, set: usize) -> &[u64] {
        &self.bits[set * self.words..][..self.words]
    }

    fn add(&mut self, set: usize, members: &[u64]) {
        unite(&mut self.bits[set * self.words..][..self.words], members);
    }
}

fn unite(set: &mut [u64], members: &[u64]) {
    set.iter_mut().zip(members).for_each(|(word, more)| *word |= more);
}

fn has(set: &[u64], member: usize) -> bool {
    set[member / 64] >> (member % 64) & 1 == 1
}

fn is_empty(set: &[u64]) -> bool {
    set.iter().all(|word| *word == 0)
}

fn members(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(word, bits)| {
        (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
    })
}

/// What a way is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Where items may come to lack on it: wherever it leads.
    Empty,
    /// What may be full when it is full from end to end.
    Full,
    /// What is full whenever it is full from end to end.
    Surely,
}

struct Search<'a> {
    net: &'a Net<'a>,
    /// The waiting input at the end of each lane, if it leads to one.
    end: Vec<Option<usize>>,
    /// By instance and [`Kind`], waiting inputs.
    reach: [Sets; 3],
    /// By waiting input, those that are full on the other way of a split that leads to it.
    kept_by: Sets,
}

impl<'a> Search<'a> {
    fn new(net: &'a Net<'a>) -> Self {
        let mut end = vec![None; net.lanes.len()];
        net.waiting.iter().enumerate().for_each(|(input, &(lane, _))| end[lane] = Some(input));
        let inputs = net.waiting.len();
        let reach = [0, 1, 2].map(|_| Sets::new(net.stage.len(), inputs));
        let mut search = Self { net, end, reach, kept_by: Sets::new(inputs, inputs) };
        for &instance in net.order.iter().rev() {
            // What is full in every way that can be.
            let mut surely: Option<Vec<u64>> = None;
            for way in net.ways(instance) {
                let [empty, full, sure] =
                    [Kind::Empty, Kind::Full, Kind::Surely].map(|kind| search.beyond(way, kind));
                search.reach[Kind::Empty as usize].add(instance, &empty);
                search.reach[Kind::Full as usize].add(instance, &full);
                match &mut surely {
                    _ if is_empty(&full) => {}
                    Some(all) => all.iter_mut().zip(&sure).for_each(|(word, other)| *word &= other),
                    None => surely = Some(sure),
                }
            }
            surely.into_iter().for_each(|surely| search.reach[Kind::Surely as usize].add(instance, &surely));
        }
        for &split in &net.order {
            search.split(split);
        }
        search
    }

    /// Whether there is an input whose emptiness keeps a merge from taking from waiting input `input`.
    fn is_held(&self, input: usize) -> bool {
        self.net.siblings(input).any(|next| self.net.holds(next, input))
    }

    /// The waiting inputs that `way`, of one or several lanes, has to do with as `kind` says.
    fn beyond(&self, way: &[usize], kind: Kind) -> Vec<u64> {
        let mut beyond = vec![0; self.kept_by.words];
        for &lane in way {
            let Lane { to, blocks, .. } = self.net.lanes[lane];
            if kind != Kind::Empty && (!blocks || self.net.absorbs[to]) {
                continue;
            }
            if let Some(input) = self.end[lane] {
                beyond[input / 64] |= 1 << (input % 64);
            }
            // A merge may be stopped by what it waits for, whatever is behind it.
            if kind != Kind::Surely || self.end[lane].is_none_or(|input| !self.is_held(input)) {
                unite(&mut beyond, self.reach[kind as usize].of(to));
            }
        }
        beyond
    }

    /// Notes which inputs `split` keeps items from while others are full.
    fn split(&mut self, split: usize) {
        let ways: Vec<&[usize]> = self.net.ways(split).collect();
        if ways.len() < 2 {
            return;
        }
        let beyond = |kind| ways.iter().map(|way| self.beyond(way, kind)).collect::<Vec<_>>();
        let [empty, full, surely] = [Kind::Empty, Kind::Full, Kind::Surely].map(beyond);
        // What is full beyond the ways before and behind each.
        let mut others = vec![vec![0; self.kept_by.words]; ways.len()];
        for order in [(0..ways.len()).collect::<Vec<_>>(), (0..ways.len()).rev().collect()] {
            let mut sum = vec![0; self.kept_by.words];
            for at in order {
                unite(&mut others[at], &sum);
                unite(&mut sum, &full[at]);
            }
        }
        for (at, empty) in empty.iter().enumerate() {
            for input in members(empty) {
                let may_be_full = |&other: &usize| other != at && !has(&surely[other], input);
                if (0..ways.len()).all(|other| other == at || may_be_full(&other)) {
                    self.kept_by.add(input, &others[at]);
                } else {
                    (0..ways.len())
                        .filter(may_be_full)
                        .for_each(|other| self.kept_by.add(input, &full[other]));
                }
            }
        }
    }

    /// Whether nothing comes to waiting input `empty` as long as its merge or another takes nothing from an input that
    /// has to wait for `next`; that other input.
    fn kept(&self, empty: usize, next: usize) -> Option<usize> {
        members(self.kept_by.of(empty)).find(|&full| full != empty && self.net.holds(next, full))
    }

    fn standstills(&self) -> Vec<Deadlock> {
        let inputs = self.net.waiting.len();
        let alone: Vec<bool> = (0..inputs).map(|input| self.kept(input, input).is_some()).collect();
        let mut found = Vec::new();
        let mut told = None;
        for input in (0..inputs).filter(|&input| alone[input]) {
            // One is enough for each merge; its inputs stand together.
            let merge = self.net.lanes[self.net.waiting[input].0].to;
            if told.replace(merge) != Some(merge) {
                found.push(self.deadlock(&[input]));
            }
        }
        // A ring may come to one merge twice, by two inputs each of which is full for the other: that is no standstill. It
        // takes four splits and three merges, and is refused too.
        let rings = cycles(&Successors::new(inputs, &self.waits(&alone)));
        found.extend(rings.iter().map(|ring| self.deadlock(ring)));
        found
    }

    /// Which input waits for which, without those that wait for themselves.
    fn waits(&self, alone: &[bool]) -> Vec<(usize, usize)> {
        let inputs = alone.len();
        let mut waits = Vec::new();
        let mut seen = vec![usize::MAX; inputs];
        for empty in (0..inputs).filter(|&input| !alone[input]) {
            for full in members(self.kept_by.of(empty)).filter(|&full| full != empty) {
                let inputs = self.net.siblings(full);
                for next in inputs.filter(|&next| !alone[next] && self.net.holds(next, full)) {
                    if std::mem::replace(&mut seen[next], empty) != empty {
                        waits.push((empty, next));
                    }
                }
            }
        }
        waits
    }

    fn deadlock(&self, ring: &[usize]) -> Deadlock {
        let wait = |at: usize| {
            let (empty, next) = (ring[at], ring[(at + 1) % ring.len()]);
            self.kept(empty, next).and_then(|full| self.wait(empty, full))
        };
        let waits = (0..ring.len()).filter_map(wait).collect();
        let stage = self.net.stage[self.net.lanes[self.net.waiting[ring[0]].0].to];
        let id = self.net.graph.stages()[stage].id.to_string();
        Deadlock { at: At::Stage { index: stage, id }, waits }
    }

    /// The two ways that part at the last split that keeps items from `empty` while `full` is full.
    fn wait(&self, empty: usize, full: usize) -> Option<Wait> {
        let net = self.net;
        let leads = |way: &&[usize], kind, input: usize| has(&self.beyond(way, kind), input);
        net.order.iter().rev().find_map(|&split| {
            let first = |kind, input| net.ways(split).filter(move |way| leads(way, kind, input));
            let may_be_full = |way: &&[usize]| !leads(way, Kind::Surely, empty);
            let pairs = first(Kind::Empty, empty)
                .flat_map(|a| first(Kind::Full, full).filter(may_be_full).map(move |b| (a, b)));
            let (a, b) = pairs.into_iter().find(|(a, b)| a != b)?;
            Some(Wait { empty: self.way(a, Kind::Empty, empty), full: self.way(b, Kind::Full, full) })
        })
    }

    /// The stages of a way to waiting input `input`, those that have several outputs with the one taken.
    fn way(&self, way: &[usize], kind: Kind, input: usize) -> Vec<String> {
        let net = self.net;
        let leads = |lane: usize| has(&self.beyond(&[lane], kind), input);
        let name = |lane: usize| net.graph.graph().edges[net.lanes[lane].edge].input_name();
        let mut next = way.iter().copied().find(|&lane| leads(lane));
        let mut stages = Vec::new();
        let mut last = net.lanes[way[0]].to;
        while let Some(lane) = next {
            stages.push(name(lane));
            last = net.lanes[lane].to;
            let on = || net.out[last].iter().copied().find(|&lane| leads(lane));
            next = if self.end[lane] == Some(input) { None } else { on() };
        }
        stages.push(net.graph.stages()[net.stage[last]].id.to_string());
        stages
    }
}
