//! Statistics of the bids of a day: what queries 15, 16 and 17 count.

use std::collections::BTreeSet;
use std::time::Duration;

use ahash::RandomState;
use corelane_stages::window::Aggregate;
use hashbrown::HashSet;

use super::Bid;
use crate::workload::keyed::hasher;

/// A day.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All, and those of each rank: below 100, below 10 000, and the rest.
pub type Ranked<T> = [T; 4];

/// The rank of a bid, from 1 to 3.
pub(super) const fn rank(bid: &Bid) -> usize {
    match bid.price {
        0..10_000 => 1,
        10_000..1_000_000 => 2,
        _ => 3,
    }
}

/// What happened on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Statistics {
    /// How many bids.
    pub bids: Ranked<u64>,
    /// How many people made them.
    pub bidders: Ranked<u64>,
    /// For how many auctions.
    pub auctions: Ranked<u64>,
    /// The last minute of the day with a bid.
    pub minute: i64,
}

impl Statistics {
    /// Of these bids, by looking at everything.
    pub(super) fn of(bids: &[Bid]) -> Self {
        let mut statistics = Self::default();
        for ranks in 0..4 {
            let ranked = || bids.iter().filter(|bid| ranks == 0 || rank(bid) == ranks);
            statistics.bids[ranks] = ranked().count() as u64;
            statistics.bidders[ranks] = ranked().map(|bid| bid.bidder).collect::<BTreeSet<_>>().len() as u64;
            statistics.auctions[ranks] =
                ranked().map(|bid| bid.auction).collect::<BTreeSet<_>>().len() as u64;
        }
        statistics.minute = bids.iter().map(minute).max().unwrap_or_default();
        statistics
    }
}

fn minute(bid: &Bid) -> i64 {
    bid.at.as_nanos().div_euclid(60_000_000_000).rem_euclid(24 * 60)
}

/// Makes [`Statistics`]. Keeps the numbers of all bidders and auctions of each rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rankings;

/// What [`Rankings`] keeps.
pub(super) struct Counting {
    bids: Ranked<u64>,
    bidders: Ranked<HashSet<u64, RandomState>>,
    auctions: Ranked<HashSet<u64, RandomState>>,
    minute: i64,
}

fn sets() -> Ranked<HashSet<u64, RandomState>> {
    std::array::from_fn(|_| HashSet::with_hasher(hasher()))
}

fn size(set: &HashSet<u64, RandomState>) -> u64 {
    set.len() as u64
}

impl Aggregate<Bid> for Rankings {
    type Acc = Counting;
    type Out = Statistics;

    fn init(&self) -> Counting {
        Counting { bids: [0; 4], bidders: sets(), auctions: sets(), minute: 0 }
    }

    fn add(&self, acc: &mut Counting, bid: &Bid) {
        for at in [0, rank(bid)] {
            acc.bids[at] += 1;
            acc.bidders[at].insert(bid.bidder);
            acc.auctions[at].insert(bid.auction);
        }
        acc.minute = acc.minute.max(minute(bid));
    }

    fn merge(&self, acc: &mut Counting, other: &Counting) {
        for at in 0..4 {
            acc.bids[at] += other.bids[at];
            acc.bidders[at].extend(&other.bidders[at]);
            acc.auctions[at].extend(&other.auctions[at]);
        }
        acc.minute = acc.minute.max(other.minute);
    }

    fn result(&self, acc: &Counting) -> Statistics {
        Statistics {
            bids: acc.bids,
            bidders: acc.bidders.each_ref().map(size),
            auctions: acc.auctions.each_ref().map(size),
            minute: acc.minute,
        }
    }
}
