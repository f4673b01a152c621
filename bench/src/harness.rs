//! Runs the systems of a case in turn and keeps every repetition.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::case::{BenchError, Case, Metric, Outcome, Setup, Spread};
use crate::cpu_time::{CpuTime, Disturbance};
use crate::hiccup::Hiccups;
use crate::link::{self, Link};
use crate::memory;
use crate::share::SHARED;

/// How many times `repetitions` rounds may be run to get enough that can be compared.
const PATIENCE: usize = 3;
/// Repetitions without which a median says nothing: of one or two it is what happened to them.
pub const ENOUGH_FOR_A_MEDIAN: usize = 3;
/// Repetitions without which a spread says nothing.
pub const ENOUGH_FOR_A_SPREAD: usize = 10;

/// Repetitions of each system.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// So many that can be compared: over the same kind of link, with senders that had their cores to themselves.
    pub repetitions: usize,
    /// Once a case has taken so long, [`ENOUGH_FOR_A_MEDIAN`] of them will do, and once it has taken thrice that, any: with slow systems and a link
    /// that flips, all take a quarter of an hour.
    pub patience: Option<Duration>,
}

impl Rounds {
    /// `repetitions` that can be compared, however long that takes.
    pub fn exactly(repetitions: usize) -> Self {
        Self { repetitions, patience: None }
    }

    /// `repetitions`, or fewer after three minutes.
    pub fn about(repetitions: usize) -> Self {
        Self { repetitions, patience: Some(Duration::from_secs(180)) }
    }

    /// How many comparable repetitions will do when a case has taken `elapsed`.
    fn enough(self, elapsed: Duration) -> usize {
        match self.patience {
            Some(patience) if elapsed >= 3 * patience => self.repetitions.min(1),
            Some(patience) if elapsed >= patience => self.repetitions.min(ENOUGH_FOR_A_MEDIAN),
            _ => self.repetitions,
        }
    }
}

/// One repetition of one system.
#[derive(Clone, Debug, Default)]
pub struct Repetition {
    /// How far apart the cores were.
    pub link: Link,
    /// Round trips before and after, in nanoseconds; `None` on one core.
    pub round_trips_ns: Option<[f64; 2]>,
    /// What it measured.
    pub figures: Vec<(Metric, f64)>,
    /// Page faults of the process meanwhile, where the system tells.
    pub page_faults: Option<u64>,
    /// The share of its time for which the sender waited for its core, if that was watched.
    pub sender_waited: Option<f64>,
    /// All samples, of a latency run.
    pub spread: Option<Rc<Spread>>,
}

/// All repetitions of one system.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The system's name.
    pub system: &'static str,
    /// Its repetitions, in the order in which they ran.
    pub repetitions: Vec<Repetition>,
    /// Stalls over all repetitions.
    pub hiccups: Option<Hiccups>,
}

impl Repetition {
    /// Whether its sender had to share its core, so that it was no open loop.
    fn shared(&self) -> bool {
        self.sender_waited.is_some_and(|waited| waited > SHARED)
    }
}

impl Runs {
    /// The repetitions over `link`, in order, without those whose sender had to share its core. Where that was so in more than half of all, it is no
    /// accident but how the system runs: then they stay, and [`Runs::sender_waited`] tells.
    fn compared(&self, link: Link) -> impl Iterator<Item = &Repetition> {
        let all_count = 2 * self.shared() > self.repetitions.len();
        self.repetitions.iter().filter(move |one| one.link == link && (all_count || !one.shared()))
    }

    /// How many repetitions ran over `link` and can be compared.
    pub fn count(&self, link: Link) -> usize {
        self.compared(link).count()
    }

    /// The values of `metric` over `link`, in order.
    pub fn values(&self, metric: Metric, link: Link) -> Vec<f64> {
        let figures = self.compared(link).flat_map(|repetition| &repetition.figures);
        figures.filter(|figure| figure.0 == metric).map(|figure| figure.1).collect()
    }

    /// The longest share of its time for which a sender waited for its core, of the compared repetitions over `link`.
    pub fn sender_waited(&self, link: Link) -> Option<f64> {
        self.compared(link).filter_map(|one| one.sender_waited).max_by(f64::total_cmp)
    }

    /// In how many repetitions the sender had to share its core.
    pub fn shared(&self) -> usize {
        self.repetitions.iter().filter(|one| one.shared()).count()
    }

    /// All samples over `link`; `None` if there are none.
    pub fn spread(&self, link: Link) -> Option<Spread> {
        let mut spreads = self.compared(link).filter_map(|one| one.spread.as_deref());
        let mut all = spreads.next()?.clone();
        // All within the bounds: the same program makes the same ones each time.
        spreads.try_for_each(|one| all.histogram.add(&one.histogram)).ok()?;
        Some(all)
    }

    /// Every metric that appears, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let figures = self.repetitions.iter().flat_map(|repetition| &repetition.figures);
        let mut metrics: Vec<Metric> = figures.map(|figure| figure.0).collect();
        metrics.sort();
        metrics.dedup();
        metrics
    }
}

/// Everything a case's runs have given.
#[derive(Clone, Debug)]
pub struct Results {
    /// The workload.
    pub workload: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// Cores used.
    pub cores: usize,
    /// The amount of work.
    pub work: String,
    /// What ratios are taken to.
    pub references: Vec<&'static str>,
    /// One entry for each system.
    pub runs: Vec<Runs>,
    /// Remarks, each once.
    pub notes: Vec<String>,
    /// Who else used the CPUs meanwhile, where the system says.
    pub disturbance: Option<Disturbance>,
    /// The kind of link whose repetitions are compared.
    pub judged: Link,
}

/// Runs every system once to warm up, then in turn (A B A B ...) until each has as many comparable repetitions as `rounds` asks
/// for, or three times as many altogether; fewer if that takes long and `rounds` has patience. Every run's result is checked, the warm-up's too.
///
/// # Errors
/// The first wrong result, or a system that did not run.
pub fn run(case: &Case, setup: &Setup, rounds: Rounds) -> Result<Results, BenchError> {
    let (before, begun) = (CpuTime::now(), Instant::now());
    let mut notes = Vec::new();
    let mut runs: Vec<Runs> = Vec::new();
    for system in &case.systems {
        checked(case, system, setup)?;
        runs.push(Runs { system: system.name, repetitions: Vec::new(), hiccups: None });
    }
    for round in 1..=rounds.repetitions * PATIENCE {
        for (system, runs) in case.systems.iter().zip(&mut runs) {
            let (repetition, outcome) = around(case, setup, || checked(case, system, setup))?;
            runs.repetitions.push(repetition);
            if let Some(seen) = &outcome.hiccups {
                runs.hiccups.get_or_insert_default().merge(seen);
            }
            for note in outcome.notes {
                let note = format!("{}: {note}", system.name);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        // Not before all rounds have run: that repetitions cannot be compared is no reason for fewer.
        if round >= rounds.repetitions && fewest(&runs, judged(&runs)) >= rounds.enough(begun.elapsed()) {
            break;
        }
    }
    let disturbance = before.and_then(|before| Some(CpuTime::now()?.since(before)));
    let judged = judged(&runs);
    let (workload, variant, cores) = (case.workload, case.variant, case.cores);
    let (work, references) = (case.work.clone(), case.references.clone());
    Ok(Results { workload, variant, cores, work, references, runs, notes, disturbance, judged })
}

/// The kind of link of which every system has most repetitions; near, if it is even.
fn judged(runs: &[Runs]) -> Link {
    // The last of equal maxima wins.
    let kinds = [Link::Sibling, Link::Far, Link::Near, Link::Single];
    kinds.into_iter().max_by_key(|&link| fewest(runs, link)).unwrap_or(Link::Single)
}

fn fewest(runs: &[Runs], link: Link) -> usize {
    runs.iter().map(|runs| runs.count(link)).min().unwrap_or(0)
}

fn checked(case: &Case, system: &crate::case::System, setup: &Setup) -> Result<Outcome, BenchError> {
    let name = || format!("{}/{}/{}", case.workload, case.variant, system.name);
    let outcome = (system.run)(setup).map_err(|reason| BenchError::DidNotRun { system: name(), reason })?;
    let (expected, got) = (case.expected, outcome.checksum);
    if got == expected { Ok(outcome) } else { Err(BenchError::WrongResult { system: name(), expected, got }) }
}

/// Runs one repetition with the round trip measured on both sides of it.
fn around(
    case: &Case,
    setup: &Setup,
    run: impl FnOnce() -> Result<Outcome, BenchError>,
) -> Result<(Repetition, Outcome), BenchError> {
    let round_trip = || (case.cores > 1).then(|| link::round_trip_ns(&setup.cores));
    let before = round_trip();
    let faults_before = memory::page_faults();
    let outcome = run()?;
    let page_faults = faults_before.and_then(|before| Some(memory::page_faults()? - before));
    let round_trips_ns = before.zip(round_trip()).map(|(before, after)| [before, after]);
    let link = round_trips_ns.map_or(Link::Single, |[before, after]| Link::classify(before, after));
    let (figures, spread) = (outcome.figures.clone(), outcome.spread.clone());
    let sender_waited = outcome.sender_waited;
    Ok((Repetition { link, round_trips_ns, figures, page_faults, sender_waited, spread }, outcome))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::case::Driver;

    fn setup() -> Setup {
        Setup { cores: Vec::new(), driver: Driver::Auto, quick: true, nexmark: Default::default() }
    }

    fn runs(links: &[Link]) -> Runs {
        let repetition = |&link| Repetition { link, ..Repetition::default() };
        Runs { system: "a", repetitions: links.iter().map(repetition).collect(), hiccups: None }
    }

    fn outcome(checksum: u64) -> Outcome {
        Outcome { checksum, figures: vec![(Metric::P50, 1.0)], ..Outcome::default() }
    }

    #[test]
    fn systems_run_in_turn_after_one_warm_up_each() {
        let order = Rc::new(RefCell::new(String::new()));
        let (a, b) = (Rc::clone(&order), Rc::clone(&order));
        let case = Case::new("w", "v", 1, 7)
            .system("a", move |_| {
                a.borrow_mut().push('a');
                outcome(7).note("same")
            })
            .system("b", move |_| {
                b.borrow_mut().push('b');
                outcome(7)
            });
        let results = run(&case, &setup(), Rounds::exactly(3)).unwrap();
        assert_eq!(*order.borrow(), "abababab");
        assert_eq!(results.judged, Link::Single);
        assert_eq!(results.runs[1].values(Metric::P50, Link::Single), [1.0; 3]);
        assert_eq!(results.notes, ["a: same"]);
    }

    #[test]
    fn samples_are_put_together_over_one_kind_of_link_only() {
        let over = |link, value| {
            let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 1_000, 3).unwrap();
            histogram.record(value).unwrap();
            let spread = Some(Rc::new(Spread { histogram, unit_ns: 2.0 }));
            Repetition { link, spread, ..Repetition::default() }
        };
        let repetitions = vec![over(Link::Near, 10), over(Link::Far, 500), over(Link::Near, 20)];
        let runs = Runs { system: "a", repetitions, hiccups: None };
        let near = runs.spread(Link::Near).unwrap();
        assert_eq!((near.histogram.len(), near.ns_at(0.0), near.ns_at(1.0)), (2, 20.0, 40.0));
        assert_eq!(runs.spread(Link::Far).unwrap().histogram.len(), 1);
        assert!(runs.spread(Link::Mixed).is_none());
    }

    #[test]
    fn a_sender_that_shared_its_core_once_is_repeated_and_one_that_always_does_is_compared() {
        let sends = |waits: &'static [f64]| {
            let calls = RefCell::new(0);
            let send = move |_: &Setup| {
                *calls.borrow_mut() += 1;
                // The first call is the warm-up.
                let sender_waited = Some(waits[(*calls.borrow() - 1) % waits.len()]);
                Outcome { sender_waited, ..outcome(7) }
            };
            let case = Case::new("w", "v", 1, 7).system("a", send);
            run(&case, &setup(), Rounds::exactly(3)).unwrap().runs.remove(0)
        };
        let once = sends(&[0.0, 0.0, 0.4, 0.0, 0.002]);
        assert_eq!((once.repetitions.len(), once.count(Link::Single), once.shared()), (4, 3, 1));
        assert_eq!(once.values(Metric::P50, Link::Single), [1.0; 3]);
        assert_eq!(once.sender_waited(Link::Single), Some(0.002));
        let always = sends(&[0.4]);
        assert_eq!((always.repetitions.len(), always.count(Link::Single), always.shared()), (3, 3, 3));
        assert_eq!(always.sender_waited(Link::Single), Some(0.4));
    }

    #[test]
    fn what_takes_long_ends_with_fewer_comparable_repetitions_unless_their_number_was_asked_for() {
        let after = |seconds| Duration::from_secs(seconds);
        let about = Rounds::about(7);
        assert_eq!([0, 179, 180, 539, 540].map(|s| about.enough(after(s))), [7, 7, 3, 3, 1]);
        assert_eq!(Rounds::about(2).enough(after(180)), 2);
        assert_eq!(Rounds::exactly(7).enough(after(10_000)), 7);
    }

    #[test]
    fn a_wrong_result_ends_the_case_and_names_the_system() {
        let case = Case::new("w", "v", 1, 7).system("a", |_| outcome(7)).system("b", |_| outcome(8));
        let error = run(&case, &setup(), Rounds::exactly(3)).unwrap_err();
        assert!(
            matches!(&error, BenchError::WrongResult { expected: 7, got: 8, system } if system == "w/v/b")
        );
    }

    #[test]
    fn a_wrong_result_in_a_later_repetition_is_found_too() {
        let calls = RefCell::new(0);
        let later = move |_: &Setup| {
            *calls.borrow_mut() += 1;
            outcome(if *calls.borrow() == 3 { 8 } else { 7 })
        };
        assert!(run(&Case::new("w", "v", 1, 7).system("a", later), &setup(), Rounds::exactly(3)).is_err());
    }

    #[test]
    fn a_system_that_does_not_run_is_an_error_with_its_reason() {
        let case = Case::new("w", "v", 1, 7).try_system("a", |_| Err::<Outcome, _>("no ring"));
        assert_eq!(
            run(&case, &setup(), Rounds::exactly(1)).unwrap_err().to_string(),
            "w/v/a did not run: no ring"
        );
    }

    #[test]
    fn the_kind_of_link_that_every_system_has_most_of_is_judged() {
        use Link::{Far, Mixed, Near};
        assert_eq!(judged(&[runs(&[Near, Far, Far]), runs(&[Far, Far, Near])]), Far);
        assert_eq!(judged(&[runs(&[Near, Far]), runs(&[Far, Near])]), Near);
        assert_eq!(judged(&[runs(&[Near, Near, Far]), runs(&[Far, Far, Mixed])]), Far);
        assert_eq!(fewest(&[runs(&[Mixed]), runs(&[Mixed])], Near), 0);
    }
}
