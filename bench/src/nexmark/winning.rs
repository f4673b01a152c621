//! The winning bid of each auction: what queries 4, 6 and 9 begin with.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::{Timed, Timestamp};
use corelane::policy::AccumulatorPolicy;
use corelane_stages::process::{KeyedProcess, OnKey, Process, Timer};

use super::{Auction, Bid, Event, Feed, timed_events};

/// An auction that is over, and the bid that won it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sale {
    /// What was sold.
    pub auction: Auction,
    /// The highest bid that came in time, the earliest of equal ones.
    pub bid: Bid,
}

/// What becomes of each auction that got a bid, once event time is past its end, or at the end of the input.
pub fn sales(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Sale> + use<>> {
    timed_events(p, feed)
        .filter("auctions-and-bids", |event| !matches!(event, Event::Person(_)))
        .key_by(|event| match event {
            Event::Auction(auction) => auction.id,
            Event::Bid(bid) => bid.auction,
            Event::Person(_) => 0,
        })
        .process("winning-bids", AccumulatorPolicy::until_end(), |_| Ok(WinningBids))
}

/// The same by looking at everything.
pub fn sales_reference(events: &[Event]) -> Vec<Sale> {
    let mut bids: BTreeMap<u64, Vec<Bid>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        bids.entry(bid.auction).or_default().push(bid);
    }
    let sale = |auction: Auction| {
        let in_time = bids.get(&auction.id)?.iter().filter(|bid| counts(&auction, bid));
        Some(Sale { auction, bid: *in_time.max_by_key(|bid| rank(bid))? })
    };
    events.iter().filter_map(|event| event.auction()).filter_map(sale).collect()
}

fn counts(auction: &Auction, bid: &Bid) -> bool {
    auction.timestamp() <= bid.at && bid.at <= auction.expires_at()
}

/// What wins: the price, then who came first. The rest only makes the answer unique.
fn rank(bid: &Bid) -> (u64, Reverse<(Timestamp, Bid)>) {
    (bid.price, Reverse((bid.at, *bid)))
}

struct WinningBids;

/// What is known of an auction.
#[derive(Default)]
struct Open {
    auction: Option<Auction>,
    best: Option<Bid>,
    /// Bids that came before the auction did: it may be on its way.
    early: Vec<Bid>,
}

impl Open {
    fn offer(&mut self, bid: Bid) {
        let Some(auction) = &self.auction else { return self.early.push(bid) };
        if counts(auction, &bid) && self.best.is_none_or(|best| rank(&best) < rank(&bid)) {
            self.best = Some(bid);
        }
    }

    fn sale(&self) -> Option<Sale> {
        Some(Sale { auction: self.auction?, bid: self.best? })
    }
}

/// A watermark at this time says that `time` itself is over.
pub(super) fn after(time: Timestamp) -> Timer {
    Timer::Event(Timestamp(time.as_nanos().saturating_add(1)))
}

impl Process for WinningBids {
    type In = Event;
    type Key = u64;
    type State = Open;
    type Out = Sale;

    fn init(&mut self, _auction: &u64) -> Open {
        Open::default()
    }

    fn process(&mut self, event: Event, open: &mut Open, key: &mut OnKey<'_, u64, Sale>) {
        match event {
            Event::Auction(auction) => {
                open.auction = Some(auction);
                std::mem::take(&mut open.early).into_iter().for_each(|bid| open.offer(bid));
                key.set_timer(after(auction.expires_at()));
            }
            Event::Bid(bid) => {
                open.offer(bid);
                if open.early.len() == 1 && open.auction.is_none() {
                    key.set_timer(after(bid.at));
                }
            }
            Event::Person(_) => {}
        }
    }

    fn on_timer(&mut self, _timer: Timer, open: &mut Open, key: &mut OnKey<'_, u64, Sale>) {
        if open.auction.is_none() {
            // An auction that is still to come begins after these, and they will not count.
            let watermark = key.watermark();
            open.early.retain(|bid| bid.at >= watermark);
            if let Some(next) = open.early.iter().map(|bid| bid.at).min() {
                return key.set_timer(after(next));
            }
        }
        if let Some(sale) = open.sale() {
            key.emit(sale);
        }
        key.forget();
    }

    fn on_end(&mut self, open: Open, key: &mut OnKey<'_, u64, Sale>) {
        if let Some(sale) = open.sale() {
            key.emit(sale);
        }
    }
}
