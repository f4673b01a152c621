//! What a tuning found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use corelane::model::counted;
use corelane_bench::stats::{Interval, median};
use serde::Serialize;

use super::objective::Objective;
use super::search::{Ended, Point, ROUNDS_OF_A_FINAL, Standing, Trial, Verdict};
use super::space::Candidate;
use super::trial::Found;

/// Candidates that the text names beside the best one.
const NAMED: usize = 12;

/// A figure that may be so many times another one says little.
const TOO_WIDE: f64 = 20.0;

/// A trial that was run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ran {
    /// The place of its candidate in the report.
    pub candidate: usize,
    /// Its round.
    pub round: u32,
    /// How often it had been disturbed in this round.
    pub attempt: u32,
    /// What it found.
    #[serde(flatten)]
    pub found: Found,
}

/// A candidate and how it stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ranked {
    /// What it is.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Its map in one line.
    pub line: String,
    /// How it stands beside the best one.
    #[serde(flatten)]
    pub standing: Standing,
    /// The median of its trials, items a second or nanoseconds; `None` if it held in fewer than half of them.
    pub figure: Option<f64>,
}

/// The figure of the best candidate beside that of the reference: within rounds, so that what the machine drifts is on both sides.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Beside {
    /// The place of the reference in the report.
    pub candidate: usize,
    /// The median of the ratios.
    pub ratio: f64,
    /// Its 95 % bootstrap interval.
    pub interval: Interval,
    /// Rounds behind it.
    pub rounds: usize,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// The pipeline.
    pub pipeline: String,
    /// What flows into it, in the plural.
    pub items: &'static str,
    /// What was to be had.
    pub objective: String,
    /// Whether everything was tried.
    pub exhaustive: bool,
    /// How many candidates there are.
    pub space: usize,
    /// A difference that does not matter: a share.
    pub resolution: f64,
    /// Of the order of trials.
    pub seed: u64,
    /// The time that there was, in seconds.
    pub time_s: f64,
    /// The machine, in a line.
    pub machine: String,
}

/// All of it. The field names are an interface.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What was asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// Why it ended; `None` if it did so in an error.
    pub ended: Option<Ended>,
    /// The figure of the best candidate: the median of its trials.
    pub figure: f64,
    /// Within it a second search as long as this one, begun when this one ended, finds its figure in 95 of 100 cases: what the machine drifts
    /// is in it, as far as this search has seen it drift.
    pub interval: Interval,
    /// Whether there were trials enough to see that. Without, `interval` is too narrow.
    pub with_drift: bool,
    /// Rounds behind the figure.
    pub rounds: usize,
    /// The best beside what runs without tuning, measured in turn with it; `None` where that does not hold.
    pub beside: Option<Beside>,
    /// Every candidate that was tried, the best first.
    pub candidates: Vec<Ranked>,
    /// Every trial, in order.
    pub trials: Vec<Ran>,
    /// Time that trials took, in seconds.
    pub spent_s: f64,
    #[serde(skip)]
    pub(super) how: Objective,
}

impl Report {
    /// From what the search says and what the trials found.
    pub fn new(
        asked: Asked,
        how: Objective,
        verdict: &Verdict,
        candidate: impl Fn(Point) -> Option<Candidate>,
        trials: &[(Trial, Found)],
    ) -> Self {
        // What does not hold is the worst, whichever way is better. A repetition goes over what was disturbed.
        let worst = how.figure(f64::INFINITY);
        let of_round =
            |(trial, found): &(Trial, Found)| ((trial.point, trial.round), found.figure.unwrap_or(worst));
        let counted: BTreeMap<(Point, u32), f64> = trials.iter().map(of_round).collect();
        let figure = |point: &Point| {
            let of_point = counted.iter().filter(|((other, _), _)| other == point);
            let median = median(&of_point.map(|(_, figure)| *figure).collect::<Vec<_>>())?;
            (median.is_finite() && median > 0.0).then_some(median)
        };
        let ranked = |(point, standing): &(Point, Standing)| {
            let candidate = candidate(*point)?;
            let line = candidate.map.to_string();
            Some((*point, Ranked { candidate, line, standing: *standing, figure: figure(point) }))
        };
        let ranked: Vec<(Point, Ranked)> = verdict.standings.iter().filter_map(ranked).collect();
        let place: BTreeMap<Point, usize> = ranked.iter().map(|(point, _)| *point).zip(0..).collect();
        let ran = |(trial, found): &(Trial, Found)| {
            let candidate = *place.get(&trial.point)?;
            Some(Ran { candidate, round: trial.round, attempt: trial.attempt, found: found.clone() })
        };
        // More cost may be a lower figure; a ratio of figures is the figure of a difference of costs.
        let figures = |costs: Interval| {
            let ends = [costs.low, costs.high].map(|cost| how.figure(cost));
            Interval { low: ends[0].min(ends[1]), high: ends[0].max(ends[1]) }
        };
        let beside = verdict.beside.and_then(|(point, more)| {
            let (ratio, interval) = (how.figure(more.median), figures(more.interval));
            Some(Beside { candidate: *place.get(&point)?, ratio, interval, rounds: more.count })
        });
        Self {
            ended: verdict.ended,
            figure: how.figure(verdict.cost.median),
            interval: figures(verdict.cost.interval),
            with_drift: verdict.cost.with_drift,
            rounds: verdict.cost.rounds,
            beside,
            candidates: ranked.into_iter().map(|(_, ranked)| ranked).collect(),
            trials: trials.iter().filter_map(ran).collect(),
            spent_s: trials.iter().map(|(_, found)| found.took_s).sum(),
            asked,
            how,
        }
    }

    /// The best candidate.
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.first().map(|ranked| &ranked.candidate)
    }

    /// The figure of the best with its interval, in words.
    pub(super) fn figure_told(&self) -> String {
        let [figure, low, high] =
            [self.figure, self.interval.low, self.interval.high].map(|figure| self.how.told(figure));
        format!("{figure} (a search after this one: {low} to {high})")
    }

    /// The best beside what runs without tuning, in words; `None` if there is nothing to compare.
    pub(super) fn beside_told(&self) -> Option<String> {
        let Beside { candidate, ratio, interval: Interval { low, high }, .. } = self.beside.as_ref()?;
        let reference = &self.candidates.get(*candidate).filter(|_| *candidate > 0)?.candidate;
        let [ratio, low, high] = [*ratio, *low, *high].map(times);
        Some(format!("{ratio} ({low} to {high}) of {reference}, measured in turn with it"))
    }

    /// The core map as a file for `corelane run --core-map`, with what else belongs to it as a comment.
    pub fn core_map(&self) -> String {
        let Some(best) = self.best() else { return String::new() };
        format!(
            "# {}: {}\n# {}, {}\n# with {}\n{}",
            self.asked.pipeline,
            self.how,
            self.figure_told(),
            self.asked.machine,
            best.run_options(),
            best.map.to_toml()
        )
    }

    /// Why it ended, in words.
    pub(super) fn why_ended(&self) -> &'static str {
        match self.ended {
            Some(Ended::Decided) => "nothing is in doubt any more",
            Some(Ended::RoundsOver) => "more rounds would not settle what is left in doubt",
            Some(Ended::TimeOver) => "the time was over",
            Some(Ended::Interrupted) => "interrupted",
            None => "ended in an error",
        }
    }

    /// How a candidate stands, in words.
    pub(super) fn told(&self, ranked: &Ranked) -> String {
        match ranked.standing {
            Standing::Best => "the best".to_owned(),
            Standing::Tied { ratio, close: true } => {
                format!("the same: {} of its cost", range(ratio))
            }
            Standing::Tied { ratio, close: false } => {
                format!("cannot be told apart: {}", range(ratio))
            }
            Standing::Behind { ratio } => format!("worse: {}", range(ratio)),
            Standing::Left { ratio, .. } if ratio > 1e6 => "did not hold".to_owned(),
            Standing::Left { ratio, rounds } => {
                format!("left after {} at {}", counted(rounds, "common round"), times(ratio))
            }
            Standing::Unknown => "not compared".to_owned(),
        }
    }

    /// What makes all of it doubtful, if anything does.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.disturbed() * 2 > self.trials.len() {
            doubts.push("others used the machine during most trials: tune again when it is idle".to_owned());
        }
        if self.interval.high > self.interval.low * TOO_WIDE {
            doubts.push(
                "the machine changed so much meanwhile that the figure says little: go by the ratios"
                    .to_owned(),
            );
        }
        if self.rounds < ROUNDS_OF_A_FINAL {
            let rounds = counted(self.rounds, "round");
            doubts.push(format!("only {rounds}, the interval may be too narrow: give it more time"));
        }
        if !self.with_drift {
            doubts.push("too few trials to see how far the machine drifts: a second search may find more than the interval says".to_owned());
        }
        doubts
    }

    /// Trials that somebody disturbed.
    pub(super) fn disturbed(&self) -> usize {
        self.trials.iter().filter(|ran| ran.found.disturbed).count()
    }
}

/// A ratio to two decimals, or two digits where it is small.
fn times(ratio: f64) -> String {
    let small = ratio > 0.0 && ratio < 0.1;
    let decimals = if small { 1 - ratio.log10().floor() as i32 } else { 2 };
    format!("x{ratio:.*}", usize::try_from(decimals).unwrap_or(2))
}

fn range(ratio: Interval) -> String {
    format!("{} to {}", times(ratio.low), times(ratio.high))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, how, .. } = self;
        writeln!(f, "tuned   {} for {how}", asked.pipeline)?;
        let tried = self.candidates.len();
        let (trials, spent, disturbed) = (self.trials.len(), self.spent_s, self.disturbed());
        writeln!(
            f,
            "tried   {tried} of {} candidates in {trials} trials, {spent:.0} s; {disturbed} disturbed by others",
            asked.space
        )?;
        writeln!(f, "ended   {}", self.why_ended())?;
        if let Some(best) = self.best() {
            writeln!(f, "best    {}, {}", self.figure_told(), counted(self.rounds, "round"))?;
            self.beside_told().iter().try_for_each(|beside| writeln!(f, "        {beside}"))?;
            writeln!(f, "        {best}\n        {}", best.map)?;
        }
        for ranked in self.candidates.iter().skip(1).take(NAMED) {
            let figure = ranked.figure.map_or("-".to_owned(), |figure| how.told(figure));
            writeln!(f, "{figure:>12}  {}: {}", ranked.candidate, self.told(ranked))?;
        }
        let more = self.candidates.len().saturating_sub(1 + NAMED);
        if more > 0 {
            writeln!(f, "              and {more} more")?;
        }
        self.doubts().iter().try_for_each(|doubt| writeln!(f, "WARNING {doubt}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::objective::Rate;
    use super::super::search::Cost;
    use super::*;

    fn report(low: f64, high: f64) -> Report {
        let how = Objective::MinLatency { percentile: "p99".parse().unwrap(), rate: Rate(1e3) };
        let interval = Interval { low: how.cost(low), high: how.cost(high) };
        let cost = Cost { median: how.cost(1_000.0), rounds: ROUNDS_OF_A_FINAL, interval, with_drift: true };
        let ended = Some(Ended::Decided);
        let verdict = Verdict { best: [0; 5], cost, beside: None, ended, standings: Vec::new() };
        let asked = Asked {
            pipeline: "keyed".to_owned(),
            items: "pairs",
            objective: how.to_string(),
            exhaustive: false,
            space: 1,
            resolution: 0.05,
            seed: 1,
            time_s: 60.0,
            machine: "CPUs 0-1".to_owned(),
        };
        Report::new(asked, how, &verdict, |_| None, &[])
    }

    #[test]
    fn ratios_have_two_decimals_or_two_digits() {
        let told = [0.0, 0.000_774, 0.05, 0.999, 35.861].map(times);
        assert_eq!(told, ["x0.00", "x0.00077", "x0.050", "x1.00", "x35.86"]);
    }

    #[test]
    fn a_figure_that_says_little_is_called_that() {
        assert_eq!(report(500.0, 2_000.0).doubts(), Vec::<String>::new());
        let doubts = report(100.0, 5_000.0).doubts();
        assert!(doubts.len() == 1 && doubts[0].contains("go by the ratios"), "{doubts:?}");
    }
}
