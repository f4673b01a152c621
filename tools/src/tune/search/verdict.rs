//! What a search says in the end.

use corelane_bench::stats::{Interval, Summary, median, summarise};
use serde::Serialize;

use super::drift::{DEVIATIONS_OF_95, variance_per_second};
use super::evidence::ratios;
use super::{Point, ROUNDS_OF_A_FINAL, Search, Stage};

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Nothing is in doubt any more.
    Decided,
    /// More rounds would not settle it.
    RoundsOver,
    /// Its time was over.
    TimeOver,
    /// It was interrupted.
    Interrupted,
}

/// How a candidate stands beside the best one. Ratios are of costs: above 1 it is worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "standing")]
pub enum Standing {
    /// It is the best one.
    Best,
    /// It cannot be told apart from the best one.
    Tied {
        /// The interval of the ratio.
        ratio: Interval,
        /// The whole interval lies within the resolution: more rounds would change nothing that matters.
        close: bool,
    },
    /// It is worse.
    Behind {
        /// The interval of the ratio; it is above 1.
        ratio: Interval,
    },
    /// It looked worse and left the race after few rounds.
    Left {
        /// The median ratio.
        ratio: f64,
        /// Rounds that it had in common with the best one.
        rounds: usize,
    },
    /// It could not be compared: not a round in common with the best one.
    Unknown,
}

impl Standing {
    /// Whether it is surely worse.
    pub fn is_behind(self) -> bool {
        matches!(self, Self::Behind { .. })
    }

    /// Whether more rounds would say nothing new.
    pub fn is_decided(self) -> bool {
        matches!(self, Self::Best | Self::Behind { .. } | Self::Tied { close: true, .. })
    }
}

/// Candidates that cost up to so many times what the best costs go up and down with it.
const ALIKE: f64 = 1.5;

/// What a candidate costs by itself, in logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The median.
    pub median: f64,
    /// Rounds behind it.
    pub rounds: usize,
    /// Within it a second search as long as this one, begun when this one ended, finds the median in 95 of 100 cases, as far as this one can
    /// tell: the bootstrap interval of both, and how far the machine goes in between.
    pub interval: Interval,
    /// Whether there were trials enough to tell how far the machine goes; without, the interval is that of both medians only.
    pub with_drift: bool,
}

/// What is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The best candidate.
    pub best: Point,
    /// What it costs.
    pub cost: Cost,
    /// The reference, and how much more the best costs than that, in logarithms: medians over the rounds of both, and their bootstrap interval.
    /// `None` if the reference never held.
    pub beside: Option<(Point, Summary)>,
    /// Why there are no more trials; `None` while there are.
    pub ended: Option<Ended>,
    /// Every candidate that was tried, the best first and the others by what they cost beside it.
    pub standings: Vec<(Point, Standing)>,
}

impl Search {
    /// What is known now; `None` before anything held.
    pub fn verdict(&self) -> Option<Verdict> {
        let among: Vec<Point> = self.field.iter().copied().filter(|p| self.evidence.held(*p)).collect();
        let ranking = self.evidence.ranking(&among, self.judged_since(&among));
        let leader = match ranking.first() {
            Some((leader, _)) => *leader,
            None => {
                let held = self.evidence.points().filter(|point| self.evidence.held(*point));
                held.min_by(|a, b| self.middle_or_lost(*a).total_cmp(&self.middle_or_lost(*b)))?
            }
        };
        let reference = self.reference();
        // Beside each other they may stand the other way round than beside all others: then nothing speaks for a change.
        let best =
            reference.filter(|reference| self.is_behind_reference(leader, *reference)).unwrap_or(leader);
        let beside = reference.and_then(|reference| Some((reference, self.beside(best, reference)?)));
        let mut standings: Vec<(Point, Standing)> = self
            .evidence
            .points()
            .map(|point| (point, if point == best { Standing::Best } else { self.standing(point, best) }))
            .collect();
        let behind = |point: Point| median(&self.evidence.behind(point, best, 0)).unwrap_or(f64::INFINITY);
        standings.sort_by(|(a, _), (b, _)| {
            (*a != best).cmp(&(*b != best)).then(behind(*a).total_cmp(&behind(*b)))
        });
        let alike = standings.iter().map(|(point, _)| *point);
        let alike = alike.take_while(|point| *point == best || behind(*point) <= ALIKE.ln());
        let cost = self.cost(best, &alike.collect::<Vec<_>>())?;
        let ended = match self.stage {
            Stage::Over(ended) => Some(ended),
            Stage::Heats | Stage::Final => None,
        };
        Some(Verdict { best, cost, beside, ended, standings })
    }

    /// What `point` costs, and where a second search would find that. How far the machine goes is seen by `alike`, which it takes along as it does
    /// `point`; what is much slower waits for something else.
    fn cost(&self, point: Point, alike: &[Point]) -> Option<Cost> {
        let Summary { count, median, interval, .. } =
            summarise(&self.evidence.of(point, self.judged_since(&[point])))?;
        let speed = variance_per_second(&self.evidence.levels(point, alike));
        let gone = speed.unwrap_or(0.0) * self.spent.as_secs_f64() * DEVIATIONS_OF_95.powi(2);
        // Two medians, and the way between them.
        let reach = |end: f64| (2.0 * (end - median).powi(2) + gone).sqrt();
        let interval = Interval { low: median - reach(interval.low), high: median + reach(interval.high) };
        Some(Cost { median, rounds: count, interval, with_drift: speed.is_some() })
    }

    /// How much more `point` costs than `other`, in the rounds of both.
    fn beside(&self, point: Point, other: Point) -> Option<Summary> {
        summarise(&self.evidence.behind(point, other, self.judged_since(&[point, other])))
    }

    fn is_behind_reference(&self, point: Point, reference: Point) -> bool {
        self.beside(point, reference).is_some_and(|more| more.median > 0.0)
    }

    fn middle_or_lost(&self, point: Point) -> f64 {
        self.evidence.middle(point).unwrap_or(f64::INFINITY)
    }

    /// From which round on `field` is judged: that of the final if it has enough rounds by itself.
    fn judged_since(&self, field: &[Point]) -> u32 {
        let enough = |point: &Point| self.evidence.of(*point, self.since).len() >= ROUNDS_OF_A_FINAL;
        if !field.is_empty() && field.iter().all(enough) { self.since } else { 0 }
    }

    /// How `point` stands beside `best`.
    pub(super) fn standing(&self, point: Point, best: Point) -> Standing {
        let since = self.judged_since(&[point, best]);
        let behind = self.evidence.behind(point, best, since);
        let still = self.field.contains(&point);
        if behind.len() < ROUNDS_OF_A_FINAL && !still {
            let left = |ratio: f64| Standing::Left { ratio: ratio.exp(), rounds: behind.len() };
            return median(&behind).map_or(Standing::Unknown, left);
        }
        let Some(distance) = summarise(&behind) else { return Standing::Unknown };
        let ratio = ratios(distance.interval);
        if behind.len() < ROUNDS_OF_A_FINAL {
            // Too few to call it worse, whatever the interval says.
            return Standing::Tied { ratio, close: false };
        }
        if ratio.low > 1.0 {
            return Standing::Behind { ratio };
        }
        let resolution = 1.0 + self.settings.resolution;
        Standing::Tied { ratio, close: ratio.low >= 1.0 / resolution && ratio.high <= resolution }
    }
}
