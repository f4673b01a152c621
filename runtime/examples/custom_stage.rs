//! A stage of one's own: readings are joined into batches that are sent when they are full or have waited too long.

use std::error::Error;

use corelane::engine::Engine;
use corelane::flow::PipelineBuilder;
use corelane::stage::{Output, StageError, Transform};
use corelane::testing::verify_stage;

/// How long a batch that is not full waits, in nanoseconds.
const PATIENCE: i64 = 1_000_000_000;

/// Joins items into batches of `size`; the last one may be smaller.
struct Batches {
    size: usize,
    open: Vec<u64>,
}

impl Batches {
    fn new(size: usize) -> Self {
        Self { size, open: Vec::with_capacity(size) }
    }

    fn send(&mut self, out: &mut Output<'_, Vec<u64>>) {
        if !self.open.is_empty() {
            out.emit(std::mem::replace(&mut self.open, Vec::with_capacity(self.size)));
        }
    }
}

impl Transform for Batches {
    type In = u64;
    type Out = Vec<u64>;
    const HOLDS_ITEMS: bool = true;

    fn process(&mut self, item: u64, out: &mut Output<'_, Vec<u64>>) -> Result<(), StageError> {
        if self.open.is_empty() {
            // Time is given, never read: the simulator can make a second pass in no time.
            out.set_timer(out.now().monotonic + PATIENCE);
        }
        self.open.push(item);
        if self.open.len() == self.size {
            self.send(out);
        }
        Ok(())
    }

    fn on_timer(&mut self, out: &mut Output<'_, Vec<u64>>) -> Result<(), StageError> {
        self.send(out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_, Vec<u64>>) -> Result<(), StageError> {
        self.send(out);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // First in everything the runtime may do to it.
    let expected = [vec![1, 2, 3], vec![4, 5, 6], vec![7]];
    verify_stage(|input| input.transform("batches", |_| Ok(Batches::new(3))), 1..=7, expected)?;
    println!("the stage is right in every mode of the testing kit");

    // Then in a pipeline.
    let p = PipelineBuilder::new("readings");
    let sizes = p
        .generate("readings", 10_000, |i| i)
        .transform("batches", |_| Ok(Batches::new(64)))
        .map("size", |batch| batch.len() as u64)
        .fold("sum", 0u64, |sum, size| sum + size);
    let result = Engine::default().run(p.build()?)?;
    let sum: u64 = sizes.take().into_iter().sum();
    println!("{}", result.account);
    if !result.success || sum != 10_000 {
        return Err(format!("{}: {sum} readings came out, not 10000", result.outcome).into());
    }
    println!("all 10000 readings came out");
    Ok(())
}
