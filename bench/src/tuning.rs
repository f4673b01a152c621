//! Chooses configurations for the systems of one case: all in turn, in the same minute, and for each kind of link by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::ENOUGH_FOR_A_MEDIAN as ENOUGH;
use crate::link::Link;
use crate::stats;

/// How often each configuration is run. The link is what it is: of many rounds, some are over each kind.
const ROUNDS: usize = 32;
/// How often at least.
const FEWEST_ROUNDS: usize = 2 * ENOUGH;
/// Once all runs together have taken so long, no further round begins: while cores are far, all rounds over many slow configurations take a
/// quarter of an hour.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long each configuration took, over each kind of link.
#[derive(Clone, Debug)]
pub struct Tuning<C> {
    candidates: Vec<C>,
    /// The times of each candidate, in seconds; a link that changed during a run is not among the kinds.
    times: BTreeMap<Link, Vec<Vec<f64>>>,
}

impl<C: Copy> Tuning<C> {
    /// Runs all `candidates` in turn, several rounds of them, with `round_trip_ns` measured around each run.
    ///
    /// # Errors
    /// The first of `run`.
    pub fn run<E>(
        candidates: Vec<C>,
        mut round_trip_ns: impl FnMut() -> f64,
        mut run: impl FnMut(C) -> Result<Duration, E>,
    ) -> Result<Self, E> {
        let mut times = BTreeMap::new();
        let mut before = round_trip_ns();
        let mut taken = Duration::ZERO;
        for round in 0..ROUNDS {
            if round >= FEWEST_ROUNDS && taken >= PATIENCE {
                break;
            }
            for (at, &candidate) in candidates.iter().enumerate() {
                let time = run(candidate)?;
                taken += time;
                let after = round_trip_ns();
                let link = Link::classify(before, after);
                if link != Link::Mixed {
                    times.entry(link).or_insert_with(|| vec![Vec::new(); candidates.len()])[at]
                        .push(time.as_secs_f64());
                }
                before = after;
            }
        }
        Ok(Self { candidates, times })
    }

    /// The candidate of those that are `eligible` with the shortest median over `link`, and the kind of link by which it was found: another one if
    /// more of them can be judged over that. `None` if nothing eligible was run.
    pub fn best(&self, link: Link, eligible: impl Fn(C) -> bool) -> Option<(C, Link)> {
        let known = |kind, least| -> Vec<(C, f64)> {
            let times = self.times.get(&kind).into_iter().flatten();
            let all =
                self.candidates.iter().zip(times).filter(|one| eligible(*one.0) && one.1.len() >= least);
            all.filter_map(|(&candidate, times)| Some((candidate, stats::median(times)?))).collect()
        };
        // Of fewer times only where nothing was run more often.
        [ENOUGH, 1].into_iter().find_map(|least| {
            let kinds = self.times.keys().map(|&kind| (kind, known(kind, least)));
            let (kind, known) = kinds.max_by_key(|(kind, known)| (known.len(), *kind == link))?;
            known
                .into_iter()
                .min_by(|one, other| one.1.total_cmp(&other.1))
                .map(|(candidate, _)| (candidate, kind))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Round trips, one before the first run and one behind each; each run takes what `takes` says of candidate and link.
    fn tuned(candidates: &[u64], round_trips: &[f64], takes: impl Fn(u64, f64) -> u64) -> Tuning<u64> {
        let looks = std::cell::Cell::new(0);
        let trip = |look: usize| round_trips[look.min(round_trips.len() - 1)];
        let run = |candidate| Ok::<_, ()>(Duration::from_nanos(takes(candidate, trip(looks.get()))));
        Tuning::run(candidates.to_vec(), || trip(looks.replace(looks.get() + 1)), run).unwrap()
    }

    #[test]
    fn each_kind_of_link_has_its_own_best_and_a_run_in_which_it_changed_counts_for_none() {
        // Three rounds of siblings, one run that changes, the rest near: 0 is best for siblings, 1 and 3 near, but 3 is not eligible.
        let mut round_trips = vec![50.0; 13];
        round_trips.push(120.0);
        let tuning = tuned(&[0, 1, 2, 3], &round_trips, |candidate, trip| match (candidate, trip < 100.0) {
            (0, true) | (1 | 3, false) => 10,
            _ => 20 + candidate,
        });
        assert_eq!(tuning.times[&Link::Sibling][0].len(), 3);
        assert_eq!(tuning.times[&Link::Near][0].len() + tuning.times[&Link::Sibling][0].len(), ROUNDS - 1);
        let even = |candidate| candidate < 3;
        assert_eq!(tuning.best(Link::Sibling, even), Some((0, Link::Sibling)));
        assert_eq!(tuning.best(Link::Near, even), Some((1, Link::Near)));
        assert_eq!(tuning.best(Link::Near, |candidate| candidate == 2), Some((2, Link::Near)));
        assert_eq!(tuning.best(Link::Near, |candidate| candidate > 3), None);
    }

    #[test]
    fn a_link_over_which_few_can_be_judged_takes_the_choice_of_one_over_which_all_can() {
        // Near for three runs of the first candidate, as the link was when it was its turn; far otherwise.
        let candidates = [0, 1];
        let near = |look: usize| look < 2 || (4..6).contains(&look) || (8..10).contains(&look);
        let round_trips: Vec<f64> =
            (0..=2 * ROUNDS).map(|look| if near(look) { 120.0 } else { 500.0 }).collect();
        let tuning = tuned(&candidates, &round_trips, |candidate, _| 10 - candidate);
        assert_eq!([0, 1].map(|at: usize| tuning.times[&Link::Near][at].len()), [3, 0]);
        assert_eq!(tuning.best(Link::Near, |_| true), Some((1, Link::Far)));
        assert_eq!(tuning.best(Link::Near, |candidate| candidate == 0), Some((0, Link::Near)));
    }

    #[test]
    fn a_link_that_was_not_seen_takes_the_choice_of_the_one_that_was() {
        let tuning = tuned(&[7, 8], &[120.0], |candidate, _| 10 - candidate);
        assert_eq!(tuning.best(Link::Far, |_| true), Some((8, Link::Near)));
    }

    #[test]
    fn slow_candidates_are_run_fewer_times_but_often_enough() {
        let rounds = |of: Duration| {
            let mut runs = 0;
            let run = |_| {
                runs += 1;
                Ok::<_, ()>(of)
            };
            Tuning::run(vec![0, 1], || 120.0, run).unwrap();
            runs / 2
        };
        assert_eq!(rounds(PATIENCE), FEWEST_ROUNDS);
        assert_eq!(rounds(PATIENCE / 20), 10);
        assert_eq!(rounds(PATIENCE / 1_000), ROUNDS);
    }

    #[test]
    fn one_lucky_run_does_not_make_the_choice() {
        let runs = std::cell::Cell::new(0);
        let tuning = tuned(&[0, 1], &[120.0], |candidate, _| {
            runs.set(runs.get() + 1);
            if runs.get() == 1 { 1 } else { 20 - candidate }
        });
        assert_eq!(tuning.best(Link::Near, |_| true), Some((1, Link::Near)));
    }
}
