//! The account of a run: what became of every item, and whether the books close.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::StageAccount;
use super::cells::sum;
use crate::model::StageId;

/// What became of the items that one stage gave to another. Adjacent stages fused into one chain have such an edge too:
/// everything offered was popped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeAccount {
    /// The producing stage.
    pub from: StageId,
    /// The consuming stage.
    pub to: StageId,
    /// Items the producing stage gave to the edge.
    pub offered: u64,
    /// Taken by the consuming stage.
    pub popped: u64,
    /// Refused because the edge was full.
    pub dropped_newest: u64,
    /// Thrown out to make room for newer ones.
    pub dropped_oldest: u64,
    /// Lost because the edge's key function failed on them.
    pub unroutable: u64,
    /// Waiting in the producer's memory for room. Zero once the pipeline has ended.
    pub staged: u64,
    /// Found in the edge after both ends had stopped, and thrown away.
    pub left: u64,
    /// In the edge now. Zero once the pipeline has ended.
    pub depth: u64,
}

impl EdgeAccount {
    /// An edge over which nothing has gone.
    pub const fn new(from: StageId, to: StageId) -> Self {
        Self {
            from,
            to,
            offered: 0,
            popped: 0,
            dropped_newest: 0,
            dropped_oldest: 0,
            unroutable: 0,
            staged: 0,
            left: 0,
            depth: 0,
        }
    }

    /// An edge inside a fused chain over which `items` have gone.
    pub const fn fused(from: StageId, to: StageId, items: u64) -> Self {
        let mut edge = Self::new(from, to);
        edge.offered = items;
        edge.popped = items;
        edge
    }

    /// How often the items offered were given a fate; equal to `offered` when nothing is missing.
    pub fn fates(&self) -> u128 {
        sum([
            self.popped,
            self.dropped_newest,
            self.dropped_oldest,
            self.unroutable,
            self.staged,
            self.left,
            self.depth,
        ])
    }
}

/// A law of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Edge: `offered = popped + dropped_newest + dropped_oldest + unroutable + staged + left + depth`.
    Edge,
    /// Stage: `received = passed + filtered + absorbed + ignored + dead_lettered + failed + discarded + waiting_retry +
    /// delivered`.
    Fates,
    /// Stage: `absorbed = items_open + items_complete + items_partial + items_expired`.
    Absorbed,
    /// Stage: `emitted` is what its outgoing edges were offered.
    Emitted,
    /// Stage: `received` is what was popped from its incoming edges; for a source, which has none, what it emitted.
    Received,
    /// Each end of an edge is a stage of the account (0 expected, 1 found for an end that is not).
    Ends,
}

impl Law {
    /// The id of the law's checker in the list of invariants, if it has one of its own.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Edge => "C1",
            Self::Fates => "C2",
            Self::Absorbed => "C3",
            Self::Emitted | Self::Received | Self::Ends => "C4",
        }
    }

    const fn sides(self) -> (&'static str, &'static str) {
        match self {
            Self::Edge => ("offered", "accounted for"),
            Self::Fates => ("received", "accounted for"),
            Self::Absorbed => ("absorbed", "accounted for"),
            Self::Emitted => ("emitted", "offered to its edges"),
            Self::Received => ("came in", "received"),
            Self::Ends => ("unknown ends expected", "found"),
        }
    }
}

/// Where a law was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In a stage.
    Stage(StageId),
    /// On an edge.
    Edge {
        /// The producing stage.
        from: StageId,
        /// The consuming stage.
        to: StageId,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => write!(f, "stage {stage}"),
            Self::Edge { from, to } => write!(f, "edge {from} -> {to}"),
        }
    }
}

/// A law that does not hold: items were lost, or counted twice, without a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{place} ({}): {} {expected}, {} {found}", law.id(), law.sides().0, law.sides().1)]
pub struct Imbalance {
    /// Where.
    pub place: Place,
    /// Which law.
    pub law: Law,
    /// The left side of the law, at most `u64::MAX`.
    pub expected: u64,
    /// The right side of the law, at most `u64::MAX`.
    pub found: u64,
}

fn check(place: impl FnOnce() -> Place, law: Law, expected: u128, found: u128, broken: &mut Vec<Imbalance>) {
    if expected != found {
        let capped = |n| u64::try_from(n).unwrap_or(u64::MAX);
        broken.push(Imbalance { place: place(), law, expected: capped(expected), found: capped(found) });
    }
}

fn verdict(broken: Vec<Imbalance>) -> Result<(), Vec<Imbalance>> {
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

impl StageAccount {
    /// Checks the laws that concern this stage alone.
    ///
    /// # Errors
    /// Every law that does not hold; `stage` is the name it is reported under.
    pub fn verify(&self, stage: &StageId) -> Result<(), Vec<Imbalance>> {
        let mut broken = Vec::new();
        let place = || Place::Stage(stage.clone());
        check(place, Law::Fates, self.received.into(), self.fates(), &mut broken);
        check(place, Law::Absorbed, self.absorbed.into(), self.absorbed_fates(), &mut broken);
        verdict(broken)
    }
}

impl EdgeAccount {
    /// Checks that every item offered has one fate.
    ///
    /// # Errors
    /// The imbalance.
    pub fn verify(&self) -> Result<(), Imbalance> {
        let mut broken = Vec::new();
        let place = || Place::Edge { from: self.from.clone(), to: self.to.clone() };
        check(place, Law::Edge, self.offered.into(), self.fates(), &mut broken);
        broken.pop().map_or(Ok(()), Err)
    }
}

/// What became of every item of a pipeline, by stage and by edge.
///
/// Displays as a table. It is exact when the pipeline is at rest (ended, or between two steps of a simulation); read
/// while cores are running it may be a few steps out of date in places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// All instances of each stage together.
    pub stages: BTreeMap<StageId, StageAccount>,
    /// All rings of each edge together, fused edges included.
    pub edges: Vec<EdgeAccount>,
}

/// The account of a whole run, in items. The books close when
///
/// `accepted + created = delivered + filtered + absorbed + merged + dropped + unroutable + dead_lettered + ignored +
/// expired + failed + discarded + in_flight`,
///
/// which follows from the laws that [`Account::verify`] checks, summed over all stages and edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Brought in by sources.
    pub accepted: u64,
    /// Made on the way: by each stage that emitted more than it passed (a broadcast, a flat map, an accumulator's
    /// results), the difference.
    pub created: u64,
    /// Taken by the outside world.
    pub delivered: u64,
    /// Left out by a predicate or a sampler.
    pub filtered: u64,
    /// Folded into results of accumulators. The results are in `created`.
    pub absorbed: u64,
    /// By each stage that emitted less than it passed (a flat map that answered nothing, a stream that combines items),
    /// the difference.
    pub merged: u64,
    /// Lost on full edges, by drop policy.
    pub dropped: u64,
    /// Lost on edges whose key function failed on them.
    pub unroutable: u64,
    /// Handed to the dead letters.
    pub dead_lettered: u64,
    /// Failed, and forgotten by policy.
    pub ignored: u64,
    /// Lost with a key that expired without a result.
    pub expired: u64,
    /// Failed, and ended the pipeline.
    pub failed: u64,
    /// Thrown away because the pipeline stopped, inside stages and on edges.
    pub discarded: u64,
    /// Still inside: on edges, in open keys, and waiting for a retry.
    pub in_flight: u64,
}

impl Totals {
    /// Every total with its name.
    pub fn fields(&self) -> [(&'static str, u64); 14] {
        [
            ("accepted", self.accepted),
            ("created", self.created),
            ("delivered", self.delivered),
            ("filtered", self.filtered),
            ("absorbed", self.absorbed),
            ("merged", self.merged),
            ("dropped", self.dropped),
            ("unroutable", self.unroutable),
            ("dead_lettered", self.dead_lettered),
            ("ignored", self.ignored),
            ("expired", self.expired),
            ("failed", self.failed),
            ("discarded", self.discarded),
            ("in_flight", self.in_flight),
        ]
    }

    /// `accepted + created`.
    pub fn incoming(&self) -> u128 {
        sum([self.accepted, self.created])
    }

    /// Everything that came of it; equal to [`incoming`](Self::incoming) when the books close.
    pub fn outcomes(&self) -> u128 {
        self.fields().iter().skip(2).map(|(_, items)| u128::from(*items)).sum()
    }

    /// Whether the books close.
    pub fn closes(&self) -> bool {
        self.incoming() == self.outcomes()
    }
}

impl Account {
    /// Checks every law on every stage and edge. To be called at rest.
    ///
    /// # Errors
    /// Every law that does not hold, stages first, in order.
    pub fn verify(&self) -> Result<(), Vec<Imbalance>> {
        let (mut offered, mut popped) = (BTreeMap::<_, u128>::new(), BTreeMap::<_, u128>::new());
        for edge in &self.edges {
            *offered.entry(&edge.from).or_default() += u128::from(edge.offered);
            *popped.entry(&edge.to).or_default() += u128::from(edge.popped);
        }
        let mut broken = Vec::new();
        for (stage, account) in &self.stages {
            broken.extend(account.verify(stage).err().into_iter().flatten());
            let place = || Place::Stage(stage.clone());
            let given = offered.get(stage).copied().unwrap_or(0);
            check(place, Law::Emitted, account.emitted.into(), given, &mut broken);
            let came_in = popped.get(stage).copied().unwrap_or(account.emitted.into());
            check(place, Law::Received, came_in, account.received.into(), &mut broken);
        }
        for edge in &self.edges {
            broken.extend(edge.verify().err());
            for end in [&edge.from, &edge.to] {
                let unknown = !self.stages.contains_key(end);
                let place = || Place::Edge { from: edge.from.clone(), to: edge.to.clone() };
                check(place, Law::Ends, 0, unknown.into(), &mut broken);
            }
        }
        verdict(broken)
    }

    /// Sums up the run. Saturates.
    pub fn totals(&self) -> Totals {
        let mut t = Totals::default();
        let add = |total: &mut u64, items: u64| *total = total.saturating_add(items);
        for (stage, s) in &self.stages {
            if !self.edges.iter().any(|edge| edge.to == *stage) {
                add(&mut t.accepted, s.received);
            }
            add(&mut t.created, s.emitted.saturating_sub(s.passed));
            add(&mut t.merged, s.passed.saturating_sub(s.emitted));
            add(&mut t.delivered, s.delivered);
            add(&mut t.filtered, s.filtered);
            add(&mut t.absorbed, s.items_complete.saturating_add(s.items_partial));
            add(&mut t.expired, s.items_expired);
            add(&mut t.dead_lettered, s.dead_lettered);
            add(&mut t.ignored, s.ignored);
            add(&mut t.failed, s.failed);
            add(&mut t.discarded, s.discarded);
            add(&mut t.in_flight, s.items_open.saturating_add(s.waiting_retry));
        }
        for e in &self.edges {
            add(&mut t.dropped, e.dropped_newest.saturating_add(e.dropped_oldest));
            add(&mut t.unroutable, e.unroutable);
            add(&mut t.discarded, e.left);
            add(&mut t.in_flight, e.staged.saturating_add(e.depth));
        }
        t
    }
}
