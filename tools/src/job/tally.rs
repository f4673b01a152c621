//! What the account of the runtime does not know, counted by the stages themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of one stage instance. Only that instance adds.
#[derive(Debug, Default)]
#[repr(align(128))] // alone on its cache lines: other instances write theirs at the same time
pub(super) struct Tally {
    pub(super) bad_spans: Count,
    pub(super) duplicates: Count,
    pub(super) reopened: Count,
    pub(super) traces: Count,
}

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds, without a locked instruction: there is one writer.
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.get() + n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sums over all instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TallyCounts {
    /// Spans with an unusable id.
    pub bad_spans: u64,
    /// Spans whose id their trace already had.
    pub duplicates: u64,
    /// Traces that spans came for after they had been emitted.
    pub reopened: u64,
    /// Traces with different ids that were emitted.
    pub traces: u64,
}

/// All tallies of a job. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tallies(Arc<Mutex<Vec<Arc<Tally>>>>);

impl Tallies {
    /// The tally of one more instance.
    pub(super) fn instance(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tally));
        tally
    }

    /// The sums now; exact once the pipeline has ended.
    pub fn counts(&self) -> TallyCounts {
        let mut sum = TallyCounts::default();
        for tally in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.bad_spans += tally.bad_spans.get();
            sum.duplicates += tally.duplicates.get();
            sum.reopened += tally.reopened.get();
            sum.traces += tally.traces.get();
        }
        sum
    }
}
