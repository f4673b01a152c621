//! The whole job on one thread, as plainly as possible: what the pipeline is compared with.

use std::collections::{HashMap, HashSet};

use bumpalo::Bump;
use serde::Serialize;

use super::assemble::{Added, Trace, TraceState};
use super::render::render_line;
use super::sample::{SampleThreshold, SamplingRules, Verdict};
use super::span::{Span, TraceId};
use super::watermark::{Watermark, is_expired};
use crate::otlp::{DecodeError, Frame, InputError, Repeat, decode};

/// The options that decide what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblyRules {
    /// Which traces are kept.
    pub sampling: SamplingRules,
    /// Event time an incomplete trace waits after its first end; nanoseconds.
    pub ttl_ns: u64,
    /// How far the watermark stays behind the latest end; nanoseconds.
    pub lag_ns: u64,
}

impl Default for AssemblyRules {
    /// Those of `corelane run trace-assembly` without options.
    fn default() -> Self {
        let sample = SampleThreshold::new(0.1).unwrap_or(SampleThreshold::ALL);
        let sampling = SamplingRules { slow_ns: 250_000_000, sample };
        Self { sampling, ttl_ns: 30_000_000_000, lag_ns: 5_000_000_000 }
    }
}

/// What happened, counted. `spans` is the sum of those in emitted traces and `duplicates`; the emitted traces
/// (`complete`, `partial_by_ttl`, `partial_at_end`) are the sum of the kept and `sampled_out`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // each name is the thing it counts
pub struct AssemblyCounts {
    pub requests: u64,
    pub spans: u64,
    pub bad_spans: u64,
    pub traces: u64,
    pub complete: u64,
    pub partial_by_ttl: u64,
    pub partial_at_end: u64,
    pub reopened: u64,
    pub duplicates: u64,
    pub kept_error: u64,
    pub kept_slow: u64,
    pub kept_sampled: u64,
    pub sampled_out: u64,
    pub output_lines: u64,
}

/// Why a reference run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The input cannot be read.
    #[error(transparent)]
    Input(InputError),
    /// A request cannot be decoded.
    #[error(transparent)]
    Decode(DecodeError),
    /// The line could not be delivered.
    #[error("{0}")]
    Output(E),
}

/// Open traces and counts. Lines go to the function given to [`request`](Self::request) and
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct ReferenceAssembly {
    rules: AssemblyRules,
    open: HashMap<TraceId, TraceState>,
    emitted: HashSet<TraceId>,
    watermark: Watermark,
    counts: AssemblyCounts,
    scratch: Bump,
}

impl ReferenceAssembly {
    /// No trace open, nothing counted.
    pub fn new(rules: AssemblyRules) -> Self {
        ReferenceAssembly {
            rules,
            open: HashMap::new(),
            emitted: HashSet::new(),
            watermark: Watermark::new(rules.lag_ns),
            counts: AssemblyCounts::default(),
            scratch: Bump::new(),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> AssemblyCounts {
        self.counts
    }

    /// Takes the spans of one request, in order.
    ///
    /// # Errors
    ///
    /// What `deliver` returns; the assembly must not be used any more then.
    pub fn request<E>(
        &mut self,
        spans: Vec<Span>,
        bad_spans: usize,
        deliver: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.counts.requests += 1;
        self.counts.bad_spans += bad_spans as u64;
        for span in spans {
            self.add(span, deliver)?;
        }
        let watermark = self.watermark.advance();
        let ttl_ns = self.rules.ttl_ns;
        let expired = |state: &TraceState| {
            state.first_ts().is_some_and(|first_ts| is_expired(first_ts, ttl_ns, watermark))
        };
        let due: Vec<TraceState> =
            self.open.extract_if(|_, state| expired(state)).map(|(_, state)| state).collect();
        for state in due {
            self.counts.partial_by_ttl += 1;
            self.emit(state.finish(false), deliver)?;
        }
        Ok(())
    }

    /// Emits what is still open and returns the counts.
    ///
    /// # Errors
    ///
    /// What `deliver` returns.
    pub fn finish<E>(
        mut self,
        deliver: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<AssemblyCounts, E> {
        for (_, state) in std::mem::take(&mut self.open) {
            self.counts.partial_at_end += 1;
            self.emit(state.finish(false), deliver)?;
        }
        Ok(self.counts)
    }

    fn add<E>(&mut self, span: Span, deliver: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let trace_id = span.trace_id;
        self.counts.spans += 1;
        self.watermark.observe(span.end_ns);
        if !self.open.contains_key(&trace_id) {
            self.counts.reopened += u64::from(self.emitted.contains(&trace_id));
        }
        let state = self.open.entry(trace_id).or_default();
        if state.add(span) == Added::Duplicate {
            self.counts.duplicates += 1;
        } else if state.is_complete() {
            self.counts.complete += 1;
            let trace = self.open.remove(&trace_id).and_then(|state| state.finish(true));
            self.emit(trace, deliver)?;
        }
        Ok(())
    }

    fn emit<E>(
        &mut self,
        trace: Option<Trace>,
        deliver: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(trace) = trace else { return Ok(()) }; // a state is opened by its first span
        self.counts.traces += u64::from(self.emitted.insert(*trace.trace_id()));
        let verdict = self.rules.sampling.judge(&trace);
        match verdict {
            Verdict::Error => self.counts.kept_error += 1,
            Verdict::Slow => self.counts.kept_slow += 1,
            Verdict::Sampled => self.counts.kept_sampled += 1,
            Verdict::Dropped => {
                self.counts.sampled_out += 1;
                return Ok(());
            }
        }
        self.counts.output_lines += 1;
        self.scratch.reset();
        render_line(&trace, verdict, &self.scratch).map_or(Ok(()), deliver)
    }
}

/// Runs the job over all requests and hands every line, newline included, to `deliver`, in an order that is not
/// specified. `observe` is called after each request with the counts so far (for a progress line).
///
/// # Errors
///
/// The first request that cannot be read or decoded, or the first line that could not be delivered.
pub fn run_reference<E>(
    requests: impl IntoIterator<Item = Result<Frame, InputError>>,
    rules: AssemblyRules,
    repeat: Repeat,
    mut deliver: impl FnMut(&[u8]) -> Result<(), E>,
    mut observe: impl FnMut(&AssemblyCounts),
) -> Result<AssemblyCounts, RunError<E>> {
    let mut assembly = ReferenceAssembly::new(rules);
    for frame in requests {
        let frame = frame.map_err(RunError::Input)?;
        let mut decoded = decode(&frame).map_err(RunError::Decode)?;
        decoded.spans.iter_mut().for_each(|span| repeat.apply(span, frame.repetition));
        assembly.request(decoded.spans, decoded.bad.len(), &mut deliver).map_err(RunError::Output)?;
        observe(&assembly.counts());
    }
    assembly.finish(&mut deliver).map_err(RunError::Output)
}
