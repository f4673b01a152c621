//! The round trip between two cores, measured around every repetition.
//!
//! On a virtual machine the two cores may share a cache at one moment and not at the next. Figures of two-core
//! workloads differ several-fold between the two, so only repetitions of the same [`Link`] are compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use core_affinity::CoreId;
use crossbeam::utils::CachePadded;
use hdrhistogram::Histogram;

use crate::case::{Latencies, Metric};
use crate::pin;

/// Round trips below this are [`Link::Sibling`], in nanoseconds: half of those over a cache that cores share.
pub const SIBLING_NS: f64 = 90.0;
/// Round trips below this, and not below [`SIBLING_NS`], are [`Link::Near`], in nanoseconds.
pub const NEAR_NS: f64 = 300.0;
/// Round trips per clock reading.
pub const BATCH: u64 = 64;
const PROBE_BATCHES: u64 = 150;

/// How far apart two cores were during a repetition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// One core: there is no link.
    #[default]
    Single,
    /// As near, before and after, as only hardware threads of one core are.
    Sibling,
    /// Near before and after.
    Near,
    /// Far before and after.
    Far,
    /// It changed meanwhile: such a repetition is never compared.
    Mixed,
}

impl Link {
    /// Judges two round trips, before and after, in nanoseconds.
    pub fn classify(before_ns: f64, after_ns: f64) -> Self {
        let one = |ns| match ns {
            ns if ns < SIBLING_NS => Self::Sibling,
            ns if ns < NEAR_NS => Self::Near,
            _ => Self::Far,
        };
        if one(before_ns) == one(after_ns) { one(before_ns) } else { Self::Mixed }
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sibling => "sibling",
            Self::Near => "near",
            Self::Far => "far",
            Self::Mixed => "mixed",
        }
    }
}

/// One end of a two-way connection between two threads. Both calls spin until they can be done.
pub trait Duplex {
    /// Sends one value to the other end.
    fn send(&mut self, value: u64);
    /// Takes one value from the other end.
    fn receive(&mut self) -> u64;
}

/// What a reader does between two looks: so many pause instructions. Their length is the processor's own.
#[inline(always)]
pub fn pause<const PAUSES: u32>() {
    for _ in 0..PAUSES {
        std::hint::spin_loop();
    }
}

/// Sends `batches * BATCH` values back and forth; the answer to a value is its successor. Each end is built on its
/// own core. The checksum is the wrapping sum of the answers ([`ping_pong_sum`]); each sample is the mean of
/// [`BATCH`] round trips.
///
/// # Panics
/// As [`pin::on_two`].
pub fn ping_pong<A: Duplex, B: Duplex>(
    cores: &[CoreId],
    batches: u64,
    asking: impl FnOnce() -> A + Send,
    answering: impl FnOnce() -> B + Send,
) -> Latencies {
    let ask = |gate: &pin::Gate| {
        let mut end = asking();
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        let (mut sum, mut value) = (0_u64, 0);
        gate.wait();
        // The other end's set-up may still be running: one round trip before the clock does.
        end.send(value);
        sum = sum.wrapping_add(end.receive());
        value += 1;
        let mut before = Instant::now();
        for _ in 0..batches {
            for _ in 0..BATCH {
                end.send(value);
                sum = sum.wrapping_add(end.receive());
                value += 1;
            }
            let now = Instant::now();
            histogram.saturating_record((now - before).as_nanos() as u64);
            before = now;
        }
        (histogram, sum)
    };
    let answer = |gate: &pin::Gate| {
        let mut end = answering();
        gate.wait();
        for _ in 0..=batches * BATCH {
            let value = end.receive();
            end.send(value + 1);
        }
    };
    let ((histogram, checksum), ()) = pin::on_two(cores, ask, answer);
    let percentiles = &[Metric::P50, Metric::P90];
    let unit_ns = 1.0 / BATCH as f64;
    Latencies { histogram, unit_ns, percentiles, checksum, hiccups: None, sender_waited: None }
}

/// What [`ping_pong`] must return as its checksum.
pub fn ping_pong_sum(batches: u64) -> u64 {
    (0..=batches * BATCH).map(|value| value + 1).fold(0, u64::wrapping_add)
}

/// The least two cores can do to talk: a padded word for each direction that holds the latest value.
#[derive(Debug, Default)]
pub struct Mailbox {
    there: CachePadded<AtomicU64>,
    back: CachePadded<AtomicU64>,
}

/// One end of a [`Mailbox`]. Consecutive values must differ, and none may be `u64::MAX`.
#[derive(Debug)]
pub struct MailboxEnd<'a> {
    out: &'a AtomicU64,
    inward: &'a AtomicU64,
    seen: u64,
}

impl Mailbox {
    /// The end that asks.
    pub fn asking(&self) -> MailboxEnd<'_> {
        MailboxEnd { out: &self.there, inward: &self.back, seen: 0 }
    }

    /// The end that answers.
    pub fn answering(&self) -> MailboxEnd<'_> {
        MailboxEnd { out: &self.back, inward: &self.there, seen: 0 }
    }
}

impl Duplex for MailboxEnd<'_> {
    #[inline]
    fn send(&mut self, value: u64) {
        // One more, so that zero means: nothing yet.
        self.out.store(value + 1, Ordering::Release);
    }

    #[inline]
    fn receive(&mut self) -> u64 {
        loop {
            let value = self.inward.load(Ordering::Acquire);
            if value != self.seen {
                self.seen = value;
                return value - 1;
            }
        }
    }
}

/// The median round trip between the first two of `cores`, in nanoseconds. Takes a few milliseconds.
///
/// # Panics
/// As [`pin::on_two`].
pub fn round_trip_ns(cores: &[CoreId]) -> f64 {
    let mailbox = Mailbox::default();
    let run = ping_pong(cores, PROBE_BATCHES, || mailbox.asking(), || mailbox.answering());
    run.histogram.value_at_quantile(0.5) as f64 * run.unit_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_judged_by_both_ends_of_a_repetition() {
        assert_eq!(Link::classify(110.0, 299.9), Link::Near);
        assert_eq!(Link::classify(300.0, 510.0), Link::Far);
        assert_eq!(Link::classify(110.0, 510.0), Link::Mixed);
        assert_eq!(Link::classify(510.0, 110.0), Link::Mixed);
        assert_eq!(Link::classify(53.0, 89.9), Link::Sibling);
        assert_eq!(Link::classify(53.0, 90.0), Link::Mixed);
    }

    #[test]
    fn a_mailbox_hands_over_each_value_once_and_in_order() {
        let mailbox = Mailbox::default();
        let (mut ask, mut answer) = (mailbox.asking(), mailbox.answering());
        for value in 0..100 {
            ask.send(value);
            assert_eq!(answer.receive(), value);
            answer.send(value + 1);
            assert_eq!(ask.receive(), value + 1);
        }
    }
}
