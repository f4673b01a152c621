//! `corelane tune`: tries core maps, drivers, idle policies, step budgets and ring sizes under an open load, and says which is best.
//!
//! [`search`] decides what is tried next and what the trials show; it runs nothing. [`space`] says what there is to try, [`load`] puts a
//! pipeline under load, [`trial`] measures one candidate, [`report`] tells what came of it.

pub mod load;
pub mod objective;
mod options;
mod page;
mod plot;
pub mod report;
pub mod search;
pub mod space;
pub mod trial;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corelane::driver::DriverChoice;
use corelane::engine::this_machine;
use corelane::topology::Machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::Exit;
use crate::machine::LookError;
use crate::map::MapError;
use crate::output::OutputError;

use load::LoadError;
use objective::{Objective, Rate};
pub use options::{Pipeline, Tune, WrongOptions};
use report::{Asked, Report};
use search::{Search, Settings, Trial};
use space::Space;
use trial::{Found, Runner, TrialError};

/// Why nothing was tuned, or not to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] WrongOptions),
    /// The machine.
    #[error(transparent)]
    Look(#[from] LookError),
    /// A core map that was given.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The output.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The pipeline, its input, or its load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A percentile that cannot be measured.
    #[error(transparent)]
    TooFew(TrialError),
    /// A driver that was asked for cannot run here.
    #[error("the {0:?} driver cannot run here: {1}")]
    Driver(DriverChoice, String),
    /// No core map that was given fits.
    #[error("none of the core maps fits the pipeline and this machine; `corelane map check` says why")]
    NoMap,
    /// Nothing comes up to the objective.
    #[error("nothing that was tried comes up to it: {objective}{}{}", behind(.closest), behind(.refused))]
    NothingHolds {
        /// What was to be had.
        objective: String,
        /// The lowest percentile that was seen, and at which rate, if one was.
        closest: Option<String>,
        /// Why a candidate did not start, if one did not.
        refused: Option<String>,
    },
    /// Signals cannot be caught.
    #[error("cannot start: {0}")]
    Signals(io::Error),
    /// It cannot be written as JSON: a fault of ours.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A signal came before anything was known.
    #[error("stopped by a signal before anything was known")]
    Nothing,
    /// A signal ended it; what was known is written.
    #[error("stopped by a signal; what was known then is written")]
    Interrupted,
}

impl From<&TuneError> for Exit {
    fn from(error: &TuneError) -> Self {
        match error {
            TuneError::Options(_) => Exit::Usage,
            TuneError::Look(error) => error.into(),
            TuneError::Map(error) => error.into(),
            TuneError::Output(error) => error.into(),
            TuneError::Load(error) => error.into(),
            TuneError::NoMap => Exit::Placement,
            TuneError::Driver(..)
            | TuneError::NothingHolds { .. }
            | TuneError::TooFew(_)
            | TuneError::Signals(_) => Exit::Environment,
            TuneError::Json(_) => Exit::Internal,
            TuneError::Nothing | TuneError::Interrupted => Exit::Stopped,
        }
    }
}

impl From<&LoadError> for Exit {
    fn from(error: &LoadError) -> Self {
        match error {
            LoadError::Graph(_) => Exit::Internal,
            LoadError::Start(error) => error.into(),
            LoadError::System(_) => Exit::Environment,
            LoadError::Input(error) => error.into(),
            LoadError::Repeat(error) => error.into(),
            LoadError::Decode(_) | LoadError::Empty => Exit::Input,
            LoadError::Failed(_) => Exit::Pipeline,
        }
    }
}

impl From<TrialError> for TuneError {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Load(error) => Self::Load(error),
            TrialError::Interrupted => Self::Interrupted,
            error @ TrialError::TooFew { .. } => Self::TooFew(error),
        }
    }
}

/// Tunes: writes the best core map, and a report where one is asked for.
///
/// Everything that can be wrong with options, input and outputs is found before the first trial. A signal ends the search; what is known
/// then is written all the same.
///
/// # Errors
/// [`TuneError`].
pub fn tune(options: &Tune) -> Result<(), TuneError> {
    let objective = options.objective()?;
    let load = options.load()?;
    options.check_outputs()?;
    let machine = this_machine().map_err(LookError::from)?;
    let space = options.space(&*load, &machine)?;
    let points = space.points();
    if points.is_empty() {
        return Err(TuneError::NoMap);
    }
    let interrupted = catch().map_err(TuneError::Signals)?;
    allow_many_files();
    let settings = Settings {
        points,
        exhaustive: options.exhaustive,
        resolution: options.resolution / 100.0,
        time: options.time(),
        seed: options.seed,
    };
    let asked = Asked {
        pipeline: options.pipeline.name().to_owned(),
        items: load.items(),
        objective: objective.to_string(),
        exhaustive: options.exhaustive,
        space: settings.points.len(),
        resolution: settings.resolution,
        seed: options.seed,
        time_s: settings.time.as_secs_f64(),
        machine: stamp(&machine),
    };
    let mut search = Search::new(settings);
    let mut runner = Runner::new(&*load, objective, options.timing(), &interrupted);
    let told = Telling { objective, quiet: options.quiet };
    let (trials, failed) = race(&mut search, &space, &mut runner, &interrupted, told);
    let Some(verdict) = search.verdict() else {
        let closest = closest(objective, &trials);
        let refused = trials.into_iter().find_map(|(_, found)| found.refused);
        let nothing = TuneError::NothingHolds { objective: objective.to_string(), closest, refused };
        let nothing = if interrupted.load(Ordering::Relaxed) { TuneError::Nothing } else { nothing };
        return Err(failed.unwrap_or(nothing));
    };
    let report = Report::new(asked, objective, &verdict, |point| space.candidate(point), &trials);
    options.write(&report)?;
    if !options.quiet {
        // A standard error that cannot be written does not change what was found.
        let _ = write!(io::stderr(), "{report}");
    }
    match failed {
        Some(error) => Err(error),
        None if interrupted.load(Ordering::Relaxed) => Err(TuneError::Interrupted),
        None => Ok(()),
    }
}

/// One thing more in a message, if there is one.
fn behind(more: &Option<String>) -> String {
    more.as_ref().map(|more| format!("; {more}")).unwrap_or_default()
}

/// The load that the percentile was the lowest under, in words.
fn closest(objective: Objective, trials: &[(Trial, Found)]) -> Option<String> {
    let probes = trials.iter().flat_map(|(_, found)| &found.probes);
    let told = probes.filter_map(|probe| Some((probe.latency_ns?, probe.rate)));
    let (ns, rate) = told.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let (percentile, ns) = (objective.percentile(), objective::nanoseconds(ns));
    Some(format!("the lowest {percentile} that was seen is {ns}, at {}", Rate(rate)))
}

/// What is said while it goes on.
#[derive(Clone, Copy)]
struct Telling {
    objective: Objective,
    quiet: bool,
}

impl Telling {
    /// A line for a round that begins.
    fn round(self, search: &Search, space: &Space) {
        let Some(verdict) = search.verdict().filter(|_| !self.quiet) else { return };
        let figure = self.objective.told(self.objective.figure(verdict.cost.median));
        let best = space.candidate(verdict.best).map(|best| best.to_string()).unwrap_or_default();
        let (candidates, share) = (search.candidates(), search.progress() * 100.0);
        let _ =
            writeln!(io::stderr(), "corelane: {share:3.0} %  {candidates:3} in the race  {figure}: {best}");
    }
}

/// Runs trials until the search has enough, or something goes wrong.
fn race(
    search: &mut Search,
    space: &Space,
    runner: &mut Runner<'_>,
    interrupted: &AtomicBool,
    telling: Telling,
) -> (Vec<(Trial, Found)>, Option<TuneError>) {
    let mut trials = Vec::new();
    let mut round = 0;
    while let Some(trial) = search.propose() {
        if interrupted.load(Ordering::Relaxed) {
            search.interrupt();
            break;
        }
        if trial.round > round {
            round = trial.round;
            telling.round(search, space);
        }
        let Some(candidate) = space.candidate(trial.point) else { break };
        let expected = search.expected(trial.point).map(|cost| telling.objective.figure(cost));
        match runner.run(&candidate, expected) {
            Ok(found) => {
                search.observe(found.outcome(&telling.objective));
                trials.push((trial, found));
            }
            Err(TrialError::Interrupted) => {
                search.interrupt();
                break;
            }
            Err(error) => return (trials, Some(error.into())),
        }
    }
    (trials, None)
}

/// Whether a first SIGINT or SIGTERM has come; a second one ends the process.
fn catch() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// Each glommio executor that has run leaves a file open: raises the limit as far as it goes. Where it does not go far enough, candidates
/// with glommio no longer start, and the report says so.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The machine in a line.
fn stamp(machine: &Machine) -> String {
    let allowed = machine.allowed();
    let quota = machine.quota().map(|quota| format!(", quota {quota:.2}")).unwrap_or_default();
    format!("CPUs {allowed}{quota}, corelane {}", env!("CARGO_PKG_VERSION"))
}
