//! Spans of sampled items, stage by stage, and the ages of items.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::sync::Arc;

use common::watchdog::real_drivers;
use corelane::driver::{Environment, SimReport, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::{Envelope, SpanId, StageId, Timestamp, TraceContext, TraceId};
use corelane::observe::{MemoryLogger, MemoryTracer, NoTracer, RecordedSpan, Tracer};
use corelane::policy::{ErrorPolicy, Parallelism};

/// Every tenth of these items is sampled, every other tenth has a trace that is not.
fn item(n: u64) -> Envelope<u64> {
    let trace = |flags| TraceContext::new(TraceId(u128::from(n + 1).to_be_bytes()), SpanId([7; 8]), flags);
    match n % 10 {
        3 => Envelope::new(n).with_trace(trace(1)),
        4 => Envelope::new(n).with_trace(trace(0)),
        _ => Envelope::new(n),
    }
}

/// `decode` doubles, `keep` leaves out what is a multiple of 3, `out` takes the rest.
fn pipeline(items: u64, cut: bool) -> Pipeline {
    let p = PipelineBuilder::new("traced");
    let decoded = p.generate("in", items, item).traced().map("decode", |e| e.map(|n| n * 2));
    let decoded = if cut { decoded.input_cut() } else { decoded };
    let kept = decoded.traced().filter("keep", |e| e.payload % 3 != 0);
    kept.traced().for_each("out", drop);
    p.build().unwrap()
}

fn simulate(pipeline: Pipeline, tracer: Arc<dyn Tracer>) -> SimReport {
    let environment = Environment { tracer, ..Environment::default() };
    let report = Simulation::new(3).partitions(2).run_in(pipeline, &environment).unwrap();
    report.result.account.verify().unwrap();
    report
}

/// The names of the spans of trace `n + 1`, in the order in which they started; every one under the item's own span.
fn stages_of(spans: &[RecordedSpan], n: u64) -> Vec<&str> {
    let id = TraceId(u128::from(n + 1).to_be_bytes());
    let own = spans.iter().filter(|span| span.context.trace_id == id);
    own.map(|span| {
        assert_eq!(span.parent, Some(SpanId([7; 8])));
        span.name.as_str()
    })
    .collect()
}

#[test]
fn every_sampled_item_has_a_span_in_each_stage_it_came_to_and_no_other_item_has_any() {
    for cut in [false, true] {
        let tracer = Arc::new(MemoryTracer::default());
        simulate(pipeline(1_000, cut), tracer.clone());
        let spans = tracer.spans();
        assert!(spans.iter().all(|span| span.ended), "every span ends");
        for n in 0..1_000 {
            let expected: &[&str] = match (n % 10, n * 2 % 3) {
                (3, 0) => &["decode", "keep"],
                (3, _) => &["decode", "keep", "out"],
                _ => &[],
            };
            assert_eq!(stages_of(&spans, n), expected, "item {n}, cut: {cut}");
        }
    }
}

#[test]
fn real_cores_record_the_same_spans() {
    for driver in real_drivers() {
        let tracer = Arc::new(MemoryTracer::default());
        let options = ExecutionOptions { driver, tracer: tracer.clone(), ..ExecutionOptions::default() };
        let result = Engine::new(options).run(pipeline(1_000, true)).unwrap();
        result.account.verify().unwrap();
        let spans = tracer.spans();
        let of = |name: &str| spans.iter().filter(|span| span.name == name && span.ended).count();
        assert_eq!([of("decode"), of("keep"), of("out")], [100, 100, 100 - 34], "{driver:?}");
    }
}

#[test]
fn in_a_fused_chain_the_span_of_one_stage_ends_before_that_of_the_next_begins() {
    /// Counts how many spans are open at once.
    #[derive(Default)]
    struct OneAtATime(std::sync::Mutex<(i32, i32)>, MemoryTracer);
    impl Tracer for OneAtATime {
        fn start_span(&self, name: &str, parent: Option<&TraceContext>) -> TraceContext {
            let mut open = self.0.lock().unwrap();
            open.0 += 1;
            open.1 = open.1.max(open.0);
            self.1.start_span(name, parent)
        }
        fn end_span(&self, context: &TraceContext) {
            self.0.lock().unwrap().0 -= 1;
            self.1.end_span(context);
        }
        fn add_event(&self, _: &TraceContext, _: &str, _: &corelane::model::Attributes) {}
    }
    let tracer = Arc::new(OneAtATime::default());
    simulate(pipeline(500, false), tracer.clone());
    assert_eq!((*tracer.0.lock().unwrap(), tracer.1.spans().len()), ((0, 1), 50 + 50 + 33));
}

#[test]
fn keyed_stages_and_lean_items_are_traced_by_a_function() {
    let sampled = TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), 1);
    let tracer = Arc::new(MemoryTracer::default());
    let p = PipelineBuilder::new("lean");
    let trace = sampled.clone();
    let out = p
        .generate("in", 100, move |n| (n, if n % 4 == 0 { trace.clone() } else { TraceContext::default() }))
        .traced_by(|(_, trace)| Some(trace))
        .key_by(|(n, _)| n % 5)
        .fold("count", || 0u64, |n, _| *n += 1)
        .collect("out");
    simulate(p.build().unwrap(), tracer.clone());
    assert_eq!(out.take().len(), 5);
    let spans = tracer.spans();
    assert_eq!((spans.len(), spans[0].name.as_str()), (25, "count"));
    assert!(spans.iter().all(|span| span.ended && span.context.trace_id == sampled.trace_id));
}

#[test]
fn without_a_tracer_the_traces_of_items_are_not_looked_at() {
    let p = PipelineBuilder::new("untraced");
    let looks = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    p.generate("in", 100, |n| n)
        .traced_by(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            None
        })
        .for_each("out", drop);
    simulate(p.build().unwrap(), Arc::new(NoTracer));
    assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_panic_in_the_function_that_finds_the_trace_or_the_time_fails_the_pipeline_by_name() {
    for traced in [true, false] {
        let p = PipelineBuilder::new("panics");
        let numbers = p.generate("in", 100, |n| n);
        if traced {
            numbers
                .traced_by(|n| if *n == 50 { panic!("planned: no trace") } else { None })
                .for_each("out", drop);
        } else {
            numbers
                .aged_by(|n| if *n >= 50 { panic!("planned: no time") } else { Timestamp(0) })
                .for_each("out", drop);
        }
        let environment = Environment { tracer: Arc::new(MemoryTracer::default()), ..Environment::default() };
        common::quiet::planned_panics();
        let report = Simulation::new(3).budgets(1..2).run_in(p.build().unwrap(), &environment).unwrap();
        report.result.account.verify().unwrap();
        let outcome = report.result.outcome.to_string();
        assert!(outcome.starts_with("failed in out: panic: planned: no t"), "{outcome}");
    }
}

#[test]
fn ages_are_measured_at_the_stage_that_follows_and_only_there() {
    let p = PipelineBuilder::new("ages");
    p.generate("in", 1_000, |n| Envelope::at(n, Timestamp(1_700_000_000_000_000_000 - 3_000_000_000), n))
        .aged()
        .map("work", |e| e)
        .parallel(Parallelism::Fixed(2))
        .input_cut()
        .for_each("out", drop);
    let report = simulate(p.build().unwrap(), Arc::new(NoTracer));
    let states = report.result.final_states;
    let stage = |id: &str| states.values().find(|state| state.stage_id.as_str() == id).unwrap();
    let metrics = &stage("work").metrics;
    assert!(metrics["latency_count"] > 0.0);
    // The simulated wall clock starts 3 s after the times of the items.
    assert!((2.9..4.0).contains(&metrics["latency_p50"]), "{metrics:?}");
    assert!(!stage("out").metrics.contains_key("latency_count"));
}

#[test]
fn errors_of_stages_are_logged_with_the_stage_and_a_flood_is_cut() {
    let logger = Arc::new(MemoryLogger::default());
    let environment = Environment { logger: logger.clone(), ..Environment::default() };
    let p = PipelineBuilder::new("erring");
    p.generate("in", 100_000, |n| n)
        .try_map("parse", |n| if n % 2 == 0 { Ok(*n) } else { Err(format!("{n} is odd")) })
        .on_error(ErrorPolicy::Ignore)
        .for_each("out", drop);
    let report = Simulation::new(3).budgets(1..2).run_in(p.build().unwrap(), &environment).unwrap();
    report.result.account.verify().unwrap();
    let lines = logger.lines();
    let (_, first) = lines.iter().find(|(_, line)| line.contains("is odd")).unwrap();
    assert!(first.contains("errors=") && first.contains("stage=parse") && first.contains("pipeline=erring"));
    // Virtual time is far below a second here.
    assert!(lines.len() <= 20, "{} lines", lines.len());
    let parse = &report.result.final_states[&StageId::new("parse").unwrap()];
    assert!(parse.metrics["log_lines_left_out"] > 0.0, "what is missing in the log is counted");
    assert_eq!(parse.instances[0].log_lines_left_out as f64, parse.metrics["log_lines_left_out"]);
}
