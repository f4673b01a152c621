//! Edges that drop: what they deliver all the same, and that they never make anybody wait.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::{Arc, Mutex};

use corelane::driver::Simulation;
use corelane::flow::{Pipeline, PipelineBuilder};
use corelane::model::Timestamp;
use corelane::observe::{Outcome, PipelineResult};
use corelane::partition::Demand;
use corelane::policy::{BufferPolicy, DropPolicy, Parallelism, Watermarks};
use corelane::stage::{Output, StageError, StageSite, Transform};

const DROPPING: [DropPolicy; 2] = [DropPolicy::DropNewest, DropPolicy::DropOldest];

fn simulate(simulation: &Simulation, pipeline: Pipeline) -> PipelineResult {
    let result = simulation.run(pipeline).unwrap().result;
    result.account.verify().unwrap_or_else(|broken| panic!("{broken:?}\n{}", result.account));
    assert!(result.account.totals().closes(), "{}", result.account);
    result
}

/// Passes items on and notes watermarks.
#[derive(Clone)]
struct Listens {
    marks: Arc<Mutex<Vec<i64>>>,
    latest: i64,
}

impl Transform for Listens {
    type In = u64;
    type Out = u64;

    fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        assert!(item as i64 >= self.latest, "{item} after the watermark {}", self.latest);
        out.emit(item);
        Ok(())
    }

    fn on_watermark(&mut self, time: Timestamp, _out: &mut Output<'_, u64>) -> Result<(), StageError> {
        self.latest = time.0;
        self.marks.lock().unwrap().push(time.0);
        Ok(())
    }
}

/// What a consumer gets over an edge that cannot hold what its producer makes in a step, per policy.
#[test]
fn dropping_the_oldest_delivers_no_less_than_dropping_the_newest_however_much_is_made_at_once() {
    let delivered = |seed: u64, drop_policy| {
        let p = PipelineBuilder::new("bursts");
        p.generate("numbers", 100_000, |i| i)
            .map("work", |i| i)
            .input_buffer(BufferPolicy::new(64, drop_policy))
            .for_each("out", drop);
        let map = "numbers=0;*=1".parse().unwrap();
        let simulation = Simulation::new(seed).partitions(2).core_map(map).each_step(|at| {
            let edge = at.monitor.inspect_edge(0).unwrap();
            // C11: what lies in the ring and what is staged, at every step.
            assert!(edge.depth <= 64, "step {}: {edge:?}", at.step);
        });
        simulate(&simulation, p.build().unwrap()).account.totals().delivered
    };
    let (mut newest, mut oldest) = (0, 0);
    for seed in 0..40 {
        newest += delivered(seed, DropPolicy::DropNewest);
        oldest += delivered(seed, DropPolicy::DropOldest);
    }
    println!("of 4 000 000: {newest} with DropNewest, {oldest} with DropOldest");
    assert!(newest > 100_000 && oldest >= newest / 2, "{oldest} against {newest}");
}

/// A consumer that takes nothing until the producer has made everything, watermarks and turns included.
#[test]
fn an_edge_that_drops_never_makes_its_producer_wait_not_for_signals_either() {
    for (seed, drop_policy) in (0..40).flat_map(|seed| DROPPING.map(|policy| (seed, policy))) {
        for ordered in [false, true] {
            let demand = Demand::new();
            demand.request(5).unwrap();
            let p = PipelineBuilder::new("signals");
            let numbers = p
                .generate("numbers", 5_000, |i| i)
                .watermarks("time", Watermarks::ascending(), |i| Timestamp(*i as i64))
                .input_cut();
            let marks = Arc::new(Mutex::new(Vec::new()));
            let listens = Listens { marks: Arc::clone(&marks), latest: i64::MIN };
            let factory = move |_: &StageSite| Ok(listens.clone());
            let buffer = BufferPolicy::new(16, drop_policy);
            if ordered {
                // Each of its instances marks its turns.
                let spread = numbers.map("spread", |i| i).parallel(Parallelism::Fixed(2));
                let work = spread.transform("work", factory).parallel(Parallelism::Sequential);
                let work = work.input_ordered().input_buffer(buffer).input_demand(&demand, 16);
                work.for_each("out", drop);
            } else {
                let work = numbers.transform("work", factory).input_buffer(buffer).input_demand(&demand, 16);
                work.for_each("out", drop);
            }
            let made = ["time", "spread"][usize::from(ordered)];
            // Small steps: a watermark and a turn in each.
            let simulation = Simulation::new(seed)
                .partitions(2)
                .core_map("work=1;out=1;*=0".parse().unwrap())
                .budgets(1..8)
                .each_step(move |at| {
                    if demand.outstanding() == 0
                        && at.monitor.account().stages[&made.parse().unwrap()].received == 5_000
                    {
                        demand.request(u64::MAX).unwrap();
                    }
                });
            let result = simulate(&simulation, p.build().unwrap());
            let what = format!("seed {seed}, {drop_policy:?}, ordered: {ordered}\n{}", result.account);
            assert_eq!(result.outcome, Outcome::Completed, "{what}");
            let totals = result.account.totals();
            assert!(totals.delivered > 0 && totals.dropped > 4_800, "{what}");
            let marks = marks.lock().unwrap();
            // C10, and none is lost for good.
            assert!(marks.is_sorted() && marks.last() == Some(&4_999), "{marks:?}\n{what}");
        }
    }
}
