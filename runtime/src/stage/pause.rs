//! Sources that hold back while a circuit breaker is open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sync::Doorbell;

/// Counts who wants the sources of a pipeline to hold back. Shared by all of its partitions; looked at once per step.
#[derive(Default)]
pub struct SourcePause {
    holders: AtomicUsize,
    doorbells: Mutex<Vec<Arc<Doorbell>>>,
}

impl SourcePause {
    /// Whether sources hold back now.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.holders.load(Ordering::Relaxed) > 0
    }

    /// Makes sources hold back until [`resume`](Self::resume) is called as often as this.
    pub(super) fn pause(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one [`pause`](Self::pause) back, and wakes the sources after the last.
    pub(super) fn resume(&self) {
        if self.holders.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ring();
        }
    }

    /// Adds a bell to ring.
    pub(crate) fn add_doorbell(&self, bell: Arc<Doorbell>) {
        self.doorbells.lock().unwrap_or_else(PoisonError::into_inner).push(bell);
    }

    /// Wakes every partition.
    pub(crate) fn ring(&self) {
        self.doorbells.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|bell| bell.ring());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_run_again_when_everybody_who_paused_them_has_resumed_and_their_partitions_are_rung() {
        let (pause, bell) = (SourcePause::default(), Arc::new(Doorbell::new()));
        let rung = Arc::new(AtomicUsize::new(0));
        let there = Arc::clone(&rung);
        bell.set_waker(move || {
            there.fetch_add(1, Ordering::Relaxed);
        });
        pause.add_doorbell(Arc::clone(&bell));
        bell.announce();
        pause.pause();
        pause.pause();
        pause.resume();
        assert_eq!((pause.is_paused(), rung.load(Ordering::Relaxed)), (true, 0));
        pause.resume();
        assert_eq!((pause.is_paused(), rung.load(Ordering::Relaxed)), (false, 1));
    }
}
