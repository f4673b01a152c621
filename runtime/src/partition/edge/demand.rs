//! Demand that a consumer states itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sync::Doorbell;

/// A request for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request for 0 items: ask for at least 1")]
pub struct ZeroRequest;

/// Demand for items, as in Reactive Streams: nothing is delivered that was not requested.
///
/// Clones share one state; it can be used from any thread, also from within the stage that it feeds. Given to an edge by
/// [`StageOptions::input_demand`](crate::flow::StageOptions::input_demand). Requests add up, and saturate: `u64::MAX` items
/// are without bound and never used up.
///
/// ```
/// use corelane::partition::{Demand, ZeroRequest};
///
/// let demand = Demand::new();
/// demand.request(3)?;
/// demand.request(2)?;
/// assert_eq!(demand.outstanding(), 5);
/// assert_eq!(demand.request(0), Err(ZeroRequest));
/// # Ok::<(), ZeroRequest>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Demand {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    outstanding: AtomicU64,
    /// Of the partitions that consume.
    doorbells: Mutex<Vec<Arc<Doorbell>>>,
}

impl Demand {
    /// No demand yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for `items` more. Does not wait; costs one atomic addition and, where the consumer's partition sleeps, a wake-up.
    ///
    /// # Errors
    /// [`ZeroRequest`]: nothing was asked for.
    pub fn request(&self, items: u64) -> Result<(), ZeroRequest> {
        if items == 0 {
            return Err(ZeroRequest);
        }
        self.add(items);
        self.shared
            .doorbells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(|bell| bell.ring());
        Ok(())
    }

    /// Items requested and not yet delivered.
    pub fn outstanding(&self) -> u64 {
        self.shared.outstanding.load(Ordering::Relaxed)
    }

    fn add(&self, items: u64) {
        let more = |outstanding: u64| Some(outstanding.saturating_add(items));
        // A saturating addition always succeeds.
        let _ = self.shared.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes up to `wanted` items of the demand; how many.
    pub(crate) fn claim(&self, wanted: u64) -> u64 {
        let less = |outstanding: u64| match outstanding {
            u64::MAX => None,
            _ => Some(outstanding - outstanding.min(wanted)),
        };
        let claimed = self.shared.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        claimed.map_or(wanted, |before| before.min(wanted))
    }

    /// Gives back what was claimed and not delivered.
    pub(crate) fn put_back(&self, items: u64) {
        if items > 0 {
            self.add(items);
        }
    }

    pub(crate) fn attach(&self, bell: Arc<Doorbell>) {
        self.shared.doorbells.lock().unwrap_or_else(PoisonError::into_inner).push(bell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_add_up_and_never_wrap() {
        let demand = Demand::new();
        for items in [u64::MAX / 2, u64::MAX / 2, u64::MAX / 2, 1, u64::MAX] {
            demand.request(items).unwrap();
        }
        assert_eq!(demand.outstanding(), u64::MAX);
        assert_eq!(demand.claim(7), 7, "without bound");
        assert_eq!(demand.outstanding(), u64::MAX);
    }

    #[test]
    fn what_is_claimed_by_many_is_never_more_than_was_requested() {
        let demand = Demand::new();
        demand.request(1_000).unwrap();
        let claimed: u64 = std::thread::scope(|scope| {
            let claim = || scope.spawn(|| (0..400).map(|_| demand.claim(3)).sum::<u64>());
            [claim(), claim()].map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!((claimed, demand.outstanding()), (1_000, 0));
        demand.put_back(2);
        assert_eq!(demand.claim(9), 2);
    }
}
