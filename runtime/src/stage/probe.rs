//! Looking at items on their way into a stage: spans of those that are sampled, and how old they are.

use std::sync::Arc;

use super::gate::catch;
use super::{Chain, StageError, StageSite, StepCx};
use crate::model::{Signal, StageId, Timestamp, TraceContext};
use crate::observe::{LatencyRecorder, StageCells, Tracer};

/// Looks at items that are given to a chain.
pub trait Probe<T>: 'static {
    /// Gives `items` to `chain`.
    fn run<I: Iterator<Item = T>, C: Chain<T>>(&mut self, items: I, chain: &mut C, cx: &StepCx);

    /// Publishes what is left to publish.
    fn close(&mut self) {}
}

/// A chain with a probe in front of it. Not a stage: it counts nothing.
pub struct Probed<P, C> {
    probe: P,
    chain: C,
}

impl<P, C> Probed<P, C> {
    /// Puts `probe` in front of `chain`.
    pub fn new(probe: P, chain: C) -> Self {
        Self { probe, chain }
    }
}

impl<T: 'static, P: Probe<T>, C: Chain<T>> Chain<T> for Probed<P, C> {
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        self.probe.run(items, &mut self.chain, cx);
    }

    #[inline]
    fn room(&mut self) -> usize {
        self.chain.room()
    }

    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.chain.takes_signal()
    }

    #[inline]
    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        self.chain.signal(signal, cx);
    }

    #[inline]
    fn tick(&mut self, cx: &StepCx) -> bool {
        self.chain.tick(cx)
    }

    #[inline]
    fn flush(&mut self, cx: &StepCx) {
        self.chain.flush(cx);
    }

    #[inline]
    fn next_deadline(&self, now: i64) -> Option<i64> {
        self.chain.next_deadline(now)
    }

    #[inline]
    fn is_finished(&self) -> bool {
        self.chain.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.chain.open()
    }

    fn report(&mut self, received: u64) {
        self.chain.report(received);
    }

    fn close(&mut self, discard: bool) {
        self.probe.close();
        self.chain.close(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.chain.release(failures);
    }
}

/// Makes the probe of a stage instance, on its own core.
pub trait ProbeFactory<T>: Clone + Send + Sync + 'static {
    /// What is made.
    type Probe: Probe<T>;

    /// Makes it for the stage instance at `site`, the one that the items are given to.
    fn make(self, site: &StageSite) -> Self::Probe;
}

/// A span of the stage for each item whose trace is sampled, under the item's own.
///
/// Where a chain is fused, its stages take turns with every item: the span of one stage ends where that of the next stage
/// or the next item starts, or with the batch.
#[derive(Clone)]
pub struct Spans<F>(F);

impl<F> Spans<F> {
    /// Finds the trace of an item by `trace`.
    pub fn new(trace: F) -> Self {
        Self(trace)
    }
}

impl<T, F> ProbeFactory<T> for Spans<F>
where
    T: 'static,
    F: Fn(&T) -> Option<&TraceContext> + Clone + Send + Sync + 'static,
{
    type Probe = SpanProbe<F>;

    fn make(self, site: &StageSite) -> SpanProbe<F> {
        let tracer = &site.context.tracer;
        let tracer = tracer.is_enabled().then(|| Arc::clone(tracer));
        SpanProbe { trace: self.0, tracer, stage: site.context.stage_id.clone() }
    }
}

/// See [`Spans`].
pub struct SpanProbe<F> {
    trace: F,
    /// None where nobody records spans.
    tracer: Option<Arc<dyn Tracer>>,
    stage: StageId,
}

impl<F> SpanProbe<F> {
    /// Starts the span of each item. A function of its own, as those of `stage::ops`.
    #[inline(always)]
    fn tracing<T>(&self, cx: &StepCx) -> impl FnMut(&T)
    where
        F: Fn(&T) -> Option<&TraceContext>,
    {
        let Self { trace, tracer, stage } = self;
        move |item| {
            if let Some(tracer) = tracer {
                cx.end_span();
                // A panic of the user's function must not unwind through the chain.
                match catch(|| trace(item).filter(|trace| trace.is_sampled())) {
                    Ok(None) => {}
                    Ok(Some(parent)) => cx.start_span(tracer, stage, parent),
                    Err(error) => cx.fail(stage, error),
                }
            }
        }
    }
}

impl<T, F> Probe<T> for SpanProbe<F>
where
    T: 'static,
    F: Fn(&T) -> Option<&TraceContext> + 'static,
{
    #[inline(always)]
    fn run<I: Iterator<Item = T>, C: Chain<T>>(&mut self, items: I, chain: &mut C, cx: &StepCx) {
        chain.run(items.inspect(self.tracing(cx)), cx);
        cx.end_span();
    }
}

/// How old items are when they come to the stage, by the wall clock: of each batch the first.
#[derive(Clone)]
pub struct Ages<F>(F);

impl<F> Ages<F> {
    /// Finds the time of an item by `time`.
    pub fn new(time: F) -> Self {
        Self(time)
    }
}

impl<T, F> ProbeFactory<T> for Ages<F>
where
    T: 'static,
    F: Fn(&T) -> Timestamp + Clone + Send + Sync + 'static,
{
    type Probe = AgeProbe<F>;

    fn make(self, site: &StageSite) -> AgeProbe<F> {
        let (stage, cells) = (site.context.stage_id.clone(), Arc::clone(&site.cells));
        AgeProbe { time: self.0, ages: LatencyRecorder::default(), stage, cells }
    }
}

/// See [`Ages`].
pub struct AgeProbe<F> {
    time: F,
    ages: LatencyRecorder,
    stage: StageId,
    cells: Arc<StageCells>,
}

impl<T, F> Probe<T> for AgeProbe<F>
where
    T: 'static,
    F: Fn(&T) -> Timestamp + 'static,
{
    #[inline(always)]
    fn run<I: Iterator<Item = T>, C: Chain<T>>(&mut self, mut items: I, chain: &mut C, cx: &StepCx) {
        let first = items.next();
        if let Some(first) = &first {
            let time = &self.time;
            match catch(|| time(first)) {
                Ok(time) => {
                    let now = cx.now();
                    self.ages.record(now.wall.as_nanos().saturating_sub(time.as_nanos()));
                    self.ages.publish(&self.cells.latency, now.monotonic);
                }
                Err(error) => cx.fail(&self.stage, error),
            }
        }
        chain.run(first.into_iter().chain(items), cx);
    }

    fn close(&mut self) {
        self.ages.finish(&self.cells.latency);
    }
}
