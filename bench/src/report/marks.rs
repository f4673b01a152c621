//! What corelane is to reach beside other systems, and whether it did in this run.

use crate::case::Metric;
use crate::harness::{ENOUGH_FOR_A_MEDIAN, ENOUGH_FOR_A_SPREAD, Results};
use crate::share::SHARED;
use crate::stats::{self, Interval, Ratio};

/// Other people's systems, as they are called in cases.
pub const PEERS: &[&str] = &[
    "renoir",
    "renoir-two-phase",
    "timely",
    "tokio",
    "tokio-batches",
    "tokio-pinned",
    "crossbeam",
    "crossbeam-batches",
    "disruptor",
    "rayon",
    "streams",
];
/// Those that split the chain where the case says. Not `tokio-batches`: its scheduler may keep both tasks on one core, where nothing is
/// split (its note in the table tells).
const SPLIT_PEERS: &[&str] = &["renoir", "timely", "tokio-pinned", "crossbeam-batches"];
/// Those of them that are more than a channel or a ring.
const FRAMEWORKS: &[&str] =
    &["renoir", "renoir-two-phase", "timely", "tokio", "tokio-batches", "tokio-pinned", "rayon", "streams"];

/// One thing to reach.
#[derive(Clone, Copy, Debug)]
struct Mark {
    workload: &'static str,
    variant: &'static str,
    cores: usize,
    metric: Metric,
    /// Which of corelane's plans; the best of those that ran is what counts.
    ours: &'static [&'static str],
    /// Beside what; the best of those that ran is what counts.
    beside: &'static [&'static str],
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// The ratio, at least.
    AtLeast(f64),
    /// The ratio, at most.
    AtMost(f64),
    /// No more than the largest value that the other had.
    WithinSpread,
    /// At most so many nanoseconds more.
    Above(f64),
}

const fn mark(
    case: (&'static str, &'static str, usize),
    metric: Metric,
    rule: Rule,
    beside: &'static [&'static str],
) -> Mark {
    Mark { workload: case.0, variant: case.1, cores: case.2, metric, ours: &["corelane"], beside, rule }
}

/// The same for any of corelane's plans: what is combined before an exchange as well.
const fn of_any_plan(mark: Mark) -> Mark {
    Mark { ours: &["corelane", "corelane-combining"], ..mark }
}

const RATE: Metric = Metric::ItemsPerSecond;
const HAND: &[&str] = &["hand"];
const LOOP: &[&str] = &["loop"];
const RENOIR: &[&str] = &["renoir"];
const FLOOR: &[&str] = &["noise-floor"];

use Rule::{Above, AtLeast, AtMost, WithinSpread};

const MARKS: &[Mark] = &[
    mark(("ring", "throughput", 2), RATE, AtLeast(1.0), &["rtrb"]),
    mark(("ring", "pingpong", 2), Metric::P50, AtMost(1.05), &["rtrb", "raw"]),
    mark(("chain", "bare", 1), RATE, AtLeast(0.9), LOOP),
    mark(("chain", "bare", 1), RATE, AtLeast(1.1), PEERS),
    mark(("chain", "envelope", 1), RATE, AtLeast(0.65), &["bare-loop"]),
    mark(("chain", "envelope", 1), RATE, AtLeast(1.0), PEERS),
    mark(("chain", "split", 2), RATE, AtLeast(0.9), HAND),
    mark(("chain", "split", 2), RATE, AtLeast(1.5), SPLIT_PEERS),
    mark(("chain", "split-envelope", 2), RATE, AtLeast(0.3), &["bare-hand"]),
    mark(("keyed", "k1000", 2), RATE, AtLeast(1.0), HAND),
    of_any_plan(mark(("keyed", "k1000", 2), RATE, AtLeast(1.1), PEERS)),
    mark(("keyed", "k1000000", 2), RATE, AtLeast(1.5), HAND),
    mark(("keyed", "k1000000", 2), RATE, AtLeast(1.4), PEERS),
    mark(("tumbling", "k10000", 2), RATE, AtLeast(0.95), HAND),
    of_any_plan(mark(("tumbling", "k10000", 2), RATE, AtLeast(1.5), PEERS)),
    mark(("window", "sliding", 2), Metric::P9999, Above(1e6), FLOOR),
    mark(("latency", "rate100k", 2), Metric::P50, AtMost(1.1), HAND),
    mark(("latency", "rate100k", 2), Metric::P90, AtMost(1.1), HAND),
    mark(("latency", "rate100k", 2), Metric::P50, AtMost(1.0 / 3.0), FRAMEWORKS),
    mark(("latency", "rate100k", 2), Metric::P99, WithinSpread, HAND),
    mark(("latency", "rate100k", 2), Metric::P999, WithinSpread, HAND),
    mark(("latency", "rate100k", 2), Metric::P9999, WithinSpread, HAND),
    mark(("latency", "rate1m", 2), Metric::P50, AtMost(1.1), HAND),
    mark(("latency", "rate1m", 2), Metric::P90, AtMost(1.1), HAND),
    mark(("latency", "rate1m", 2), Metric::P50, AtMost(1.0 / 3.0), FRAMEWORKS),
    mark(("latency", "rate1m", 2), Metric::P99, WithinSpread, HAND),
    mark(("latency", "rate1m", 2), Metric::P999, WithinSpread, HAND),
    mark(("latency", "rate1m", 2), Metric::P9999, WithinSpread, HAND),
    mark(("nexmark", "q1", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q2", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q3", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q5", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q7", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q8", 1), RATE, AtLeast(0.8), HAND),
    mark(("nexmark", "q1", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q2", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q3", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q5", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q7", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q8", 2), RATE, AtLeast(1.3), HAND),
    mark(("nexmark", "q1", 1), RATE, AtLeast(1.2), RENOIR),
    mark(("nexmark", "q2", 1), RATE, AtLeast(1.8), RENOIR),
    mark(("nexmark", "q3", 1), RATE, AtLeast(2.0), RENOIR),
    mark(("nexmark", "q5", 1), RATE, AtLeast(4.0), RENOIR),
    mark(("nexmark", "q7", 1), RATE, AtLeast(3.0), RENOIR),
    mark(("nexmark", "q8", 1), RATE, AtLeast(5.0), RENOIR),
    mark(("nexmark", "q1", 2), RATE, AtLeast(1.2), RENOIR),
    mark(("nexmark", "q2", 2), RATE, AtLeast(1.8), RENOIR),
    mark(("nexmark", "q3", 2), RATE, AtLeast(2.0), RENOIR),
    mark(("nexmark", "q5", 2), RATE, AtLeast(4.0), RENOIR),
    mark(("nexmark", "q7", 2), RATE, AtLeast(3.0), RENOIR),
    mark(("nexmark", "q8", 2), RATE, AtLeast(5.0), RENOIR),
];

/// Whether a mark was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    /// It was.
    Yes,
    /// It was not.
    No,
    /// What it takes to tell was not measured in this run.
    Unknown,
}

/// A mark of a case, and what came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Judgement {
    /// What was to be reached.
    pub mark: String,
    /// What was measured, or why it was not.
    pub found: String,
    /// Whether it was reached.
    pub reached: Reached,
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match self.reached {
            Reached::Yes => "reached",
            Reached::No => "NOT reached",
            Reached::Unknown => "not judged",
        };
        write!(f, "{}: {}: {verdict}", self.mark, self.found)
    }
}

/// Judges every mark of this case, in order.
pub fn judge(results: &Results) -> Vec<Judgement> {
    let here = |mark: &&Mark| {
        (mark.workload, mark.variant, mark.cores) == (results.workload, results.variant, results.cores)
    };
    MARKS.iter().filter(here).map(|mark| mark.judge(results)).collect()
}

impl Mark {
    fn judge(&self, results: &Results) -> Judgement {
        let found = self.find(results);
        let (found, reached) = match found {
            Ok((found, true)) => (found, Reached::Yes),
            Ok((found, false)) => (found, Reached::No),
            Err(why) => (why.to_owned(), Reached::Unknown),
        };
        Judgement { mark: self.to_string(), found, reached }
    }

    /// What was measured and whether that reaches the mark, or why it cannot be told.
    fn find(&self, results: &Results) -> Result<(String, bool), &'static str> {
        let (plan, ours, our_values) =
            self.best(results, self.ours).ok_or("corelane has no such figure in this run")?;
        let (name, theirs, their_values) =
            self.best(results, self.beside).ok_or("none of them is in this run")?;
        if our_values.len().min(their_values.len()) < ENOUGH_FOR_A_MEDIAN {
            return Err("fewer than 3 comparable repetitions: a median of so few says nothing");
        }
        let judged = results.runs.iter().filter(|runs| runs.system == plan || runs.system == name);
        let mut waited = judged.filter_map(|runs| runs.sender_waited(results.judged));
        if waited.any(|waited| waited > SHARED) {
            return Err("a sender had to share its core: this was no open loop");
        }
        let name = if plan == "corelane" { name.to_owned() } else { format!("{name} ({plan})") };
        let ratio = || {
            let Ratio { value, interval: Interval { low, high } } =
                stats::ratio(&our_values, &their_values).ok_or("what it is beside is zero")?;
            Ok((format!("{value:.3} ({low:.3}..{high:.3}) of {name}"), value))
        };
        match self.rule {
            Rule::AtLeast(target) => ratio().map(|(found, ratio)| (found, ratio >= target)),
            Rule::AtMost(target) => ratio().map(|(found, ratio)| (found, ratio <= target)),
            Rule::Above(ns) => {
                Ok((format!("{:.1} us above {name}", (ours - theirs) / 1e3), ours - theirs <= ns))
            }
            Rule::WithinSpread if their_values.len() < ENOUGH_FOR_A_SPREAD => {
                Err("fewer than 10 comparable repetitions: a spread of so few says nothing")
            }
            Rule::WithinSpread => {
                let most = their_values.iter().copied().fold(0.0, f64::max);
                Ok((format!("{ours:.0} ns, {name} up to {most:.0} ns"), ours <= most))
            }
        }
    }

    /// Of those of `systems` that ran, the one with the best median: its name, the median, and all values.
    fn best(&self, results: &Results, systems: &[&str]) -> Option<(&'static str, f64, Vec<f64>)> {
        let ran = results.runs.iter().filter(|runs| systems.contains(&runs.system));
        let medians = ran.filter_map(|runs| {
            let values = runs.values(self.metric, results.judged);
            Some((runs.system, stats::median(&values)?, values))
        });
        if self.metric.more_is_better() {
            medians.max_by(|one, other| one.1.total_cmp(&other.1))
        } else {
            medians.min_by(|one, other| one.1.total_cmp(&other.1))
        }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.metric.name();
        let beside = match self.beside {
            [one] => (*one).to_owned(),
            all if all == PEERS => "the best peer".to_owned(),
            all if all == SPLIT_PEERS => "the best peer that splits".to_owned(),
            all if all == FRAMEWORKS => "the best framework".to_owned(),
            all => format!("the best of {}", all.join(" and ")),
        };
        match self.rule {
            Rule::AtLeast(target) => write!(f, "{name} at least {target:.2} of {beside}"),
            Rule::AtMost(target) => write!(f, "{name} at most {target:.2} of {beside}"),
            Rule::WithinSpread => write!(f, "{name} within the spread of {beside}"),
            Rule::Above(ns) => write!(f, "{name} at most {:.0} us above {beside}", ns / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Repetition, Runs};
    use crate::link::Link;

    /// As many repetitions as it takes to be judged, all alike.
    fn steady(system: &'static str, metric: Metric, value: f64) -> Runs {
        runs(system, metric, &[value; ENOUGH_FOR_A_MEDIAN])
    }

    fn runs(system: &'static str, metric: Metric, values: &[f64]) -> Runs {
        let one = |&value: &f64| Repetition { figures: vec![(metric, value)], ..Repetition::default() };
        Runs { system, repetitions: values.iter().map(one).collect(), hiccups: None }
    }

    fn results(case: (&'static str, &'static str, usize), runs: Vec<Runs>) -> Results {
        Results {
            workload: case.0,
            variant: case.1,
            cores: case.2,
            work: String::new(),
            references: Vec::new(),
            runs,
            notes: Vec::new(),
            disturbance: None,
            judged: Link::Single,
        }
    }

    fn reached(judgements: &[Judgement]) -> Vec<Reached> {
        judgements.iter().map(|one| one.reached).collect()
    }

    #[test]
    fn the_best_peer_is_the_one_with_the_highest_rate() {
        let systems = [("corelane", 90.0), ("loop", 100.0), ("timely", 10.0), ("renoir", 80.0)];
        let runs = systems.map(|(name, value)| steady(name, RATE, value));
        let judged = judge(&results(("chain", "bare", 1), runs.into()));
        assert_eq!(reached(&judged), [Reached::Yes, Reached::Yes]);
        assert_eq!(
            judged[0].to_string(),
            "items_per_s at least 0.90 of loop: 0.900 (0.900..0.900) of loop: reached"
        );
        assert!(judged[1].found.ends_with("of renoir"), "{judged:?}");
    }

    #[test]
    fn a_peer_that_need_not_split_the_chain_does_not_count_beside_a_split_one() {
        let systems = [("corelane", 90.0), ("hand", 100.0), ("tokio-batches", 150.0), ("tokio-pinned", 60.0)];
        let runs = systems.map(|(name, value)| steady(name, RATE, value));
        let judged = judge(&results(("chain", "split", 2), runs.into()));
        assert_eq!(reached(&judged), [Reached::Yes, Reached::Yes]);
        assert_eq!(
            judged[1].to_string(),
            "items_per_s at least 1.50 of the best peer that splits: 1.500 (1.500..1.500) of tokio-pinned: reached"
        );
    }

    #[test]
    fn the_best_framework_is_the_one_with_the_shortest_median_and_no_bare_channel() {
        let systems = [
            ("corelane", 300.0),
            ("hand", 280.0),
            ("tokio", 9_000.0),
            ("timely", 800.0),
            ("crossbeam", 200.0),
        ];
        let runs = systems.map(|(name, value)| steady(name, Metric::P50, value));
        let judged = judge(&results(("latency", "rate1m", 2), runs.into()));
        let framework = judged.iter().find(|one| one.mark.contains("framework")).unwrap();
        assert_eq!(
            (framework.found.as_str(), framework.reached),
            ("0.375 (0.375..0.375) of timely", Reached::No)
        );
    }

    #[test]
    fn a_mark_beside_something_that_did_not_run_is_not_judged() {
        let judged = judge(&results(("chain", "bare", 1), vec![runs("corelane", RATE, &[1.0])]));
        assert_eq!(reached(&judged), [Reached::Unknown; 2]);
        assert_eq!(judge(&results(("chain", "bare", 2), Vec::new())), [], "other cores, another case");
    }

    #[test]
    fn a_mark_for_any_plan_takes_the_best_one_and_names_it_others_are_for_the_plain_one() {
        let systems = [("corelane", 90.0), ("corelane-combining", 200.0), ("hand", 100.0), ("renoir", 100.0)];
        let runs = systems.map(|(name, value)| steady(name, RATE, value));
        let judged = judge(&results(("tumbling", "k10000", 2), runs.into()));
        assert_eq!(reached(&judged), [Reached::No, Reached::Yes]);
        assert_eq!(judged[1].found, "2.000 (2.000..2.000) of renoir (corelane-combining)");
    }

    #[test]
    fn what_was_no_open_loop_is_not_judged() {
        let with = |waited| {
            let mut hand = steady("hand", Metric::P50, 10.0);
            hand.repetitions[0].sender_waited = Some(waited);
            judge(&results(("latency", "rate1m", 2), vec![steady("corelane", Metric::P50, 1.0), hand]))[0]
                .reached
        };
        assert_eq!((with(0.001), with(0.2)), (Reached::Yes, Reached::Unknown));
    }

    #[test]
    fn a_median_is_of_three_repetitions_or_none() {
        let with = |ours: &[f64], hand: &[f64]| {
            let runs = vec![runs("corelane", RATE, ours), runs("loop", RATE, hand)];
            judge(&results(("chain", "bare", 1), runs)).remove(0)
        };
        assert_eq!(with(&[2.0; 2], &[1.0; 3]).reached, Reached::Unknown);
        assert_eq!(with(&[2.0; 3], &[1.0; 2]).reached, Reached::Unknown);
        assert_eq!(with(&[2.0, 1.0, 4.0], &[1.0; 3]).found, "2.000 (1.000..4.000) of loop");
    }

    #[test]
    fn a_spread_is_of_ten_repetitions_or_none() {
        let with = |count| {
            let hand: Vec<f64> = (1..=count).map(f64::from).collect();
            let ours = steady("corelane", Metric::P99, 9.5);
            judge(&results(("latency", "rate1m", 2), vec![ours, runs("hand", Metric::P99, &hand)]))
        };
        let p99 = |judged: Vec<Judgement>| {
            judged.iter().find(|one| one.mark.starts_with("ns_p99 ")).unwrap().reached
        };
        assert_eq!((p99(with(9)), p99(with(10))), (Reached::Unknown, Reached::Yes));
        assert_eq!(p99(with(12)), Reached::Yes);
    }

    #[test]
    fn a_distance_is_taken_to_the_noise_floor() {
        let tail = |ours| {
            let runs =
                [("corelane", ours), ("noise-floor", 2e6)].map(|(name, ns)| steady(name, Metric::P9999, ns));
            judge(&results(("window", "sliding", 2), runs.into()))[0].reached
        };
        assert_eq!((tail(3e6), tail(3.1e6)), (Reached::Yes, Reached::No));
    }
}
