//! Spans and measurements through OpenTelemetry's own API. Feature `opentelemetry`.
//!
//! What is recorded goes to whatever the application has set up behind that API: an SDK with its exporters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::sync::ShardedLock;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, TraceContextExt, TraceFlags, Tracer as OtelTracer,
};
use opentelemetry::{Context, KeyValue, Value};

use super::{MetricKind, MetricValue, Metrics, MetricsSnapshot, Tracer};
use crate::model::{AttributeValue, Attributes, SpanId, TraceContext, TraceId, TraceState};

/// Maps of open spans; a span is in that of its id, so that cores seldom meet.
const SHARDS: usize = 64;
/// Open spans of a shard at most: spans that are never ended must not fill the memory.
const MOST_OPEN: usize = 4_096;

/// Spans of a shard that have not ended.
type OpenSpans<S> = HashMap<(TraceId, SpanId), S>;

/// Records spans through an OpenTelemetry tracer.
///
/// Looking up an open span takes a lock of one of 64 shards for a moment. Of more than some 260 000 open spans, further ones
/// are ended at once, and counted: see [`left_out`](Self::left_out).
#[derive(Debug)]
pub struct OpenTelemetryTracer<T: OtelTracer> {
    tracer: T,
    open: [Mutex<OpenSpans<T::Span>>; SHARDS],
    left_out: AtomicU64,
}

impl<T: OtelTracer> OpenTelemetryTracer<T> {
    /// Records through `tracer`.
    pub fn new(tracer: T) -> Self {
        Self { tracer, open: std::array::from_fn(|_| Mutex::default()), left_out: AtomicU64::new(0) }
    }

    /// Spans that were ended as soon as they were started, because too many were open.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn shard(&self, id: SpanId) -> MutexGuard<'_, HashMap<(TraceId, SpanId), T::Span>> {
        // Ids are random: any byte will do.
        let shard = usize::from(id.0[7]) % SHARDS;
        self.open[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_otel(context: &TraceContext) -> SpanContext {
    let state = context.state().iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(context.trace_id.0),
        opentelemetry::SpanId::from_bytes(context.span_id.0),
        TraceFlags::new(context.flags),
        true,
        opentelemetry::trace::TraceState::from_key_value(state).unwrap_or_default(),
    )
}

/// The context of a span under `parent`, whose baggage goes on.
fn from_otel(span: &SpanContext, parent: Option<&TraceContext>) -> TraceContext {
    let (trace_id, span_id) = (TraceId(span.trace_id().to_bytes()), SpanId(span.span_id().to_bytes()));
    let state = span.trace_state().header().parse::<TraceState>().unwrap_or_default();
    let mut context = parent.cloned().unwrap_or_default().with_state(state);
    (context.trace_id, context.span_id) = (trace_id, span_id);
    context.flags = span.trace_flags().to_u8();
    context
}

fn key_value(name: &str, value: &AttributeValue) -> KeyValue {
    let value = match (value.as_bool(), value.as_int(), value.as_float(), value.as_str()) {
        (Some(bool), ..) => Value::Bool(bool),
        (_, Some(int), ..) => Value::I64(int),
        (_, _, Some(float), _) => Value::F64(float),
        (.., Some(text)) => Value::String(text.to_owned().into()),
        _ => Value::String(format!("{value:?}").into()),
    };
    KeyValue::new(name.to_owned(), value)
}

impl<T> Tracer for OpenTelemetryTracer<T>
where
    T: OtelTracer + Send + Sync,
    T::Span: Send,
{
    fn start_span(&self, name: &str, parent: Option<&TraceContext>) -> TraceContext {
        let above = match parent {
            Some(parent) if parent.is_valid() => Context::new().with_remote_span_context(to_otel(parent)),
            _ => Context::new(),
        };
        let mut span = self.tracer.build_with_context(SpanBuilder::from_name(name.to_owned()), &above);
        let context = from_otel(span.span_context(), parent);
        if span.is_recording() {
            let mut open = self.shard(context.span_id);
            if open.len() < MOST_OPEN {
                open.insert((context.trace_id, context.span_id), span);
            } else {
                drop(open);
                span.end();
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        context
    }

    fn end_span(&self, context: &TraceContext) {
        let span = self.shard(context.span_id).remove(&(context.trace_id, context.span_id));
        // Outside the lock: the end may export.
        if let Some(mut span) = span {
            span.end();
        }
    }

    fn add_event(&self, context: &TraceContext, name: &str, attributes: &Attributes) {
        let attributes = attributes.iter().map(|(name, value)| key_value(name, value)).collect();
        if let Some(span) = self.shard(context.span_id).get_mut(&(context.trace_id, context.span_id)) {
            span.add_event(name.to_owned(), attributes);
        }
    }
}

#[derive(Debug)]
enum Instrument {
    Counter(Counter<u64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
}

/// Records measurements of stages through an OpenTelemetry meter.
///
/// One instrument per name, made when it is first used; under one name only the kind that came first is recorded, and of
/// counters nothing below zero. Each call allocates its tags: record once per batch.
#[derive(Debug)]
pub struct OpenTelemetryMetrics {
    meter: Meter,
    instruments: ShardedLock<HashMap<String, Instrument>>,
}

fn tags_of(tags: &[(&str, &str)]) -> Vec<KeyValue> {
    tags.iter().map(|(name, value)| KeyValue::new((*name).to_owned(), (*value).to_owned())).collect()
}

impl OpenTelemetryMetrics {
    /// Records through `meter`.
    pub fn new(meter: Meter) -> Self {
        Self { meter, instruments: ShardedLock::default() }
    }

    fn with(&self, name: &str, make: impl FnOnce(&Meter) -> Instrument, record: impl Fn(&Instrument)) {
        let known = self.instruments.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(instrument) = known.get(name) {
            return record(instrument);
        }
        drop(known);
        let mut all = self.instruments.write().unwrap_or_else(PoisonError::into_inner);
        record(all.entry(name.to_owned()).or_insert_with(|| make(&self.meter)));
    }
}

impl Metrics for OpenTelemetryMetrics {
    fn record_counter(&self, name: &str, tags: &[(&str, &str)], value: i64) {
        let make = |meter: &Meter| Instrument::Counter(meter.u64_counter(name.to_owned()).build());
        self.with(name, make, |instrument| {
            if let (Instrument::Counter(counter), Ok(value)) = (instrument, u64::try_from(value)) {
                counter.add(value, &tags_of(tags));
            }
        });
    }

    fn record_gauge(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        let make = |meter: &Meter| Instrument::Gauge(meter.f64_gauge(name.to_owned()).build());
        self.with(name, make, |instrument| {
            if let Instrument::Gauge(gauge) = instrument {
                gauge.record(value, &tags_of(tags));
            }
        });
    }

    fn record_histogram(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        let make = |meter: &Meter| Instrument::Histogram(meter.f64_histogram(name.to_owned()).build());
        self.with(name, make, |instrument| {
            if let Instrument::Histogram(histogram) = instrument {
                histogram.record(value, &tags_of(tags));
            }
        });
    }
}

/// Families that have been taken and not yet reported: a snapshot serves one round of all instruments.
type Taken = HashMap<String, Vec<super::MetricSample>>;

/// Lets `meter` observe the snapshots that `take` takes, for example `move || monitor.metrics()`, one for each time the
/// meter's reader collects. Covers the families that the first snapshot has.
///
/// OpenTelemetry has no distributions that are read and not recorded: of a histogram its `.count` and `.sum` are given.
pub fn observe(meter: &Meter, take: impl Fn() -> MetricsSnapshot + Send + Sync + 'static) {
    let take = Arc::new(take);
    let first = take();
    let taken = Arc::new(Mutex::new(Taken::new()));
    for family in first.families {
        let name = family.name.to_string();
        let samples = {
            let (take, taken, name) = (Arc::clone(&take), Arc::clone(&taken), name.clone());
            move || {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.remove(&name).unwrap_or_else(|| {
                    // This family has been reported since the last snapshot: a new round.
                    *taken = take().families.into_iter().map(|f| (f.name.to_string(), f.samples)).collect();
                    taken.remove(&name).unwrap_or_default()
                })
            }
        };
        let help = family.help.to_string();
        match family.kind {
            MetricKind::Counter => {
                let counter = meter.u64_observable_counter(name).with_description(help);
                let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
                    for (labels, value) in samples().into_iter().filter_map(count) {
                        observer.observe(value, &labels);
                    }
                };
                counter.with_callback(observe).build();
            }
            MetricKind::Gauge => {
                let gauge = meter.f64_observable_gauge(name).with_description(help);
                let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
                    for (labels, value) in samples().into_iter().filter_map(number) {
                        observer.observe(value, &labels);
                    }
                };
                gauge.with_callback(observe).build();
            }
            MetricKind::Histogram => observe_distribution(meter, &name, &help, samples),
        }
    }
}

fn observe_distribution(
    meter: &Meter,
    name: &str,
    help: &str,
    samples: impl Fn() -> Vec<super::MetricSample> + Send + Sync + 'static,
) {
    let sums = Arc::new(Mutex::new(Vec::<(Vec<KeyValue>, f64)>::new()));
    let kept = Arc::clone(&sums);
    let counts = meter.u64_observable_counter(format!("{name}.count")).with_description(help.to_owned());
    let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
        let mut sums = Vec::new();
        for sample in samples() {
            if let MetricValue::Distribution(distribution) = sample.value {
                let labels = labels(sample.labels);
                observer.observe(distribution.count, &labels);
                sums.push((labels, distribution.sum));
            }
        }
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = sums;
    };
    counts.with_callback(observe).build();
    // Collected after the counts, in the order of registration; were it not, the sums would be those of the round before.
    let totals = meter.f64_observable_counter(format!("{name}.sum")).with_description(help.to_owned());
    let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
        for (labels, sum) in &*sums.lock().unwrap_or_else(PoisonError::into_inner) {
            observer.observe(*sum, labels);
        }
    };
    totals.with_callback(observe).build();
}

fn labels(labels: Vec<super::Label>) -> Vec<KeyValue> {
    labels.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect()
}

fn count(sample: super::MetricSample) -> Option<(Vec<KeyValue>, u64)> {
    match sample.value {
        MetricValue::Count(n) => Some((labels(sample.labels), n)),
        MetricValue::Number(_) | MetricValue::Distribution(_) => None,
    }
}

fn number(sample: super::MetricSample) -> Option<(Vec<KeyValue>, f64)> {
    match sample.value {
        MetricValue::Count(n) => Some((labels(sample.labels), n as f64)),
        MetricValue::Number(n) => Some((labels(sample.labels), n)),
        MetricValue::Distribution(_) => None,
    }
}
