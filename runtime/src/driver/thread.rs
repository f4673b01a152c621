//! The thread driver: one pinned std thread per partition. Works wherever threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Seat;
use super::clock::Clock;
use super::idler::{Idler, Pause, park_nanos};
use super::worker::{Worker, spawn_each};
use crate::partition::{Control, Partition, Progress};

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
    let mut idler = Idler::new(seat.idle);
    loop {
        match partition.step(clock.now(), seat.budget) {
            Progress::Worked(_) => idler.reset(),
            Progress::Drained => break,
            Progress::Idle | Progress::Blocked => {
                let pause = idler.pause();
                if idler.should_report() {
                    partition.report();
                }
                match pause {
                    Pause::Spin => std::hint::spin_loop(),
                    Pause::Yield => std::thread::yield_now(),
                    Pause::Park => {
                        if park(partition, seat, clock) {
                            idler.reset();
                        }
                    }
                }
            }
        }
    }
    partition.report();
}

/// Parks until rung, due, or a bounded time has passed. True if there was work after all.
fn park(partition: &mut Partition, seat: &Seat, clock: &mut Clock) -> bool {
    partition.doorbell().announce();
    // What arrived before the announcement rang no bell: look once more.
    let progress = partition.step(clock.now(), seat.budget);
    let idle = matches!(progress, Progress::Idle | Progress::Blocked);
    if idle {
        partition.report();
        let nanos = park_nanos(clock.monotonic(), partition.next_deadline());
        if nanos > 0 {
            std::thread::park_timeout(Duration::from_nanos(nanos));
        }
    }
    partition.doorbell().retract();
    !idle
}
