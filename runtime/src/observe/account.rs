//! The account of a run: what became of every item, and whether the books close.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cells::sum;
use super::law::{check, verdict};
use super::{Imbalance, Law, Place, StageAccount};
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
    /// The names of all counters, in the order of [`fields`](Self::fields).
    pub const FIELDS: &[&str] =
        &["offered", "popped", "dropped_newest", "dropped_oldest", "unroutable", "staged", "left", "depth"];

    /// What each counter counts, in the order of [`FIELDS`](Self::FIELDS).
    pub const HELP: &[&str] = &[
        "Items that the producing stage gave to the edge.",
        "Items that the consuming stage took.",
        "Items refused because the edge was full.",
        "Items thrown out to make room for newer ones.",
        "Items lost because the key function of the edge failed on them.",
        "Items that wait in the memory of the producer for room.",
        "Items found in the edge after both ends had stopped, and thrown away.",
        "Items in the edge now.",
    ];

    /// Whether the counter called `name` may go down again: it says how much there is of something now.
    pub fn is_gauge(name: &str) -> bool {
        matches!(name, "staged" | "depth")
    }

    /// Every counter with its name.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let counts = [
            self.offered,
            self.popped,
            self.dropped_newest,
            self.dropped_oldest,
            self.unroutable,
            self.staged,
            self.left,
            self.depth,
        ];
        Self::FIELDS.iter().copied().zip(counts)
    }

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

impl StageAccount {
    /// Checks the laws that concern this stage alone.
    ///
    /// # Errors
    /// Every law that does not hold; `stage` is the name it is reported under.
    pub fn verify(&self, stage: &StageId) -> Result<(), Vec<Imbalance>> {
        let mut broken = Vec::new();
        let place = || Place::Stage(stage.clone());
        let came = u128::from(self.received) + u128::from(self.taken_over);
        check(place, Law::Fates, came, self.fates(), &mut broken);
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
    /// At the end, buffers of the memory pool that nobody has returned. They are no items.
    #[serde(default)]
    pub buffers_left: u64,
}

/// The account of a whole run, in items. The books close when
///
/// `accepted + created = delivered + filtered + absorbed + merged + dropped + unroutable + dead_lettered + ignored +
/// expired + lost + failed + discarded + in_flight`,
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
    /// Lost with a key whose state did not come back from disk.
    pub lost: u64,
    /// Failed, and ended the pipeline.
    pub failed: u64,
    /// Thrown away because the pipeline stopped, inside stages and on edges.
    pub discarded: u64,
    /// Still inside: on edges, in open keys in memory and on disk, and waiting for a retry.
    pub in_flight: u64,
}

impl Totals {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// What each total counts, in the order of [`fields`](Self::fields).
    pub const HELP: [&str; Self::COUNT] = [
        "Items brought in by sources.",
        "Items made on the way: by each stage that emitted more than it passed, the difference.",
        "Items taken by the outside world.",
        "Items left out by a predicate or a sampler.",
        "Items folded into results of accumulators.",
        "Items combined on the way: by each stage that emitted less than it passed, the difference.",
        "Items lost on full edges, by drop policy.",
        "Items lost on edges whose key function failed on them.",
        "Items handed to the dead letters.",
        "Items that failed and were forgotten by policy.",
        "Items lost with a key that expired without a result.",
        "Items lost with a key that could not be read back from disk.",
        "Items that failed and ended the pipeline.",
        "Items thrown away because the pipeline stopped.",
        "Items still inside.",
    ];

    /// Whether the total called `name` may go down again. Differences may, by a little, while cores are running.
    pub fn is_gauge(name: &str) -> bool {
        matches!(name, "created" | "merged" | "in_flight")
    }

    /// Every total with its name.
    pub fn fields(&self) -> [(&'static str, u64); Self::COUNT] {
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
            ("lost", self.lost),
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
            check(place, Law::HandOver, account.handed_over.into(), account.taken_over.into(), &mut broken);
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
        check(|| Place::MemoryPool, Law::Buffers, 0, self.buffers_left.into(), &mut broken);
        verdict(broken)
    }

    /// Sums up the run. Saturates.
    pub fn totals(&self) -> Totals {
        let mut t = Totals::default();
        let add = |total: &mut u64, items: u64| *total = total.saturating_add(items);
        let fed: BTreeSet<_> = self.edges.iter().map(|edge| &edge.to).collect();
        for (stage, s) in &self.stages {
            if !fed.contains(stage) {
                add(&mut t.accepted, s.received);
            }
            add(&mut t.created, s.emitted.saturating_sub(s.passed));
            add(&mut t.merged, s.passed.saturating_sub(s.emitted));
            add(&mut t.delivered, s.delivered);
            add(&mut t.filtered, s.filtered);
            add(&mut t.absorbed, s.items_complete.saturating_add(s.items_partial));
            add(&mut t.expired, s.items_expired);
            add(&mut t.lost, s.items_lost);
            add(&mut t.dead_lettered, s.dead_lettered);
            add(&mut t.ignored, s.ignored);
            add(&mut t.failed, s.failed);
            add(&mut t.discarded, s.discarded);
            let open = s.items_open.saturating_add(s.items_spilled);
            add(&mut t.in_flight, open.saturating_add(s.waiting_retry));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> StageId {
        StageId::new(name).unwrap()
    }

    /// Splits `items` into as many parts as there are `cuts`, at places the cuts choose.
    fn split(mut items: u64, cuts: &[u64]) -> Vec<u64> {
        let mut parts: Vec<u64> = cuts
            .iter()
            .map(|cut| {
                let part = cut % (items + 1);
                items -= part;
                part
            })
            .collect();
        *parts.last_mut().unwrap() += items;
        parts
    }

    /// What one made-up stage does: how its items and what it emits are split, and how much it emits.
    type Behaviour = (Vec<u64>, Vec<u64>, Vec<u64>, u64);

    fn behaviour() -> impl Strategy<Value = Behaviour> {
        let cuts = |n| prop::collection::vec(0u64..1000, n);
        (cuts(9), cuts(6), cuts(7), 0u64..2000)
    }

    /// A chain of stages that behave as told, by counting each item once; every stage also feeds the last one.
    fn made_up(produced: u64, stages: &[Behaviour]) -> Account {
        let mut account = Account::default();
        let name = |i: usize| id(&format!("s{i}"));
        let last = stages.len();
        let mut inputs = vec![0; last + 1];
        for (i, (fates, absorbed, edge_fates, emitted)) in stages.iter().enumerate() {
            let received = if i == 0 { produced } else { inputs[i] };
            let f = split(received, fates);
            let a = split(f[2], absorbed);
            let emitted = if i == 0 { received } else { *emitted };
            let stage = StageAccount {
                received,
                emitted,
                passed: f[0],
                filtered: f[1],
                absorbed: f[2],
                ignored: f[3],
                dead_lettered: f[4],
                failed: f[5],
                discarded: f[6],
                waiting_retry: f[7],
                delivered: f[8],
                items_open: a[0],
                items_complete: a[1],
                items_partial: a[2],
                items_expired: a[3],
                items_spilled: a[4],
                items_lost: a[5],
                handed_over: emitted / 3,
                taken_over: emitted / 3,
                ..StageAccount::default()
            };
            account.stages.insert(name(i), stage);
            for (to, offered) in [(i + 1, emitted / 2), (last, emitted - emitted / 2)] {
                let e = split(offered, edge_fates);
                inputs[to] += e[0];
                account.edges.push(EdgeAccount {
                    from: name(i),
                    to: name(to),
                    offered,
                    popped: e[0],
                    dropped_newest: e[1],
                    dropped_oldest: e[2],
                    unroutable: e[3],
                    staged: e[4],
                    left: e[5],
                    depth: e[6],
                });
            }
        }
        let received = inputs[last];
        let sink = StageAccount { received, delivered: received, ..StageAccount::default() };
        account.stages.insert(name(last), sink);
        account
    }

    /// Counters that say more about items which another counter has: no law binds them.
    const FREE: [&str; 22] = [
        "unsent",
        "errors",
        "retries",
        "panics",
        "slow_calls",
        "refused",
        "breaker_opened",
        "breaker_half_opened",
        "breaker_closed",
        "late",
        "ahead",
        "expired",
        "keys",
        "results_complete",
        "results_partial",
        "results_expired",
        "keys_spilled",
        "spills",
        "restores",
        "spill_errors",
        "state_bytes",
        "spilled_bytes",
    ];

    fn nudge<T: Serialize + serde::de::DeserializeOwned>(value: &T, field: &str) -> T {
        let mut json = serde_json::to_value(value).unwrap();
        json[field] = (json[field].as_u64().unwrap() + 1).into();
        serde_json::from_value(json).unwrap()
    }

    proptest! {
        #[test]
        fn when_every_item_has_one_fate_every_law_holds_and_the_books_close(
            produced in 0u64..1000,
            stages in prop::collection::vec(behaviour(), 1..5),
        ) {
            let account = made_up(produced, &stages);
            prop_assert_eq!(account.verify(), Ok(()));
            let totals = account.totals();
            prop_assert!(totals.closes(), "{}", account);
            prop_assert_eq!(totals.accepted, produced);
            let back: Account = serde_json::from_str(&serde_json::to_string(&account).unwrap()).unwrap();
            prop_assert_eq!(back, account);
        }

        #[test]
        fn one_item_too_many_in_any_counter_is_found_where_it_is(
            produced in 0u64..1000,
            stages in prop::collection::vec(behaviour(), 1..4),
            pick: prop::sample::Index,
        ) {
            let account = made_up(produced, &stages);
            let stage = pick.get(&account.stages.keys().cloned().collect::<Vec<_>>()).clone();
            for field in StageAccount::FIELDS {
                let mut wrong = account.clone();
                wrong.stages.insert(stage.clone(), nudge(&account.stages[&stage], field));
                match wrong.verify() {
                    Ok(()) => prop_assert!(FREE.contains(field), "{field} of {stage} went unseen"),
                    Err(broken) => {
                        prop_assert!(!FREE.contains(field), "{field} of {stage} must not matter");
                        prop_assert!(broken.iter().all(|b| b.place == Place::Stage(stage.clone())), "{broken:?}");
                    }
                }
            }
            let at = pick.index(account.edges.len());
            for field in
                ["offered", "popped", "dropped_newest", "dropped_oldest", "unroutable", "staged", "left", "depth"]
            {
                let mut wrong = account.clone();
                wrong.edges[at] = nudge(&account.edges[at], field);
                let edge = Place::Edge { from: wrong.edges[at].from.clone(), to: wrong.edges[at].to.clone() };
                let broken = wrong.verify().unwrap_err();
                prop_assert!(broken.iter().any(|b| b.place == edge && b.law == Law::Edge), "{field}: {broken:?}");
            }
        }
    }

    #[test]
    fn multiplied_and_merged_items_are_created_and_merged_in_the_totals() {
        // Three items; each becomes two; an accumulator makes one result of all six.
        let stage = |received, emitted| StageAccount { received, emitted, ..StageAccount::default() };
        let account = Account {
            stages: [
                (id("source"), StageAccount { passed: 3, ..stage(3, 3) }),
                (id("twice"), StageAccount { passed: 3, ..stage(3, 6) }),
                (
                    id("keyed"),
                    StageAccount { absorbed: 6, items_complete: 4, items_partial: 2, ..stage(6, 2) },
                ),
                (id("pairs"), StageAccount { passed: 2, ..stage(2, 1) }),
                (id("sink"), StageAccount { delivered: 1, ..stage(1, 0) }),
            ]
            .into(),
            edges: vec![
                EdgeAccount::fused(id("source"), id("twice"), 3),
                EdgeAccount::fused(id("twice"), id("keyed"), 6),
                EdgeAccount::fused(id("keyed"), id("pairs"), 2),
                EdgeAccount::fused(id("pairs"), id("sink"), 1),
            ],
            ..Account::default()
        };
        assert_eq!(account.verify(), Ok(()));
        let expected =
            Totals { accepted: 3, created: 5, absorbed: 6, merged: 1, delivered: 1, ..Totals::default() };
        assert_eq!(account.totals(), expected);
        assert!(expected.closes());
    }

    #[test]
    fn an_imbalance_reads_as_a_sentence() {
        let mut account = Account::default();
        account
            .stages
            .insert(id("a"), StageAccount { received: 5, passed: 4, emitted: 5, ..Default::default() });
        account.edges.push(EdgeAccount { popped: 4, ..EdgeAccount::fused(id("a"), id("b"), 5) });
        let said: Vec<_> = account.verify().unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "stage a (C2): received 5, accounted for 4",
                "edge a -> b (C1): offered 5, accounted for 4",
                "edge a -> b (C4): unknown ends expected 0, found 1",
            ]
        );
    }

    #[test]
    fn counters_that_wrapped_are_reported_and_do_not_overflow() {
        let all = StageAccount { received: 1, passed: u64::MAX, delivered: u64::MAX, ..Default::default() };
        let broken = all.verify(&id("a")).unwrap_err();
        assert_eq!((broken.len(), broken[0].expected, broken[0].found), (1, 1, u64::MAX));
        let account = Account {
            stages: [(id("a"), all), (id("b"), all)].into(),
            edges: Vec::new(),
            ..Account::default()
        };
        assert_eq!(account.totals().delivered, u64::MAX);
        assert!(account.verify().is_err() && account.to_string().contains("DOES NOT CLOSE"));
    }
}
