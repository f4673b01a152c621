//! Random pipelines whose shards move at random, and the judge of what they gave.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::driver::{SimReport, Simulation};
use corelane::flow::{Collected, Pipeline, PipelineBuilder};
use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Timestamp};
use corelane::policy::{
    AccumulatorPolicy, BufferPolicy, DropPolicy, Parallelism, RebalancePolicy, TimeDomain, Watermarks,
};
use corelane::shard::ShardMove;
use corelane::stage::{IterSource, StageSite};

use crate::common::seeds;

/// An item: where it is from, and which of that one's items it is.
pub(crate) type Item = (usize, u64);

/// A key and the items that came to it.
pub(crate) type OfKey = (u64, Vec<Item>);

/// What keeps the items of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keeper {
    Fold,
    /// An accumulator: to the end, in fives, or for so many nanoseconds of the one time or the other.
    Accumulator,
    Fives,
    Expiring(u64),
    EventTime(u64),
}

impl Keeper {
    /// Whether each key has one result.
    fn gives_once(self) -> bool {
        matches!(self, Self::Fold | Self::Accumulator)
    }

    fn policy(self) -> AccumulatorPolicy {
        let expiring = |nanos, clock| AccumulatorPolicy {
            completeness_ttl: Some(Duration::from_nanos(nanos)),
            partial_flush: true,
            clock,
            ..AccumulatorPolicy::default()
        };
        match self {
            Self::Fold | Self::Accumulator | Self::Fives => AccumulatorPolicy::until_end(),
            Self::Expiring(nanos) => expiring(nanos, TimeDomain::Processing),
            Self::EventTime(nanos) => expiring(nanos, TimeDomain::Event),
        }
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    Full,
    Stop(u64),
    Drain(u64),
}

/// A pipeline with one keyed stage, and when its shards move.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) partitions: usize,
    /// Items of each source.
    pub(crate) sources: Vec<u64>,
    keys: u64,
    shards: u32,
    capacity: u64,
    drops: DropPolicy,
    keeper: Keeper,
    /// Steps between the wishes to move.
    every: u64,
    ending: Ending,
}

/// What moved in a run.
pub(crate) struct Moved {
    pub(crate) finished: u64,
    pub(crate) handed_over: u64,
    pub(crate) in_the_middle: bool,
}

impl Case {
    pub(crate) fn key(&self, source: usize, seq: u64) -> u64 {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (source as u64) << 48 ^ seq);
        // The least of three: few keys have most of the items.
        let draws = [(); 3].map(|()| rng.u64(0..self.keys));
        draws.into_iter().min().unwrap()
    }

    pub(crate) fn lengths(&self) -> Vec<u64> {
        self.sources.clone()
    }

    /// The moves of turn `turn`: of some shards, to anywhere.
    pub(crate) fn moves(&self, turn: u64) -> Vec<ShardMove> {
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(turn.wrapping_mul(0x9E37_79B9)));
        let shards = (self.shards as usize).max(self.partitions).next_power_of_two();
        let some = rng.usize(1..=shards);
        (0..some)
            .map(|_| ShardMove { shard: rng.usize(0..shards), to: rng.usize(0..self.partitions) })
            .collect()
    }

    /// What `seed` draws, but from these sources, on so many partitions, over an edge that makes its producers wait, to the end.
    pub(crate) fn plain(seed: u64, sources: Vec<u64>, partitions: usize) -> Self {
        let keeper = Keeper::Fold;
        Self { sources, partitions, drops: DropPolicy::Block, ending: Ending::Full, keeper, ..Self::of(seed) }
    }

    fn simulate(&self) -> Result<(SimReport, Vec<OfKey>), String> {
        let (pipeline, seen) = pipeline(self);
        let case = self.clone();
        let simulation = Simulation::new(self.seed).partitions(self.partitions).each_step(move |at| {
            if at.step % case.every == case.every - 1 {
                // Refused while another is under way, and with one instance.
                let _ = at.monitor.move_shards("sum", &case.moves(at.step));
            }
        });
        let simulation = match self.ending {
            Ending::Full => simulation,
            Ending::Stop(step) => simulation.stop_at(step),
            Ending::Drain(step) => simulation.drain_at(step),
        };
        let report = simulation.run(pipeline).map_err(|error| error.to_string())?;
        report.result.account.verify().map_err(|broken| format!("{broken:?}\n{}", report.result.account))?;
        Ok((report, seen.take()))
    }

    pub(crate) fn moved(&self) -> Result<Moved, String> {
        let (report, _) = self.simulate()?;
        let handed_over = report.result.account.stages.values().map(|stage| stage.handed_over).sum();
        let stage = report.result.final_states.values().find(|stage| stage.shards.is_some());
        let shards = stage.and_then(|stage| stage.shards.clone()).unwrap_or_default();
        let in_the_middle = shards.moving && self.ending != Ending::Full;
        Ok(Moved { finished: shards.version - u64::from(shards.moving), handed_over, in_the_middle })
    }
}

impl seeds::Case for Case {
    fn of(seed: u64) -> Self {
        Self::of(seed)
    }

    fn run(&self) -> Result<(u64, u64), String> {
        let (report, seen) = self.simulate()?;
        let full = self.ending == Ending::Full && self.drops == DropPolicy::Block;
        if full || !seen.is_empty() {
            // A stop may come between two results of the end.
            let complete = self.drops == DropPolicy::Block && !matches!(self.ending, Ending::Stop(_));
            let key = |source, seq| self.key(source, seq);
            match (complete, self.keeper.gives_once()) {
                (true, true) => judge(&seen, &self.sources, key, full)?,
                (true, false) => judge_parts(&seen, &self.sources, key, full)?,
                (false, once) => drop(in_order(&seen, &self.sources, key, once)?),
            }
        }
        Ok((report.steps, report.trace_hash))
    }

    fn smaller(&self) -> Vec<Self> {
        seeds::changed(
            self,
            &[
                &|case| case.partitions = (case.partitions / 2).max(1),
                &|case| case.sources.truncate(1.max(case.sources.len() - 1)),
                &|case| case.sources.iter_mut().for_each(|items| *items /= 2),
                &|case| case.keys = (case.keys / 2).max(1),
                &|case| case.shards = (case.shards / 2).max(1),
                &|case| case.every *= 2,
                &|case| case.keeper = Keeper::Fold,
                &|case| case.ending = Ending::Full,
                &|case| case.drops = DropPolicy::Block,
            ],
        )
    }
}

impl Case {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ending = match rng.u8(..6) {
            0 => Ending::Stop(rng.u64(1..600)),
            1 => Ending::Drain(rng.u64(1..600)),
            _ => Ending::Full,
        };
        let drops = [DropPolicy::Block, DropPolicy::Block, DropPolicy::DropNewest, DropPolicy::DropOldest];
        Self {
            seed,
            partitions: [1, 2, 2, 3, 8, 16][rng.usize(..6)],
            sources: (0..rng.usize(1..4)).map(|_| rng.u64(0..600)).collect(),
            keys: rng.u64(1..120),
            shards: 1 << rng.u32(..7),
            capacity: [1, 2, 5, 64, 1_024][rng.usize(..5)],
            drops: drops[rng.usize(..4)],
            keeper: match rng.u8(..8) {
                0 => Keeper::Accumulator,
                1 => Keeper::Fives,
                2 => Keeper::Expiring(rng.u64(1_000..200_000)),
                3 => Keeper::EventTime(rng.u64(1..100_000)),
                _ => Keeper::Fold,
            },
            every: rng.u64(1..40),
            ending,
        }
    }
}

/// Gathers items: for as long as its policy says, or until there are so many.
#[derive(Clone)]
struct Gather {
    case: Case,
    most: usize,
}

impl Accumulator<Item> for Gather {
    type Key = u64;
    type State = Vec<Item>;
    type Out = OfKey;

    fn key(&self, item: &Item) -> u64 {
        self.case.key(item.0, item.1)
    }

    fn timestamp(&self, item: &Item, _time: CheckTime) -> Timestamp {
        time_of(item)
    }

    fn init(&mut self, _key: &u64, _first: &Item) -> Vec<Item> {
        Vec::new()
    }

    fn update(&mut self, of: &mut StateOf<Item, Self>, item: Item) {
        of.state.push(item);
    }

    fn check(&mut self, of: &mut StateOf<Item, Self>, _time: CheckTime) -> Completeness<OfKey> {
        if of.state.len() < self.most {
            return Completeness::Incomplete;
        }
        Completeness::Complete((of.key, std::mem::take(&mut of.state)))
    }

    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, _reason: FlushReason) -> Option<OfKey> {
        Some((of.key, std::mem::take(&mut of.state)))
    }
}

fn time_of((source, seq): &Item) -> Timestamp {
    Timestamp((seq * 1_000 + *source as u64).cast_signed())
}

/// The pipeline of `case`: its sources, spread by key into a stage that keeps every item.
pub(crate) fn pipeline(case: &Case) -> (Pipeline, Collected<OfKey>) {
    let p = PipelineBuilder::new("moves");
    let (sources, keys) = (case.sources.clone(), case.clone());
    let n = sources.len();
    let out = p
        .source("in", move |site: &StageSite| {
            let source = site.context.instance;
            Ok(IterSource::new((0..sources[source]).map(move |seq| (source, seq))))
        })
        .parallel(Parallelism::Fixed(u32::try_from(n).unwrap()))
        .watermarks("time", Watermarks::ascending(), time_of)
        .boxed();
    let kept = if case.keeper == Keeper::Fold {
        let by_key = out.key_by(move |(source, seq): &Item| keys.key(*source, *seq));
        by_key.fold("sum", Vec::new, |items: &mut Vec<Item>, item| items.push(item)).boxed()
    } else {
        let most = if case.keeper == Keeper::Fives { 5 } else { usize::MAX };
        out.accumulate_movable("sum", case.keeper.policy(), Gather { case: keys, most }).boxed()
    };
    let out = kept
        .parallel(Parallelism::CpuBound)
        .rebalanced(RebalancePolicy { shards: case.shards, automatic: None })
        .input_buffer(BufferPolicy::new(case.capacity, case.drops))
        .collect("out");
    (p.build().unwrap(), out)
}

/// Whether `seen` has, for each key, the items of each source in order, and of each source the first so many without a gap; all of them if `full`.
pub(crate) fn judge(
    seen: &[OfKey],
    lengths: &[u64],
    key: impl Fn(usize, u64) -> u64,
    full: bool,
) -> Result<(), String> {
    complete(in_order(seen, lengths, key, true)?, lengths, full)
}

/// As [`judge`], where a key has several results.
fn judge_parts(
    seen: &[OfKey],
    lengths: &[u64],
    key: impl Fn(usize, u64) -> u64,
    full: bool,
) -> Result<(), String> {
    complete(in_order(seen, lengths, key, false)?, lengths, full)
}

fn complete(all: Vec<Vec<u64>>, lengths: &[u64], full: bool) -> Result<(), String> {
    for (source, (mut seqs, length)) in all.into_iter().zip(lengths).enumerate() {
        seqs.sort_unstable();
        if !seqs.iter().copied().eq(0..seqs.len() as u64) {
            return Err(format!("source {source}: a gap, or an item twice: {seqs:?}"));
        }
        if full && seqs.len() as u64 != *length {
            return Err(format!("source {source}: {} of {length} items", seqs.len()));
        }
    }
    Ok(())
}

/// The items of each source, if every key has its own items only, those of a source in order; if it came out in several parts, one after the
/// other.
fn in_order(
    seen: &[OfKey],
    lengths: &[u64],
    key: impl Fn(usize, u64) -> u64,
    once: bool,
) -> Result<Vec<Vec<u64>>, String> {
    let mut all = vec![Vec::new(); lengths.len()];
    let mut spans: BTreeMap<(u64, usize), Vec<(u64, u64)>> = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for (of, items) in seen {
        if keys.insert(*of, ()).is_some() && once {
            return Err(format!("key {of} came out twice"));
        }
        let mut span = BTreeMap::<usize, (u64, u64)>::new();
        for (source, seq) in items {
            if key(*source, *seq) != *of {
                return Err(format!("key {of} has item {seq} of source {source}, which is not its own"));
            }
            match span.get_mut(source) {
                Some((_, last)) if *last >= *seq => {
                    return Err(format!(
                        "key {of}: item {seq} of source {source} is out of order: {items:?}"
                    ));
                }
                Some((_, last)) => *last = *seq,
                None => {
                    span.insert(*source, (*seq, *seq));
                }
            }
            all[*source].push(*seq);
        }
        span.into_iter().for_each(|(source, span)| spans.entry((*of, source)).or_default().push(span));
    }
    for ((of, source), mut spans) in spans {
        spans.sort_unstable();
        if let Some(two) = spans.windows(2).find(|two| two[0].1 >= two[1].0) {
            return Err(format!("key {of}: items of source {source} are in two results at once: {two:?}"));
        }
    }
    Ok(all)
}
