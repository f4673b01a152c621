//! The thread driver: one pinned std thread per partition. Works wherever threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Seat;
use super::clock::Clock;
use super::stepper::{Next, Stepper};
use super::worker::{Worker, spawn_each};
use crate::partition::{Control, Partition};

/// Starts one thread per worker.
pub(crate) fn spawn(workers: Vec<Worker>, control: &Arc<Control>) -> std::io::Result<()> {
    spawn_each(workers, control, |mut worker, control| {
        let here = std::thread::current();
        let Some(mut partition) = worker.build(control, move || here.unpark()) else { return };
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            step_until_drained(&mut partition, &worker.seat, &mut worker.clock);
        }));
        worker.finish(partition, stepped, control);
    })
}

fn step_until_drained(partition: &mut Partition, seat: &Seat, clock: &mut Clock) {
    let mut stepper = Stepper::new(partition, seat, clock);
    loop {
        match stepper.step() {
            Next::Step => {}
            Next::Park => stepper.park(std::thread::park_timeout),
            Next::End => break,
        }
    }
}
