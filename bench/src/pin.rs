//! Cores: which are allowed, which are meant, and threads that stay on them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use core_affinity::CoreId;

use crate::case::Measured;

/// What is wrong with a choice of cores.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Not a number or a range of numbers.
    #[error("`{0}` is neither a core number nor a range such as 0-1")]
    Syntax(String),
    /// Beyond the allowed set.
    #[error("core {index} does not exist: this process may use {allowed} core(s), numbered from 0")]
    OutOfRange {
        /// The number given.
        index: usize,
        /// How many cores are allowed.
        allowed: usize,
    },
    /// Named more than once.
    #[error("core {0} is named twice")]
    Twice(usize),
    /// The system refused.
    #[error("cannot pin a thread to CPU {0}")]
    Refused(usize),
}

/// The CPUs this process may run on, in ascending order.
pub fn allowed() -> Vec<CoreId> {
    let mut cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.sort();
    cores
}

/// Picks cores by their number *within* `allowed`: `0,1` or `0-1`.
///
/// # Errors
/// A number that is not one, is out of range, or is named twice.
pub fn select(list: &str, allowed: &[CoreId]) -> Result<Vec<CoreId>, PinError> {
    let number = |text: &str| text.trim().parse().map_err(|_| PinError::Syntax(list.to_owned()));
    let mut indices: Vec<usize> = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(PinError::Syntax(list.to_owned()));
        }
        if last >= allowed.len() {
            return Err(PinError::OutOfRange { index: last, allowed: allowed.len() });
        }
        indices.extend(first..=last);
    }
    for (position, &index) in indices.iter().enumerate() {
        if indices[..position].contains(&index) {
            return Err(PinError::Twice(index));
        }
    }
    Ok(indices.into_iter().map(|index| allowed[index]).collect())
}

/// Pins a short-lived thread to each core, to learn before anything starts whether that works.
///
/// # Errors
/// The first core that refuses.
pub fn trial(cores: &[CoreId]) -> Result<(), PinError> {
    cores.iter().try_for_each(|&core| {
        let pinned = std::thread::scope(|scope| scope.spawn(|| core_affinity::set_for_current(core)).join());
        if pinned.unwrap_or(false) { Ok(()) } else { Err(PinError::Refused(core.id)) }
    })
}

/// When a thread began and ended its measured part.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: Instant,
    end: Instant,
}

impl Span {
    /// From `start` until now.
    pub fn since(start: Instant) -> Self {
        Self { start, end: Instant::now() }
    }

    /// From the earlier start to the later end.
    pub fn union(self, other: Self) -> Duration {
        self.end.max(other.end) - self.start.min(other.start)
    }
}

/// Where two threads wait for each other, spinning, once their set-up is done.
#[derive(Debug, Default)]
pub struct Gate(AtomicUsize);

impl Gate {
    /// Returns in both threads once both have called it, with the time of the return.
    pub fn wait(&self) -> Instant {
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
        Instant::now()
    }
}

/// Runs `work` on a fresh thread pinned to `core`.
///
/// # Panics
/// If the core refuses (see [`trial`]) or `work` panics.
pub fn on_one<T: Send>(core: CoreId, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(pinned(core, work)).join().expect("the pinned thread panicked"))
}

/// Runs `first` and `second` at the same time on the first two of `cores`, each on a fresh pinned thread. Each sets
/// itself up, then waits at the gate.
///
/// # Panics
/// With fewer than two cores, if a core refuses (see [`trial`]), or if one of the two panics.
pub fn on_two<A: Send, B: Send>(
    cores: &[CoreId],
    first: impl FnOnce(&Gate) -> A + Send,
    second: impl FnOnce(&Gate) -> B + Send,
) -> (A, B) {
    let gate = &Gate::default();
    std::thread::scope(|scope| {
        let first = scope.spawn(pinned(cores[0], move || first(gate)));
        let second = scope.spawn(pinned(cores[1], move || second(gate)));
        (first.join().expect("the first thread panicked"), second.join().expect("the second thread panicked"))
    })
}

/// Times `work` on `items`, which returns the checksum.
pub fn timed(items: u64, work: impl FnOnce() -> u64) -> Measured {
    let start = Instant::now();
    let checksum = work();
    Measured { items, elapsed: start.elapsed(), checksum }
}

/// As [`timed`], on a fresh thread pinned to `core`; threads that `work` starts inherit the core.
pub fn timed_on_one(items: u64, core: CoreId, work: impl FnOnce() -> u64 + Send) -> Measured {
    on_one(core, || timed(items, work))
}

/// As [`timed`], on a fresh thread that may use all of `cores`; threads that `work` starts inherit them.
#[cfg(feature = "peers")]
pub fn timed_on_all(items: u64, cores: &[CoreId], work: impl FnOnce() -> u64 + Send) -> Measured {
    on_all(cores, || timed(items, work))
}

/// Runs `work` on a fresh thread that may use all of `cores`.
#[cfg(feature = "peers")]
pub fn on_all<T: Send>(cores: &[CoreId], work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        restrict(cores);
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("the peer panicked"))
}

/// Lets this thread run on `cores` only.
#[cfg(feature = "peers")]
pub fn restrict(cores: &[CoreId]) {
    let mut set = rustix::thread::CpuSet::new();
    cores.iter().for_each(|core| set.set(core.id));
    rustix::thread::sched_setaffinity(None, &set).expect("these cores were tried before");
}

fn pinned<T>(core: CoreId, work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        assert!(core_affinity::set_for_current(core), "cannot pin a thread to CPU {}", core.id);
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(ids: &[usize]) -> Vec<CoreId> {
        ids.iter().map(|&id| CoreId { id }).collect()
    }

    #[test]
    fn core_numbers_count_within_the_allowed_set() {
        let allowed = cores(&[4, 6, 9]);
        assert_eq!(select("0,2", &allowed), Ok(cores(&[4, 9])));
        assert_eq!(select("1-2", &allowed), Ok(cores(&[6, 9])));
        assert_eq!(select("2, 0", &allowed), Ok(cores(&[9, 4])));
    }

    #[test]
    fn a_bad_list_of_cores_says_what_is_wrong() {
        let allowed = cores(&[4, 6]);
        assert_eq!(select("0,2", &allowed), Err(PinError::OutOfRange { index: 2, allowed: 2 }));
        assert_eq!(select("0,0", &allowed), Err(PinError::Twice(0)));
        assert_eq!(select("0-1,1", &allowed), Err(PinError::Twice(1)));
        for list in ["", "a", "1-0", "0-", "-1", "0,,1"] {
            assert_eq!(select(list, &allowed), Err(PinError::Syntax(list.to_owned())), "{list:?}");
        }
    }

    #[test]
    fn a_pinned_thread_may_run_on_its_core_only() {
        for core in allowed() {
            assert_eq!(on_one(core, allowed), [core]);
        }
    }
}
