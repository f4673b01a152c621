//! The graph of the job.

use std::path::PathBuf;
use std::time::Duration;

use corelane::config::Config;
use corelane::flow::{BoxedStream, Pipeline, PipelineBuilder, Segment, Stream};
use corelane::graph::GraphErrors;
use corelane::partition::MergePolicy;
use corelane::policy::{AccumulatorPolicy, BufferPolicy, DropPolicy, ErrorPolicy, Parallelism};
use corelane::stage::{StageSite, StepCx};
use corelane_stages::dead_letters::FileSink;

use super::fault::Fault;
use super::feed::Feed;
use super::items::{Arrived, Assembled, Request};
use super::letters::content_of;
use super::order::SpanOrder;
use super::tally::Tallies;
use super::traces::TraceAccumulator;
use crate::delivery::{DeliverySink, Line};
use crate::otlp::{Repeat, decode};
use crate::trace::{AssemblyRules, SampleThreshold, Verdict, render_line};

/// Requests that may wait for each instance of `decode`, and decoded ones behind it: they can be large, and few
/// keep a core busy.
const REQUEST_BUFFER: BufferPolicy = BufferPolicy::new(64, DropPolicy::Block);

/// What the stages share with the job that runs them.
#[derive(Clone)]
pub struct JobParts {
    /// Where requests come from.
    pub feed: Feed,
    /// Where lines go.
    pub sink: DeliverySink,
    /// The options that decide what comes out.
    pub rules: AssemblyRules,
    /// How passes over the input differ.
    pub repeat: Repeat,
    /// What the stages count themselves.
    pub tallies: Tallies,
    /// What is wrong with the input.
    pub fault: Fault,
    /// Named policies, and what differs at single stages.
    pub config: Config,
    /// Where requests that cannot be decoded go; without, the first one ends the run.
    pub dead_letters: Option<PathBuf>,
}

impl JobParts {
    /// Parts that lead nowhere: for a pipeline that is looked at and not run.
    pub fn unconnected(rules: AssemblyRules, config: Config) -> Self {
        let fault = Fault::default();
        let ((feed, _), (sink, _)) = (Feed::new(fault.clone()), DeliverySink::new());
        let (repeat, tallies) = (Repeat::default(), Tallies::default());
        Self { feed, sink, rules, repeat, tallies, fault, config, dead_letters: None }
    }
}

/// Builds the pipeline.
///
/// # Errors
///
/// [`GraphErrors`], for options that the runtime refuses.
pub fn build(parts: JobParts) -> Result<Pipeline, GraphErrors> {
    let JobParts { feed, sink, rules, repeat, tallies, fault, config, dead_letters } = parts;
    let gaps = dead_letters.is_some();
    let sampling = rules.sampling;
    let time_to_live = AccumulatorPolicy::ttl(Duration::from_nanos(rules.ttl_ns)).in_event_time();
    let builder = PipelineBuilder::new("trace-assembly").with_config(&config);
    let order_tallies = tallies.clone();
    let read = builder.source("read", move |_: &StageSite| Ok(feed.source()));
    let [errors, slow, rest] = decoded(read, repeat, dead_letters)
        .transform("spans", move |_: &StageSite| {
            Ok(SpanOrder::new(rules.ttl_ns, rules.lag_ns, order_tallies.instance(), fault).with_gaps(gaps))
        })
        .parallel(Parallelism::Sequential)
        .input_buffer(REQUEST_BUFFER)
        .input_ordered()
        .accumulate("traces", time_to_live, TraceAccumulator::new(rules.ttl_ns, tallies))
        .route("keep", ["errors", "slow", "rest"], move |assembled| {
            output_for(sampling.judge(&assembled.trace))
        });
    let inputs = [
        errors.filter_map_with("errors", |_: &StageSite| Ok(rendering(Verdict::Error))).into_input(),
        slow.filter_map_with("slow", |_: &StageSite| Ok(rendering(Verdict::Slow))).into_input(),
        rest.filter_map_with("rest", move |_: &StageSite| Ok(sampling_of(sampling.sample))).into_input(),
    ];
    builder.merge("join", MergePolicy::Fair, inputs).sink("write", move |_: &StageSite| Ok(sink));
    builder.build()
}

/// The stage `decode`. What it cannot decode is for `spans` to find, or goes to the file of dead letters.
fn decoded<S>(read: Stream<S>, repeat: Repeat, dead_letters: Option<PathBuf>) -> BoxedStream<Request>
where
    S: Segment<Item = Arrived>,
{
    let Some(path) = dead_letters else {
        return read
            .map("decode", move |arrived| decode_request(&arrived, repeat))
            .parallel(Parallelism::CpuBound)
            .input_buffer(REQUEST_BUFFER)
            .boxed();
    };
    let decode = move |arrived: &Arrived| {
        let Request { index, at_ns, content } = decode_request(arrived, repeat);
        content.map(|decoded| Request { index, at_ns, content: Ok(decoded) })
    };
    let (requests, dead) = read
        .try_map("decode", decode)
        .on_error(ErrorPolicy::DeadLetter)
        .parallel(Parallelism::CpuBound)
        .input_buffer(REQUEST_BUFFER)
        .dead_letters();
    dead.sink("dead-letters", FileSink::appending(path, content_of));
    requests
}

fn decode_request(arrived: &Arrived, repeat: Repeat) -> Request {
    let Arrived { frame, at_ns } = arrived;
    let mut content = decode(frame);
    if let Ok(decoded) = &mut content {
        decoded.spans.iter_mut().for_each(|span| repeat.apply(span, frame.repetition));
    }
    Request { index: frame.index, at_ns: *at_ns, content }
}

/// The output of `keep`.
fn output_for(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Error => 0,
        Verdict::Slow => 1,
        Verdict::Sampled | Verdict::Dropped => 2,
    }
}

fn rendering(verdict: Verdict) -> impl FnMut(Assembled, &StepCx) -> Option<Line> {
    move |assembled, cx| render(&assembled, verdict, cx)
}

fn sampling_of(sample: SampleThreshold) -> impl FnMut(Assembled, &StepCx) -> Option<Line> {
    move |assembled, cx| {
        let included = sample.includes(assembled.trace.trace_id());
        included.then(|| render(&assembled, Verdict::Sampled, cx)).flatten()
    }
}

/// Renders in the step's arena; what goes on is one allocation of the line's length.
fn render(assembled: &Assembled, verdict: Verdict, cx: &StepCx) -> Option<Line> {
    let bytes = render_line(&assembled.trace, verdict, cx.arena())?.to_vec();
    Some(Line { bytes, read_at_ns: assembled.trace.is_complete().then_some(assembled.at_ns) })
}
