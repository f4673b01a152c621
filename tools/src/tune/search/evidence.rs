//! What trials have given, and what may be concluded from it.

use std::collections::BTreeMap;

use corelane_bench::stats::{Interval, median};

use super::Point;
use super::drift::Seen;

/// The cost of a trial that did not hold at all: more than any figure's logarithm.
const LOST: f64 = 100.0;

/// The median of absolute values of a normal distribution is so many times smaller than its deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// A trial that counts.
#[derive(Debug, Clone, Copy)]
struct Measured {
    cost: f64,
    /// Seconds into the search.
    at: f64,
}

/// Every trial that counts, by candidate and round.
///
/// A cost is a logarithm: the difference of two is the logarithm of their ratio, and less is better. Candidates are compared by the rounds
/// that both took part in, so that what changes over time changes both sides.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    trials: BTreeMap<Point, BTreeMap<u32, Measured>>,
}

impl Evidence {
    /// Notes what a trial cost; `None` for one that did not hold. `at`: seconds into the search.
    pub(super) fn record(&mut self, point: Point, round: u32, at: f64, cost: Option<f64>) {
        let cost = cost.filter(|cost| cost.is_finite()).unwrap_or(LOST);
        self.trials.entry(point).or_default().insert(round, Measured { cost, at });
    }

    /// Every candidate that was tried.
    pub(super) fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.trials.keys().copied()
    }

    /// Whether it held in most of its rounds.
    pub(super) fn held(&self, point: Point) -> bool {
        self.middle(point).is_some_and(|cost| cost < LOST)
    }

    /// The median of all that it cost.
    pub(super) fn middle(&self, point: Point) -> Option<f64> {
        median(&self.of(point, 0))
    }

    /// What it cost from round `since` on.
    pub(super) fn of(&self, point: Point, since: u32) -> Vec<f64> {
        self.rounds(point, since).map(|(_, cost)| cost).collect()
    }

    /// What it cost in each round from `since` on.
    fn rounds(&self, point: Point, since: u32) -> impl Iterator<Item = (u32, f64)> + '_ {
        let rounds = self.trials.get(&point).into_iter().flat_map(move |rounds| rounds.range(since..));
        rounds.map(|(round, trial)| (*round, trial.cost))
    }

    /// How much more `point` cost than `other`, in each round from `since` on that had both.
    pub(super) fn behind(&self, point: Point, other: Point, since: u32) -> Vec<f64> {
        let Some(others) = self.trials.get(&other) else { return Vec::new() };
        let both =
            self.rounds(point, since).filter_map(|(round, cost)| Some(cost - others.get(&round)?.cost));
        both.collect()
    }

    /// What each of `field` cost more than the middle of the field, round by round from `since` on: the median. Best first.
    pub(super) fn ranking(&self, field: &[Point], since: u32) -> Vec<(Point, f64)> {
        let mut by_round = BTreeMap::<u32, Vec<f64>>::new();
        for (round, cost) in field.iter().flat_map(|point| self.rounds(*point, since)) {
            by_round.entry(round).or_default().push(cost);
        }
        let middles: BTreeMap<u32, f64> =
            by_round.iter().filter_map(|(round, costs)| Some((*round, median(costs)?))).collect();
        let score = |point: &Point| {
            let rounds = self.rounds(*point, since);
            let above: Vec<f64> =
                rounds.filter_map(|(round, cost)| Some(cost - middles.get(&round)?)).collect();
            (*point, median(&above).unwrap_or(LOST))
        };
        let mut ranking: Vec<(Point, f64)> = field.iter().map(score).collect();
        ranking.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        ranking
    }

    /// How far a single trial of one of `field` is from what it costs in the middle: a deviation, robust against outliers.
    pub(super) fn noise(&self, field: &[Point], since: u32) -> f64 {
        let Some(&(first, _)) = self.ranking(field, since).first() else { return 0.0 };
        let mut residuals = Vec::new();
        for &point in field.iter().filter(|point| **point != first && self.held(**point)) {
            let behind = self.behind(point, first, since);
            let (n, Some(middle)) = (behind.len() as f64, median(&behind)) else { continue };
            if n > 1.0 {
                // Two trials are in each difference, and the median is drawn to the values.
                let scale = (n / (n - 1.0) / 2.0).sqrt();
                residuals.extend(behind.iter().map(|cost| (cost - middle).abs() * scale));
            }
        }
        median(&residuals).unwrap_or(0.0) * MAD_TO_DEVIATION
    }

    /// What `anchor` would have cost at the time of each trial of one of `among` that held: what the trial cost, less what its candidate costs
    /// more than `anchor`. In the order of time.
    pub(super) fn levels(&self, anchor: Point, among: &[Point]) -> Vec<Seen> {
        let mut levels = Vec::new();
        for &point in among {
            let Some(rounds) = self.trials.get(&point) else { continue };
            let more = if point == anchor { Some(0.0) } else { median(&self.behind(point, anchor, 0)) };
            let Some(more) = more.filter(|_| self.held(point)) else { continue };
            let held = rounds.values().filter(|trial| trial.cost < LOST);
            levels.extend(held.map(|trial| Seen { at: trial.at, level: trial.cost - more }));
        }
        levels.sort_by(|a, b| a.at.total_cmp(&b.at));
        levels
    }
}

/// An interval of logarithms as one of ratios.
pub(super) fn ratios(interval: Interval) -> Interval {
    Interval { low: interval.low.exp(), high: interval.high.exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Point = [0, 0, 0, 0, 0];
    const B: Point = [1, 0, 0, 0, 0];
    const C: Point = [2, 0, 0, 0, 0];

    fn evidence(costs: &[(Point, &[f64])]) -> Evidence {
        let mut evidence = Evidence::default();
        for (point, costs) in costs {
            (0..)
                .zip(*costs)
                .for_each(|(round, cost)| evidence.record(*point, round, f64::from(round), Some(*cost)));
        }
        evidence
    }

    #[test]
    fn candidates_are_compared_within_rounds_so_a_slow_phase_of_the_machine_favours_nobody() {
        // The machine is ten times slower from the second round on; B was tried in the first only.
        let evidence = evidence(&[(A, &[1.0, 3.3, 3.3]), (C, &[1.1, 3.4, 3.4]), (B, &[1.05])]);
        assert_eq!(evidence.behind(B, A, 0).len(), 1);
        let ranking: Vec<Point> = evidence.ranking(&[A, B, C], 0).into_iter().map(|(p, _)| p).collect();
        assert_eq!(ranking, [A, B, C]);
    }

    #[test]
    fn a_candidate_that_does_not_hold_is_behind_all_that_do() {
        let mut evidence = evidence(&[(A, &[1.0, 1.0]), (B, &[0.5, 0.5])]);
        evidence.record(C, 0, 0.0, None);
        evidence.record(C, 1, 1.0, Some(f64::INFINITY));
        assert!(!evidence.held(C) && evidence.held(A));
        assert_eq!(evidence.ranking(&[C, A, B], 0).last().unwrap().0, C);
        assert!(evidence.behind(C, A, 0).iter().all(|behind| *behind > 10.0));
    }

    #[test]
    fn noise_is_that_of_a_single_trial_whatever_the_rounds_have_in_common() {
        let noisy = |index: u64| (corelane_bench::stats::splitmix(index) >> 40) as f64 / (1 << 24) as f64;
        let mut evidence = Evidence::default();
        for round in 0..200 {
            let drift = noisy(u64::from(round)) * 5.0;
            for (at, point) in (1..).zip([A, B, C]) {
                // Uniform over 0.2: a deviation of 0.058.
                let noise = noisy(1_000 * at + u64::from(round)) * 0.2;
                evidence.record(point, round, 0.0, Some(drift + at as f64 + noise));
            }
        }
        let noise = evidence.noise(&[A, B, C], 0);
        assert!((0.04..0.08).contains(&noise), "{noise}");
    }

    #[test]
    fn nothing_is_said_about_candidates_without_a_common_round() {
        let mut evidence = Evidence::default();
        evidence.record(A, 0, 0.0, Some(1.0));
        evidence.record(B, 1, 1.0, Some(1.0));
        assert_eq!(evidence.behind(A, B, 0), [0.0; 0]);
        assert_eq!(evidence.noise(&[A, B], 0), 0.0);
        assert_eq!(evidence.levels(A, &[A, B]), [Seen { at: 0.0, level: 1.0 }]);
    }

    #[test]
    fn levels_are_those_of_the_anchor_whoever_was_measured() {
        let mut evidence = evidence(&[(A, &[1.0, 1.5]), (B, &[3.0, 3.5])]);
        evidence.record(C, 1, 1.5, None);
        let levels: Vec<(f64, f64)> =
            evidence.levels(A, &[A, B, C]).iter().map(|seen| (seen.at, seen.level)).collect();
        assert_eq!(levels, [(0.0, 1.0), (0.0, 1.0), (1.0, 1.5), (1.0, 1.5)]);
    }
}
