//! Hangs become failures that say where.

use std::sync::mpsc;
use std::time::Duration;

use corelane::driver::DriverChoice;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Runs `f` on a thread of its own and waits for it.
///
/// Panics with `what` if it does not come back, and as `f` does if that panics.
#[allow(clippy::disallowed_methods, reason = "a hang can only be watched from another thread")]
pub fn watched<R: Send + 'static>(what: &str, f: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = f();
        // Nobody waits any more where this fails.
        let _ = done.send(());
        result
    });
    match finished.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
    }
}

/// The drivers with real cores that can run here; says which cannot.
pub fn real_drivers() -> Vec<DriverChoice> {
    let can_run = |choice: &DriverChoice| match choice.resolve() {
        Ok(_) => true,
        Err(why) => {
            println!("skipped: {choice:?} cannot run here: {why}");
            false
        }
    };
    [DriverChoice::Thread, DriverChoice::Glommio].into_iter().filter(can_run).collect()
}
