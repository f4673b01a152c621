//! Small parts by themselves, on one core: `cargo bench -p corelane-bench`. For looking at one of them while working on it; what counts is
//! how whole pipelines do, beside others, in `corelane-bench`.

use std::hint::black_box;

use corelane::driver::Simulation;
use corelane::flow::PipelineBuilder;
use corelane::keyed::TimerWheel;
use corelane::pool::MemoryPool;
use corelane::ring::ring;
use corelane_bench::workload::keyed::pair;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Items in a chunk, timers in the wheel.
const MANY: u64 = 1_024;

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(MANY));
    let (mut producer, mut consumer) = ring::<u64>(4 * MANY as usize).expect("a ring");
    let items: Vec<u64> = (0..MANY).collect();
    group.bench_function("chunk there and out", |b| {
        b.iter(|| {
            let taken = producer.push_slice(black_box(&items));
            producer.publish();
            let sum: u64 = consumer.read(taken).sum();
            sum
        });
    });
    group.bench_function("one by one there and out", |b| {
        b.iter(|| {
            for &item in black_box(&items) {
                let _ = producer.push(item);
                producer.publish();
                black_box(consumer.pop());
            }
        });
    });
    group.finish();
}

fn pool(c: &mut Criterion) {
    let pool = MemoryPool::default();
    let local = pool.open(None).expect("nothing is made ready");
    let mut group = c.benchmark_group("pool");
    for size in [64, 4_096] {
        group.bench_function(BenchmarkId::new("rent and return", size), |b| {
            local.clone().enter(|| b.iter(|| drop(black_box(local.rent(size)))));
        });
    }
    group.finish();
}

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer wheel");
    group.throughput(Throughput::Elements(MANY));
    // Spread over a second, in no order.
    let deadline = |token: u64, now: i64| now + (token * 7_919 % MANY) as i64 * 1_000_000;
    group.bench_function("schedule and cancel", |b| {
        let mut wheel = TimerWheel::new();
        b.iter(|| {
            for token in 0..MANY {
                let timer = wheel.schedule(deadline(token, 0), token);
                black_box(wheel.cancel(timer));
            }
        });
    });
    group.bench_function("schedule and fire", |b| {
        let (mut wheel, mut now) = (TimerWheel::new(), 0);
        b.iter(|| {
            for token in 0..MANY {
                black_box(wheel.schedule(deadline(token, now), token));
            }
            now += 2_000_000_000;
            let mut budget = usize::MAX;
            while let Some(fired) = wheel.pop(now, &mut budget) {
                black_box(fired);
            }
        });
    });
    group.finish();
}

fn table(c: &mut Criterion) {
    const ITEMS: u64 = 200_000;
    let mut group = c.benchmark_group("keyed table");
    group.throughput(Throughput::Elements(ITEMS)).sample_size(20);
    // The table is not reachable but through a pipeline; the simulator runs one without threads.
    for keys in [1_000, 100_000] {
        let pipeline = || {
            let p = PipelineBuilder::new("table");
            p.generate("pairs", ITEMS, move |i| pair(i, keys))
                .key_by(|pair| pair.0)
                .fold("sum", || 0u64, |sum, (_, value)| *sum += value)
                .for_each("out", |sum| {
                    black_box(sum);
                });
            p.build().expect("a pipeline")
        };
        group.bench_function(BenchmarkId::new("fold, keys", keys), |b| {
            let simulation = Simulation::new(1).partitions(1).budgets(MANY as usize..MANY as usize + 1);
            b.iter_batched(pipeline, |pipeline| simulation.run(pipeline), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, rings, pool, wheel, table);
criterion_main!(benches);
