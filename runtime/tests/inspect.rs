//! A running pipeline can be looked at, by stage and by instance, at any time and from any thread.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::collections::BTreeMap;

use common::watchdog::{real_drivers, watched};
use corelane::driver::{DriverChoice, Monitor, Simulation};
use corelane::engine::{Engine, ExecutionOptions, Running};
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::Timestamp;
use corelane::observe::{
    MetricSample, MetricValue, MetricsSnapshot, PipelinePhase, StageAccount, StageState,
};
use corelane::policy::Parallelism;
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};

/// Numbers, keyed and counted, until `upto`.
fn counting(upto: u64) -> Pipeline {
    let p = PipelineBuilder::new("counting");
    p.generate("numbers", upto, |i| i)
        .filter("odd", |i| i % 2 == 1)
        .key_by(|i| i % 100)
        .fold("count", || 0u64, |n, _| *n += 1)
        .for_each("out", drop);
    p.build().unwrap()
}

fn start(pipeline: Pipeline, driver: DriverChoice) -> Running {
    let options = ExecutionOptions { driver, virtual_cores: Some(2), ..ExecutionOptions::default() };
    Engine::new(options).start(pipeline).unwrap()
}

/// Waits until `seen` says so.
fn wait_for(running: &Running, what: &str, seen: impl Fn(&Monitor) -> bool) {
    let monitor = running.monitor();
    for _ in 0..100_000 {
        if seen(&monitor) {
            return;
        }
        running.wait_timeout(std::time::Duration::from_millis(1));
    }
    panic!("{what} never shows: {}", monitor.inspect_all());
}

/// Looks again and again; counts must never go down, whoever looks.
fn look(monitor: &Monitor) {
    let mut last: BTreeMap<(String, usize), u64> = BTreeMap::new();
    for _ in 0..200 {
        let state = monitor.inspect_all();
        assert_eq!(state.stages.len(), 4);
        for stage in &state.stages {
            for instance in &stage.instances {
                let before = last.entry((stage.stage_id.to_string(), instance.instance)).or_default();
                assert!(instance.account.received >= *before, "{}", stage.stage_id);
                *before = instance.account.received;
            }
        }
        assert_eq!(monitor.inspect("count").unwrap().instances.len(), 2);
        assert!(monitor.account().stages.len() == 4 && !monitor.metrics().families.is_empty());
    }
}

#[test]
fn four_threads_look_at_a_pipeline_at_full_load_and_it_runs_on() {
    for driver in real_drivers() {
        watched("inspection", move || {
            let running = start(counting(u64::MAX), driver);
            wait_for(&running, "work", |m| m.account().totals().accepted > 0);
            let before = running.account().totals().accepted;
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let monitor = running.monitor();
                    scope.spawn(move || look(&monitor));
                }
            });
            wait_for(&running, "progress", |m| m.account().totals().accepted > before);
            running.stop();
            let result = running.join();
            result.account.verify().unwrap();
            assert!(result.account.totals().closes());
        });
    }
}

/// Emits `items` items, one a step, each followed by the watermark of its time; then waits for ever.
struct Clocked {
    next: i64,
    items: i64,
    /// A watermark for which there was no room yet.
    owed: Option<i64>,
}

impl Source for Clocked {
    type Item = i64;

    fn produce<C: Chain<i64>>(&mut self, out: &mut Emitter<'_, i64, C>) -> Result<Produced, StageError> {
        if self.owed.is_some_and(|time| !out.watermark(Timestamp(time))) {
            return Ok(Produced::More);
        }
        self.owed = None;
        if self.next == self.items {
            return Ok(Produced::Idle);
        }
        out.emit(self.next);
        self.owed = Some(self.next);
        self.next += 1;
        Ok(Produced::More)
    }
}

#[test]
fn stages_without_input_wait_watermarks_show_and_each_instance_is_told_apart() {
    for driver in real_drivers() {
        watched("waiting", move || {
            let p = PipelineBuilder::new("clocked");
            p.source("clock", |_: &StageSite| Ok(Clocked { next: 0, items: 500, owed: None }))
                .map("work", |x| x + 1)
                .parallel(Parallelism::Fixed(2))
                .input_cut()
                .for_each("out", drop)
                .parallel(Parallelism::Sequential);
            let running = start(p.build().unwrap(), driver);
            // Each partition publishes on its own: all of them must have done so after the last item.
            wait_for(&running, "the end of the work", |m| {
                m.inspect_all().stages.iter().all(|stage| {
                    let reached = stage.watermark == Some(Timestamp(499));
                    reached && stage.processed_count == 500 && stage.state == StageState::Waiting
                })
            });
            let state = running.inspect_all();
            assert_eq!((state.pipeline_id.as_str(), state.phase), ("clocked", PipelinePhase::Running));
            let work = &state.stages[1];
            let partitions: Vec<usize> = work.instances.iter().map(|i| i.partition).collect();
            assert_eq!(partitions.len(), 2);
            assert!(partitions[0] != partitions[1], "{partitions:?}");
            let each: u64 = work.instances.iter().map(|i| i.account.received).sum();
            assert_eq!((each, work.metrics["received"]), (500, 500.0));
            assert!(work.metrics["queue_wait_count"] > 0.0, "{:?}", work.metrics);
            let text = state.to_string();
            assert!(text.contains("pipeline clocked is running") && text.contains("work/1"), "{text}");
            running.stop();
            let result = running.join();
            result.account.verify().unwrap();
            assert!(result.final_states.values().all(|stage| stage.state == StageState::Stopped));
        });
    }
}

fn count(snapshot: &MetricsSnapshot, family: &str, labels: &[(&str, &str)]) -> u64 {
    let family = snapshot.family(family).unwrap_or_else(|| panic!("no {family}"));
    let has = |sample: &MetricSample| {
        let named = |name: &str| sample.labels.iter().find(|(own, _)| own == name);
        labels.iter().all(|(name, value)| named(name).is_some_and(|(_, own)| own == value))
    };
    let of = family.samples.iter().filter(|sample| has(sample));
    of.map(|sample| match sample.value {
        MetricValue::Count(n) => n,
        ref other => panic!("{other:?}"),
    })
    .sum()
}

#[test]
fn the_measurements_are_the_numbers_of_the_account_c4() {
    for driver in real_drivers() {
        let running = start(counting(100_000), driver);
        let monitor = running.monitor();
        let result = running.join();
        result.account.verify().unwrap();
        let snapshot = monitor.metrics();
        for (stage, account) in &result.account.stages {
            for (name, expected) in account.fields() {
                let found = count(&snapshot, &format!("corelane_stage_{name}"), &[("stage", stage.as_str())]);
                assert_eq!(found, expected, "{stage}: {name}");
            }
        }
        for (index, edge) in result.account.edges.iter().enumerate() {
            for (name, expected) in edge.fields() {
                let labels = [("edge", &*index.to_string()), ("from", edge.from.as_str())];
                assert_eq!(count(&snapshot, &format!("corelane_edge_{name}"), &labels), expected, "{name}");
            }
        }
        for (name, expected) in result.account.totals().fields() {
            assert_eq!(count(&snapshot, &format!("corelane_pipeline_{name}"), &[]), expected, "{name}");
        }
        assert_eq!(count(&snapshot, "corelane_stage_state", &[("state", "finished")]), 6, "instances");
        assert!(count(&snapshot, "corelane_partition_steps", &[]) > 0);
    }
}

#[test]
fn steps_and_waits_are_measured_and_every_sample_is_published_at_the_end() {
    let running = start(counting(2_000_000), DriverChoice::Thread);
    let monitor = running.monitor();
    running.join().account.verify().unwrap();
    let state = monitor.inspect_all();
    let steps: u64 = state.partitions.iter().map(|p| p.steps).sum();
    let timed: u64 = state.partitions.iter().map(|p| p.step.count).sum();
    assert!(timed > 0 && timed <= steps / 16, "{timed} of {steps}");
    let metrics = monitor.inspect("count").unwrap().metrics;
    assert!(metrics["queue_wait_count"] > 0.0 && metrics["batch_count"] > 0.0, "{metrics:?}");
    assert!(monitor.inspect("numbers").unwrap().metrics["batch_count"] > 0.0, "a chain begins there");
    assert!(!monitor.inspect("odd").unwrap().metrics.contains_key("batch_count"), "none begins there");
}

#[test]
fn the_result_shows_every_stage_with_its_instances_and_reads_back() {
    let report = Simulation::new(1).partitions(3).run(counting(1_000)).unwrap();
    report.result.account.verify().unwrap();
    let count = &report.result.final_states[&corelane::model::StageId::new("count").unwrap()];
    assert_eq!(count.instances.len(), 3);
    let received: u64 = count.instances.iter().map(|i| i.account.received).sum();
    assert_eq!(received, 500);
    let mut sum = StageAccount::default();
    count.instances.iter().for_each(|i| sum.add(&i.account));
    assert_eq!(sum, report.result.account.stages[&count.stage_id]);
    let text = serde_json::to_string(&report.result).unwrap();
    let again: corelane::observe::PipelineResult = serde_json::from_str(&text).unwrap();
    assert_eq!(again.final_states, report.result.final_states);
}
