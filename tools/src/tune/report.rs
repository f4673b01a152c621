//! What a tuning found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use corelane_bench::stats::{Interval, median};
use serde::Serialize;

use super::objective::Objective;
use super::search::{Ended, Point, ROUNDS_OF_A_FINAL, Standing, Trial, Verdict};
use super::space::Candidate;
use super::trial::Found;

/// Candidates that the text names beside the best one.
const NAMED: usize = 12;

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
    /// The figure of the best candidate: the median, and its 95 % interval.
    pub figure: f64,
    /// See `figure`.
    pub interval: Interval,
    /// Rounds behind it.
    pub rounds: usize,
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
        let ends = [verdict.cost.interval.low, verdict.cost.interval.high].map(|cost| how.figure(cost));
        Self {
            ended: verdict.ended,
            figure: how.figure(verdict.cost.median),
            interval: Interval { low: ends[0].min(ends[1]), high: ends[0].max(ends[1]) },
            rounds: verdict.cost.count,
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

    /// The core map as a file for `corelane run --core-map`, with what else belongs to it as a comment.
    pub fn core_map(&self) -> String {
        let Some(best) = self.best() else { return String::new() };
        let how = &self.how;
        let [low, high] = [self.interval.low, self.interval.high].map(|figure| how.told(figure));
        format!(
            "# {}: {how}\n# {} ({low} to {high}), {}\n# with {}\n{}",
            self.asked.pipeline,
            how.told(self.figure),
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
                format!("the same: x{:.2} to x{:.2} of its cost", ratio.low, ratio.high)
            }
            Standing::Tied { ratio, close: false } => {
                format!("cannot be told apart: x{:.2} to x{:.2}", ratio.low, ratio.high)
            }
            Standing::Behind { ratio } => format!("worse: x{:.2} to x{:.2}", ratio.low, ratio.high),
            Standing::Left { ratio, .. } if ratio > 1e6 => "did not hold".to_owned(),
            Standing::Left { ratio, rounds } => format!("left after {rounds} common rounds at x{ratio:.2}"),
            Standing::Unknown => "not compared".to_owned(),
        }
    }

    /// What makes all of it doubtful, if anything does.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.disturbed() * 2 > self.trials.len() {
            doubts.push("others used the machine during most trials: tune again when it is idle".to_owned());
        }
        if self.rounds < ROUNDS_OF_A_FINAL {
            let rounds = self.rounds;
            doubts
                .push(format!("{rounds} rounds are few, the interval may be too narrow: give it more time"));
        }
        doubts
    }

    /// Trials that somebody disturbed.
    pub(super) fn disturbed(&self) -> usize {
        self.trials.iter().filter(|ran| ran.found.disturbed).count()
    }
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
            let [low, high] = [self.interval.low, self.interval.high].map(|figure| how.told(figure));
            let figure = how.told(self.figure);
            writeln!(f, "best    {figure} ({low} to {high}, {} rounds)", self.rounds)?;
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
