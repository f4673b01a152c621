//! Case 71 of the list of faults: user code that panics, wherever it stands.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::quiet::{PLANNED, planned_panics};
use common::run::{run, stage, verified};
use corelane::driver::Simulation;
use corelane::flow::PipelineBuilder;
use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::{Completeness, Cost};
use corelane::observe::{Outcome, PipelineResult};
use corelane::policy::{AccumulatorPolicy, ErrorPolicy};
use corelane::stage::{StageError, StageSite};

/// Where an accumulator misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Open,
    Key,
    Time,
    Cost,
    Init,
    Update,
    Progress,
    Check,
    Flush,
    HeldBytes,
    Close,
    DropOfState,
    DropOfIt,
}

const PLACES: [Place; 13] = [
    Place::Open,
    Place::Key,
    Place::Time,
    Place::Cost,
    Place::Init,
    Place::Update,
    Place::Progress,
    Place::Check,
    Place::Flush,
    Place::HeldBytes,
    Place::Close,
    Place::DropOfState,
    Place::DropOfIt,
];

/// Sums by key; panics at its place for number 150, and where no item is at hand, always.
struct Sums {
    bad: Option<Place>,
    /// Clones die with the recipe of the stage; only those that were opened count.
    opened: bool,
}

struct Sum {
    total: u64,
    bad: bool,
}

impl Drop for Sum {
    fn drop(&mut self) {
        assert!(!self.bad || std::thread::panicking(), "{PLANNED} panic");
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        let bad = self.opened && self.bad == Some(Place::DropOfIt);
        assert!(!bad || std::thread::panicking(), "{PLANNED} panic");
    }
}

impl Clone for Sums {
    fn clone(&self) -> Self {
        Self { bad: self.bad, opened: false }
    }
}

impl Sums {
    fn at(&self, place: Place, item: u64) {
        assert!(self.bad != Some(place) || item != 150, "{PLANNED} panic");
    }
}

impl Accumulator<u64> for Sums {
    type Key = u64;
    type State = Sum;
    type Out = u64;

    fn open(&mut self, _: &StageSite) -> Result<(), StageError> {
        self.opened = true;
        self.at(Place::Open, 150);
        Ok(())
    }
    fn key(&self, item: &u64) -> u64 {
        self.at(Place::Key, *item);
        item % 7
    }
    fn timestamp(&self, item: &u64, time: CheckTime) -> corelane::model::Timestamp {
        self.at(Place::Time, *item);
        time.processing.wall
    }
    fn cost(&self, item: &u64) -> Cost {
        self.at(Place::Cost, *item);
        Cost::of_bytes(8)
    }
    fn init(&mut self, _: &u64, _: &u64) -> Sum {
        self.at(Place::Init, 150);
        Sum { total: 0, bad: self.bad == Some(Place::DropOfState) }
    }
    fn update(&mut self, of: &mut StateOf<u64, Self>, item: u64) {
        self.at(Place::Update, item);
        of.state.total += item;
    }
    fn progress(&self, _: &StateOf<u64, Self>, _: &corelane::model::ProgressWeights) -> f64 {
        self.at(Place::Progress, 150);
        0.0
    }
    fn check(&mut self, _: &mut StateOf<u64, Self>, _: CheckTime) -> Completeness<u64> {
        self.at(Place::Check, 150);
        Completeness::Incomplete
    }
    fn flush_forced(&mut self, of: &mut StateOf<u64, Self>, _: FlushReason) -> Option<u64> {
        self.at(Place::Flush, 150);
        Some(of.state.total)
    }
    fn held_bytes(&self, _: &StateOf<u64, Self>) -> u64 {
        self.at(Place::HeldBytes, 150);
        8
    }
    fn close(&mut self) {
        self.at(Place::Close, 150);
    }
}

/// Case 71 for accumulators; `driver_faults` has sources, transforms and sinks, the tests of `keyed` what is written to disk.
#[test]
fn fault_71_an_accumulator_that_panics_anywhere_ends_the_pipeline_under_its_name_and_the_account_closes() {
    planned_panics();
    for (place, cores) in PLACES.into_iter().flat_map(|place| [1, 2, 3].map(|cores| (place, cores))) {
        for policy in [ErrorPolicy::Fail, ErrorPolicy::Ignore, ErrorPolicy::DeadLetter] {
            let what = format!("{place:?} on {cores} cores under {policy:?}");
            let p = PipelineBuilder::new("sums");
            let limits = AccumulatorPolicy { memory_bytes: Some(1 << 20), ..AccumulatorPolicy::until_end() };
            let sums = Sums { bad: Some(place), opened: false };
            let out = p
                .generate("numbers", 400, |i| i)
                .accumulate("sums", limits, sums)
                .on_error(policy)
                .collect("out");
            let result = Simulation::new(5)
                .partitions(cores)
                .run(p.build().unwrap())
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            let result = result.result;
            verified(&result);
            // What was done is done: only a policy that says so fails it for the end of an instance that has no items.
            let spared = place == Place::Close && policy != ErrorPolicy::Fail;
            match &result.outcome {
                Outcome::Failed { stage, error } if !spared => {
                    assert_eq!(stage.as_ref().map(|stage| stage.as_str()), Some("sums"), "{what}: {error}");
                    assert!(error.contains(PLANNED), "{what}: {error}");
                }
                Outcome::Completed if spared => {
                    assert_eq!(out.take().into_iter().sum::<u64>(), (0..400).sum::<u64>(), "{what}");
                    assert_eq!(stage_panics(&result), cores as u64, "{what}: one for each instance");
                }
                other => panic!("{what}: {other}\n{}", result.account),
            }
            assert!(result.final_states[&"sums".parse().unwrap()].last_error.is_some(), "{what}");
        }
    }
}

fn stage_panics(result: &PipelineResult) -> u64 {
    stage(result, "sums").panics
}

/// Case 71 for closures: what is not state goes by the policy, item by item.
#[test]
fn fault_71_a_closure_that_panics_loses_its_item_by_the_policy_wherever_it_stands() {
    planned_panics();
    let bad = |x: u64| assert!(x != 150, "{PLANNED} panic");
    for policy in [ErrorPolicy::Fail, ErrorPolicy::Ignore, ErrorPolicy::DeadLetter] {
        for place in ["map", "filter", "filter_map", "flat_map", "inspect", "route", "broadcast", "for_each"]
        {
            let p = PipelineBuilder::new("closures");
            let numbers = p.generate("numbers", 300, |i| i).map("before", |x| x).boxed();
            let seen = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&seen);
            let end = move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            match place {
                "map" => {
                    let stage = numbers.map("bad", move |x| (bad(x), x).1).on_error(policy);
                    stage.for_each("end", end);
                }
                "filter" => {
                    numbers.filter("bad", move |x| (bad(*x), true).1).on_error(policy).for_each("end", end);
                }
                "filter_map" => {
                    let stage = numbers.filter_map("bad", move |x| Some((bad(x), x).1)).on_error(policy);
                    stage.for_each("end", end);
                }
                "flat_map" => {
                    // Half way through what the item becomes: what was made of it goes on.
                    let expand = move |x| {
                        [x, x].into_iter().enumerate().map(move |(i, x)| (i == 0 || (bad(x), true).1, x).1)
                    };
                    let once = |x: u64, n: &mut u64| std::mem::replace(n, x) != x;
                    let mut last = u64::MAX;
                    let stage = numbers.flat_map("bad", expand).on_error(policy);
                    stage.filter("once", move |x| once(*x, &mut last)).for_each("end", end);
                }
                "inspect" => {
                    numbers.inspect("bad", move |x| bad(*x)).on_error(policy).for_each("end", end);
                }
                "route" => {
                    let [a, b] = numbers.route("bad", ["a", "b"], move |x| (bad(*x), *x as usize % 2).1);
                    a.on_error(policy).for_each("a", end.clone());
                    b.for_each("b", end);
                }
                "broadcast" => {
                    let [a, b] = numbers.map("copies", Copied).broadcast("bad", ["a", "b"]);
                    a.on_error(policy).for_each("a", move |x: Copied| end(x.0));
                    b.for_each("b", drop);
                }
                _ => {
                    let sink = numbers.for_each("bad", move |x| {
                        bad(x);
                        end(x);
                    });
                    sink.on_error(policy);
                }
            }
            let result = run(None, p.build().unwrap());
            let account = stage(&result, "bad");
            assert_eq!(account.panics, 1, "{place} under {policy:?}");
            let lost = (account.failed, account.ignored, account.dead_lettered);
            match &result.outcome {
                Outcome::Failed { stage: Some(stage), error } if policy == ErrorPolicy::Fail => {
                    assert_eq!((stage.as_str(), lost), ("bad", (1, 0, 0)), "{place}: {error}");
                }
                Outcome::Completed if policy != ErrorPolicy::Fail => {
                    let ignored = u64::from(policy == ErrorPolicy::Ignore);
                    assert_eq!(lost, (0, ignored, 1 - ignored), "{place}");
                    let whole = if place == "flat_map" { 300 } else { 299 };
                    assert_eq!(seen.load(Ordering::Relaxed), whole, "{place} under {policy:?}");
                }
                other => panic!("{place} under {policy:?}: {other}"),
            }
        }
    }
}

/// Panics when number 150 is copied.
struct Copied(u64);

impl Clone for Copied {
    fn clone(&self) -> Self {
        assert!(self.0 != 150, "{PLANNED} panic");
        Self(self.0)
    }
}
