//! A stage's circuit breaker at work: it times calls, tells the log and whoever inspects, and pauses sources.

use std::sync::Arc;

use super::StageSite;
use super::breaker::{Breaker, Call, Calls};
use super::pause::SourcePause;
use crate::model::StageId;
use crate::observe::{BreakerState, CallClock, LogLevel, Logger, StageAccount, StageCells};
use crate::policy::{CircuitBreakerPolicy, WhileOpen};

/// The breaker of a stage instance and what it acts on.
pub(super) struct Guard {
    breaker: Breaker,
    while_open: WhileOpen,
    clock: Arc<dyn CallClock>,
    cells: Arc<StageCells>,
    logger: Arc<dyn Logger>,
    stage: StageId,
    instance: usize,
    pause: Arc<SourcePause>,
    pausing: bool,
    slow_nanos: i64,
    slow_calls: u64,
    refused: u64,
    opened: u64,
    half_opened: u64,
    closed: u64,
}

impl Guard {
    pub(super) fn new(policy: &CircuitBreakerPolicy, site: &StageSite) -> Self {
        site.cells.set_breaker(BreakerState::Closed);
        Self {
            breaker: Breaker::new(policy),
            while_open: policy.while_open,
            clock: Arc::clone(&site.clock),
            cells: Arc::clone(&site.cells),
            logger: Arc::clone(&site.context.logger),
            stage: site.context.stage_id.clone(),
            instance: site.context.instance,
            pause: Arc::clone(&site.source_pause),
            pausing: false,
            slow_nanos: i64::try_from(policy.latency_threshold.as_nanos()).unwrap_or(i64::MAX),
            slow_calls: 0,
            refused: 0,
            opened: 0,
            half_opened: 0,
            closed: 0,
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: i64) {
        if self.breaker.tick(now) {
            self.half_opened += 1;
            let probes = self.breaker.permits();
            self.changed(BreakerState::Open, LogLevel::Info, &format!("{probes} calls are let through"));
        }
    }

    /// Calls that may be made before the state changes.
    pub(super) fn permits(&self) -> u64 {
        self.breaker.permits()
    }

    /// Whether what may not be called goes to the dead letters.
    pub(super) fn turns_away(&self) -> bool {
        self.while_open == WhileOpen::DeadLetter
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        self.breaker.deadline()
    }

    /// Makes a permitted call; `failed` says whether it did.
    pub(super) fn call<R>(&mut self, call: impl FnOnce() -> R, failed: impl FnOnce(&R) -> bool) -> R {
        let start = self.clock.nanos();
        let result = call();
        let end = self.clock.nanos();
        let nanos = end.saturating_sub(start);
        self.slow_calls += u64::from(nanos > self.slow_nanos);
        let before = self.breaker.state();
        if let Some(calls) = self.breaker.record(end, Call { failed: failed(&result), nanos }) {
            self.decided(before, calls);
        }
        result
    }

    /// No call follows: nothing would close the breaker, and the sources of others need not wait for it.
    pub(super) fn retire(&mut self) {
        self.pause_sources(false);
    }

    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    #[cold]
    fn decided(&mut self, before: BreakerState, Calls { all, failed, slow }: Calls) {
        let level = match self.breaker.state() {
            BreakerState::Open => {
                self.opened += 1;
                LogLevel::Warn
            }
            _ => {
                self.closed += 1;
                LogLevel::Info
            }
        };
        self.changed(before, level, &format!("of {all} calls {failed} failed and {slow} were slow"));
    }

    #[cold]
    fn changed(&mut self, before: BreakerState, level: LogLevel, why: &str) {
        let now = self.breaker.state();
        self.cells.set_breaker(now);
        let (stage, instance) = (&self.stage, self.instance);
        self.logger
            .log(level, &format!("stage {stage}/{instance}: circuit breaker {before} -> {now}: {why}"));
        self.pause_sources(now == BreakerState::Open && self.while_open == WhileOpen::PauseSources);
    }

    fn pause_sources(&mut self, pausing: bool) {
        if pausing != self.pausing {
            self.pausing = pausing;
            if pausing { self.pause.pause() } else { self.pause.resume() }
        }
    }

    pub(super) fn account(&self, account: &mut StageAccount) {
        account.slow_calls = self.slow_calls;
        account.refused = self.refused;
        account.breaker_opened = self.opened;
        account.breaker_half_opened = self.half_opened;
        account.breaker_closed = self.closed;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pause_sources(false);
    }
}
