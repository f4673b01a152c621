//! tumbling: how many events each key has in each second, events made on two cores in turn and exchanged by hash.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::blocks;
use super::keyed::hand::BLOCK;
use super::keyed::{foldhash, hasher};
use crate::case::{Case, Measured, Setup};
use crate::lane;
use crate::stats::{below, splitmix};

/// Events of a full run: a second of event time for each million.
pub const EVENTS: u64 = 20_000_000;
/// Keys, uniform.
pub const KEYS: u64 = 10_000;
/// How long a window is.
pub const SIZE: Duration = Duration::from_secs(1);
/// From one event to the next, in nanoseconds of event time.
const PERIOD_NS: u64 = 1_000;
/// How long a block of events takes, in nanoseconds of event time.
pub const BLOCK_NS: u64 = BLOCK * PERIOD_NS;

const SIZE_NS: u64 = SIZE.as_nanos() as u64;

/// Event `index`: its key, and when it happened, in nanoseconds.
#[inline]
pub fn event(index: u64) -> (u64, u64) {
    (below(splitmix(index), KEYS), index * PERIOD_NS)
}

/// Which window a time lies in.
#[inline]
pub fn window(at_ns: u64) -> u64 {
    at_ns / SIZE_NS
}

/// The events that core `core` of `cores` makes: a block at a time in turn, so that event time moves on evenly on all of them.
pub fn part(events: u64, core: u64, cores: u64) -> impl Iterator<Item = Range<u64>> + Clone + Send + 'static {
    blocks(core * BLOCK..events, BLOCK, cores * BLOCK)
}

/// What the count of a key in the window of number `window` adds to the checksum.
#[inline]
pub fn counted(key: u64, window: u64, count: u64) -> u64 {
    splitmix(splitmix(splitmix(key) ^ window).wrapping_add(count))
}

/// The program written by hand.
pub mod hand {
    use std::collections::VecDeque;
    use std::hash::BuildHasher;

    use core_affinity::CoreId;
    use hashbrown::HashMap;

    use super::{BLOCK_NS, KEYS, counted, event, part, window};
    use crate::case::Measured;
    use crate::workload::keyed::hand::{Pair, Shard, exchanged};

    type Table<H> = HashMap<u64, u64, H>;

    /// Counts of a core's keys in the windows that are open, for makers that are two and in order but for a block.
    pub struct Counts<H> {
        hasher: H,
        /// Of the windows from number `first` on.
        open: VecDeque<Table<H>>,
        first: u64,
        /// The window that each maker has reached: from it, none before comes any more.
        reached: [u64; 2],
        spare: Vec<Table<H>>,
        checksum: u64,
    }

    impl<H: BuildHasher + Clone> Counts<H> {
        /// Room for half of the keys and a little more, which are hashed by `hasher`.
        pub fn new(hasher: H) -> Self {
            let table = || Table::with_capacity_and_hasher((KEYS / 2 + KEYS / 16) as usize, hasher.clone());
            let spare = vec![table(), table()];
            Self { hasher, open: VecDeque::new(), first: 0, reached: [0; 2], spare, checksum: 0 }
        }

        fn table(&mut self, number: u64) -> &mut Table<H> {
            let place = (number - self.first) as usize;
            while self.open.len() <= place {
                let another = || Table::with_hasher(self.hasher.clone());
                self.open.push_back(self.spare.pop().unwrap_or_else(another));
            }
            &mut self.open[place]
        }

        /// Closes the windows before number `until`.
        fn close(&mut self, until: u64) {
            while self.first < until {
                let Some(mut table) = self.open.pop_front() else {
                    self.first = until;
                    return;
                };
                for (key, count) in table.drain() {
                    self.checksum = self.checksum.wrapping_add(counted(key, self.first, count));
                }
                self.spare.push(table);
                self.first += 1;
            }
        }
    }

    impl<H: BuildHasher + Clone> Shard for Counts<H> {
        type Out = u64;

        #[inline]
        fn take(&mut self, from: usize, pairs: &[Pair]) {
            let ([first, ..], [.., last]) = (pairs, pairs) else { return };
            let (low, high) = (first.1.min(last.1), first.1.max(last.1));
            // The first and the last may lie anywhere in their blocks: what is between them is as much as a block away from both.
            if window(low.saturating_sub(BLOCK_NS)) == window(high + BLOCK_NS) {
                let table = self.table(window(low));
                pairs.iter().for_each(|pair| *table.entry(pair.0).or_default() += 1);
            } else {
                pairs.iter().for_each(|pair| *self.table(window(pair.1)).entry(pair.0).or_default() += 1);
            }
            self.reached[from] = self.reached[from].max(window(high.saturating_sub(BLOCK_NS)));
            self.close(self.reached[0].min(self.reached[1]));
        }

        fn finish(mut self) -> u64 {
            self.close(u64::MAX);
            self.checksum
        }
    }

    /// Counts `events` events, whose keys are hashed by `hasher`, on the first two of `cores`.
    pub fn exchange(
        events: u64,
        hasher: impl BuildHasher + Clone + Send + Sync,
        cores: &[CoreId],
    ) -> Measured {
        let parts = [part(events, 0, 2), part(events, 1, 2)];
        let shard = || Counts::new(hasher.clone());
        let (elapsed, [one, two]) = exchanged(cores, hasher.clone(), parts, event, shard);
        Measured { items: events, elapsed, checksum: one.wrapping_add(two) }
    }
}

/// The right checksum, by an ordered map.
pub fn expected(events: u64) -> u64 {
    let mut counts = BTreeMap::<(u64, u64), u64>::new();
    for (key, at) in (0..events).map(event) {
        *counts.entry((window(at), key)).or_default() += 1;
    }
    counts.iter().fold(0, |sum, (&(window, key), &count)| sum.wrapping_add(counted(key, window, count)))
}

/// The comparison: corelane's two plans beside `hand`.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let events = setup.scaled(EVENTS);
    let corelane =
        |plan: fn(u64, &Setup) -> Result<Measured, String>| move |setup: &Setup| plan(events, setup);
    let case = Case::new("tumbling", "k10000", 2, expected(events))
        .work(format!("{} M events of {KEYS} keys, windows of a million events", events / 1_000_000))
        .reference("hand")
        .system("hand", move |setup| hand::exchange(events, hasher(), &setup.cores))
        .system("hand-foldhash", move |setup| hand::exchange(events, foldhash(), &setup.cores))
        .try_system("corelane", corelane(lane::tumbling::exchange))
        .try_system("corelane-combining", corelane(lane::tumbling::combining));
    vec![case]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_events_are_a_window() {
        assert_eq!((window(event(999_999).1), window(event(1_000_000).1)), (0, 1));
    }

    #[test]
    fn every_program_counts_what_an_ordered_map_does() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        let setup =
            Setup { cores, driver: crate::case::Driver::Thread, quick: true, nexmark: Default::default() };
        // The last one has a block that lies in two windows.
        for events in [0, 1, BLOCK + 1, 2_100_017] {
            let right = expected(events);
            assert_eq!(
                hand::exchange(events, hasher(), &setup.cores).checksum,
                right,
                "hand, {events} events"
            );
            for plan in [lane::tumbling::exchange, lane::tumbling::combining] {
                assert_eq!(plan(events, &setup).unwrap().checksum, right, "{events} events");
            }
        }
    }

    #[test]
    fn blocks_that_come_backwards_are_counted_right_however_they_are_cut() {
        use crate::workload::keyed::hand::Shard;
        // The last block but two lies in two windows.
        let events = 1_000_000 + 2 * BLOCK;
        let backwards = blocks(0..events, BLOCK, BLOCK).flat_map(|block| block.rev().map(event));
        let pairs: Vec<_> = backwards.collect();
        for length in [1, 777, 1_500, 4_096] {
            let mut counts = hand::Counts::new(hasher());
            pairs.chunks(length).for_each(|chunk| counts.take(0, chunk));
            assert_eq!(counts.finish(), expected(events), "in chunks of {length}");
        }
    }

    #[test]
    fn a_count_in_the_wrong_window_or_of_the_wrong_key_changes_the_checksum() {
        let right = counted(1, 2, 3);
        for wrong in [counted(2, 1, 3), counted(1, 3, 2), counted(3, 2, 1), counted(1, 2, 4)] {
            assert_ne!(wrong, right);
        }
    }
}
