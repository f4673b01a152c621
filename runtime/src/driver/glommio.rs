//! The glommio driver: one executor per partition on its own pinned thread, with `io_uring` beside the step loop.
//!
//! Built around what glommio 0.9 was measured to do:
//! - It panics where `io_uring` is forbidden, and fails late where too little memory may be locked: [`probe`] looks first.
//! - It parks with a runnable task when its preempt timer has fired before the task was looked at: a thread that lost its
//!   core for a millisecond there slept for good. A heartbeat timer bounds that; it lives as long as the executor has
//!   anything to do, from the first poll to the last. Before the first poll there can be no timer: until then the preempt
//!   timer is [`PREEMPT_AT_START`], and only the queue that steps the partition asks for [`PREEMPT`].
//! - With a preempt timer below a millisecond it was seen to hang: [`PREEMPT`] stays at one.
//! - `Placement::Fixed` and `CpuSet` ignore cpusets: threads are pinned by us and executors left unbound.
//! - A panic in a task kills its executor without a word: the step loop is caught here, and the only other task is ours.
//! - Each executor that has run leaves one eventfd open in the process: a thousand starts need a thousand files.
//! - Its channels are slow and can corrupt memory: only rings connect partitions.
//! - To fall asleep in its reactor and to be woken from there takes about ten system calls: a partition without files under way
//!   sleeps as any thread does.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures_util::FutureExt;
use glommio::timer::Timer;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

use super::Seat;
use super::clock::Clock;
use super::disk_glommio::{self, WORK_BESIDE_IO};
use super::stepper::{Next, Stepper};
use super::worker::{Worker, spawn_each};
use crate::partition::{Control, Failure, Partition};

/// How long a task may run before `yield_if_needed` yields. Never below 1 ms.
const PREEMPT: Duration = Duration::from_millis(1);
/// As [`PREEMPT`] while the executor has no timer yet: longer than a thread is kept from its core between two instructions.
const PREEMPT_AT_START: Duration = Duration::from_secs(1);
/// What an executor locks in memory for reads of files, in bytes: as many as a few instances have under way. Reads beyond that take
/// memory of the heap. Glommio's own default is 10 MiB a core, whether there are files or not.
const IO_MEMORY: usize = 256 * 1024;
/// A timer that keeps the executor from sleeping for good.
const HEARTBEAT: Duration = Duration::from_millis(5);
/// Timers at the same time: the longest is 40 s.
const HEARTBEATS: usize = 14;
/// Locked memory that glommio's rings and buffers were found to need.
const LOCKED_MEMORY_NEEDED: u64 = 512 * 1024;

/// Whether glommio can run here; if not, why, in one line.
///
/// # Errors
/// The reason, for the user.
pub(crate) fn probe() -> Result<(), String> {
    io_uring::IoUring::new(8).map_err(|error| format!("io_uring cannot be used: {error}"))?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    if let Some(bytes) =
        limit.filter(|bytes| *bytes < LOCKED_MEMORY_NEEDED && !rustix::process::geteuid().is_root())
    {
        return Err(format!(
            "only {} KiB of memory may be locked and {} KiB are needed (ulimit -l)",
            bytes / 1024,
            LOCKED_MEMORY_NEEDED / 1024
        ));
    }
    Ok(())
}

fn executor() -> Result<glommio::LocalExecutor, String> {
    let builder =
        LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(PREEMPT_AT_START).io_memory(IO_MEMORY);
    builder.make().map_err(|error| format!("a glommio executor cannot be made: {error}"))
}

/// Starts one thread with an executor per worker.
pub(crate) fn spawn(workers: Vec<Worker>, control: &Arc<Control>) -> std::io::Result<()> {
    spawn_each(workers, control, |mut worker, control| match executor() {
        Ok(executor) => executor.run(Heartbeat::of(run(worker, Arc::clone(control)))),
        Err(error) => {
            control.fail(Failure { stage: None, error });
            // The others wait for this one.
            drop(worker.build(control, || ()));
        }
    })
}

async fn run(mut worker: Worker, control: Arc<Control>) {
    let call = Call::here();
    let Some(mut partition) = worker.build(&control, call.waker()) else { return };
    let soon = Latency::Matters(PREEMPT);
    let queue = glommio::executor().create_task_queue(Shares::default(), soon, "partition");
    let stepping = async move {
        let steps = step_until_drained(&mut partition, &worker.seat, &mut worker.clock, &call);
        let stepped = AssertUnwindSafe(steps).catch_unwind().await;
        // Closing blocks this thread: what is under way must have ended.
        disk_glommio::quiesce().await;
        worker.finish(partition, stepped, &control);
    };
    // A queue that has just been made is there; if not, the worker is dropped, and with it all that waits for it.
    if let Ok(task) = glommio::spawn_local_into(stepping, queue) {
        task.await;
    }
}

/// A future beside which there is always a timer in the reactor.
///
/// Between the end of a timer and the poll that makes the next one the executor may fall asleep as well: so there are
/// several, each twice as long as the one before, and all are made anew when the first has ended.
struct Heartbeat<F> {
    future: Pin<Box<F>>,
    timers: [Option<Timer>; HEARTBEATS],
}

impl<F> Heartbeat<F> {
    fn of(future: F) -> Self {
        Self { future: Box::pin(future), timers: std::array::from_fn(|_| None) }
    }
}

impl<F: Future> Future for Heartbeat<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Timers are made here, and not sooner: they need the executor.
        if self.timers[0].as_mut().is_none_or(|first| first.poll_unpin(cx).is_ready()) {
            for (beat, timer) in self.timers.iter_mut().enumerate() {
                let timer = timer.insert(Timer::new(HEARTBEAT * (1 << beat)));
                // A timer is in the reactor once it has been polled; these are not due yet.
                let _ = timer.poll_unpin(cx);
            }
        }
        self.future.as_mut().poll(cx)
    }
}

async fn step_until_drained(partition: &mut Partition, seat: &Seat, clock: &mut Clock, call: &Call) {
    let mut stepper = Stepper::new(partition, seat, clock);
    // Since when it has worked beside files without giving way.
    let mut worked_since = None;
    loop {
        match stepper.step() {
            Next::Step => {}
            Next::Park => {
                call.reset();
                let woken = match stepper.announce() {
                    // Also where it is the step of the announcement that has put files under way.
                    Some(longest) if disk_glommio::is_busy() => {
                        Parked { call, timer: Timer::new(longest) }.await;
                        false
                    }
                    // The thread itself, reactor and all.
                    Some(longest) => {
                        thread::park_timeout(longest);
                        call.is_rung()
                    }
                    None => false,
                };
                stepper.retract();
                if woken {
                    // What it was woken for comes before the reactor, which has its turn after a sleep that nobody ended.
                    continue;
                }
            }
            Next::End => break,
        }
        if disk_glommio::is_busy() {
            let now = stepper.monotonic();
            if now - *worked_since.get_or_insert(now) >= WORK_BESIDE_IO {
                disk_glommio::give_way().await;
                stepper.lose_time();
                worked_since = None;
            }
        }
        // 3 ns unless a millisecond has passed; then whatever shares the executor has its turn.
        glommio::yield_if_needed().await;
    }
    call.forget();
}

/// A wake-up from another thread.
#[derive(Clone)]
struct Call {
    shared: Arc<CallState>,
}

struct CallState {
    rung: AtomicBool,
    /// The executor's own.
    thread: Thread,
    /// Of the reactor, while it sleeps there.
    waker: Mutex<Option<Waker>>,
}

impl Call {
    /// To the thread that calls it.
    fn here() -> Self {
        let (rung, waker) = (AtomicBool::default(), Mutex::default());
        Self { shared: Arc::new(CallState { rung, thread: thread::current(), waker }) }
    }

    /// What a doorbell calls to wake this executor.
    fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let there = Arc::clone(&self.shared);
        move || {
            there.rung.store(true, Ordering::Release);
            // A system call only if it sleeps there.
            there.thread.unpark();
            // Woken under the lock: once `forget` has had it, no waker of a finished executor is in use anywhere.
            if let Some(waker) = there.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
    }

    fn reset(&self) {
        self.shared.rung.store(false, Ordering::Relaxed);
    }

    fn is_rung(&self) -> bool {
        self.shared.rung.load(Ordering::Acquire)
    }

    fn register(&self, waker: &Waker) {
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn forget(&self) {
        self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

struct Parked<'a> {
    call: &'a Call,
    timer: Timer,
}

impl Future for Parked<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.call.register(cx.waker());
        if self.call.is_rung() {
            return Poll::Ready(());
        }
        self.timer.poll_unpin(cx).map(drop)
    }
}
