//! The search on made-up machines whose best candidate is known.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use corelane_bench::stats::Interval;

use super::*;

/// Candidates of each dimension: maps, drivers, idle policies, budgets, ring sizes.
const SIZES: Point = [5, 2, 3, 4, 3];
const RESOLUTION: f64 = 0.05;

fn all_points(sizes: Point) -> BTreeSet<Point> {
    let mut points = vec![[0; DIMENSIONS]];
    for (dimension, size) in sizes.into_iter().enumerate() {
        let with = |point: Point| {
            (0..size).map(move |choice| {
                let mut point = point;
                point[dimension] = choice;
                point
            })
        };
        points = points.into_iter().flat_map(with).collect();
    }
    points.into_iter().collect()
}

/// A machine that drifts, stutters and is used by others.
struct Machine {
    random: fastrand::Rng,
    costs: BTreeMap<Point, f64>,
    /// Deviation of a trial.
    noise: f64,
    drift: f64,
    /// What is left of the drift after a trial, and the deviation of what is added to it.
    drifts: (f64, f64),
}

impl Machine {
    /// Each choice has its effect, and some pairs of choices do not go together.
    fn new(seed: u64, points: &BTreeSet<Point>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let spread = [0.5, 0.2, 0.6, 0.15, 0.1];
        let effects: Vec<Vec<f64>> =
            spread.iter().map(|spread| (0..8).map(|_| random.f64() * spread).collect()).collect();
        let mut clash = || (0..8).map(|_| (0..8).map(|_| (random.f64() - 0.8).max(0.0)).collect()).collect();
        let clashes: Vec<Vec<f64>> = clash();
        let cost = |point: &Point| {
            let alone: f64 = point.iter().zip(&effects).map(|(choice, of)| of[usize::from(*choice)]).sum();
            5.0 + alone + clashes[usize::from(point[0])][usize::from(point[2])]
        };
        let costs = points.iter().map(|point| (*point, cost(point))).collect();
        let noise = 0.02 + 0.1 * random.f64();
        Self { random, costs, noise, drift: 0.0, drifts: (0.97, 0.05) }
    }

    /// A machine whose drift is a random walk that never turns back by itself, of a speed that the seed draws.
    fn wandering(seed: u64, points: &BTreeSet<Point>) -> Self {
        let mut machine = Self::new(seed, points);
        machine.drifts = (1.0, 0.03 * machine.random.f64());
        machine
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.f64()).sum::<f64>() - 6.0
    }

    fn run(&mut self, point: Point) -> Outcome {
        self.drift = self.drifts.0 * self.drift + self.drifts.1 * self.normal();
        let mut cost = self.costs[&point] + self.drift + self.noise * self.normal();
        let disturbed = self.random.f64() < 0.08;
        if disturbed {
            cost += 1.5 * self.random.f64();
        }
        // One in four goes unnoticed.
        let noticed = disturbed && self.random.f64() < 0.75;
        Outcome { cost: Some(cost), disturbed: noticed, took: Duration::from_millis(700) }
    }

    fn best(&self) -> (Point, f64) {
        let (point, cost) = self.costs.iter().min_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        (*point, *cost)
    }
}

fn settings(points: BTreeSet<Point>, seed: u64) -> Settings {
    let time = Duration::from_secs(600);
    Settings { points, exhaustive: false, resolution: RESOLUTION, time, seed }
}

/// Runs a search to its end; how many trials it took.
fn run(search: &mut Search, mut trial: impl FnMut(Trial) -> Outcome) -> usize {
    let mut trials = 0;
    while let Some(next) = search.propose() {
        search.observe(trial(next));
        trials += 1;
        assert!(trials < 10_000, "it does not end");
    }
    trials
}

/// Made-up machines that a promise is kept on: as many as are searched in a minute.
const MACHINES: u64 = if cfg!(debug_assertions) { 100 } else { 1_000 };

/// How far the share of so few machines may be below what is promised of many, in percent.
const LUCK: f64 = if cfg!(debug_assertions) { 5.0 } else { 0.0 };

/// What comes of each machine, on two threads.
fn on_machines<R: Send>(of: impl Fn(u64) -> R + Sync) -> Vec<R> {
    let all = |seeds: std::ops::Range<u64>| seeds.map(&of).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let half = scope.spawn(|| all(0..MACHINES / 2));
        let other = all(MACHINES / 2..MACHINES);
        half.join().unwrap().into_iter().chain(other).collect()
    })
}

/// How many of all machines do, in percent.
fn percent<R>(all: &[R], does: impl Fn(&R) -> bool) -> f64 {
    100.0 * all.iter().filter(|one| does(one)).count() as f64 / all.len() as f64
}

#[test]
fn on_noisy_machines_the_best_is_found_or_tied_in_at_least_nineteen_of_twenty() {
    let points = all_points(SIZES);
    let outcomes = on_machines(|seed| searched(seed, &points));
    let good = percent(&outcomes, |searched| searched.close || searched.tied);
    let close = percent(&outcomes, |searched| searched.close);
    let worst = outcomes.iter().map(|searched| searched.loss).fold(0.0, f64::max).exp();
    let trials = outcomes.iter().map(|searched| searched.trials).sum::<usize>() / outcomes.len();
    println!(
        "{good} % found or tied, {close} % within 5 %, at worst x{worst:.2}, {trials} trials of {} points",
        points.len()
    );
    assert!(
        good >= 95.0 - LUCK && close >= 90.0 - LUCK,
        "{good} % found or tied, {close} % within the resolution"
    );
    assert!(worst < 1.5, "{worst}");
    assert!(trials < 2 * points.len(), "{trials} trials: a full search takes at least seven for each point");
}

#[derive(Debug, Clone)]
struct Searched {
    /// What was found is as good as the best, within the resolution.
    close: bool,
    /// The best is among what is not told apart from what was found.
    tied: bool,
    loss: f64,
    trials: usize,
}

fn searched(seed: u64, points: &BTreeSet<Point>) -> Searched {
    let mut machine = Machine::new(seed, points);
    let mut search = Search::new(settings(points.clone(), seed));
    let trials = run(&mut search, |trial| machine.run(trial.point));
    let verdict = search.verdict().unwrap();
    let (best, least) = machine.best();
    let loss = machine.costs[&verdict.best] - least;
    let tied = verdict.standings.iter().any(|(point, standing)| {
        *point == best && matches!(standing, Standing::Best | Standing::Tied { .. })
    });
    Searched { close: loss <= RESOLUTION.ln_1p(), tied, loss, trials }
}

#[test]
fn a_full_search_finds_the_best_too_and_says_with_what_it_is_tied() {
    let points = all_points([3, 2, 2, 1, 1]);
    let mut good = 0;
    for seed in 0..40 {
        let mut machine = Machine::new(seed, &points);
        let mut search = Search::new(Settings { exhaustive: true, ..settings(points.clone(), seed) });
        run(&mut search, |trial| machine.run(trial.point));
        let verdict = search.verdict().unwrap();
        assert_eq!(verdict.standings.len(), points.len(), "nobody is left out");
        let (best, least) = machine.best();
        let tied = |(point, standing): &(Point, Standing)| *point == best && !standing.is_behind();
        let close = machine.costs[&verdict.best] <= least + RESOLUTION.ln_1p();
        good += u32::from(close || verdict.standings.iter().any(tied));
    }
    assert!(good >= 38, "{good} of 40");
}

#[test]
fn two_searches_of_one_machine_agree_within_what_they_say() {
    let points = all_points([3, 2, 3, 2, 2]);
    let agree = (0..60).filter(|seed| {
        let mut machine = Machine::new(*seed, &points);
        let mut verdict = |again| {
            let mut search = Search::new(settings(points.clone(), again));
            run(&mut search, |trial| machine.run(trial.point));
            search.verdict().unwrap()
        };
        let (one, other) = (verdict(1), verdict(2));
        let accepts = |verdict: &Verdict, point: Point| {
            let standing = verdict.standings.iter().find(|(p, _)| *p == point).map(|(_, standing)| *standing);
            matches!(standing, Some(Standing::Best | Standing::Tied { .. }))
        };
        let close = (machine.costs[&one.best] - machine.costs[&other.best]).abs() <= RESOLUTION.ln_1p();
        close || accepts(&one, other.best) || accepts(&other, one.best)
    });
    let agree = agree.count();
    assert!(agree >= 57, "{agree} of 60");
}

#[test]
fn two_searches_of_a_wandering_machine_find_figures_within_each_others_intervals_in_nineteen_of_twenty() {
    let points = all_points([3, 2, 3, 2, 1]);
    let pairs = on_machines(|seed| Agreed::of(&searched_twice(seed, &points)));
    let share = |does: fn(&Agreed) -> bool| percent(&pairs, does);
    let (overlapping, found, beside) = (share(|a| a.overlapping), share(|a| a.found), share(|a| a.beside));
    let (naive, unseen) = (share(|a| a.naive), share(|a| a.unseen));
    println!(
        "{overlapping} % overlap, {found} % find the second in the first, {beside} % overlap beside the reference; \
         {naive} % without drift; {unseen} % see none"
    );
    assert!(unseen <= LUCK + 2.0, "{unseen}");
    assert!(overlapping.min(found).min(beside) >= 95.0 - LUCK, "{overlapping}, {found}, {beside}");
    assert!(
        naive < 80.0,
        "{naive}: a bootstrap by itself would do; the machines wander too little to show anything"
    );
}

/// In which ways two searches agree.
struct Agreed {
    /// The intervals overlap.
    overlapping: bool,
    /// The second figure lies in the first interval.
    found: bool,
    /// The intervals beside the reference overlap.
    beside: bool,
    /// One of the two had too few trials to see any drift, and says so.
    unseen: bool,
    /// The intervals overlap that take the machine to stand still.
    naive: bool,
}

impl Agreed {
    fn of([(one, still), (other, other_still)]: &[(Verdict, Interval); 2]) -> Self {
        let overlap = |one: Interval, other: Interval| one.low <= other.high && other.low <= one.high;
        let (first, second) = (one.cost, other.cost);
        let beside = |verdict: &Verdict| verdict.beside.unwrap().1.interval;
        Self {
            overlapping: overlap(first.interval, second.interval),
            found: (first.interval.low..=first.interval.high).contains(&second.median),
            beside: overlap(beside(one), beside(other)),
            unseen: !first.with_drift || !second.with_drift,
            naive: overlap(*still, *other_still),
        }
    }
}

/// Two searches, the second right after the first, with the interval of the best's median as if nothing drifted.
fn searched_twice(seed: u64, points: &BTreeSet<Point>) -> [(Verdict, Interval); 2] {
    let mut machine = Machine::wandering(seed, points);
    [1, 2].map(|again| {
        let mut search = Search::new(settings(points.clone(), again));
        run(&mut search, |trial| machine.run(trial.point));
        let verdict = search.verdict().unwrap();
        let costs = search.evidence.of(verdict.best, search.since);
        (verdict, corelane_bench::stats::summarise(&costs).unwrap().interval)
    })
}

#[test]
fn the_reference_is_in_every_round_and_leaves_only_where_it_does_not_hold() {
    let points = all_points([3, 2, 2, 1, 1]);
    for holds in [true, false] {
        let (mut machine, mut rounds) = (Machine::new(5, &points), BTreeSet::new());
        let mut search = Search::new(settings(points.clone(), 5));
        let mut last = 0;
        run(&mut search, |trial| {
            last = trial.round;
            let outcome = machine.run(trial.point);
            if trial.point != [0; 5] {
                return outcome;
            }
            rounds.insert(trial.round);
            Outcome { cost: outcome.cost.filter(|_| holds).map(|cost| cost + 1.0), ..outcome }
        });
        let verdict = search.verdict().unwrap();
        assert_eq!(rounds.len() == last as usize + 1, holds, "{} of {last} rounds", rounds.len());
        assert_eq!(verdict.beside.is_some(), holds);
        if let Some((reference, more)) = verdict.beside {
            assert_eq!((reference, more.median < -0.5), ([0; 5], true), "{more:?}");
        }
    }
}

#[test]
fn what_is_called_the_best_is_never_behind_the_reference_where_all_are_the_same() {
    let points = all_points([3, 2, 2, 1, 1]);
    let more = |seed| {
        let mut machine = Machine::new(seed, &points);
        machine.costs.values_mut().for_each(|cost| *cost = 5.0);
        let mut search = Search::new(settings(points.clone(), seed));
        run(&mut search, |trial| machine.run(trial.point));
        search.verdict().unwrap().beside.unwrap().1.median
    };
    let more: Vec<f64> = (0..20).map(more).collect();
    assert!(more.iter().all(|more| *more <= 0.0), "{more:?}");
}

#[test]
fn a_disturbed_trial_is_repeated_at_the_end_of_its_round_and_counts_after_the_third_time() {
    let mut search = Search::new(settings(all_points([3, 1, 1, 1, 1]), 1));
    let took = Duration::from_secs(1);
    let outcome = |disturbed| Outcome { cost: Some(1.0), disturbed, took };
    let victim = search.propose().unwrap();
    search.observe(Outcome { cost: Some(9.0), ..outcome(true) });
    assert_eq!(search.evidence.of(victim.point, 0), [9.0], "it is all there is");
    let order: Vec<Trial> = std::iter::from_fn(|| {
        let trial = search.propose().filter(|trial| trial.round == 0)?;
        search.observe(outcome(trial.point == victim.point));
        Some(trial)
    })
    .collect();
    let attempts: Vec<u32> = order.iter().filter(|t| t.point == victim.point).map(|t| t.attempt).collect();
    assert_eq!((attempts, order.len()), (vec![1, 2], 4));
    assert_eq!(search.evidence.of(victim.point, 0), [1.0]);
}

#[test]
fn where_every_trial_is_disturbed_rounds_go_on_all_the_same() {
    let mut search = Search::new(settings(all_points([3, 2, 2, 1, 1]), 1));
    let mut repeated = 0;
    while let Some(trial) = search.propose().filter(|trial| trial.round < 4) {
        repeated += u32::from(trial.attempt > 0);
        search.observe(Outcome { cost: Some(1.0), disturbed: true, took: Duration::from_secs(1) });
    }
    assert!((1..=10).contains(&repeated), "{repeated}: only the first ones are repeated");
}

#[test]
fn the_time_is_kept_whatever_is_known_then() {
    for seconds in [0, 1, 5, 30, 100] {
        let time = Duration::from_secs(seconds);
        let mut search = Search::new(Settings { time, ..settings(all_points(SIZES), 7) });
        let mut machine = Machine::new(7, &all_points(SIZES));
        let trials = run(&mut search, |trial| machine.run(trial.point));
        assert!(search.spent <= time, "{:?} of {time:?}", search.spent);
        assert_eq!(search.verdict().is_some(), trials > 0);
        assert_eq!(search.verdict().map_or(Some(Ended::TimeOver), |v| v.ended), Some(Ended::TimeOver));
    }
}

#[test]
fn an_interrupted_search_says_what_it_knows_and_calls_nobody_worse_after_few_rounds() {
    let points = all_points(SIZES);
    let mut machine = Machine::new(3, &points);
    let mut search = Search::new(settings(points, 3));
    for _ in 0..70 {
        let trial = search.propose().unwrap();
        search.observe(machine.run(trial.point));
    }
    search.interrupt();
    assert_eq!(search.propose(), None);
    let verdict = search.verdict().unwrap();
    assert_eq!(verdict.ended, Some(Ended::Interrupted));
    assert!(verdict.standings.iter().all(|(_, standing)| !standing.is_behind()), "{verdict:?}");
}

#[test]
fn candidates_that_never_hold_are_never_the_best_and_if_none_holds_there_is_none() {
    let points = all_points([2, 2, 2, 1, 1]);
    let mut machine = Machine::new(5, &points);
    let mut search = Search::new(settings(points.clone(), 5));
    run(&mut search, |trial| match trial.point[0] {
        0 => Outcome { cost: None, ..machine.run(trial.point) },
        _ => machine.run(trial.point),
    });
    assert_eq!(search.verdict().unwrap().best[0], 1);
    let mut search = Search::new(settings(points, 5));
    run(&mut search, |trial| Outcome { cost: None, ..machine.run(trial.point) });
    assert_eq!(search.verdict(), None);
}

#[test]
fn the_same_seed_tries_the_same_and_another_one_in_another_order() {
    let order = |seed| {
        let mut search = Search::new(settings(all_points([3, 2, 2, 1, 1]), seed));
        let mut machine = Machine::new(1, &all_points([3, 2, 2, 1, 1]));
        let mut order = Vec::new();
        run(&mut search, |trial| {
            order.push(trial.point);
            machine.run(trial.point)
        });
        order
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}
