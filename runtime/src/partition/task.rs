//! A task: one fused chain and what feeds it.

use std::marker::PhantomData;

use super::{BatchTimer, Inlet, Progress, WaitProbe};
use crate::model::{Signal, StageId};
use crate::observe::StageAccount;
use crate::stage::{Chain, Emitter, Gate, Produced, Source, StageError, StageSite, StepCx};
use crate::sync::{BindError, HomeNode};

/// A unit of scheduling within a partition: one virtual call per step.
pub trait Task {
    /// Puts the rings that it reads where they are to lie and touches them, on the core of `partition` and before any is written to.
    ///
    /// # Errors
    /// They do not lie where they strictly must.
    fn settle(&mut self, partition: usize, home: Option<HomeNode>) -> Result<(), BindError>;
    /// Prepares user code.
    ///
    /// # Errors
    /// The first stage whose `open` failed.
    fn open(&mut self) -> Result<(), (StageId, StageError)>;
    /// Moves up to `budget` items.
    fn step(&mut self, budget: usize, cx: &StepCx) -> Progress;
    /// Looks again for something to move, up to `times` times, in a step that has found nothing so far: at the same time, so that nothing has
    /// become due. Costs less than a step while there still is nothing.
    fn look(&mut self, budget: usize, cx: &StepCx, times: u32) -> Progress;
    /// Whether a look asks user code, and not only rings.
    fn is_source(&self) -> bool;
    /// A drain has begun: a source ends.
    fn end_input(&mut self);
    /// The earliest monotonic time after `now` at which a step has something to do without new input.
    fn next_deadline(&self, now: i64) -> Option<i64>;
    /// Publishes counters, and now and then latencies; `now` is the monotonic time of the last step.
    fn report(&mut self, now: i64);
    /// Releases user code; counts what is still inside as discarded when `discard`. Called after every partition has
    /// stopped stepping.
    fn close(&mut self, discard: bool);
    /// Drops the task; what `close` or `Drop` of a stage threw goes to `failures` under the stage's name.
    fn release(self: Box<Self>, failures: &mut Vec<(StageId, StageError)>);
}

/// Builds a task on its own core.
pub type TaskBlueprint = Box<dyn FnOnce() -> Result<Box<dyn Task>, (StageId, StageError)> + Send>;

/// A source and the chain behind it.
pub struct SourceTask<S: Source, C> {
    source: S,
    chain: C,
    site: StageSite,
    gate: Gate,
    timer: BatchTimer,
    produced: u64,
    wait_until: i64,
    ended: bool,
    end_sent: bool,
}

impl<S: Source, C: Chain<S::Item>> SourceTask<S, C> {
    /// Feeds `chain` from `source`.
    pub fn new(source: S, chain: C, site: StageSite) -> Self {
        let (gate, timer) = (Gate::new(&site), BatchTimer::new(&site));
        let wait_until = i64::MIN;
        Self { source, chain, site, gate, timer, produced: 0, wait_until, ended: false, end_sent: false }
    }

    /// What came of asking the source, up to `times` times while it has nothing; what it gave the chain has been flushed. Once for steps and looks: of
    /// two copies that are inlined the one in steps takes more instructions for an item.
    #[inline(never)]
    fn produce(&mut self, budget: usize, cx: &StepCx, times: u32) -> Progress {
        let mut out = Emitter::new(&mut self.chain, cx, budget);
        if out.room() == 0 {
            let source = &self.source;
            self.ended = crate::stage::catch(|| source.is_exhausted()).unwrap_or(false);
            return if self.ended { Progress::Worked(1) } else { Progress::Blocked };
        }
        let source = &mut self.source;
        let said = crate::stage::catch(|| {
            // An answer is not kept before it is the last: it is read whole where it has been written in part, for which the core waits.
            let mut left = times;
            loop {
                left -= 1;
                match source.produce(&mut out) {
                    Ok(Produced::Idle) if left > 0 && out.is_untouched() => {}
                    said => break said,
                }
            }
        });
        // Before anything is made of the answer: somebody may wait for what went out.
        out.flush();
        let (emitted, reached, inner) = (out.emitted(), out.reached(), out.take_error());
        if let Some(time) = reached {
            self.site.heard(Signal::Watermark(time));
        }
        self.produced += emitted;
        let said = match (said, inner) {
            (_, Some(error)) | (Err(error) | Ok(Err(error)), None) => {
                self.gate.fail(error, cx);
                self.ended = true;
                Produced::End
            }
            (Ok(Ok(said)), None) => said,
        };
        match said {
            Produced::End => self.ended = true,
            Produced::Until(time) => self.wait_until = time,
            Produced::More | Produced::Idle => {}
        }
        match said {
            // A time that has come is no reason to wait.
            Produced::Until(time) if time <= cx.now().monotonic => Progress::Worked(emitted.max(1) as usize),
            Produced::Idle | Produced::Until(_) if emitted == 0 => Progress::Idle,
            _ => Progress::Worked(emitted.max(1) as usize),
        }
    }
}

impl<S: Source, C: Chain<S::Item>> Task for SourceTask<S, C> {
    fn settle(&mut self, _partition: usize, _home: Option<HomeNode>) -> Result<(), BindError> {
        Ok(()) // it reads none
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|site| self.source.open(site))?;
        self.chain.open()
    }

    fn step(&mut self, budget: usize, cx: &StepCx) -> Progress {
        let (started, before) = (self.timer.start(), self.produced);
        let mut progress = Progress::ticked(self.chain.tick(cx));
        if !self.ended {
            if cx.sources_paused() {
                progress = progress.and(Progress::Blocked);
            } else if cx.now().monotonic >= self.wait_until {
                progress = progress.and(self.produce(budget, cx, 1));
            }
        } else if !self.end_sent && self.chain.takes_signal() {
            self.chain.signal(Signal::End, cx);
            self.end_sent = true;
            progress = Progress::Worked(1);
        }
        self.chain.flush(cx);
        self.timer.stop(started, self.produced > before);
        if self.chain.is_finished() { Progress::Drained } else { progress }
    }

    #[inline]
    fn look(&mut self, budget: usize, cx: &StepCx, times: u32) -> Progress {
        if self.ended {
            return self.step(budget, cx);
        }
        if cx.now().monotonic < self.wait_until {
            return Progress::Idle;
        }
        let started = self.timer.start();
        let progress = self.produce(budget, cx, times);
        self.timer.stop(started, progress != Progress::Idle);
        progress
    }

    fn is_source(&self) -> bool {
        true
    }

    fn end_input(&mut self) {
        self.ended = true;
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        let own = (!self.ended && self.wait_until > now).then_some(self.wait_until);
        crate::stage::earliest(own, self.chain.next_deadline(now))
    }

    fn report(&mut self, now: i64) {
        self.timer.publish(now);
        let n = self.produced;
        let mut account = StageAccount { received: n, passed: n, emitted: n, ..StageAccount::default() };
        self.gate.account(&mut account);
        self.site.publish(&account, self.gate.take_last_error(), self.end_sent);
        self.chain.report(n);
    }

    fn close(&mut self, discard: bool) {
        self.chain.close(discard);
        self.timer.finish();
        self.report(i64::MAX);
        self.site.closed(discard);
    }

    fn release(self: Box<Self>, failures: &mut Vec<(StageId, StageError)>) {
        let Self { source, chain, site, .. } = *self;
        site.release(source, failures);
        chain.release(failures);
    }
}

/// After so many looks in vain the memory of what comes next is fetched beforehand, again and again. A producer that is at work on a batch is disturbed
/// by that: it would have published it by then.
const FETCH_AFTER: u32 = 256;

/// Rings and the chain behind them.
pub struct InletTask<T, C> {
    inlet: Inlet<T>,
    chain: C,
    wait: WaitProbe,
    timer: BatchTimer,
    /// Looks in vain since a step moved something.
    vain: u32,
    end_sent: bool,
    items: PhantomData<fn(T)>,
}

impl<T: Send + 'static, C: Chain<T>> InletTask<T, C> {
    /// Feeds `chain`, whose first stage is at `site`, from `inlet`.
    pub fn new(inlet: Inlet<T>, chain: C, site: &StageSite) -> Self {
        let (wait, timer) = (WaitProbe::new(site), BatchTimer::new(site));
        Self { inlet, chain, wait, timer, vain: 0, end_sent: false, items: PhantomData }
    }

    /// Takes what there is, of a step that began at `started` if it is timed and whose time has been let pass in the chain; `ticked` if that moved
    /// anything. What need not be done before the first item comes afterwards: where a core waits for it, the way from the ring to the stage counts.
    #[inline(always)]
    fn work(&mut self, started: Option<i64>, ticked: bool, budget: usize, cx: &StepCx) -> Progress {
        let moved = self.inlet.take_at_once(&mut self.chain, budget, cx);
        if moved > 0 {
            self.chain.flush(cx);
        }
        self.work_on(moved, started, ticked, budget, cx)
    }

    /// Behind the first `moved` items.
    #[inline(never)]
    fn work_on(
        &mut self,
        mut moved: usize,
        started: Option<i64>,
        mut ticked: bool,
        budget: usize,
        cx: &StepCx,
    ) -> Progress {
        self.inlet.begin(budget, cx);
        while moved < budget {
            let n = self.inlet.pump(&mut self.chain, budget - moved, cx);
            if n == 0 {
                break;
            }
            moved += n;
        }
        if moved > 0 {
            self.vain = 0;
        }
        self.wait.look(&self.inlet, moved > 0, cx.now().monotonic);
        if !self.end_sent && self.inlet.is_ended() && self.chain.takes_signal() {
            self.chain.signal(Signal::End, cx);
            self.end_sent = true;
            moved += 1;
        }
        self.chain.flush(cx);
        self.timer.stop(started, moved > 0);
        ticked |= self.inlet.finish(|| self.chain.room());
        if self.chain.is_finished() {
            Progress::Drained
        } else if moved > 0 {
            Progress::Worked(moved)
        } else if ticked {
            Progress::Worked(1)
        } else if self.chain.room() == 0 && self.inlet.has_input() {
            Progress::Blocked
        } else {
            Progress::Idle
        }
    }
}

impl<T: Send + 'static, C: Chain<T>> Task for InletTask<T, C> {
    fn settle(&mut self, partition: usize, home: Option<HomeNode>) -> Result<(), BindError> {
        self.inlet.settle(partition, home)
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.chain.open()
    }

    fn step(&mut self, budget: usize, cx: &StepCx) -> Progress {
        let started = self.timer.start();
        let ticked = self.chain.tick(cx);
        self.work(started, ticked, budget, cx)
    }

    #[inline]
    fn look(&mut self, budget: usize, cx: &StepCx, times: u32) -> Progress {
        for _ in 0..times {
            if self.inlet.has_input() {
                let started = self.timer.start();
                return self.work(started, false, budget, cx);
            }
            if self.vain >= FETCH_AFTER {
                self.inlet.fetch_next();
            }
        }
        self.vain = self.vain.saturating_add(times);
        Progress::Idle
    }

    fn is_source(&self) -> bool {
        false
    }

    fn end_input(&mut self) {}

    fn next_deadline(&self, now: i64) -> Option<i64> {
        crate::stage::earliest(self.inlet.next_deadline(now), self.chain.next_deadline(now))
    }

    fn report(&mut self, now: i64) {
        self.wait.publish(now);
        self.timer.publish(now);
        self.inlet.report();
        self.chain.report(self.inlet.popped());
    }

    fn close(&mut self, discard: bool) {
        self.wait.finish();
        self.timer.finish();
        let received = self.inlet.popped();
        self.inlet.close();
        self.chain.close(discard);
        self.chain.report(received);
    }

    fn release(self: Box<Self>, failures: &mut Vec<(StageId, StageError)>) {
        self.chain.release(failures);
    }
}
