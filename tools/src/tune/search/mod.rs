//! Which trial comes next, and what the trials have shown: the search as a state machine that runs nothing itself.
//!
//! A candidate is a [`Point`]: a choice in each dimension. The search races candidates against each other in *rounds*: everyone who is
//! still in the race is tried once a round, in an order that changes from round to round, and candidates are compared within rounds only.
//!
//! 1. Heats (successive halving): all maps, drivers and idle policies with everything else as it is without tuning. After the second round the
//!    worse half leaves, except for those that the noise of the trials so far could have put there; and so on.
//! 2. Neighbours: what differs from the leader in one dimension and was not tried yet races against the leader. A better one becomes the leader, with
//!    neighbours of its own.
//! 3. Final: the leader and the few that are closest to it, until each rival of the leader is *separated* from it (the interval of their difference is above zero) or *tied*
//!    (it lies within the resolution), or until the time is over.
//!
//! Intervals of differences are 95 % bootstrap intervals of the median difference within rounds. Those of the final go by its own rounds: the
//! best of many was also lucky before. What the best costs by itself is told with the interval in which a second search as long as this one,
//! begun when this one ends, would find it: the machine wanders between the two, and how far is estimated from the trials of the best and of what
//! costs little more (`drift`).
//!
//! One candidate, the *reference*, takes part in every round as long as it holds: what the best costs beside it is free of the machine's wandering.

mod drift;
mod evidence;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use corelane_bench::stats::{below, median, splitmix};

use evidence::Evidence;
pub use verdict::{Cost, Ended, Standing, Verdict};

/// How many dimensions there are.
pub const DIMENSIONS: usize = 5;
/// A choice for each of map, driver, idle policy, step budget and ring size; 0 is what runs without tuning.
pub type Point = [u8; DIMENSIONS];
/// The dimensions of which all combinations start: map, driver, idle policy.
const CROSSED: usize = 3;

/// A heat is thinned out after so many rounds, and again after each further one.
const ROUNDS_OF_A_HEAT: u32 = 2;
/// Heats end with so many candidates.
const SURVIVORS: usize = 4;
/// Candidates of the final, the leader among them.
const FINALISTS: usize = 6;
/// Rounds that a judgement of the final takes at least: with fewer, a bootstrap interval of a median is too narrow.
pub const ROUNDS_OF_A_FINAL: usize = 7;
/// Rounds from one judgement to the next.
const JUDGED_EVERY: usize = 3;
/// After so many rounds nobody learns more.
const MOST_ROUNDS: usize = 40;
/// A candidate of the worse half stays if it is behind by no more than so many deviations of what noise does to a difference.
const DOUBT: f64 = 2.5;
/// A trial that others disturbed is repeated up to so many times; after that it counts as it is.
const REPEATS: u32 = 2;
/// After so many trials it is known whether others leave the machine alone.
const FIRST_TRIALS: u32 = 10;
/// Shares of the time after which heats no longer keep those in doubt, and after which the final begins.
const HEATS_END: f64 = 0.6;
const FINAL_BEGINS: f64 = 0.75;

/// What to search, and how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Every candidate that can run.
    pub points: BTreeSet<Point>,
    /// All of them in every round, and none leaves.
    pub exhaustive: bool,
    /// A ratio of costs this close to 1 does not matter to anybody.
    pub resolution: f64,
    /// The sum of what trials may take.
    pub time: Duration,
    /// Of the order in which candidates are tried.
    pub seed: u64,
}

/// What is to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// The candidate.
    pub point: Point,
    /// The round that it belongs to.
    pub round: u32,
    /// How often it was disturbed in this round so far.
    pub attempt: u32,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The logarithm of what is to be small; `None` if it did not hold.
    pub cost: Option<f64>,
    /// Somebody else used the machine.
    pub disturbed: bool,
    /// Time that it took, everything around it included.
    pub took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Heats,
    Final,
    Over(Ended),
}

/// The search.
#[derive(Debug, Clone)]
pub struct Search {
    settings: Settings,
    evidence: Evidence,
    stage: Stage,
    /// Who is still in the race.
    field: Vec<Point>,
    /// Who was ever in it.
    entered: BTreeSet<Point>,
    /// Who is still to be tried in this round.
    queue: VecDeque<Trial>,
    round: u32,
    /// The first round of the present heats or final.
    since: u32,
    spent: Duration,
    /// The longest of the trials.
    longest: Duration,
    tried: u32,
    disturbed: u32,
}

impl Search {
    /// Nothing has been tried.
    pub fn new(settings: Settings) -> Self {
        let starts =
            |point: &&Point| settings.exhaustive || point[CROSSED..].iter().all(|choice| *choice == 0);
        let field: Vec<Point> = settings.points.iter().filter(starts).copied().collect();
        let mut search = Self {
            entered: field.iter().copied().collect(),
            evidence: Evidence::default(),
            stage: Stage::Heats,
            field,
            queue: VecDeque::new(),
            round: 0,
            since: 0,
            spent: Duration::ZERO,
            longest: Duration::ZERO,
            tried: 0,
            disturbed: 0,
            settings,
        };
        search.fill();
        search
    }

    /// The next trial; `None` once the search is over. The same one until it was observed.
    pub fn propose(&mut self) -> Option<Trial> {
        if !matches!(self.stage, Stage::Over(_)) && self.spent + self.longest >= self.settings.time {
            self.stage = Stage::Over(Ended::TimeOver);
        }
        match self.stage {
            Stage::Over(_) => None,
            Stage::Heats | Stage::Final => self.queue.front().copied(),
        }
    }

    /// Takes what came of the trial that was proposed.
    pub fn observe(&mut self, outcome: Outcome) {
        let Some(trial) = self.queue.pop_front() else { return };
        self.spent += outcome.took;
        self.longest = self.longest.max(outcome.took);
        // A repetition goes over it; without one it is all there is.
        let at = (self.spent - outcome.took / 2).as_secs_f64();
        self.evidence.record(trial.point, trial.round, at, outcome.cost);
        self.tried += 1;
        self.disturbed += u32::from(outcome.disturbed);
        // A machine that is never left alone is not waited for.
        let often = self.tried > FIRST_TRIALS && self.disturbed > self.tried / 2;
        if outcome.disturbed && trial.attempt < REPEATS && !often {
            // At the end of the round: what disturbed it may be over by then.
            self.queue.push_back(Trial { attempt: trial.attempt + 1, ..trial });
        }
        if self.queue.is_empty() {
            self.end_round();
        }
    }

    /// Ends the search before its time.
    pub fn interrupt(&mut self) {
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(Ended::Interrupted);
        }
    }

    /// The share of its time that has gone: 0 to 1.
    pub fn progress(&self) -> f64 {
        (self.spent.as_secs_f64() / self.settings.time.as_secs_f64().max(1e-9)).min(1.0)
    }

    /// How many are still in the race.
    pub fn candidates(&self) -> usize {
        self.field.len()
    }

    /// The first of all candidates, what runs without tuning: it stays in every round. `None` where it does not hold.
    fn reference(&self) -> Option<Point> {
        self.settings.points.first().copied().filter(|point| self.evidence.held(*point))
    }

    /// Brings the reference back into the field.
    fn keep_reference(&mut self) {
        self.field.extend(self.reference().filter(|reference| !self.field.contains(reference)));
    }

    /// What a candidate costs in the middle, or if it was not tried the best of all, to begin from; `None` before the first trial that held.
    pub fn expected(&self, point: Point) -> Option<f64> {
        let of = |point| self.evidence.middle(point).filter(|_| self.evidence.held(point));
        of(point).or_else(|| self.evidence.points().filter_map(of).min_by(f64::total_cmp))
    }

    fn end_round(&mut self) {
        self.round += 1;
        match self.stage {
            Stage::Heats if self.settings.exhaustive => self.judge_all(),
            Stage::Heats => self.thin(),
            Stage::Final => self.judge(),
            Stage::Over(_) => {}
        }
        if !matches!(self.stage, Stage::Over(_)) {
            self.fill();
        }
    }

    /// Everyone in the field, in an order of this round's own.
    fn fill(&mut self) {
        let trial = |&point| Trial { point, round: self.round, attempt: 0 };
        let mut order: Vec<Trial> = self.field.iter().map(trial).collect();
        let random = |place: usize| {
            splitmix(self.settings.seed ^ splitmix(u64::from(self.round) << 16 | place as u64))
        };
        for place in (1..order.len()).rev() {
            order.swap(place, below(random(place), place as u64 + 1) as usize);
        }
        self.queue = order.into();
        if self.queue.is_empty() {
            self.stage = Stage::Over(Ended::Decided);
        }
    }

    fn thin(&mut self) {
        let rounds = self.round - self.since;
        if self.field.len() > SURVIVORS && rounds >= ROUNDS_OF_A_HEAT {
            let ranking = self.evidence.ranking(&self.field, self.since);
            let (leader, best) = ranking[0];
            let doubt = if self.progress() < HEATS_END { DOUBT * self.noise_of_medians() } else { 0.0 };
            let half = ranking.len().div_ceil(2).max(SURVIVORS);
            let stays = |(place, (point, score)): (usize, &(Point, f64))| {
                let stays = place < half || *score - best <= doubt;
                (stays && (self.evidence.held(*point) || *point == leader)).then_some(*point)
            };
            self.field = ranking.iter().enumerate().filter_map(stays).collect();
            self.keep_reference();
        }
        let settled = self.noise_of_medians() <= self.settings.resolution;
        // The reference may be one more.
        let decided = self.field.len() <= SURVIVORS + 1 && rounds > ROUNDS_OF_A_HEAT && settled;
        if self.progress() >= FINAL_BEGINS {
            self.begin_final();
        } else if decided || rounds as usize >= ROUNDS_OF_A_FINAL {
            self.visit_neighbours();
        }
    }

    /// What noise does to the difference of two medians in the present rounds, roughly: a deviation.
    fn noise_of_medians(&self) -> f64 {
        let rounds = f64::from((self.round - self.since).max(1));
        self.evidence.noise(&self.field, self.since) * (2.0 / rounds).sqrt()
    }

    /// Goes on with the leader, what cannot be told from it, and what differs from it in one dimension.
    fn visit_neighbours(&mut self) {
        let ranking = self.evidence.ranking(&self.field, self.since);
        let neighbours =
            ranking.first().map(|(leader, _)| self.fresh_neighbours(*leader)).unwrap_or_default();
        if neighbours.is_empty() {
            return self.begin_final();
        }
        self.field = ranking.iter().take(SURVIVORS).map(|(point, _)| *point).collect();
        self.entered.extend(&neighbours);
        self.field.extend(neighbours);
        self.keep_reference();
        self.since = self.round;
    }

    /// What differs from `point` in one dimension and was never in the race.
    fn fresh_neighbours(&self, point: Point) -> Vec<Point> {
        let differs = |other: &Point| other.iter().zip(&point).filter(|(a, b)| a != b).count() == 1;
        self.settings.points.difference(&self.entered).copied().filter(differs).collect()
    }

    /// The leader, and of all that were ever tried those that are the closest to it.
    fn begin_final(&mut self) {
        let Some(&(leader, _)) = self.evidence.ranking(&self.field, self.since).first() else { return };
        let doubt = (DOUBT * self.noise_of_medians()).max(self.settings.resolution);
        let behind = |point: Point| Some((point, median(&self.evidence.behind(point, leader, 0))?));
        let mut rivals: Vec<(Point, f64)> =
            self.evidence.points().filter(|point| *point != leader).filter_map(behind).collect();
        rivals.sort_by(|a, b| a.1.total_cmp(&b.1));
        let rivals = rivals.into_iter().enumerate();
        let close = rivals.take_while(|(place, (_, behind))| *place == 0 || *behind <= doubt);
        let close = close.map(|(_, (point, _))| point).filter(|point| self.evidence.held(*point));
        self.field = std::iter::once(leader).chain(close.take(FINALISTS - 1)).collect();
        self.keep_reference();
        self.stage = Stage::Final;
        self.since = self.round;
    }

    /// Lets go of rivals that are separated from the leader, and ends once nobody is left in doubt.
    fn judge(&mut self) {
        let ranking = self.evidence.ranking(&self.field, self.since);
        let Some(&(leader, _)) = ranking.first() else { return };
        let rounds = (self.round - self.since) as usize;
        // Not after each round: to look at an interval until it says what one likes makes it say less than it claims.
        if rounds < ROUNDS_OF_A_FINAL || !(rounds - ROUNDS_OF_A_FINAL).is_multiple_of(JUDGED_EVERY) {
            return;
        }
        let standing = |point: &Point| (*point, self.standing(*point, leader));
        let standings: Vec<(Point, Standing)> = self.field.iter().map(standing).collect();
        let left = |(point, standing): &(Point, Standing)| {
            (*point == leader || !standing.is_behind()).then_some(*point)
        };
        self.field = standings.iter().filter_map(left).collect();
        self.keep_reference();
        let decided = standings.iter().all(|(point, standing)| *point == leader || standing.is_decided());
        self.end_if(decided, leader);
    }

    fn judge_all(&mut self) {
        let rounds = (self.round - self.since) as usize;
        if let Some(&(leader, _)) = self.evidence.ranking(&self.field, 0).first()
            && rounds >= ROUNDS_OF_A_FINAL
        {
            let decided = |point: &Point| *point == leader || self.standing(*point, leader).is_decided();
            self.end_if(self.field.iter().all(decided), leader);
        }
    }

    fn end_if(&mut self, decided: bool, leader: Point) {
        let rounds = (self.round - self.since) as usize;
        let over = decided || rounds >= MOST_ROUNDS;
        if over && self.progress() < FINAL_BEGINS && !self.fresh_neighbours(leader).is_empty() {
            // The final has another leader than the heats had.
            self.stage = Stage::Heats;
            return self.visit_neighbours();
        }
        if over {
            self.stage = Stage::Over(if decided { Ended::Decided } else { Ended::RoundsOver });
        }
    }
}
