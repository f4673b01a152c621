//! Spans and measurements of a run, as an OpenTelemetry SDK exports them.

#![cfg(feature = "opentelemetry")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::Arc;

use corelane::driver::DriverChoice;
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::PipelineBuilder;
use corelane::model::{Attributes, Envelope, SpanId, TraceContext, TraceId};
use corelane::observe::opentelemetry::{OpenTelemetryMetrics, OpenTelemetryTracer, observe};
use corelane::observe::{Metrics, Tracer};
use corelane::policy::ErrorPolicy;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

fn sampled(n: u64) -> TraceContext {
    TraceContext::new(TraceId(u128::from(n + 1).to_be_bytes()), SpanId([7; 8]), TraceContext::SAMPLED)
}

#[test]
fn stages_record_spans_under_the_context_of_each_sampled_item_with_its_errors() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let tracer = Arc::new(OpenTelemetryTracer::new(provider.tracer("corelane")));
    let p = PipelineBuilder::new("orders");
    p.generate("in", 200, |n| {
        if n % 10 == 0 { Envelope::new(n).with_trace(sampled(n)) } else { Envelope::new(n) }
    })
    .traced()
    .try_map("parse", |e| if e.payload == 50 { Err("no number") } else { Ok(e.clone()) })
    .on_error(ErrorPolicy::Ignore)
    .input_cut()
    .traced()
    .for_each("out", drop);
    let options = ExecutionOptions {
        driver: DriverChoice::Thread,
        tracer: tracer.clone(),
        ..ExecutionOptions::default()
    };
    Engine::new(options).run(p.build().unwrap()).unwrap().account.verify().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!((spans.len(), tracer.left_out()), (20 + 19, 0));
    for span in &spans {
        assert_eq!(span.parent_span_id.to_bytes(), [7; 8]);
        assert!(span.parent_span_is_remote && span.span_context.is_sampled());
        assert!(span.start_time <= span.end_time);
        let item = u128::from_be_bytes(span.span_context.trace_id().to_bytes()) - 1;
        assert_eq!(item % 10, 0);
        let errors: Vec<_> = span.events.iter().map(|event| event.name.as_ref()).collect();
        let expected: &[&str] = if item == 50 { &["exception"] } else { &[] };
        assert_eq!(errors, expected, "item {item} in {}", span.name);
    }
    assert_eq!(spans.iter().filter(|span| span.name == "parse").count(), 20);
}

#[test]
fn contexts_pass_to_the_sdk_and_back_with_state_and_baggage() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let tracer = OpenTelemetryTracer::new(provider.tracer("corelane"));
    let parent = sampled(1).with_state("congo=t61,rojo=00".parse().unwrap()).with_baggage("tenant", "blue");
    let child = tracer.start_span("work", Some(&parent));
    assert_eq!((child.trace_id, child.flags, child.state()), (parent.trace_id, parent.flags, parent.state()));
    assert_eq!(child.baggage(), parent.baggage());
    assert!(child.span_id.is_valid() && child.span_id != parent.span_id);
    let attributes = Attributes::new().with("n", 3).with("share", 0.5).with("on", true).with("name", "x");
    tracer.add_event(&child, "cached", &attributes);
    tracer.end_span(&child);
    tracer.end_span(&child);
    tracer.add_event(&child, "late", &attributes);
    let root = tracer.start_span("root", None);
    tracer.end_span(&root);
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!((spans.len(), spans[0].events.len(), spans[0].events[0].attributes.len()), (2, 1, 4));
    assert_eq!(spans[0].span_context.trace_state().header(), "congo=t61,rojo=00");
    assert_eq!(spans[1].parent_span_id.to_bytes(), [0; 8]);
    assert_ne!(root.trace_id, parent.trace_id);
}

/// The sum of an exported family over all its series.
fn total(exported: &ResourceMetrics, name: &str) -> f64 {
    let metric = exported.scope_metrics().flat_map(|scope| scope.metrics()).find(|m| m.name() == name);
    match metric.unwrap_or_else(|| panic!("no {name}")).data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => sum.data_points().map(|p| p.value() as f64).sum(),
        AggregatedMetrics::F64(MetricData::Sum(sum)) => sum.data_points().map(|p| p.value()).sum(),
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => gauge.data_points().map(|p| p.value()).sum(),
        AggregatedMetrics::F64(MetricData::Histogram(h)) => h.data_points().map(|p| p.sum()).sum(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_sdk_exports_the_counters_of_the_account_and_what_stages_record() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    let meter = provider.meter("corelane");
    let metrics = OpenTelemetryMetrics::new(meter.clone());
    for value in [1, 2, -9] {
        metrics.record_counter("orders", &[("shop", "a")], value);
        metrics.record_gauge("depth", &[], value as f64);
        metrics.record_histogram("size", &[], value.abs() as f64);
    }
    metrics.record_gauge("orders", &[], 1.0);
    let p = PipelineBuilder::new("counted");
    p.generate("in", 10_000, |n| n).filter("odd", |n| n % 2 == 1).for_each("out", drop);
    let options = ExecutionOptions { driver: DriverChoice::Thread, ..ExecutionOptions::default() };
    let running = Engine::new(options).start(p.build().unwrap()).unwrap();
    let monitor = running.monitor();
    observe(&meter, move || monitor.metrics());
    let account = running.join().account;
    account.verify().unwrap();
    for _ in 0..2 {
        exporter.reset();
        provider.force_flush().unwrap();
        let exported = exporter.get_finished_metrics().unwrap();
        let exported = exported.last().unwrap();
        assert_eq!(
            (total(exported, "orders"), total(exported, "depth"), total(exported, "size")),
            (3.0, -9.0, 12.0)
        );
        assert_eq!(total(exported, "corelane_stage_filtered"), 5_000.0);
        assert_eq!(total(exported, "corelane_pipeline_delivered"), 5_000.0);
        assert_eq!(total(exported, "corelane_stage_keys"), 0.0);
        assert_eq!(total(exported, "corelane_edge_offered"), 15_000.0);
    }
    provider.shutdown().unwrap();
}
