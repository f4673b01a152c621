//! `corelane idle`: what each idle policy costs on this machine while nothing comes in, and how late it notices what does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use corelane::driver::{
    DriverChoice, ParkProbe, PinError, measure_park, pin_current_thread, process_cpu_time,
};
use corelane::engine::{Engine, ExecutionOptions, Running, StartError, this_machine};
use corelane::flow::PipelineBuilder;
use corelane::graph::GraphErrors;
use corelane::observe::Imbalance;
use corelane::policy::IdlePolicy;
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use corelane::sync::Doorbell;
use corelane::topology::{CoreMap, Cores, CpuId, CpuList};
use corelane_bench::stats::quantile;
use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use serde::Serialize;

use crate::clock::Clock;
use crate::exit::Exit;
use crate::machine::LookError;
use crate::output::print;
use crate::table::table;

/// Left alone before the first look, so that what started has come to rest.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the pipeline has nothing to do.
const NOTHING_TO_DO: Duration = Duration::from_millis(500);
/// Rounds after that, items in each, and how long each finds the pipeline without work before it.
const ROUNDS: usize = 9;
const ITEMS: usize = 25;
const BETWEEN: Duration = Duration::from_millis(3);
/// An item that takes longer is lost.
const LONGEST: Duration = Duration::from_secs(10);

/// The options of `corelane idle`.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdleError {
    /// The machine or the output.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The pipeline is refused: a fault of ours.
    #[error(transparent)]
    Graph(#[from] GraphErrors),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The thread that makes items cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// No thread, or no CPU for it.
    #[error("cannot measure what parking costs: {0}")]
    Park(#[from] std::io::Error),
    /// It failed, or lost items.
    #[error("the measuring pipeline failed: {0}")]
    Failed(String),
}

impl From<&IdleError> for Exit {
    fn from(error: &IdleError) -> Self {
        match error {
            IdleError::Look(error) => error.into(),
            IdleError::Start(error) => error.into(),
            IdleError::Graph(_) => Exit::Internal,
            IdleError::Pin(_) | IdleError::Park(_) => Exit::Environment,
            IdleError::Failed(_) => Exit::Pipeline,
        }
    }
}

/// What one policy costs with one driver.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct IdleCost {
    /// The driver.
    pub driver: String,
    /// The policy.
    pub policy: String,
    /// The share of a core that a started pipeline on one core takes while nothing comes in.
    pub idle_share: f64,
    /// From the moment that an item is there to the stage that takes it, in nanoseconds: the median.
    pub wake_ns: u64,
    /// As `wake-ns`: what one in twenty takes at least.
    pub wake_p95_ns: u64,
    /// The median for a bare thread that is parked as long on the same core and woken, in turn with the pipeline if that sleeps too.
    pub plain_ns: u64,
    /// The median of `wake-ns` over `plain-ns` of several rounds.
    pub ratio: f64,
}

/// Measures every policy with every driver that runs here, one after the other, and prints the table. Takes about fifteen
/// seconds.
///
/// # Errors
/// [`IdleError`].
pub fn idle(options: &Idle) -> Result<(), IdleError> {
    let costs = measure()?;
    let text = if options.json {
        format!("{}\n", serde_json::to_string_pretty(&costs).map_err(LookError::from)?)
    } else {
        describe(&costs)
    };
    Ok(print(&text).map_err(LookError::from)?)
}

fn describe(costs: &[IdleCost]) -> String {
    let time = |ns: u64| format!("{:.1?}", Duration::from_nanos(ns));
    let rows = costs.iter().map(|cost| {
        [
            cost.driver.clone(),
            cost.policy.clone(),
            format!("{:.2} %", cost.idle_share * 100.0),
            time(cost.wake_ns),
            time(cost.wake_p95_ns),
            format!("{:.2}", cost.ratio),
        ]
    });
    table(["DRIVER", "IDLE", "OF A CORE", "WOKEN IN", "1 IN 20", "TO A BARE THREAD"], rows)
}

fn measure() -> Result<Vec<IdleCost>, IdleError> {
    let allowed = this_machine()?.allowed();
    let (Some(first), Some(last)) = (allowed.first(), allowed.get(allowed.len() - 1)) else {
        return Ok(Vec::new());
    };
    let mut costs = Vec::new();
    for driver in [DriverChoice::Thread, DriverChoice::Glommio] {
        if driver.resolve().is_err() {
            continue;
        }
        for policy in [IdlePolicy::Spin, IdlePolicy::Yield, IdlePolicy::Park, IdlePolicy::Adaptive] {
            costs.push(cost(driver, policy, (first, last), allowed.len() as u32 - 1)?);
        }
    }
    Ok(costs)
}

/// A pipeline on the last core, fed from the first.
fn cost(
    driver: DriverChoice,
    policy: IdlePolicy,
    (first, last): (CpuId, CpuId),
    core: u32,
) -> Result<IdleCost, IdleError> {
    let plain = || measure_park(last, first, ParkProbe { wakes: ITEMS as u32, rest: BETWEEN });
    // Beside a pipeline that never sleeps a bare thread would hardly get its core.
    let sleeps = matches!(policy, IdlePolicy::Park | IdlePolicy::Adaptive);
    let alone = if sleeps { None } else { Some(plain()?) };
    let clock = Clock::start();
    let (feed, items) = unbounded();
    let (done, arrived) = unbounded();
    let bell = Arc::<OnceLock<Arc<Doorbell>>>::default();
    let source = Stamps { items, bell: Arc::clone(&bell) };
    let builder = PipelineBuilder::new("idle");
    builder.source("items", move |_: &StageSite| Ok(source.clone())).for_each("taken", move |sent: u64| {
        // Nobody listens any more only where the run has been given up.
        let _ = done.send(clock.nanos().saturating_sub(sent));
    });
    let core_map = CoreMap::default().rest(Cores::List(CpuList::from_iter([core])));
    let options = ExecutionOptions { driver, core_map, idle: Some(policy), ..ExecutionOptions::default() };
    let running = Engine::new(options).start(builder.build()?)?;
    let driver = running.driver().to_string();
    running.wait_timeout(SETTLE);
    let idle_share = share_of_a_core(&running);
    let feeder = Feeder { running: &running, clock, feed: &feed, bell: &bell, arrived: &arrived };
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let bare = match alone {
            Some(price) => price,
            None => plain()?,
        };
        rounds.push(Round { bare: bare.wake, times: feeder.wakes_from(first)? });
    }
    drop(feed);
    ring(&bell);
    let result = running.join();
    let imbalances = |all: Vec<Imbalance>| {
        IdleError::Failed(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    result.account.verify().map_err(imbalances)?;
    if !result.success || rounds.iter().any(|round| round.times.len() != ITEMS) {
        return Err(IdleError::Failed(result.outcome.to_string()));
    }
    Ok(summed_up(driver, policy, idle_share, &rounds))
}

/// A bare thread that was woken many times, then the pipeline as often.
struct Round {
    bare: Duration,
    times: Vec<u64>,
}

fn summed_up(driver: String, policy: IdlePolicy, idle_share: f64, rounds: &[Round]) -> IdleCost {
    let of = |values: &[f64], share| quantile(values, share).unwrap_or(0.0);
    let times = |round: &Round| round.times.iter().map(|nanos| *nanos as f64).collect::<Vec<_>>();
    let all: Vec<f64> = rounds.iter().flat_map(times).collect();
    let bare: Vec<f64> = rounds.iter().map(|round| round.bare.as_nanos() as f64).collect();
    // Round by round: how fast a core wakes up changes over seconds.
    let ratio = |(round, bare): (&Round, &f64)| of(&times(round), 0.5) / bare.max(1.0);
    let ratios: Vec<f64> = rounds.iter().zip(&bare).map(ratio).collect();
    IdleCost {
        driver,
        policy: format!("{policy:?}").to_lowercase(),
        idle_share,
        wake_ns: of(&all, 0.5) as u64,
        wake_p95_ns: of(&all, 0.95) as u64,
        plain_ns: of(&bare, 0.5) as u64,
        ratio: of(&ratios, 0.5),
    }
}

fn share_of_a_core(running: &Running) -> f64 {
    let (clock, before) = (Clock::start(), process_cpu_time());
    running.wait_timeout(NOTHING_TO_DO);
    let taken = process_cpu_time().saturating_sub(before);
    taken.as_secs_f64() / clock.elapsed().as_secs_f64()
}

/// What makes items.
struct Feeder<'a> {
    running: &'a Running,
    clock: Clock,
    feed: &'a Sender<u64>,
    bell: &'a OnceLock<Arc<Doorbell>>,
    arrived: &'a Receiver<u64>,
}

impl Feeder<'_> {
    /// Feeds from another core than the pipeline's, where there is one. Not from the calling thread: pipelines take over what that may
    /// run on.
    fn wakes_from(&self, cpu: CpuId) -> Result<Vec<u64>, IdleError> {
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("corelane-feed".to_owned());
            let thread = builder.spawn_scoped(scope, || pin_current_thread(cpu).map(|()| self.wakes()))?;
            let times = thread.join();
            let times =
                times.map_err(|_| IdleError::Failed("the thread that feeds it panicked".to_owned()))?;
            Ok(times?)
        })
    }

    /// The times that items took, each of which came when there had been nothing to do for a while.
    fn wakes(&self) -> Vec<u64> {
        let mut times = Vec::with_capacity(ITEMS);
        for _ in 0..ITEMS {
            self.running.wait_timeout(BETWEEN);
            if self.feed.send(self.clock.nanos()).is_err() {
                break;
            }
            ring(self.bell);
            match self.arrived.recv_timeout(LONGEST) {
                Ok(nanos) => times.push(nanos),
                Err(_) => break,
            }
        }
        times
    }
}

fn ring(bell: &OnceLock<Arc<Doorbell>>) {
    if let Some(bell) = bell.get() {
        bell.ring();
    }
}

/// A source of what another thread sends.
#[derive(Clone)]
struct Stamps {
    items: Receiver<u64>,
    /// Of the core that it runs on, once it is known.
    bell: Arc<OnceLock<Arc<Doorbell>>>,
}

impl Source for Stamps {
    type Item = u64;

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.bell.get_or_init(|| Arc::clone(&site.doorbell));
        Ok(())
    }

    fn produce<C: Chain<u64>>(&mut self, out: &mut Emitter<'_, u64, C>) -> Result<Produced, StageError> {
        let mut stopped_by = None;
        let next = || self.items.try_recv().map_err(|error| stopped_by = Some(error)).ok();
        out.emit_all(&mut std::iter::from_fn(next));
        Ok(match stopped_by {
            None => Produced::More,
            Some(TryRecvError::Empty) => Produced::Idle,
            Some(TryRecvError::Disconnected) => Produced::End,
        })
    }
}
