//! A point that all partitions of a pipeline reach before any goes on, which a panic cannot turn into a hang.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::clock::instant;

/// Counts arrivals; every party arrives exactly once, at the latest when its [`Party`] is dropped.
pub(crate) struct Rendezvous {
    missing: Mutex<usize>,
    /// When the last party arrived.
    met: OnceLock<Instant>,
    all_there: Condvar,
}

impl Rendezvous {
    pub(crate) fn new(parties: usize) -> Arc<Self> {
        Arc::new(Self { missing: Mutex::new(parties), met: OnceLock::new(), all_there: Condvar::new() })
    }

    /// One party's obligation to arrive.
    pub(crate) fn party(self: &Arc<Self>) -> Party {
        Party { rendezvous: Some(Arc::clone(self)) }
    }

    fn arrive(&self) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = missing.saturating_sub(1);
        if *missing == 0 {
            self.met.get_or_init(instant);
            self.all_there.notify_all();
        }
    }

    /// Whether all have arrived.
    pub(crate) fn is_complete(&self) -> bool {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) == 0
    }

    /// When the last party arrived, once it has.
    pub(crate) fn met(&self) -> Option<Instant> {
        self.met.get().copied()
    }

    /// Blocks until all have arrived.
    pub(crate) fn wait(&self) {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.all_there.wait_while(missing, |missing| *missing > 0));
    }

    /// Blocks until all have arrived or `timeout` has passed. True if all have.
    pub(crate) fn wait_timeout(&self, timeout: Duration) -> bool {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.all_there.wait_timeout_while(missing, timeout, |missing| *missing > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// Arrives when told to or when dropped, so that a panicking party holds nobody up.
pub(crate) struct Party {
    rendezvous: Option<Arc<Rendezvous>>,
}

impl Party {
    /// Arrives; does not wait.
    pub(crate) fn arrive(&mut self) -> Option<Arc<Rendezvous>> {
        let rendezvous = self.rendezvous.take()?;
        rendezvous.arrive();
        Some(rendezvous)
    }

    /// Arrives and blocks until all have.
    pub(crate) fn arrive_and_wait(&mut self) {
        if let Some(rendezvous) = self.arrive() {
            rendezvous.wait();
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.arrive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_party_counts_as_arrived() {
        let rendezvous = Rendezvous::new(2);
        let (first, mut second) = (rendezvous.party(), rendezvous.party());
        drop(first);
        assert!(!rendezvous.is_complete() && rendezvous.met().is_none());
        second.arrive_and_wait();
        assert!(rendezvous.is_complete() && rendezvous.met().is_some());
    }

    #[test]
    fn arriving_and_dropping_counts_once() {
        let rendezvous = Rendezvous::new(2);
        let mut first = rendezvous.party();
        first.arrive();
        drop(first);
        assert!(!rendezvous.is_complete());
        assert!(!rendezvous.wait_timeout(Duration::ZERO));
    }
}
