//! keyed: sum and count per key of 20 M pairs, generated on two cores and exchanged by hash.

use std::collections::BTreeMap;

use ahash::RandomState;
use foldhash::fast::FixedState;

use crate::case::{Case, Setup};
use crate::lane;
use crate::stats::{below, splitmix};

/// Pairs of a full run.
pub const PAIRS: u64 = 20_000_000;

/// Pair `index`: a key below `keys`, uniformly, and a value below 2^16.
#[inline]
pub fn pair(index: u64, keys: u64) -> (u64, u64) {
    let random = splitmix(index);
    (below(random, keys), random & 0xFFFF)
}

/// The hash of every program by hand and of every peer: ahash with fixed seeds.
pub fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// The hash that corelane has, for `hand-foldhash`.
pub fn foldhash() -> FixedState {
    FixedState::with_seed(1)
}

/// The result, independent of the order of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of all sums.
    pub sum: u64,
    /// Sum of all counts.
    pub count: u64,
    /// Number of keys.
    pub keys: u64,
    /// Exclusive or over a scrambled (key, sum, count).
    pub mix: u64,
}

impl Totals {
    /// Adds one key's result. Each key must be added once.
    pub fn add(&mut self, key: u64, sum: u64, count: u64) {
        self.sum = self.sum.wrapping_add(sum);
        self.count += count;
        self.keys += 1;
        self.mix ^= splitmix(splitmix(splitmix(key).wrapping_add(sum)).wrapping_add(count));
    }

    /// Adds another shard's result.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count += other.count;
        self.keys += other.keys;
        self.mix ^= other.mix;
    }

    /// All four in one number.
    pub fn checksum(&self) -> u64 {
        [self.sum, self.count, self.keys, self.mix].iter().fold(0, |all, part| splitmix(all ^ part))
    }
}

/// The program written by hand: two pinned threads, a chunked ring each way, half of the keys each.
pub mod hand {
    use std::hash::BuildHasher;
    use std::ops::Range;
    use std::time::Duration;

    use ahash::RandomState;
    use core_affinity::CoreId;
    use hashbrown::HashTable;

    use super::{Totals, hasher, pair};
    use crate::case::Measured;
    use crate::pin::{self, Gate, Span};
    use crate::workload::blocks;
    use crate::workload::ends::Ends;

    /// Pairs generated between two looks at the ring.
    pub const BLOCK: u64 = 1_024;
    /// Slots of each ring.
    pub const SLOTS: usize = 4_096;

    /// A key, and what belongs to it.
    pub type Pair = (u64, u64);

    /// What a core keeps of the keys that are its own.
    pub trait Shard {
        /// What it comes to.
        type Out: Send;

        /// Takes pairs that core `from` has made: block by block in order, those of one block forwards or backwards.
        fn take(&mut self, from: usize, pairs: &[Pair]);

        /// After the last pair of all cores.
        fn finish(self) -> Self::Out;
    }

    /// Which of two cores has `key`.
    #[inline]
    pub fn owner(hasher: &impl BuildHasher, key: u64) -> usize {
        // A middle bit: the tables use the lowest and the highest.
        (hasher.hash_one(key) >> 32) as usize & 1
    }

    struct Entry {
        key: u64,
        sum: u64,
        count: u64,
    }

    /// Sum and count of each key, in the table a user would take.
    pub struct Sums<H = RandomState> {
        table: HashTable<Entry>,
        hasher: H,
    }

    impl Sums {
        /// As [`with_hasher`](Self::with_hasher), by the hash of every peer.
        pub fn new(keys: u64) -> Self {
            Self::with_hasher(keys, hasher())
        }
    }

    impl<H: BuildHasher> Sums<H> {
        /// Room for half of `keys` and a little more: who makes it knows how many keys there are.
        pub fn with_hasher(keys: u64, hasher: H) -> Self {
            let expected = (keys / 2 + keys / 16) as usize;
            Self { table: HashTable::with_capacity(expected), hasher }
        }

        /// Adds one pair.
        #[inline]
        pub fn add(&mut self, key: u64, value: u64) {
            let hash = self.hasher.hash_one(key);
            if let Some(entry) = self.table.find_mut(hash, |entry| entry.key == key) {
                entry.sum = entry.sum.wrapping_add(value);
                entry.count += 1;
                return;
            }
            let hasher = &self.hasher;
            let entry = Entry { key, sum: value, count: 1 };
            self.table.insert_unique(hash, entry, |entry| hasher.hash_one(entry.key));
        }

        /// Every key's result in one.
        pub fn totals(&self) -> Totals {
            let mut totals = Totals::default();
            self.table.iter().for_each(|entry| totals.add(entry.key, entry.sum, entry.count));
            totals
        }
    }

    impl<H: BuildHasher> Shard for Sums<H> {
        type Out = Totals;

        #[inline]
        fn take(&mut self, _from: usize, pairs: &[Pair]) {
            pairs.iter().for_each(|&(key, value)| self.add(key, value));
        }

        fn finish(self) -> Totals {
            self.totals()
        }
    }

    struct Worker<I, M, H> {
        me: usize,
        blocks: I,
        make: M,
        hasher: H,
        ends: Ends<Pair>,
    }

    impl<I: Iterator<Item = Range<u64>>, M: Fn(u64) -> Pair, H: BuildHasher> Worker<I, M, H> {
        fn run<S: Shard>(self, shard: impl FnOnce() -> S, gate: &Gate) -> (Span, S::Out) {
            let Self { me, blocks, make, hasher, mut ends } = self;
            let (other, mut shard) = (1 - me, shard());
            let mut staged = [(0, 0); BLOCK as usize];
            let start = gate.wait();
            for block in blocks {
                // Ours from the front, theirs from the back: one store a pair, no branch, both counts in registers.
                let (mut front, mut back) = (0, BLOCK as usize);
                for index in block {
                    let pair = make(index);
                    let crosses = owner(&hasher, pair.0) ^ me;
                    back -= crosses;
                    let place = if crosses == 0 { front } else { back };
                    staged[place & (BLOCK as usize - 1)] = pair;
                    front += 1 - crosses;
                }
                let (ours, theirs) = (&staged[..front], &staged[back..]);
                ends.send(theirs, |pairs| shard.take(other, pairs));
                shard.take(me, ours);
                ends.receive(|pairs| shard.take(other, pairs));
            }
            ends.end(|pairs| shard.take(other, pairs));
            let result = shard.finish();
            (Span::since(start), result)
        }
    }

    /// The pairs that `make` makes of the numbers in `parts`, each core those of its own part, of at most [`BLOCK`] at a time, go to the
    /// core that has their key, by `hasher`. How long it took, and what the shards came to.
    pub fn exchanged<S: Shard>(
        cores: &[CoreId],
        hasher: impl BuildHasher + Clone + Send,
        parts: [impl Iterator<Item = Range<u64>> + Send; 2],
        make: impl Fn(u64) -> Pair + Copy + Send + Sync,
        shard: impl Fn() -> S + Copy + Send + Sync,
    ) -> (Duration, [S::Out; 2]) {
        let ([one, two], [here, there]) = (parts, Ends::of_two(SLOTS));
        let of_first = hasher.clone();
        let first = Worker { me: 0, blocks: one, make, hasher: of_first, ends: here };
        let second = Worker { me: 1, blocks: two, make, hasher, ends: there };
        let (one, two) = pin::on_two(cores, |gate| first.run(shard, gate), |gate| second.run(shard, gate));
        (one.0.union(two.0), [one.1, two.1])
    }

    /// Sums `pairs` pairs over `keys` keys, hashed by `hasher`, on the first two of `cores`.
    pub fn exchange(
        pairs: u64,
        keys: u64,
        hasher: impl BuildHasher + Clone + Send + Sync,
        cores: &[CoreId],
    ) -> Measured {
        let half = pairs / 2;
        let parts = [0..half, half..pairs].map(|range| blocks(range, BLOCK, BLOCK));
        let make = move |index| pair(index, keys);
        let shard = || Sums::with_hasher(keys, hasher.clone());
        let (elapsed, [mut totals, more]) = exchanged(cores, hasher.clone(), parts, make, shard);
        totals.merge(&more);
        Measured { items: pairs, elapsed, checksum: totals.checksum() }
    }
}

/// The right answer: one thread, one ordered map.
pub fn expected(pairs: u64, keys: u64) -> Totals {
    let mut map = BTreeMap::<u64, (u64, u64)>::new();
    for (key, value) in (0..pairs).map(|index| pair(index, keys)) {
        let (sum, count) = map.entry(key).or_default();
        *sum = sum.wrapping_add(value);
        *count += 1;
    }
    let mut totals = Totals::default();
    map.into_iter().for_each(|(key, (sum, count))| totals.add(key, sum, count));
    totals
}

/// The comparisons: corelane's systems are added beside `hand`.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let pairs = setup.scaled(PAIRS);
    let case = |variant, keys| {
        Case::new("keyed", variant, 2, expected(pairs, keys).checksum())
            .work(format!("{} M pairs over {keys} keys", pairs / 1_000_000))
            .reference("hand")
            .system("hand", move |setup| hand::exchange(pairs, keys, hasher(), &setup.cores))
            .system("hand-foldhash", move |setup| hand::exchange(pairs, keys, foldhash(), &setup.cores))
            .try_system("corelane", move |setup| lane::keyed::exchange(pairs, keys, None, setup))
            .try_system("corelane-combining", move |setup| lane::keyed::combining(pairs, keys, setup))
    };
    vec![case("k1000", 1_000), case("k1000000", 1_000_000)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_combining_two_cores_compute_what_one_thread_does() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        let setup =
            Setup { cores, driver: crate::case::Driver::Thread, quick: true, nexmark: Default::default() };
        for (pairs, keys) in [(0, 10), (1, 1), (1_001, 1), (100_003, 1_000), (60_000, 50_000)] {
            let right = expected(pairs, keys).checksum();
            let cores = &setup.cores;
            let by_hand = [
                hand::exchange(pairs, keys, hasher(), cores),
                hand::exchange(pairs, keys, foldhash(), cores),
            ];
            assert_eq!(by_hand.map(|one| one.checksum), [right; 2], "{pairs} pairs over {keys} keys");
            let combined = lane::keyed::combining(pairs, keys, &setup).unwrap().checksum;
            assert_eq!(combined, right, "combined, {pairs} pairs over {keys} keys");
        }
    }

    #[test]
    fn any_wrong_part_of_a_result_changes_the_checksum() {
        let totals = |entries: &[(u64, u64, u64)]| {
            let mut totals = Totals::default();
            entries.iter().for_each(|&(key, sum, count)| totals.add(key, sum, count));
            totals.checksum()
        };
        let right = totals(&[(1, 10, 2), (2, 20, 3)]);
        assert_eq!(totals(&[(2, 20, 3), (1, 10, 2)]), right);
        assert_ne!(totals(&[(1, 11, 2), (2, 19, 3)]), right);
        assert_ne!(totals(&[(1, 10, 3), (2, 20, 2)]), right);
        assert_ne!(totals(&[(1, 20, 3), (2, 10, 2)]), right);
        assert_ne!(totals(&[(1, 10, 2), (2, 10, 2), (2, 10, 1)]), right);
        assert_ne!(totals(&[(1, 10, 2)]), right);
    }

    #[test]
    fn shards_merge_to_the_whole() {
        let (mut whole, mut one, mut two) = (Totals::default(), Totals::default(), Totals::default());
        whole.add(1, 10, 2);
        whole.add(2, 20, 3);
        one.add(1, 10, 2);
        two.add(2, 20, 3);
        one.merge(&two);
        assert_eq!(one, whole);
    }
}
