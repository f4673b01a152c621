//! Whether what sends had its core to itself.
//!
//! An open loop is one only if its sender keeps to its schedule. A sender that shares its core, with the system under test or with another
//! process, waits for the scheduler, and the figures are those of the scheduler. The kernel counts that waiting for each thread.

use std::fs;
use std::sync::{Arc, OnceLock};

/// A sender that waited for its core longer than this share of the run had to share it.
pub const SHARED: f64 = 0.01;

/// What the scheduler has counted for a thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnCore {
    ran_ns: u64,
    waited_ns: u64,
}

impl OnCore {
    /// The calling thread until now. `None` where the kernel does not count. Allocates and makes system calls: not for a loop.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// Time on a core, time ready but not on one, and how often it was given one.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        Some(Self { ran_ns: numbers.next()?, waited_ns: numbers.next()? })
    }

    /// Of the time since `earlier` in which the thread could have run, the share in which it waited for its core: 0 to 1.
    pub fn waited_since(self, earlier: Self) -> f64 {
        let ran = self.ran_ns.saturating_sub(earlier.ran_ns);
        let waited = self.waited_ns.saturating_sub(earlier.waited_ns);
        waited as f64 / (ran + waited).max(1) as f64
    }
}

/// Watches the thread that sends, from the first item to the last.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    begun: Option<OnCore>,
    waited: Arc<OnceLock<f64>>,
}

impl Watch {
    /// On the thread that sends, before the first item. Only the first call counts.
    pub fn begin(&mut self) {
        if self.begun.is_none() {
            self.begun = OnCore::now();
        }
    }

    /// On the same thread, after the last item. Only the first call counts.
    pub fn end(&self) {
        if let (Some(before), None) = (self.begun, self.waited.get())
            && let Some(now) = OnCore::now()
        {
            // Set by nobody else: there is one sender.
            let _ = self.waited.set(now.waited_since(before));
        }
    }

    /// The share of its time for which the sender waited, once it has ended; `None` where that is not known. From any clone.
    pub fn waited(&self) -> Option<f64> {
        self.waited.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_time_in_which_the_thread_could_have_run() {
        let before = OnCore::parse("1000 500 3\n").unwrap();
        assert_eq!(OnCore::parse("4000 1500 9").unwrap().waited_since(before), 0.25);
        assert_eq!(before.waited_since(before), 0.0);
        assert_eq!(OnCore::parse("1000"), None);
        assert_eq!(OnCore::parse("no numbers here"), None);
    }

    #[test]
    fn a_sender_that_shares_its_core_is_found_out() {
        let Some(core) = crate::pin::allowed().pop() else { return };
        if OnCore::now().is_none() {
            return;
        }
        let spin = || {
            let mut watch = Watch::default();
            crate::pin::on_one(core, || {
                watch.begin();
                // CPU time, not time: each of the two needs its own.
                let enough = OnCore::now().map_or(0, |now| now.ran_ns) + 60_000_000;
                while OnCore::now().is_some_and(|now| now.ran_ns < enough) {}
                watch.end();
            });
            watch.waited().unwrap()
        };
        let shared = std::thread::scope(|scope| {
            let others = [scope.spawn(spin), scope.spawn(spin)];
            others.map(|other| other.join().unwrap()).into_iter().fold(0.0, f64::max)
        });
        assert!(shared > SHARED, "two threads on one core waited for {shared} of their time");
    }

    #[test]
    fn nothing_is_told_before_the_end() {
        let mut watch = Watch::default();
        watch.begin();
        assert_eq!(watch.waited(), None);
    }
}
