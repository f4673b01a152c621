//! What one stage has counted, and the cells it publishes that through.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{BreakerState, LatencyCell, LogLimit, StageState};
use crate::model::Timestamp;

/// Writes the account, its cells, and everything that must name each counter, from one list.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident,)*) => {
        /// What became of the items of a stage, or of one instance of it.
        ///
        /// All counts are items since the start unless they say otherwise. Two laws hold at every report:
        ///
        /// - `received + taken_over = passed + filtered + absorbed + ignored + dead_lettered + failed + discarded +
        ///   waiting_retry + delivered + handed_over`: every item received has exactly one fate. What a stage puts out is counted apart, as
        ///   `emitted`. What its instances hand over to each other, others of them take over.
        /// - `absorbed = items_open + items_spilled + items_complete + items_partial + items_expired + items_lost`.
        ///
        /// A source counts what it produces as received, and at once as passed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct StageAccount {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl StageAccount {
            /// The names of all counters, in the order of [`fields`](Self::fields).
            pub const FIELDS: &[&str] = &[$(stringify!($field)),*];

            /// What each counter counts, in the order of [`FIELDS`](Self::FIELDS).
            pub const HELP: &[&str] = &[$(concat!($($doc),*)),*];

            /// Every counter with its name.
            pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }

            /// Adds `other` to `self`, counter by counter; saturates.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }

        /// A stage instance's counters, state and last error, as anybody may read them at any time.
        ///
        /// One writer, the core that owns the instance; any number of readers. A reading taken while the writer
        /// publishes may mix two reports: the laws of [`StageAccount`] are sure to hold only once the instance is at
        /// rest. Alone on its cache lines, so that neighbours do not slow each other down.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct StageCells {
            $($field: AtomicU64,)*
            state: AtomicU8,
            breaker: AtomicU8,
            watermark: AtomicI64,
            last_error: Mutex<Option<String>>,
            /// From when an item could be taken from the stage's input to when it was: one probe at a time, to the
            /// resolution of steps. Only stages that read rings have it.
            pub queue_wait: LatencyCell,
            /// How long a batch took from the stage to the end of its chain, sampled. Only of stages that a chain begins with.
            pub batch: LatencyCell,
            /// From the time that items carry to when they came to the stage, sampled; only where the stream was asked to
            /// measure it.
            pub latency: LatencyCell,
            /// How many lines the instance may log.
            pub log_limit: LogLimit,
        }

        impl Default for StageCells {
            fn default() -> Self {
                Self {
                    $($field: AtomicU64::new(0),)*
                    state: AtomicU8::new(StageState::default() as u8),
                    breaker: AtomicU8::new(0),
                    watermark: AtomicI64::new(Timestamp::MIN.as_nanos()),
                    last_error: Mutex::default(),
                    queue_wait: LatencyCell::default(),
                    batch: LatencyCell::default(),
                    latency: LatencyCell::default(),
                    log_limit: LogLimit::default(),
                }
            }
        }

        impl StageCells {
            /// Publishes `account`. Costs one plain store per counter.
            pub fn publish(&self, account: &StageAccount) {
                $(self.$field.store(account.$field, Ordering::Relaxed);)*
            }

            /// What was last published.
            pub fn read(&self) -> StageAccount {
                StageAccount { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Taken in.
    received,
    /// Given to what follows; for an accumulator the results. A broadcast to three counts three.
    emitted,
    /// Handed on as they are or as something else, also if that made none or many of one.
    passed,
    /// Left out by a predicate or a sampler.
    filtered,
    /// Folded into the state of an accumulator.
    absorbed,
    /// Failed, and forgotten by policy.
    ignored,
    /// Failed, and handed to the dead letters.
    dead_lettered,
    /// Failed, and ended the pipeline.
    failed,
    /// Thrown away unprocessed because the pipeline stopped.
    discarded,
    /// Waiting inside the stage for another attempt, behind one that does, for their key to come back from disk, or for a
    /// stream function to take them. Goes down again.
    waiting_retry,
    /// Taken by the outside world.
    delivered,
    /// Absorbed here, in keys whose shard has moved to another instance of the stage since: they count there now.
    handed_over,
    /// Absorbed by another instance of the stage, in keys whose shard has moved here.
    taken_over,
    /// Made by the stage and still inside it, waiting for room. Goes down again; what is there once the pipeline has ended
    /// was thrown away with it. Not part of `emitted`.
    unsent,
    /// Calls that failed, panics included; one item may fail several times.
    errors,
    /// Attempts after the first.
    retries,
    /// Calls that panicked.
    panics,
    /// Calls that took longer than the stage's circuit breaker allows.
    slow_calls,
    /// Items turned away because the circuit breaker was open. Each is also a dead letter.
    refused,
    /// How often the circuit breaker opened.
    breaker_opened,
    /// How often it let calls through again to see how they do.
    breaker_half_opened,
    /// How often it closed after that.
    breaker_closed,
    /// Items that came behind the watermark. Each also has a fate above.
    late,
    /// Items so far ahead of their time that they moved no watermark. Each also has a fate above.
    ahead,
    /// Keys whose time ran out, with a result or without.
    expired,
    /// Keys with state now. Goes down again.
    keys,
    /// Of those absorbed: in keys with state now. Goes down again.
    items_open,
    /// Of those absorbed: in keys on disk now. Goes down again.
    items_spilled,
    /// Of those absorbed: in results that were complete.
    items_complete,
    /// Of those absorbed: in results that were emitted before they were complete, by a limit, by expiry or at the end.
    items_partial,
    /// Of those absorbed: lost with a key that expired without a result.
    items_expired,
    /// Of those absorbed: lost with a key whose state did not come back from disk.
    items_lost,
    /// Results that were complete.
    results_complete,
    /// Results emitted before they were complete, by a limit or at the end.
    results_partial,
    /// Results emitted when a key expired.
    results_expired,
    /// Keys on disk now. Goes down again.
    keys_spilled,
    /// Keys written to disk, each time.
    spills,
    /// Keys read back from disk, each time.
    restores,
    /// Operations on spilled state that failed, and states that could not be written. The state of a key is kept in memory
    /// unless `items_lost` says otherwise.
    spill_errors,
    /// Bytes of memory that keyed state takes now, where a limit was set for it. Goes down again.
    state_bytes,
    /// Bytes on disk now. Goes down again.
    spilled_bytes,
}

impl StageAccount {
    /// Whether the counter called `name` may go down again: it says how much there is of something now.
    pub fn is_gauge(name: &str) -> bool {
        const GAUGES: [&str; 8] = [
            "waiting_retry",
            "unsent",
            "keys",
            "keys_spilled",
            "items_open",
            "items_spilled",
            "state_bytes",
            "spilled_bytes",
        ];
        GAUGES.contains(&name)
    }

    /// All that was received has passed, but `lost` items of it, and was emitted one for one.
    pub const fn pass_all_but(&mut self, lost: u64) {
        self.passed = self.received - lost;
        self.emitted = self.passed;
    }

    /// How often the items received and taken over were given a fate; equal to their number when nothing is missing.
    pub fn fates(&self) -> u128 {
        sum([
            self.passed,
            self.filtered,
            self.absorbed,
            self.ignored,
            self.dead_lettered,
            self.failed,
            self.discarded,
            self.waiting_retry,
            self.delivered,
            self.handed_over,
        ])
    }

    /// Where the items absorbed are now; equal to `absorbed` when nothing is missing.
    pub fn absorbed_fates(&self) -> u128 {
        sum([
            self.items_open,
            self.items_spilled,
            self.items_complete,
            self.items_partial,
            self.items_expired,
            self.items_lost,
        ])
    }
}

pub(super) fn sum<const N: usize>(counts: [u64; N]) -> u128 {
    counts.into_iter().map(u128::from).sum()
}

impl StageCells {
    /// Publishes the state of the instance.
    pub fn set_state(&self, state: StageState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The state last published.
    pub fn state(&self) -> StageState {
        StageState::from_u8(self.state.load(Ordering::Relaxed))
    }

    /// Publishes the state of the instance's circuit breaker.
    pub fn set_breaker(&self, state: BreakerState) {
        self.breaker.store(state as u8, Ordering::Relaxed);
    }

    /// The state of the circuit breaker last published; `None` if the instance has none.
    pub fn breaker(&self) -> Option<BreakerState> {
        BreakerState::from_u8(self.breaker.load(Ordering::Relaxed))
    }

    /// Publishes the event time that the instance has reached.
    #[inline]
    pub fn set_watermark(&self, time: Timestamp) {
        self.watermark.store(time.as_nanos(), Ordering::Relaxed);
    }

    /// The event time last published, if there was any.
    pub fn watermark(&self) -> Option<Timestamp> {
        let time = Timestamp(self.watermark.load(Ordering::Relaxed));
        (time > Timestamp::MIN).then_some(time)
    }

    /// Publishes the last error. Takes a lock: for the error path only.
    pub fn set_last_error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The error last published.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    /// An account in which every counter is a different number.
    fn distinct(from: u64) -> StageAccount {
        let counters =
            StageAccount::FIELDS.iter().zip(from..).map(|(name, n)| ((*name).to_owned(), n.into()));
        serde_json::from_value(serde_json::Value::Object(counters.collect())).unwrap()
    }

    #[test]
    fn publishing_and_reading_keeps_every_counter_apart() {
        let cells = StageCells::default();
        cells.publish(&distinct(100));
        assert_eq!(cells.read(), distinct(100));
        let counts: BTreeSet<u64> = cells.read().fields().map(|(_, n)| n).collect();
        assert_eq!(counts, (100..100 + StageAccount::FIELDS.len() as u64).collect());
    }

    #[test]
    fn adding_adds_every_counter_and_saturates() {
        let mut sum = distinct(1);
        sum.add(&distinct(10));
        let expected = distinct(1).fields().zip(distinct(10).fields());
        assert!(sum.fields().map(|(_, n)| n).eq(expected.map(|((_, a), (_, b))| a + b)));
        sum.received = u64::MAX;
        sum.add(&distinct(1));
        assert_eq!(sum.received, u64::MAX);
    }

    #[test]
    fn names_are_those_of_the_fields_and_unknown_ones_are_refused() {
        let value = serde_json::to_value(distinct(5)).unwrap();
        assert!(distinct(5).fields().all(|(name, n)| value[name] == n));
        assert!(serde_json::from_str::<StageAccount>(r#"{"lost":1}"#).is_err());
    }

    #[test]
    fn every_counter_has_help_and_those_that_go_down_say_so() {
        assert_eq!(StageAccount::HELP.len(), StageAccount::FIELDS.len());
        for (name, help) in StageAccount::FIELDS.iter().zip(StageAccount::HELP) {
            assert!(help.trim_end().ends_with('.'), "{name}: {help}");
            assert_eq!(StageAccount::is_gauge(name), help.contains("oes down again"), "{name}: {help}");
        }
    }

    #[test]
    fn state_watermark_and_last_error_are_seen_by_another_thread() {
        let cells = Arc::new(StageCells::default());
        assert_eq!((cells.state(), cells.watermark(), cells.last_error()), (StageState::Created, None, None));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                cells.set_last_error("first".to_owned());
                cells.set_last_error("second".to_owned());
                cells.set_watermark(Timestamp(-7));
                cells.set_state(StageState::Failed);
            });
        });
        assert_eq!(cells.watermark(), Some(Timestamp(-7)));
        assert_eq!((cells.state(), cells.last_error().as_deref()), (StageState::Failed, Some("second")));
    }

    #[test]
    fn cells_of_neighbours_share_no_cache_line() {
        assert_eq!((align_of::<StageCells>(), size_of::<StageCells>() % 128), (128, 0));
    }
}
