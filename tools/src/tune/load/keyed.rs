//! The pipeline `keyed`: pairs made on every core of their stage, exchanged by key, summed and counted where the key lives.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use corelane::engine::ExecutionOptions;
use corelane::flow::{Collected, Pipeline, PipelineBuilder};
use corelane::graph::{GraphErrors, ValidatedGraph};
use corelane::policy::Parallelism;
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use corelane_bench::stats::{below, splitmix};

use super::recorder::Recorder;
use super::{Load, LoadError, Ran, Schedule, Taken, run};
use crate::clock::Clock;

/// What flows.
#[derive(Debug, Clone, Copy)]
struct Pair {
    key: u64,
    value: u64,
    /// When it was due, on the clock of the run; 0 if it is not measured.
    due_ns: u64,
}

/// Pairs over so many keys.
#[derive(Debug, Clone, Copy)]
pub struct KeyedLoad {
    /// Distinct keys.
    pub keys: u64,
}

impl Default for KeyedLoad {
    /// A thousand: few enough to stay in a cache.
    fn default() -> Self {
        Self { keys: 1_000 }
    }
}

impl KeyedLoad {
    fn build(
        self,
        schedule: Schedule,
        recorder: Recorder,
    ) -> Result<(Pipeline, Collected<u64>), GraphErrors> {
        let (keys, mask) = (self.keys, recorder.mask());
        let clock = recorder.clock();
        let builder = PipelineBuilder::new("keyed");
        let source = move |site: &StageSite| Ok(Pairs::new(keys, mask, schedule, clock, site));
        let mut recorder = recorder;
        let summed = move |(sum, count): &mut (u64, u64), pair: Pair| {
            *sum = sum.wrapping_add(pair.value);
            *count += 1;
            if pair.due_ns != 0 {
                recorder.done(pair.due_ns);
            }
        };
        let pairs = builder.source("pairs", source).parallel(Parallelism::CpuBound);
        let sums = pairs.key_by(|pair| pair.key).fold("sum-and-count", || (0, 0), summed);
        let counted = sums.fold("totals", 0, |all, (_, (_, count))| all + count);
        Ok((builder.build()?, counted))
    }
}

impl Load for KeyedLoad {
    fn graph(&self) -> Result<ValidatedGraph, LoadError> {
        let schedule = Schedule::at_rate(1.0, Duration::ZERO, Duration::ZERO);
        let (pipeline, _) = self.build(schedule, Recorder::new(&schedule, Clock::start())?)?;
        Ok(pipeline.validated().clone())
    }

    fn items(&self) -> &'static str {
        "pairs"
    }

    fn measured_share(&self) -> f64 {
        1.0
    }

    fn run(
        &self,
        options: ExecutionOptions,
        schedule: Schedule,
        interrupted: &AtomicBool,
    ) -> Result<Taken, LoadError> {
        let recorder = Recorder::new(&schedule, Clock::start())?;
        let recorded = recorder.recorded();
        let (pipeline, counted) = self.build(schedule, recorder)?;
        match run(pipeline, options, &schedule, interrupted)? {
            Ran::TooMuch => return Ok(Taken::TooMuch),
            Ran::Interrupted => return Ok(Taken::Interrupted),
            Ran::Done => {}
        }
        let count: u64 = counted.take().iter().sum();
        if count != schedule.items() {
            return Err(LoadError::Failed(format!("{count} of {} pairs were summed", schedule.items())));
        }
        Ok(Taken::All(recorded.take()))
    }
}

/// Emits every n-th pair of the schedule once it is due.
struct Pairs {
    keys: u64,
    mask: u64,
    schedule: Schedule,
    clock: Clock,
    next: u64,
    step: u64,
}

impl Pairs {
    fn new(keys: u64, mask: u64, schedule: Schedule, clock: Clock, site: &StageSite) -> Self {
        let (next, step) = (site.context.instance as u64, site.context.parallelism.max(1) as u64);
        Self { keys, mask, schedule, clock, next, step }
    }

    /// Those that are due by `now_ns`.
    fn due_by(&mut self, now_ns: u64) -> impl Iterator<Item = Pair> {
        std::iter::from_fn(move || {
            let due_ns = self.schedule.due_ns(self.next);
            if self.next >= self.schedule.items() || due_ns > now_ns {
                return None;
            }
            let random = splitmix(self.next);
            self.next += self.step;
            let measured = random & self.mask == 0;
            Some(Pair {
                key: below(random, self.keys),
                value: random & 0xFFFF,
                due_ns: if measured { due_ns } else { 0 },
            })
        })
    }
}

impl Source for Pairs {
    type Item = Pair;

    fn produce<C: Chain<Pair>>(&mut self, out: &mut Emitter<'_, Pair, C>) -> Result<Produced, StageError> {
        let now_ns = self.clock.nanos();
        let now = out.now().monotonic;
        out.emit_all(&mut self.due_by(now_ns));
        if self.next >= self.schedule.items() {
            return Ok(Produced::End);
        }
        let due_ns = self.schedule.due_ns(self.next);
        Ok(match i64::try_from(due_ns.saturating_sub(now_ns)) {
            Ok(0) | Err(_) => Produced::More,
            Ok(wait) => Produced::Until(now.saturating_add(wait)),
        })
    }

    fn is_exhausted(&self) -> bool {
        self.next >= self.schedule.items()
    }
}
